"""Rows as they are read: shifted, scaled, checked, and the layers of a side laid next to each other."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from repalign.errors import InputError
from repalign.together import Together
from repalign.types import Rows


@dataclass(frozen=True)
class Stack:
    """Layers of one side next to each other: `slices` are their columns, `width` is Σd."""

    names: tuple[str, ...]
    widths: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def width(self) -> int:
        """Count the features of all layers."""
        return sum(self.widths)

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        """List the columns of each layer."""
        return tuple(slice(*ends) for ends in pairwise(accumulate(self.widths, initial=0)))


@dataclass(frozen=True)
class Scaling:
    """What every row of a layer is shifted by, `(d,)`, and divided by after that: a power of two, so without rounding.

    One and the same for all blocks and processes, since sums under different shifts can't be added.
    """

    shift: Mapping[str, Float[Tensor, " d"]]
    size: Mapping[str, float]


@dataclass(frozen=True)
class Side:
    """One side's rows and how they are scaled."""

    rows: Rows
    scaling: Scaling


@dataclass(frozen=True)
class Extent:
    """The largest magnitude of each layer as it was read, and after it was shifted, `(l,)`, both in units of `size`."""

    read: Float[Tensor, " l"]
    shifted: Float[Tensor, " l"]


def stack_of(rows: Rows, names: Sequence[str]) -> Stack:
    """Lay layers next to each other."""
    return Stack(tuple(names), tuple(rows.widths[name] for name in names))


def survey(rows: Rows, together: Together, first: int) -> Scaling:
    """Find each layer's shift, the mean of the first block of process `first`, and its size.

    The size is the power of two next to the largest deviation from the shift in the first block of any process that
    shows one. The products stay within float64 as long as no deviation is 10³⁰ times as large.

    Raises InputError for NaN or infinite values.
    """
    names = tuple(rows.widths)
    ends = list(accumulate(rows.widths.values(), initial=0))
    shift = torch.zeros(ends[-1], dtype=torch.float64)
    if together.rank == first:
        found = rows.read(0, names)
        for name, end in zip(names, pairwise(ends), strict=True):
            shift[slice(*end)] = _mean(checked(rows, 0, name, found[name]))
    shifts = dict(zip(names, together.sum_(shift).split(list(rows.widths.values())), strict=True))
    largest = highest(torch.tensor([*_deviations(rows, shifts).values()], dtype=torch.float64), together)
    sizes = torch.where(largest > 0, largest.log2().floor().exp2(), 1.0)
    return Scaling(shifts, dict(zip(names, sizes.tolist(), strict=True)))


def checked(rows: Rows, k: int, name: str, x: Tensor) -> Tensor:
    """Give one layer's rows of a block back; raises InputError when they are not of the announced shape or finite."""
    expected = (len(rows.ids[k]), rows.widths[name])
    if tuple(x.shape) != expected:
        raise InputError(f"layer {name!r} has shape {tuple(x.shape)} in block {k}; {expected} was announced")
    if x.numel() and not _finite(x):
        wrong = ~torch.isfinite(x)
        where = wrong.any(1).nonzero().flatten()
        raise InputError(
            f"layer {name!r} holds {int(wrong.sum())} NaN or infinite values in {len(where)} of {len(x)} stimuli of a "
            f"block ({rows.ids[k][int(where[0])]} first); leave out the layer or these stimuli"
        )
    return x


def highest(values: Float[Tensor, "*m"], together: Together) -> Float[Tensor, "*m"]:
    """Take the largest of each value over all processes."""
    table = values.new_zeros(together.world, *values.shape)
    table[together.rank] = values
    return together.sum_(table).amax(0)


def load(side: Side, stack: Stack, found: Mapping[str, Tensor], k: int, out: Float[Tensor, "r d"]) -> Extent:
    """Lay block k's rows of the layers of `stack` into `out`, shifted and scaled, and say how large they were."""
    read, shifted = torch.zeros(len(stack), dtype=torch.float64), torch.zeros(len(stack), dtype=torch.float64)
    for place, (name, columns) in enumerate(zip(stack.names, stack.slices, strict=True)):
        x, size = checked(side.rows, k, name, found[name]), side.scaling.size[name]
        torch.sub(x, side.scaling.shift[name], out=out[:, columns]).div_(size)
        read[place], shifted[place] = _largest(x) / size, _largest(out[:, columns])
    return Extent(read, shifted)


def layers_of(x: Float[Tensor, "r d"], stack: Stack) -> Iterator[Float[Tensor, "r _"]]:
    """Split rows of all layers into those of each."""
    return (x[:, columns] for columns in stack.slices)


def _deviations(rows: Rows, shifts: Mapping[str, Tensor]) -> dict[str, float]:
    """Find each layer's largest deviation from its shift in the first block that has any; 0 where none has."""
    found = dict.fromkeys(rows.widths, 0.0)
    for k in range(len(rows.ids)):
        lacking = [name for name, largest in found.items() if largest == 0]
        if not lacking:
            break
        read = rows.read(k, lacking)
        found |= {name: _largest(checked(rows, k, name, read[name]) - shifts[name]) for name in lacking}
    return found


def _mean(x: Tensor) -> Tensor:
    largest = _largest(x) or 1.0
    return x.to(torch.float64).div(largest).mean(0).mul(largest)  # a sum of values near 10³⁰⁸ would overflow


def _largest(x: Tensor) -> float:
    if not x.numel():
        return 0.0
    low, high = x.aminmax()
    return max(-float(low), float(high))


def _finite(x: Tensor) -> bool:
    low, high = x.aminmax()  # NaN wins; no mask of the whole block
    return bool(torch.isfinite(low) & torch.isfinite(high))
