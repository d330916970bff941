"""Matrices of all pairs of stimuli, one for each of l layers: in memory where they fit, else in one file on disk.

Symbols: `l` layers, `n` stimuli, `r` rows of a panel. Everything that works on a stack takes rows of all layers at a
time, so that it runs alike on either kind. A file is read and written plainly, not mapped: mapped pages count as
the process's own memory for as long as they stay.
"""

import errno
import shutil
import tempfile
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import FileIO
from typing import cast, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from repalign.errors import InputError
from repalign.memory import budget

BYTES = 8  # of a float64
WORK = 5.0  # matrices that embedding one layer takes unless a metric says otherwise: what sorting its pairs needs
PANEL = 1 << 26  # bytes of a panel of all layers at most: more is no quicker
PART = 1 << 25  # bytes written at once
REMEDY = "raise --memory, set TMPDIR to a folder with room, lower --max-pairwise, or take fewer --layers"


class Stack(ABC):
    """l matrices (n, n) float64 in a room; `views` tells whether reading them copies nothing."""

    def __init__(self, n: int, where: "Room", views: bool = False) -> None:
        self.n, self.where, self.views = n, where, views

    @property
    def device(self) -> torch.device:
        """Say where the matrices are computed with."""
        return self.where.device

    @abstractmethod
    def __len__(self) -> int:
        """Count the layers."""

    @abstractmethod
    def write(self, place: int, matrix: Float[Tensor, "n n"], over: float = 1.0) -> None:
        """Keep a copy of `matrix / over` at a place."""

    @abstractmethod
    def read(self, start: int, stop: int) -> Float[Tensor, "l r n"]:
        """Give rows `start` to `stop` of all layers; not to be changed."""

    @abstractmethod
    def matrix(self, place: int) -> Float[Tensor, "n n"]:
        """Give the matrix of one layer; not to be changed."""

    @abstractmethod
    def pick(self, places: Sequence[int]) -> "Stack":
        """Give the layers at these places, which stay where they are."""

    @abstractmethod
    def rows(self, index: Int[Tensor, " k"]) -> Float[Tensor, "l k n"]:
        """Copy the rows at `index` of all layers."""

    def diagonals(self) -> Float[Tensor, "l n"]:
        """Give the diagonal of each layer."""
        return torch.cat([p.diagonal(q.start, 1, 2).clone() for q, p in panels(self)], dim=1)  # a view keeps the panel

    def sums(self) -> Float[Tensor, "l n"]:
        """Sum the rows of each layer."""
        return torch.cat([p.sum(2) for _, p in panels(self)], dim=1)


@final
class InMemory(Stack):
    """A stack in one block of the device's or the machine's memory; layers that lie side by side are read as they are.

    A block holds its place in the room until its last user is gone.
    """

    def __init__(self, block: Float[Tensor, "k n n"], places: Sequence[int], where: "Room") -> None:
        self.block, self.places = block, list(places)
        self.together = self.places == list(range(self.places[0], self.places[0] + len(places)))
        super().__init__(block.shape[-1], where, views=self.together and block.device == where.device)

    def __len__(self) -> int:
        return len(self.places)

    def write(self, place: int, matrix: Float[Tensor, "n n"], over: float = 1.0) -> None:
        """Copy `matrix / over` to a place."""
        target = self.block[self.places[place]]
        if target.device == matrix.device:
            torch.div(matrix, over, out=target)
        else:
            target.copy_(matrix / over)

    def read(self, start: int, stop: int) -> Float[Tensor, "l r n"]:
        """Give rows `start` to `stop` of all layers; not to be changed."""
        first = self.places[0]
        rows = (
            self.block[first : first + len(self), start:stop] if self.together else self.block[self.places, start:stop]
        )
        return rows.to(self.device)

    def matrix(self, place: int) -> Float[Tensor, "n n"]:
        """Give the matrix of one layer; not to be changed."""
        return self.block[self.places[place]].to(self.device)

    def pick(self, places: Sequence[int]) -> Stack:
        """Give the layers at these places, which are not copied."""
        return InMemory(self.block, [self.places[k] for k in places], self.where)

    def rows(self, index: Int[Tensor, " k"]) -> Float[Tensor, "l k n"]:
        """Copy the rows at `index` of all layers."""
        found = torch.empty(len(self), len(index), self.n, dtype=torch.float64, device=self.block.device)
        index = index.to(self.block.device)
        for place, rows in zip(self.places, found, strict=True):
            torch.index_select(self.block[place], 0, index, out=rows)
        return found.to(self.device)


