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
from dataclasses import dataclass
from io import FileIO
from typing import cast, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from repalign.errors import InputError
from repalign.memory import budget

BYTES = 8  # of a float64
WORK = 3.5  # matrices that embedding one layer takes: the geometry, and what sorting its pairs needs
PANEL = 1 << 26  # bytes of a panel of all layers at most: more is no quicker
PART = 1 << 25  # bytes written at once
REMEDY = "raise --memory, set TMPDIR to a folder with room, lower --max-pairwise, or take fewer --layers"


class Stack(ABC):
    """l matrices (n, n) float64 with equal places, n and device; `most` bytes are read from disk at once."""

    def __init__(self, n: int, device: torch.device, most: int) -> None:
        self.n, self.device, self.most = n, device, most

    @abstractmethod
    def __len__(self) -> int:
        """Count the layers."""

    @abstractmethod
    def write(self, place: int, matrix: Float[Tensor, "n n"], over: float = 1.0) -> None:
        """Keep `matrix / over` at a place; the matrix may be changed, and is the stack's from now on."""

    @abstractmethod
    def read(self, start: int, stop: int) -> Float[Tensor, "l r n"]:
        """Give rows `start` to `stop` of all layers; not to be changed."""

    @abstractmethod
    def matrix(self, place: int) -> Float[Tensor, "n n"]:
        """Give the matrix of one layer; not to be changed."""

    @abstractmethod
    def pick(self, places: Sequence[int]) -> "Stack":
        """Give the layers at these places, which stay where they are."""

    def rows(self, index: Int[Tensor, " k"]) -> Float[Tensor, "l k n"]:
        """Give the rows at `index` of all layers."""
        found = torch.empty(len(self), len(index), self.n, dtype=torch.float64, device=self.device)
        for k, i in enumerate(index.tolist()):
            found[:, k] = self.read(i, i + 1)[:, 0]
        return found

    def diagonals(self) -> Float[Tensor, "l n"]:
        """Give the diagonal of each layer."""
        return torch.cat([p.diagonal(q.start, 1, 2) for q, p in panels(self)], dim=1)

    def sums(self) -> Float[Tensor, "l n"]:
        """Sum the rows of each layer."""
        return torch.cat([p.sum(2) for _, p in panels(self)], dim=1)


@final
class InMemory(Stack):
    """A stack of tensors (n, n), on the device or in the machine's memory, `home`; what is written is kept, not copied.

    A first copy of 32 MB costs as much time as its centring, since the system hands out its pages one by one.
    """

    def __init__(self, values: list[Tensor], n: int, device: torch.device, most: int, home: torch.device) -> None:
        super().__init__(n, device, most)
        self.values, self.home = values, home

    def __len__(self) -> int:
        return len(self.values)

    def write(self, place: int, matrix: Float[Tensor, "n n"], over: float = 1.0) -> None:
        """Keep `matrix / over`, which is changed, at a place."""
        self.values[place] = matrix.div_(over).to(self.home)

    def read(self, start: int, stop: int) -> Float[Tensor, "l r n"]:
        """Copy rows `start` to `stop` of all layers side by side."""
        return torch.stack([x[start:stop] for x in self.values]).to(self.device)

    def matrix(self, place: int) -> Float[Tensor, "n n"]:
        """Give the matrix of one layer; not to be changed."""
        return self.values[place].to(self.device)

    def pick(self, places: Sequence[int]) -> Stack:
        """Give the layers at these places, which are not copied."""
        return InMemory([self.values[k] for k in places], self.n, self.device, self.most, self.home)


@final
class OnDisk(Stack):
    """A stack in one temporary file, layer after layer, that no folder lists and that is gone with its last user."""

    def __init__(self, scratch: "Scratch", places: Sequence[int], n: int, device: torch.device, most: int) -> None:
        super().__init__(n, device, most)
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
        found = torch.empty(len(self), stop - start, self.n, dtype=torch.float64)
        for place, rows in enumerate(found):
            self.scratch.read(self._offset(place, start), rows)
        return found.to(self.device)

    def matrix(self, place: int) -> Float[Tensor, "n n"]:
        """Read the matrix of one layer."""
        found = torch.empty(self.n, self.n, dtype=torch.float64)
        self.scratch.read(self._offset(place, 0), found)
        return found.to(self.device)

    def pick(self, places: Sequence[int]) -> Stack:
        """Give the layers at these places of the file."""
        return OnDisk(self.scratch, [self.places[k] for k in places], self.n, self.device, self.most)

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


@dataclass(frozen=True)
class Room:
    """Where matrices of all pairs are computed, `device`, and how many bytes they may take, `memory`."""

    memory: int
    device: torch.device

    def check(self, n: int) -> None:
        """Raise InputError when not even the work on one layer fits."""
        need = int(WORK * BYTES * n * n)
        if need > self.memory:
            raise InputError(
                f"all pairs of {n:,} stimuli take {need / 1e9:.1f} GB for one layer, and memory is "
                f"{self.memory / 1e9:.1f} GB; raise --memory or lower --max-pairwise"
            )

    def stack(self, count: int, n: int, among: int | None = None) -> Stack:
        """Make room for `count` matrices of `among` that are held at the same time (all of them).

        Where they and the work on one more fit they are held on the device, else in memory, else on disk. Raises
        InputError naming the folder when that has no room.
        """
        kept, work = BYTES * n * n * max(count, among or 0), int(WORK * BYTES * n * n)
        most = max(BYTES * n, min(PANEL, (self.memory - work) // 2))
        beside = self.device.type != "cpu"
        if beside and kept + work <= _free_on(self.device):
            return InMemory([torch.empty(0)] * count, n, self.device, most, self.device)
        if kept + (0 if beside else work) <= self.memory:
            return InMemory([torch.empty(0)] * count, n, self.device, most, torch.device("cpu"))
        return OnDisk(Scratch(BYTES * n * n * count), range(count), n, self.device, most)


def room(memory: int | None = None, device: str | torch.device | None = None) -> Room:
    """Say where to compute, and with how many bytes: a quarter of what is free unless told.

    The CPU takes the place of a device without float64 (Apple's MPS). Raises InputError for less than one byte.
    """
    where = torch.device("cpu" if device is None else device)
    return Room(budget(memory), torch.device("cpu") if where.type == "mps" else where)


def panels(*stacks: Stack) -> Iterator[tuple[slice, *tuple[Tensor, ...]]]:
    """Go through the rows of several stacks together: which rows they are, and a panel of each `(l, r, n)`.

    A panel of all has at most `PANEL` bytes, or what the stacks allow; a stack given twice is read once.
    """
    different = list({id(s): s for s in stacks}.values())
    n = stacks[0].n
    height = max(1, min(s.most for s in different) // (BYTES * n * sum(map(len, different))))
    for start in range(0, n, height):
        stop = min(start + height, n)
        found = {id(s): s.read(start, stop) for s in different}
        yield slice(start, stop), *(found[id(s)] for s in stacks)


def _free_on(device: torch.device) -> int:
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0
