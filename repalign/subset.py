"""Which stimuli stand for all where every pair of stimuli counts and there are too many pairs."""

from collections.abc import Sequence

import numpy as np


def subset(n: int, groups: Sequence[str] | None, size: int, seed: int) -> list[int]:
    """Draw a seeded subset of `size` of n stimuli, ascending, in which every group has its share but for rounding.

    Stimulus number r of a group of m, in random order, gets the place `(r + u) / m` with one random `u` in 0..1 for
    each group, and the smallest places are taken: systematic sampling from each group, and a simple random sample where
    every stimulus is its own group. Groups of one size stay so, for tests that let them change places: then the same
    number is drawn of each, a few less than `size` in all.

    >>> subset(6, ["a", "a", "b", "b", "c", "c"], 3, 0)
    [0, 3, 5]
    """
    if n <= size:
        return list(range(n))
    rng = np.random.default_rng(seed)
    codes = np.arange(n) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    order = rng.permutation(n)
    order = order[np.argsort(codes[order], kind="stable")]  # groups one after another, each in random order
    counts = np.bincount(codes)
    if counts.min() == counts.max() and len(counts) <= size:
        size -= size % len(counts)
    rank = np.arange(n) - np.repeat(np.cumsum(counts) - counts, counts)
    place = (rank + rng.random(len(counts)).repeat(counts)) / np.repeat(counts, counts)
    return sorted(order[np.argsort(place, kind="stable")[:size]].tolist())
