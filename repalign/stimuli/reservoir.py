"""A uniform sample of rows that pass by once."""

import heapq
import math
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from repalign.errors import InputError
from repalign.together import Together

DIGEST = 16  # bytes: of 10⁹ ids no two are alike


@final
class Reservoir:
    """Keeps `size` of all the rows it is shown, each with equal chance, in `size` × Σd numbers of memory.

    Kept are the rows whose ids have the smallest digests under `seed`. Digests of different ids are as good as
    independent uniform numbers, so every set of `size` ids is as likely as any other to have the smallest: a simple
    random sample. It depends on the ids alone, not on their order, on blocks or on processes: the smallest of all
    are among the smallest of any part that holds them, and so parts can be merged.

    Source: Cohen & Kaplan, Summarizing data using bottom-k sketches, PODC 2007.
    """

    def __init__(self, size: int, seed: int) -> None:
        self.seen = 0
        self._size = size
        self._seed = seed
        self._rows: dict[str, Tensor] = {}
        self._places: dict[str, int] = {}  # of the ids kept
        self._largest: list[tuple[int, str]] = []  # the digests kept, negative: a heap whose first one goes next

    def add(self, ids: Sequence[str], layers: Mapping[str, Float[Tensor, "b d"]]) -> list[int]:
        """Show the next block of rows, of every layer, and tell which of them are kept for now.

        Raises InputError when the layers, their rows or their widths differ from what came before, or an id comes
        twice (which goes unnoticed where neither is kept).
        """
        self._require_alike(ids, layers)
        taken = {place: row for row, name in enumerate(ids) if (place := self._place(name)) is not None}
        to, source = torch.tensor(list(taken), dtype=torch.long), torch.tensor(list(taken.values()), dtype=torch.long)
        for name, rows in layers.items():
            if name not in self._rows:
                self._rows[name] = torch.empty(self._size, rows.shape[1], dtype=rows.dtype)
            self._rows[name][to] = rows[source.to(rows.device)].cpu()
        self.seen += len(ids)
        return sorted(taken.values())

    def merge(self, other: "Reservoir") -> None:
        """Keep what one reservoir of the same size and seed would that had been shown the rows of both."""
        seen = self.seen + other.seen
        self.add(other.ids, other.layers)
        self.seen = seen

    def trimmed(self, together: Together) -> "Reservoir":
        """Keep of this process's rows those that are kept of all processes' rows."""
        table = torch.ones(together.world, self._size, dtype=torch.float64)
        table[: together.rank] = table[together.rank + 1 :] = 0
        mine = sorted(_fraction(-negative) for negative, _ in self._largest)
        table[together.rank, : len(mine)] = torch.tensor(mine, dtype=torch.float64)
        last = float(together.sum_(table).flatten().kthvalue(self._size).values)
        found = Reservoir(self._size, self._seed)
        # as fractions digests are rounded, alike everywhere: none is lost, and one too many is sorted out in `merge`
        kept = [name for name in self.ids if _fraction(self._digest(name)) <= last]
        index = torch.tensor([self._places[name] for name in kept], dtype=torch.long)
        found.add(kept, {name: rows[index] for name, rows in self._rows.items()})
        found.seen = self.seen
        return found

    @property
    def ids(self) -> tuple[str, ...]:
        """Give the ids of the rows kept, sorted."""
        return tuple(sorted(self._places))

    @property
    def layers(self) -> dict[str, Float[Tensor, "n d"]]:
        """Give the rows kept, of each layer, in the order of `ids`: a copy."""
        return {name: self.rows(name) for name in self._rows}

    def rows(self, layer: str) -> Float[Tensor, "n d"]:
        """Give the rows kept of one layer, in the order of `ids`: a copy."""
        return self._rows[layer][torch.tensor([self._places[name] for name in self.ids], dtype=torch.long)]

    def _place(self, name: str) -> int | None:
        """Make room for a row that is kept, in place of the one with the largest digest where all places are taken."""
        if name in self._places:
            raise InputError(f"the id {name!r} comes twice; give every picture a name of its own")
        entry = (-self._digest(name), name)
        if len(self._largest) < self._size:
            heapq.heappush(self._largest, entry)
            place = len(self._places)
        elif self._size and entry > self._largest[0]:
            place = self._places.pop(heapq.heapreplace(self._largest, entry)[1])
        else:
            return None
        self._places[name] = place
        return place

    def _digest(self, name: str) -> int:
        return int.from_bytes(blake2b(name.encode(), digest_size=DIGEST, key=str(self._seed).encode()).digest())

    def _require_alike(self, ids: Sequence[str], layers: Mapping[str, Tensor]) -> None:
        known = {name: rows.shape[1] for name, rows in self._rows.items()}
        given = {name: rows.shape[1] for name, rows in layers.items()}
        if known and ids and known != given:
            raise InputError(f"reservoir: a block has the layers {given} after {known}; give the same in each block")
        wrong = {name: len(rows) for name, rows in layers.items() if len(rows) != len(ids)}
        if wrong:
            raise InputError(f"reservoir: {len(ids)} ids came with {wrong} rows; give one id a row")


def _fraction(digest: int) -> float:
    """Bring a digest to 0 … 1, as several processes compare them."""
    return math.ldexp(digest, -8 * DIGEST)