@final
class OnDisk(Stack):
    """A stack in one temporary file, layer after layer, that no folder lists and that is gone with its last user."""

    def __init__(self, scratch: "Scratch", places: Sequence[int], n: int, where: "Room") -> None:
        super().__init__(n, where)
        self.scratch, self.places = scratch, list(places)

    def __len__(self) -> int:
        return len(self.places)

    def write(self, place: int, matrix: Float[Tensor, "n n"], over: float = 1.0) -> None:
        """Keep `matrix / over` at a place; raises InputError when the disk is full."""
        height = max(1, PART // (BYTES * self.n))
        for row, part in zip(range(0, self.n, height), matrix.split(height), strict=True):
            self.scratch.write(self._offset(place, row), part.div(over).cpu().contiguous())

    def read(self, start: int, stop: int) -> Float[Tensor, "l r n"]:
        """Read rows `start` to `stop` of all layers."""
        return self.rows(torch.arange(start, stop))

    def matrix(self, place: int) -> Float[Tensor, "n n"]:
        """Read the matrix of one layer."""
        found = torch.empty(self.n, self.n, dtype=torch.float64)
        self.scratch.read(self._offset(place, 0), found)
        return found.to(self.device)

    def pick(self, places: Sequence[int]) -> Stack:
        """Give the layers at these places of the file."""
        return OnDisk(self.scratch, [self.places[k] for k in places], self.n, self.where)

    def rows(self, index: Int[Tensor, " k"]) -> Float[Tensor, "l k n"]:
        """Read the rows at `index` of all layers, those that follow each other at once."""
        found = torch.empty(len(self), len(index), self.n, dtype=torch.float64)
        runs = index.tensor_split(((index.diff() != 1).nonzero().flatten() + 1).tolist())
        for place, rows in enumerate(found):
            for run, target in zip(runs, rows.split([len(run) for run in runs]), strict=True):
                self.scratch.read(self._offset(place, int(run[0])), target)
        return found.to(self.device)

    def _offset(self, place: int, row: int) -> int:
        return BYTES * self.n * (self.places[place] * self.n + row)


@final
class Scratch:
    """A file of `size` bytes that no folder lists; its space is free again with the last user, or the process."""

    def __init__(self, size: int) -> None:
        folder = tempfile.gettempdir()
        have = shutil.disk_usage(folder).free
        if size > have:
            raise InputError(f"{size / 1e9:.1f} GB of {folder} are needed, and {have / 1e9:.1f} GB are left; {REMEDY}")
        self.file = cast(FileIO, tempfile.TemporaryFile(buffering=0, prefix="repalign-"))  # noqa: SIM115
        weakref.finalize(self, self.file.close)  # no context manager: the file lives as long as its stack

    def write(self, offset: int, values: Float[Tensor, "r n"]) -> None:
        """Write a tensor at an offset in bytes; raises InputError when the disk is full."""
        self.file.seek(offset)
        left = values.numpy().data.cast("B")
        try:
            while len(left):
                left = left[self.file.write(left) or 0 :]
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise InputError(f"{tempfile.gettempdir()} is full; {REMEDY}") from None

    def read(self, offset: int, values: Float[Tensor, "r n"]) -> None:
        """Fill a tensor from an offset in bytes."""
        self.file.seek(offset)
        left = values.numpy().data.cast("B")
        while len(left):
            count = self.file.readinto(left)
            if not count:
                raise OSError(errno.EIO, f"the temporary file ends {len(left)} bytes early")
            left = left[count:]


@dataclass
class Held:
    """How many bytes of a room are in use."""

    size: int = 0

    def give_back(self, size: int) -> None:
        """Take note that so many bytes are free again."""
        self.size -= size


@dataclass(frozen=True)
class Room:
    """Where matrices of all pairs are computed, `device`, and how many bytes they may take, `memory`.

    What is held in a device's own memory takes none of it. `held` counts what is held at the moment.
    """

    memory: int
    device: torch.device
    held: Held = field(default_factory=Held, compare=False, repr=False)

    def left(self) -> int:
        """Count the bytes that nobody holds, one at least."""
        return max(1, self.memory - self.held.size)

    def hold(self, tensor: Tensor) -> None:
        """Count a tensor as long as it is there."""
        self.held.size += tensor.nbytes
        weakref.finalize(tensor, self.held.give_back, tensor.nbytes)

    def most(self, n: int) -> int:
        """Say how many bytes of rows of n may be copied at once."""
        return max(BYTES * n, min(PANEL, self.left() // 2))

    def check(self, n: int, work: float = WORK) -> None:
        """Raise InputError when not even the `work` on one layer, in matrices, fits."""
        need = int(work * BYTES * n * n)
        if need > self.memory:
            raise InputError(
                f"all pairs of {n:,} stimuli take {need / 1e9:.1f} GB for one layer, and memory is "
                f"{self.memory / 1e9:.1f} GB; raise --memory or lower --max-pairwise"
            )

    def home(self, count: int, n: int, work: float = WORK) -> torch.device | None:
        """Say where `count` more matrices are held beside the work on one: on the device, else in memory, else None."""
        need, beside = BYTES * n * n * count, int(work * BYTES * n * n)
        if self.device.type == "cpu":
            return self.device if need + beside <= self.left() else None
        if need + beside <= _free_on(self.device):
            return self.device
        return torch.device("cpu") if need <= self.left() else None

    def stack(self, count: int, n: int, among: int | None = None, work: float = WORK) -> Stack:
        """Make room for `count` of the `among` matrices that are still to come (all of them).

        Where those and the work on one more fit beside what is held already, they are held on the device, else in
        memory, else on disk. Raises InputError naming the folder when that has no room.
        """
        home = self.home(max(count, among or 0), n, work)
        if home is None:
            return OnDisk(Scratch(BYTES * n * n * count), range(count), n, self)
        block = torch.empty(count, n, n, dtype=torch.float64, device=home)
        if home.type == "cpu":
            self.hold(block)
        return InMemory(block, range(count), self)


def room(memory: int | None = None, device: str | torch.device | None = None) -> Room:
    """Say where to compute, and with how many bytes: a quarter of what is free unless told.

    The CPU takes the place of a device without float64 (Apple's MPS). Raises InputError for less than one byte.
    """
    where = torch.device("cpu" if device is None else device)
    return Room(budget(memory), torch.device("cpu") if where.type == "mps" else where)


def panels(*stacks: Stack, copied: bool = False) -> Iterator[tuple[slice, *tuple[Tensor, ...]]]:
    """Go through the rows of several stacks together: which rows they are, and a panel of each `(l, r, n)`.

    A panel of all has at most `PANEL` bytes, or what the rooms allow where rows are copied, here or, with `copied`, by
    the caller; a stack given twice is read once.
    """
    different = list({id(s): s for s in stacks}.values())
    n = stacks[0].n
    views = not copied and all(s.views for s in different)
    most = PANEL if views else min(s.where.most(n) for s in different)
    height = max(1, most // (BYTES * n * sum(map(len, different))))
    for start in range(0, n, height):
        stop = min(start + height, n)
        found = {id(s): s.read(start, stop) for s in different}
        yield slice(start, stop), *(found[id(s)] for s in stacks)


def _free_on(device: torch.device) -> int:
    """Count the bytes of a device that are free, or kept by the allocator for tensors to come."""
    if device.type != "cuda":
        return 0
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + kept
