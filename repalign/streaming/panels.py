"""Which layers are multiplied in one pass over the stimuli, so that their products fit in memory."""

from collections.abc import Mapping
from dataclasses import dataclass

from repalign.errors import InputError
from repalign.streaming.blocks import Stack, stack_of
from repalign.types import Rows

BYTES = 8  # of a float64
PER_PAIR = 16  # values of one stimulus and two layers that are held at once
PER_COLUMN = 3  # block rows as they are used, as a product with C has them, and as float64 while they are read
SUMS = 12  # per group and pair of layers
SMALLER = 0.8  # of the features that were tried together before


@dataclass(frozen=True)
class Panel:
    """Some layers of a against some of b; `same`: they are the same layers of the same rows."""

    left: Stack
    right: Stack
    same: bool

    @property
    def products(self) -> int:
        """Count the entries of C, and of every layer with itself."""
        if self.same:
            return self.left.width**2
        return self.left.width * self.right.width + sum(d * d for d in (*self.left.widths, *self.right.widths))

    def at_once(self, block: int) -> int:
        """Count the values that one step may hold of the stimuli of a block: a few such steps' are held together."""
        return PER_PAIR // 4 * max(block, 1) * (len(self.left) + 1) * (len(self.right) + 1)

    def bytes(self, block: int, groups: int) -> int:
        """Count the bytes of one pass: products, sums, and what is held of the stimuli of one block.

        `groups` counts the entries there are for groups, 0 without groups.
        """
        la, lb, width = len(self.left), len(self.right), self.left.width + self.right.width
        sums = (la + lb + 2 + groups) * width + groups * SUMS * (la + 1) * (lb + 1)
        return BYTES * (self.products + sums + block * (PER_COLUMN * width + PER_PAIR * (la + 1) * (lb + 1)))


def panels(a: Rows, b: Rows, memory: int, block: int, groups: int) -> list[Panel]:
    """Split the layers of both sides so that one pass needs at most `memory` bytes; b may be a.

    Raises InputError naming two layers whose products alone need more.
    """
    most = max(sum(rows.widths.values()) for rows in (a, b))
    while True:
        left, right = chunks(a, most), chunks(b, most)
        found = [
            Panel(p, q, a is b and i == j)
            for i, p in enumerate(left)
            for j, q in enumerate(right)
            if a is not b or i <= j
        ]  # fmt: skip
        too_large = [panel for panel in found if panel.bytes(block, groups) > memory]
        if not too_large:
            return found
        if len(left) == len(a.widths) and len(right) == len(b.widths):
            raise _no_room(too_large[0], memory, block, groups)
        most = int(most * SMALLER)


def check_room(a: Mapping[str, int], b: Mapping[str, int], memory: int, block: int) -> None:
    """Raise InputError unless layers of these widths can be streamed in `memory` bytes, `block` stimuli at a time."""
    left, right = (Rows((), None, widths, lambda _k, _layers: {}) for widths in (a, b))
    panels(left, right, memory, block, 0)


def chunks(rows: Rows, most: int) -> list[Stack]:
    """Take layers together, in their order, while they have at most `most` features; each layer at least alone."""
    found: list[list[str]] = [[]]
    for name, width in rows.widths.items():
        if found[-1] and sum(rows.widths[k] for k in found[-1]) + width > most:
            found.append([])
        found[-1].append(name)
    return [stack_of(rows, names) for names in found]


def _no_room(panel: Panel, memory: int, block: int, groups: int) -> InputError:
    of_groups = f" and of {groups - 1:,} groups" if groups else ""
    return InputError(
        f"linear CKA of {_named(panel.left)} with {_named(panel.right)} needs {panel.bytes(block, groups) / 1e6:,.1f} "
        f"MB for its sums over all stimuli{of_groups}, and memory is {memory / 1e6:,.1f} MB; give more memory, pool or "
        "project these layers, or take fewer stimuli"
    )


def _named(stack: Stack) -> str:
    return ", ".join(f"{name!r} ({d:,} features)" for name, d in zip(stack.names, stack.widths, strict=True))
