"""What each side of a comparison sees: which pictures, what is exchangeable among them, and through which filter."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL.Image import Image

from repalign.errors import InputError, unknown
from repalign.filters import Filter, load_filter
from repalign.stimuli import load_stimuli_pair, require_enough
from repalign.types import Stimuli

GROUPS = ("own", "folder", "label", "none")


@dataclass(frozen=True)
class View:
    """The stimuli of one side, None for saved features that name their own, and the filter before them."""

    stimuli: Stimuli | None = None
    filter: Filter | None = None

    def show(self, i: int) -> Image:
        """Give stimulus `i` as this side sees it, 8-bit RGB."""
        assert self.stimuli is not None  # saved features show nothing
        picture = self.stimuli.load(i)
        return picture if self.filter is None else self.filter(picture, self.stimuli.extent_of(i))


def load_shown(
    data: str | Path | Stimuli | None, data_b: str | Path | Stimuli | None, groups: str = "own",
    limit: int | None = None, seed: int = 0, *, skip_unreadable: bool = False,
) -> tuple[Stimuli | None, Stimuli | None]:  # fmt: skip
    """Load the stimuli of both sides, grouped, and cut to a seeded subset of `limit`; None where a side has no own.

    Raises InputError for stimuli that can't be used as asked.
    """
    if data is None:
        if data_b is not None:
            raise InputError("--data-b needs --data: the second set is paired with the first by relative name")
        return None, None
    first, second = load_stimuli_pair(data, data_b, skip_unreadable=skip_unreadable)
    first, second = grouped(first, groups), None if second is None else grouped(second, groups)
    if second is not None:  # what is exchangeable holds for both
        known = first.groups or second.groups
        first, second = replace(first, groups=known), replace(second, groups=known)
    require_enough(first)
    index = drawn(len(first), limit, seed)
    if index is not None:
        first, second = first.take(index), None if second is None else second.take(index)
    return first, second


def drawn(n: int, limit: int | None, seed: int, fewest: int = 4) -> list[int] | None:
    """Draw a seeded subset of `limit` of n stimuli, in order; None when all are taken.

    Raises InputError when fewer than `fewest` are left.
    """
    if limit is None or limit >= n:
        return None
    if limit < fewest:
        raise InputError(f"--limit {limit} leaves too few stimuli; give at least {fewest}")
    return sorted(np.random.default_rng(seed).permutation(n)[:limit].tolist())


def grouped(stimuli: Stimuli, groups: str) -> Stimuli:
    """Say which stimuli are exchangeable: those of different groups."""
    match groups:
        case "own":
            return stimuli
        case "none":
            return replace(stimuli, groups=None)
        case "label" if stimuli.labels is not None:
            return replace(stimuli, groups=stimuli.labels)
        case "folder" if any("/" in name for name in stimuli.ids):
            return replace(stimuli, groups=tuple(name.rpartition("/")[0] for name in stimuli.ids))
        case "label" | "folder":
            raise InputError(f"--groups {groups}: {stimuli.name} has no {groups}s; use --groups none, or a manifest")
    raise unknown("--groups", groups, GROUPS)


def load_filters(
    both: str | Filter | None, a: str | Filter | None, b: str | Filter | None, one_encoder: bool, second_set: bool
) -> tuple[Filter | None, Filter | None]:
    """Say who sees pictures through what: `both` is what the second view of a single encoder passes.

    Raises InputError for filters that contradict each other, and as `load_filter` does.
    """
    if both is None:
        return None if a is None else load_filter(a), None if b is None else load_filter(b)
    if not one_encoder:
        raise InputError(
            "--filter compares one encoder with itself, on the pictures as they are and filtered; with two encoders, "
            "--filter-a and --filter-b say which of them sees filtered pictures"
        )
    if a is not None or b is not None:
        raise InputError("--filter is short for --filter-b with one encoder; give one of them")
    if second_set:
        raise InputError("--filter and --data-b both say what the second view is; give one of them")
    return None, load_filter(both)
