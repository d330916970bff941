"""What changes its label as a whole: pairs, points, or groups of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int, Shaped
from numpy.typing import NDArray
from torch import Tensor

from repalign.errors import InputError

Groups = Sequence[Any] | NDArray[Any] | None


@dataclass(frozen=True)
class Units:
    """The unit of every row, `of_row (n,)`, numbered by first appearance; `count_x` of all `count` are of x.

    `grouped` tells groups from rows that stand for themselves; paired units are of both conditions.
    """

    of_row: Int[Tensor, " n"]
    count: int
    count_x: int
    grouped: bool

    @property
    def n_groups(self) -> int | None:
        """Count the groups, None without any."""
        return self.count if self.grouped else None

    def check_whole(self, what: str, rows: Shaped[Tensor, "m n"]) -> None:
        """Raise InputError unless every row of `rows` gives all members of a unit one value."""
        first = torch.tensor([int((self.of_row == unit).nonzero()[0]) for unit in range(self.count)])
        split = (rows != rows[:, first[self.of_row]]).any(1).nonzero().flatten().tolist()
        if split:
            raise InputError(f"row {split[0]} of {what} splits a group; give all of a group the same, or no groups")


def units_of_pairs(groups: Groups, n: int) -> Units:
    """Take n pairs, or their groups, as the units. Raises InputError for another number of groups."""
    of_row = _numbered("groups", groups, n)
    count = int(of_row.max()) + 1
    return Units(of_row, count, count, groups is not None)


def units_of_both(groups: Groups, n_x: int, n_y: int) -> Units:
    """Take the points of both conditions, or their groups, as the units.

    Raises InputError unless `groups` is one sequence of names for x and one for y, which share none.
    """
    if groups is None:
        return Units(torch.arange(n_x + n_y), n_x + n_y, n_x, False)
    if not isinstance(groups, tuple) or len(groups) != 2:
        raise InputError(
            f"groups of an unpaired test must be a tuple (groups of x, groups of y), not {type(groups).__name__} of "
            f"{len(groups)}"
        )
    left, right = _numbered("groups of x", groups[0], n_x), _numbered("groups of y", groups[1], n_y)
    shared = sorted({str(g) for g in groups[0]} & {str(g) for g in groups[1]})
    if shared:
        raise InputError(
            f"{len(shared)} groups are in x and in y ({', '.join(shared[:5])}), so the conditions are no independent "
            "samples; use paired=True with as many rows of a group in y as in x, or name the groups apart"
        )
    count_x = int(left.max()) + 1
    return Units(torch.cat([left, right + count_x]), count_x + int(right.max()) + 1, count_x, True)


def _numbered(what: str, groups: Groups, n: int) -> Int[Tensor, " n"]:
    if groups is None:
        return torch.arange(n)
    if len(groups) != n:
        raise InputError(f"{len(groups)} {what} for {n} rows; give one each or none")
    place: dict[str, int] = {}
    return torch.tensor([place.setdefault(str(name), len(place)) for name in groups])
