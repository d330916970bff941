"""Which stimuli belong together, over all blocks and processes, and the rows of a group until all of it has come."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from repalign.errors import InputError
from repalign.together import Together
from repalign.types import Rows


@dataclass(frozen=True)
class Grouping:
    """Groups, numbered over all processes: `codes` of each block's stimuli here, `sizes (g,)` of all groups.

    `names` are those of the groups here, by number.
    """

    codes: tuple[Int[Tensor, "_"], ...]
    sizes: Int[Tensor, " g"]
    names: dict[int, str]

    def __len__(self) -> int:
        return len(self.sizes)


def grouping(rows: Rows, together: Together) -> Grouping | None:
    """Give every group a number; None where there are none, or every stimulus is a group of its own.

    Raises InputError naming a group that two processes have stimuli of.
    """
    present = _each(int(rows.groups is not None and len(rows) > 0), together)
    if not present.any():
        return None
    labels = np.array([name for block in rows.groups or () for name in block], dtype=object)
    names, codes = np.unique(labels.astype(str), return_inverse=True)
    _check_whole(names.tolist(), together)
    counts = _each(len(names), together)
    offset, total = int(counts[: together.rank].sum()), int(counts.sum())
    numbered = torch.as_tensor(codes, dtype=torch.int64).flatten() + offset
    sizes = together.sum_(torch.bincount(numbered, minlength=total).to(torch.float64)).long()
    if int(sizes.sum()) == total:
        return None
    found = dict(enumerate(names.tolist(), offset))
    return Grouping(tuple(numbered.split([len(block) for block in rows.ids])), sizes, found)


@dataclass(frozen=True)
class Gathered:
    """All rows of one group: its number, `x (n_g, Σd_a)` and `y (n_g, Σd_b)`."""

    code: int
    x: Float[Tensor, "r da"]
    y: Float[Tensor, "r db"]


@dataclass(frozen=True)
class Waiting:
    """Rows of groups of which some are still to come, at most `most` bytes of them."""

    grouping: Grouping
    most: int
    parts: dict[int, list[tuple[Tensor, Tensor]]] = field(default_factory=dict)

    def take(self, codes: Int[Tensor, " r"], x: Float[Tensor, "r da"], y: Float[Tensor, "r db"]) -> Iterator[Gathered]:
        """Add a block's rows, and give every group that is now complete.

        Raises InputError naming a group when more rows wait than fit.
        """
        for code in codes.unique().tolist():
            here = codes == code
            first = x[here]
            self.parts.setdefault(code, []).append((first, first if y is x else y[here]))
            if sum(len(part) for part, _ in self.parts[code]) == int(self.grouping.sizes[code]):
                left, right = zip(*self.parts.pop(code), strict=True)
                whole = torch.cat(left)
                yield Gathered(code, whole, whole if y is x else torch.cat(right))
        self._check()

    def _check(self) -> None:
        held = {
            code: 2 * sum(_bytes(*part) for part in parts) for code, parts in self.parts.items()
        }  # joined once more
        if sum(held.values()) > self.most:
            largest = max(held, key=lambda code: held[code])
            raise InputError(
                f"{len(held)} groups are spread over blocks and wait for the rest of their stimuli, "
                f"{sum(held.values()) / 1e6:,.1f} MB of rows, and memory leaves {self.most / 1e6:,.1f} MB for them; "
                f"{self.grouping.names[largest]!r} holds most. Put the stimuli of one group next to each other, or "
                "give more memory"
            )


def _bytes(x: Tensor, y: Tensor) -> int:
    return x.nbytes + (0 if y is x else y.nbytes)


def _check_whole(names: list[str], together: Together) -> None:
    found = together.gather(names)
    split: set[str] = set()
    seen: set[str] = set()
    for some in found or []:
        split |= seen & set(some)
        seen |= set(some)
    count = int(together.sum_(torch.tensor([float(len(split))], dtype=torch.float64)))
    if count:
        example = f", {min(split)!r} first" if split else ""
        raise InputError(
            f"{count} groups have stimuli in more than one process{example}; give all stimuli of a group to one process"
        )


def _each(value: int, together: Together) -> Int[Tensor, " world"]:
    """List a count of every process."""
    found = torch.zeros(together.world, dtype=torch.float64)
    found[together.rank] = value
    return together.sum_(found).long()
