"""Models against subjects, with every subject, every flip of signs and every part of the stimuli."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from repalign.errors import InputError
from repalign.infer.jackknife import interval, standard_error
from repalign.infer.matrix import FEWEST_UNITS
from repalign.infer.pvalues import TIE, benjamini_hochberg, p_values
from repalign.infer.resample import Flips
from repalign.metrics.base import UndefinedError
from repalign.subjects.representation import Representation, averages, score
from repalign.subjects.results import Differences, Estimates

LEVEL = 0.95


@dataclass(frozen=True)
class Resampled:
    """Scores of k rows (models, and perhaps the ceiling) with s subjects, `each (k, s)`, and their jackknife.

    `deleted (g, k)` are the means over subjects without each part of the stimuli, of the given `sizes (g,)`; None
    with a reason in `note` when too few would stay.
    """

    names: tuple[str, ...]
    each: NDArray[np.float64]
    deleted: NDArray[np.float64] | None
    sizes: tuple[int, ...]
    note: str = ""

    def estimates(self, count: int, bounds: tuple[float, float]) -> Estimates:
        """Average the first `count` rows over subjects."""
        deleted = None if self.deleted is None else self.deleted[:, :count]
        return _estimates(self.each[:count], deleted, self.sizes, bounds)

    def differences(self, pairs: Sequence[tuple[int, int]], flips: Flips) -> Differences:
        """Subtract rows, and test each difference by flipping signs within subjects, two-sided.

        Two rows that are equal but for rounding, as those of a model and its rotated copy are, differ by zero.
        """
        a, b = (np.array([pair[k] for pair in pairs], dtype=int) for k in (0, 1))
        scale = np.abs(self.each).max(1)
        rounding = TIE * np.maximum(scale[a], scale[b])
        each = _settled(self.each[a] - self.each[b], rounding[:, None])
        deleted = None if self.deleted is None else _settled(self.deleted[:, a] - self.deleted[:, b], rounding)
        null = np.abs(flips.signs.numpy().astype(np.float64) @ each.T) / each.shape[1]
        p = p_values(np.abs(each.mean(1)), null)
        names = tuple((self.names[i], self.names[j]) for i, j in pairs)
        return Differences(names, _estimates(each, deleted, self.sizes), p, benjamini_hochberg(p))


def resample(
    names: tuple[str, ...], members: Sequence[Representation], models: Sequence[Representation | None],
    ceiling: bool, parts: Sequence[Int[Tensor, "_"]],
) -> Resampled:  # fmt: skip
    """Score every model with every subject on all stimuli, and on average without each of the `parts`.

    A model that is None scores NaN. With `ceiling`, the last row is the average of all other subjects.
    """
    each, sizes = _table(members, models, ceiling), tuple(len(part) for part in parts)
    n, fewest = sum(sizes), sum(sizes) - max(sizes)
    metric = members[0].metric
    if len(parts) < FEWEST_UNITS or fewest < metric.fewest:
        note = f"{n} stimuli in {len(parts)} parts leave {fewest} without one, and {metric.name} needs {metric.fewest}"
        if len(parts) < FEWEST_UNITS:
            what = "stimuli" if len(parts) == n else "groups"
            note = f"{len(parts)} {what} are too few; at least {FEWEST_UNITS} are needed"
        return Resampled(names, each, None, sizes, f"no error from stimuli: {note}")
    try:
        deleted = [_without(part, n, members, models, ceiling) for part in parts]
    except InputError as reason:  # an option that fits all stimuli and no fewer
        return Resampled(names, each, None, sizes, f"no error from stimuli: {reason}")
    return Resampled(names, each, np.array(deleted), sizes)


def _without(
    part: Tensor, n: int, members: Sequence[Representation], models: Sequence[Representation | None], ceiling: bool
) -> Float[np.ndarray, " k"]:
    stay = torch.ones(n, dtype=torch.bool)
    stay[part] = False
    index = stay.nonzero().flatten()
    kept = [None if model is None else model.take(index) for model in models]
    return _table([one.take(index) for one in members], kept, ceiling).mean(1)


def _table(
    members: Sequence[Representation], models: Sequence[Representation | None], ceiling: bool
) -> Float[np.ndarray, "k s"]:
    """Score every model, and last, with `ceiling`, the average of the other subjects, with every subject."""
    rows = [[_score(model, one) for one in members] for model in models]
    if ceiling:
        try:
            rows.append([_score(rest, one) for rest, one in zip(averages(members)[1], members, strict=True)])
        except UndefinedError:
            rows.append([np.nan] * len(members))
    return np.array(rows)


def _score(model: Representation | None, subject: Representation) -> float:
    try:
        return np.nan if model is None else score(model, subject)
    except UndefinedError:
        return np.nan


def _settled(values: Float[np.ndarray, "..."], rounding: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Set what is only rounding to zero."""
    return np.where(np.abs(values) <= rounding, 0.0, values)


def _estimates(
    each: Float[np.ndarray, "k s"], deleted: Float[np.ndarray, "g k"] | None, sizes: Sequence[int],
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> Estimates:  # fmt: skip
    """Average over subjects, with the errors that subjects and stimuli bring."""
    value, count = each.mean(1), each.shape[1]
    of_subjects = each.std(1, ddof=1) / np.sqrt(count)  # the delete-one jackknife of a mean
    of_stimuli = np.full(len(value), np.nan) if deleted is None else standard_error(deleted)
    both = np.sqrt(of_subjects**2 + of_stimuli**2)
    low, high = interval(value, both, min(count, len(sizes)) - 1, LEVEL, bounds)
    return Estimates(value, of_subjects, of_stimuli, both, low, high)
