"""Which stimuli are moved, left out or flipped together: the resampling plans behind every interval and test.

Stimuli of one group (a video, a photograph, a subject) always move together. Nothing is drawn with replacement:
two copies of one stimulus look alike, which drives every similarity up.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations as arrangements
from itertools import product

import numpy as np
import torch
from jaxtyping import Int, Int8
from torch import Tensor

from repalign.errors import InputError
from repalign.infer.checks import check_count, check_seed

LEVEL = 0.05  # a test whose smallest p is above it says nothing
ALWAYS_ALL = 7  # units whose arrangements, 5,039 beside the identity, are all counted whatever number is asked for


class NoTestError(Exception):
    """Raised when there are too few groups for a p below 0.05; the p becomes NaN with this reason."""


@dataclass(frozen=True)
class Permutations:
    """Arrangements of stimuli: row k of `index (m, r)` says which of the `rows (r,)` stands where.

    `exact`: all arrangements but the identity, each once. `note` says when stimuli were left out so that groups
    are of one size.
    """

    rows: Int[Tensor, " r"]
    index: Int[Tensor, "m r"]
    exact: bool
    note: str = ""


@dataclass(frozen=True)
class Flips:
    """Signs ±1 `(m, u)` of u units; `exact`: all patterns but the one without a flip, each once."""

    signs: Int8[Tensor, "m u"]
    exact: bool


def permutations(n: int, groups: Sequence[str] | None, count: int, seed: int) -> Permutations:
    """Draw `count` arrangements of n stimuli, or of whole groups; all of them when there are no more, or 7 units.

    Groups can only change places with groups of the same size. Where sizes differ, every group is cut to k of its
    stimuli (a seeded choice, in their order) and smaller groups are left out. Of the sizes that leave at least four
    groups, k keeps the largest effective number of stimuli, `groups · k / (1 + (k − 1)/2)`: Kish's design effect with
    an intraclass correlation of a half.

    Raises NoTestError when there are fewer than four stimuli or groups.
    """
    rng = np.random.default_rng(seed)
    blocks, note = _even_blocks(n, groups, rng)
    units, size = blocks.shape
    if math.factorial(min(units, 20)) * LEVEL < 1:
        what = "stimuli" if groups is None else "groups"
        raise NoTestError(
            f"{units} {what} have {math.factorial(units)} arrangements, so no p can fall below "
            f"{1 / math.factorial(units):.2g}; at least 4 {what} are needed"
        )
    exact = units <= ALWAYS_ALL or math.factorial(min(units, 20)) - 1 <= count
    orders = list(arrangements(range(units)))[1:] if exact else [rng.permutation(units) for _ in range(count)]
    order = torch.tensor(np.array(orders, dtype=np.int64).reshape(-1, units))
    index = (order[:, :, None] * size + torch.arange(size)).flatten(1)
    return Permutations(torch.tensor(blocks).flatten(), index, exact, note)


def arrangements_of(given: object, n: int, groups: Sequence[str] | None, count: int, seed: int) -> Permutations:
    """Take the arrangements that were given, or draw them."""
    if given is None:
        return permutations(n, groups, check_count("permutations", count), check_seed(seed))
    drawn = given_permutations(given, n)
    if groups is not None:
        _check_whole(drawn.index.numpy(), groups)
    return drawn


def _check_whole(index: Int[np.ndarray, "m n"], groups: Sequence[str]) -> None:
    """Raise InputError naming the first arrangement that splits a group, or moves one to places of another number."""
    codes, sizes = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)[1:]
    order = np.argsort(codes, kind="stable")
    moved, own = codes[index][:, order], codes[order]
    together = (moved[:, 1:] == moved[:, :-1]) | (own[1:] != own[:-1])
    split = (~together.all(1) | (sizes[moved] != sizes[own]).any(1)).nonzero()[0]
    if len(split):
        raise InputError(
            f"row {split[0]} of permutations splits a group; stimuli of one group must move together, to the places of "
            "a group of the same size"
        )


def given_permutations(index: object, n: int) -> Permutations:
    """Take explicit arrangements `(m, n)`, each row a permutation of 0…n−1.

    Raises InputError naming the first row that is none.
    """
    array = _array("permutations", index)
    if array.ndim != 2 or array.shape[1] != n or not len(array) or array.dtype.kind not in "iu":
        raise InputError(f"permutations has shape {array.shape} and kind {array.dtype}; give whole numbers (m, {n})")
    wrong = (np.sort(array, axis=1) != np.arange(n)).any(1).nonzero()[0]
    if len(wrong):
        raise InputError(f"row {wrong[0]} of permutations does not hold each of 0…{n - 1} once")
    return Permutations(torch.arange(n), torch.tensor(array.astype(np.int64)), exact=False)


def sign_flips(units: int, count: int, seed: int, *, mirrored: bool = False, what: str = "groups") -> Flips:
    """Draw `count` patterns of signs; all of them when there are no more than that.

    `mirrored`: a pattern and its opposite give the same statistic (a two-sided test, or two conditions that change
    places), which halves the number of arrangements.

    Raises NoTestError when the smallest possible p is above 0.05.
    """
    check_count("permutations", count)
    check_seed(seed)
    distinct = 2 ** min(units - mirrored, 40)
    if distinct * LEVEL < 1:
        needed = math.ceil(math.log2(1 / LEVEL)) + mirrored
        raise NoTestError(
            f"the signs of {units} {what} have {distinct} arrangements, so no p can fall below {1 / distinct:.2g}; "
            f"at least {needed} {what} are needed"
        )
    exact = 2 ** min(units, 40) - 1 <= count
    if exact:
        signs = np.array(list(product((1, -1), repeat=units))[1:])
    else:
        signs = np.random.default_rng(seed).choice([1, -1], size=(count, units))
    return Flips(torch.tensor(signs.astype(np.int8)), exact)


def given_signs(signs: object, units: int) -> Flips:
    """Take explicit signs `(m, units)`, each +1 or −1. Raises InputError for anything else."""
    array = _array("signs", signs)
    if array.ndim != 2 or array.shape[1] != units or not len(array) or not np.isin(array, (1, -1)).all():
        raise InputError(f"signs has shape {array.shape}; give +1 and −1, one column for each of {units} units")
    return Flips(torch.tensor(array.astype(np.int8)), exact=False)


def _array(name: str, values: object) -> np.ndarray:
    try:
        return np.asarray(values)
    except ValueError as error:
        raise InputError(f"{name} is no array of rows of one length ({error})") from None


def deletions(n: int, groups: Sequence[str] | None, most: int, seed: int) -> list[Int[Tensor, "_"]]:
    """List what is left out at a time: each group, or each stimulus, or, of more than `most`, random blocks of them.

    Every stimulus is left out exactly once; groups are never split.
    """
    units = members(n, groups)
    if len(units) <= most:
        return units
    order = np.random.default_rng(seed).permutation(len(units))
    return [torch.cat([units[i] for i in part]) for part in np.array_split(order, most)]


def half_samples(n: int, groups: Sequence[str] | None, count: int, seed: int) -> list[Int[Tensor, "_"]]:
    """Draw `count` halves of the stimuli, or of the groups, without replacement, each in ascending order."""
    return subsets(n, groups, len(members(n, groups)) // 2, count, seed)


def subsets(n: int, groups: Sequence[str] | None, size: int, count: int, seed: int) -> list[Int[Tensor, "_"]]:
    """Draw `count` subsets of `size` stimuli or groups without replacement, each in ascending order."""
    rng, units = np.random.default_rng(seed), members(n, groups)
    drawn = (rng.permutation(len(units))[:size] for _ in range(count))
    return [torch.cat([units[i] for i in chosen]).sort().values for chosen in drawn]


def members(n: int, groups: Sequence[str] | None) -> list[Int[Tensor, "_"]]:
    """List the stimuli of each group, groups in order of first appearance; without groups each is its own."""
    if groups is None:
        return list(torch.arange(n).split(1))
    place: dict[str, list[int]] = {}
    for i, name in enumerate(groups):
        place.setdefault(name, []).append(i)
    return [torch.tensor(rows) for rows in place.values()]


def _even_blocks(n: int, groups: Sequence[str] | None, rng: np.random.Generator) -> tuple[np.ndarray, str]:
    """Lay the stimuli out as blocks of one size `(units, size)`, and say what was left out for that."""
    units = [rows.numpy() for rows in members(n, groups)]
    sizes = np.array([len(rows) for rows in units])
    left = {int(k): int((sizes >= k).sum()) for k in sorted(set(sizes.tolist()), reverse=True)}
    enough = {k: count for k, count in left.items() if count >= 4}
    if not enough:
        return np.arange(len(units))[:, None], ""
    size = max(enough, key=lambda k: enough[k] * k / (1 + (k - 1) / 2))
    kept = [rows for rows in units if len(rows) >= size]
    cut = [rows if len(rows) == size else np.sort(rng.permutation(rows)[:size]) for rows in kept]
    used = len(cut) * size
    note = (
        f"groups of unequal size: p and the null are of {size} stimuli of each of {len(cut)} groups, {used} of {n}"
        if used < n
        else ""
    )
    return np.array(cut), note
