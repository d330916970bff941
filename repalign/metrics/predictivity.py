"""Linear predictivity: how much of one representation a ridge regression reads out of another, on held-out stimuli."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from repalign.errors import InputError
from repalign.metrics.base import PairMetric, UndefinedError
from repalign.metrics.coordinates import centred, coordinates, scaled
from repalign.metrics.gram import EPSILON
from repalign.metrics.ridge import Ridge, decomposed

FEWEST_HELD_OUT = {"r2": 1, "pearson": 3}  # stimuli of a fold; two always correlate perfectly


@dataclass(frozen=True)
class Split:
    """The places of training and of held-out stimuli."""

    train: Int[Tensor, " m"]
    test: Int[Tensor, " t"]


@dataclass(frozen=True)
class Folded:
    """A layer with its folds; it is decomposed only when it is asked to predict, once for all targets."""

    x: Float[Tensor, "n k"]
    splits: tuple[Split, ...]

    @cached_property
    def ridges(self) -> tuple[Ridge, ...]:
        """Decompose the training stimuli of every fold."""
        x = coordinates(self.x)
        return tuple(decomposed(x[s.train], x[s.test]) for s in self.splits)


@dataclass(frozen=True)
class HeldOut:
    """Held-out targets of one fold and their predictions, both about the training mean."""

    truth: Float[Tensor, "t q"]
    predicted: Float[Tensor, "t q"]


@final
@dataclass(frozen=True)
class LinearPredictivity(PairMetric):
    """Predict Y from X by cross-validated ridge regression and score held-out stimuli; X predicts, not symmetric.

    `scoring="r2"`: `1 − Σ (y − ŷ)² / Σ (y − ȳ)²`, both sums over held-out stimuli of all folds and over units, ȳ the
    mean of the training stimuli; −∞..1, below 0 when the prediction is worse than that mean. Units count by their
    variance. `"pearson"`: r of truth and prediction over the stimuli of a fold, averaged over folds, and the median
    over units, as Brain-Score does; −1..1. A unit that doesn't vary in a fold is left out there, and a prediction
    that doesn't vary has r = 0.

    One ridge strength for all units is chosen in each training fold by generalised cross-validation (`ridge.py`).
    Stimuli are dealt to the folds with `seed`, whole groups to one fold; without groups by their places, so another
    order is another deal. Fewer groups than `folds` make one fold each. A subset keeps the folds of all stimuli, less
    those it leaves empty (or, with `pearson`, with fewer than 3 stimuli, which then only train).

    Invariant to shift, scale and rotation of X; of Y too with `r2`, to its shift and scale with `pearson`. Misleads
    when frames of one video are not named as a group: they stand on both sides of a fold, and the score reads too
    high. A wider X has more to predict from whatever it represents, so compare layers of different width with care.
    The jackknife's standard error is right for single stimuli with `r2` (0.062 for a true 0.060, n = 60), and too wide
    with `pearson` (0.075 for 0.054) and for few groups (20 of 5 stimuli: 0.14 for 0.10).
    """

    folds: int = 5
    seed: int = 0
    scoring: str = "r2"

    name: ClassVar[str] = "linear_predictivity"
    reference: ClassVar[str] = (
        "Yamins et al. 2014, doi:10.1073/pnas.1403112111; Schrimpf et al. 2018, Brain-Score, doi:10.1101/407007; "
        "Golub, Heath & Wahba 1979, doi:10.1080/00401706.1979.10489751"
    )
    symmetric: ClassVar[bool] = False
    pairwise: ClassVar[bool] = False
    splits_by_group: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.folds < 2:
            raise InputError(f"linear_predictivity: folds must be at least 2, not {self.folds}; try 5")
        if self.seed < 0:
            raise InputError(f"linear_predictivity: seed must be 0 or above, not {self.seed}")
        if self.scoring not in FEWEST_HELD_OUT:
            raise InputError(f"linear_predictivity: scoring must be r2 or pearson, not {self.scoring!r}")

    @property
    def label(self) -> str:
        """Name the metric and its options for a person."""
        what = "R²" if self.scoring == "r2" else "median Pearson r"
        return f"Linear predictivity, {what} over {self.folds} folds"

    @property
    def bounds(self) -> tuple[float, float]:
        """Give −∞..1, or −1..1 for correlations."""
        return (-float("inf"), 1.0) if self.scoring == "r2" else (-1.0, 1.0)

    @property
    def chance(self) -> str:
        """Say what independent features give."""
        return "0 or slightly below, on average"

    @property
    def unbiased(self) -> bool:
        """Tell whether independent features give 0 on average: they do, but for the cost of choosing a strength."""
        return True

    @property
    def invariances(self) -> frozenset[str]:
        """List what holds for both sides."""
        return frozenset({"shift", "scale"} | ({"orthogonal"} if self.scoring == "r2" else set()))

    def geometry(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        """Centre and scale the features; what needs no single units is rotated into at most n axes.

        A last column holds the number of each stimulus's fold. Raises InputError when there are too few stimuli.
        """
        fewest = FEWEST_HELD_OUT[self.scoring] * self.folds
        if len(x) < fewest:
            raise InputError(
                f"linear_predictivity: {self.folds} folds with scoring={self.scoring} need at least {fewest} stimuli, "
                f"not {len(x)}; use fewer folds or more stimuli"
            )
        return _with_folds(self._features(x), deal(torch.arange(len(x)), self.folds, self.seed))

    def mark(self, geometry: Float[Tensor, "n k"], codes: Int[Tensor, " n"]) -> Float[Tensor, "n k"]:
        """Deal whole groups to the folds.

        Raises InputError when there are fewer than two groups, or when a fold gets fewer stimuli than a correlation
        needs.
        """
        numbers = deal(codes, self.folds, self.seed)
        sizes = numbers.bincount()
        if len(sizes) < 2:
            raise InputError(
                "linear_predictivity: folds hold whole groups out, so at least 2 groups are needed, not 1; give more "
                "groups, or none"
            )
        if int(sizes.min()) < FEWEST_HELD_OUT[self.scoring]:
            raise InputError(
                f"linear_predictivity: scoring={self.scoring} needs {FEWEST_HELD_OUT[self.scoring]} stimuli in each "
                f"fold, and of {len(sizes)} folds of whole groups one holds {int(sizes.min())}; use fewer folds"
            )
        return _with_folds(geometry[:, :-1], numbers)

    def embed(self, geometry: Float[Tensor, "n k"]) -> Folded:
        """Divide the stimuli that are there into their folds.

        Raises UndefinedError when fewer than two folds are left.
        """
        x = self._features(geometry[:, :-1])
        found = splits(geometry[:, -1].long(), FEWEST_HELD_OUT[self.scoring])
        if len(found) < 2:
            raise UndefinedError(f"its {len(x)} stimuli are left in {len(found)} folds, and 2 are needed to predict")
        return Folded(x, found)

    def _features(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        return coordinates(x) if self.scoring == "r2" else scaled(x)

    def score(self, a: Folded, b: Folded) -> float:
        """Predict the units of `b` from `a`, in the folds of `a`; those of `b` move with it when it is permuted.

        Raises UndefinedError when no unit of `b` varies within a fold, which leaves nothing to correlate.
        """
        found = [_held_out(ridge, split, b.x) for ridge, split in zip(a.ridges, a.splits, strict=True)]
        if self.scoring == "pearson":
            return _median_correlation(found)
        missed = sum(float((h.truth - h.predicted).square().sum()) for h in found)
        return 1 - missed / sum(float(h.truth.square().sum()) for h in found)


def deal(codes: Int[Tensor, " n"], folds: int, seed: int) -> Int[Tensor, " n"]:
    """Give each stimulus a fold: groups are shuffled with `seed`, and, the largest first, dealt to the smallest fold.

    Groups of one size make folds that differ by one group at most; fewer groups than folds leave the last ones empty.

    >>> deal(torch.tensor([0, 0, 0, 1, 1, 2, 3]), 2, 0).bincount().tolist()
    [4, 3]
    """
    sizes = np.bincount(codes.cpu().numpy())
    order = np.random.default_rng(seed).permutation(len(sizes))
    fold_of, filled = np.zeros(len(sizes), dtype=np.int64), np.zeros(folds, dtype=np.int64)
    for group in order[np.argsort(-sizes[order], kind="stable")]:
        fold_of[group] = filled.argmin()
        filled[fold_of[group]] += sizes[group]
    return torch.from_numpy(fold_of)[codes.cpu()]


def splits(numbers: Int[Tensor, " n"], fewest: int = 1) -> tuple[Split, ...]:
    """Hold out the stimuli of each fold in turn, of those with at least `fewest`; all others train."""
    held_out = (numbers == fold for fold in numbers.unique())
    return tuple(Split((~h).nonzero().flatten(), h.nonzero().flatten()) for h in held_out if int(h.sum()) >= fewest)


def _with_folds(x: Float[Tensor, "n k"], numbers: Int[Tensor, " n"]) -> Float[Tensor, "n q"]:
    return torch.cat([x, numbers.to(x)[:, None]], 1)


def _held_out(ridge: Ridge, split: Split, y: Float[Tensor, "n q"]) -> HeldOut:
    train = y[split.train]
    mean = train.mean(0)
    return HeldOut(y[split.test] - mean, ridge.predict(train - mean))


def _median_correlation(found: list[HeldOut]) -> float:
    """Correlate truth and prediction in each fold, average over folds, and take the median over units."""
    truth = [_unit(h.truth) for h in found]
    predicted = [_unit(h.predicted).nan_to_num(0.0) for h in found]
    per_fold = torch.stack([(t * p).sum(0) for t, p in zip(truth, predicted, strict=True)])
    per_unit = per_fold.nanmean(0).cpu().numpy()
    varying = per_unit[~np.isnan(per_unit)]
    if not len(varying):
        raise UndefinedError("no feature of the second layer varies within a fold, so nothing can be correlated")
    return float(np.median(varying))


def _unit(y: Float[Tensor, "t q"]) -> Float[Tensor, "t q"]:
    """Bring centred columns to length 1; NaN where a column doesn't vary."""
    left = centred(y)
    largest = left.abs().amax(0)
    left = left / torch.where(largest > len(y) * EPSILON * y.abs().amax(0), largest, torch.nan)
    return left / left.norm(dim=0)
