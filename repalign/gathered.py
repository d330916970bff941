"""What a run over chunks leaves: what is known of the pictures, and the rows that are held in memory."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt

import torch
from torch import Tensor

from repalign.chunks import Chunk, Pictures, chunk_of
from repalign.types import Stimuli


@dataclass
class Gathered:
    """Chunks by number, in order: their pictures by filter, and the stimuli whose rows are held.

    `stores` hold, a request each, the rows `(filled, d)` of every layer, chunk after chunk.
    """

    stores: list[dict[str, Tensor]]
    pictures: dict[int, Mapping[str, Pictures]] = field(default_factory=dict)
    kept: dict[int, list[int]] = field(default_factory=dict)
    filled: int = 0

    def add(self, chunk: Chunk, wanted: frozenset[int], room: int) -> None:
        """Take over a chunk and hold its rows of the stimuli `wanted`, of which there are `room` in all chunks."""
        self.pictures[chunk.number] = chunk.pictures
        places = [(row, i) for row, i in enumerate(chunk.readable) if i in wanted]
        if chunk.features is None or not places:
            return
        self.kept[chunk.number] = [i for _, i in places]
        index = torch.tensor([row for row, _ in places])
        stop = self.filled + len(places)
        for store, features in zip(self.stores, chunk.features, strict=True):
            for name, pieces in features.items():
                if name not in store:
                    store[name] = pieces[0].new_empty(room, pieces[0].shape[1])
                target = store[name][self.filled : stop]
                if len(places) == len(chunk.readable):
                    torch.cat(list(pieces), out=target)
                else:
                    torch.index_select(torch.cat(list(pieces)), 0, index, out=target)
        self.filled = stop

    def layers(self, k: int) -> dict[str, Tensor]:
        """Give the rows that are held for request k."""
        return {name: rows[: self.filled] for name, rows in self.stores[k].items()}

    def indices(self) -> list[int]:
        """List the stimuli whose rows are held, in the order of the rows."""
        return [i for places in self.kept.values() for i in places]

    def ids(self, stimuli: Stimuli, number: int) -> tuple[str, ...]:
        """Name the stimuli of a chunk that could be read."""
        return tuple(name for name, digest in self._digests(stimuli, number) if digest)

    def skipped(self, stimuli: Stimuli) -> list[tuple[str, str]]:
        """List the stimuli that could not be read, and why."""
        return [
            (stimuli.ids[i], reason)
            for number, pictures in self.pictures.items()
            for i, reason in zip(chunk_of(number, len(stimuli)), _any(pictures).reasons, strict=True)
            if reason
        ]

    def fingerprint(self, stimuli: Stimuli) -> str:
        """Hash the ids and decoded pixels of all stimuli that could be read."""
        content = hashlib.blake2b(digest_size=16)
        for number in self.pictures:
            for name, digest in self._digests(stimuli, number):
                if digest:
                    content.update(name.encode() + b"\0" + bytes.fromhex(digest))
        return content.hexdigest()

    def said_by_filter(self, spec: str) -> dict[str, object]:
        """Average what a filter did to the pictures: `clipped`, the root of its squared `difference`, its notes."""
        pictures = [one[spec] for one in self.pictures.values()]
        read = max(1, sum(not reason for one in pictures for reason in one.reasons))
        return {
            "clipped": sum(sum(one.clipped) for one in pictures) / read,
            "difference": sqrt(sum(sum(one.squares) for one in pictures) / read),
            "filter_notes": tuple(dict.fromkeys(note for one in pictures for note in one.notes)),
        }

    def _digests(self, stimuli: Stimuli, number: int) -> Iterator[tuple[str, str]]:
        indices = chunk_of(number, len(stimuli))
        return zip((stimuli.ids[i] for i in indices), _any(self.pictures[number]).digests, strict=True)

    def _pieces(self, k: int, name: str) -> Iterator[tuple[int, Tensor]]:
        start = 0
        for number, places in self.kept.items():
            yield number, self.stores[k][name][start : start + len(places)]
            start += len(places)


def merged(several: Sequence[Gathered]) -> Gathered:
    """Bring what several processes have into the order of the stimuli."""
    pictures = {number: p for one in several for number, p in one.pictures.items()}
    kept = {number: places for one in several for number, places in one.kept.items()}
    stores: list[dict[str, Tensor]] = []
    for k in range(len(several[0].stores)):
        names = dict.fromkeys(name for one in several for name in one.stores[k])
        parts = {
            name: dict(p for one in several if name in one.stores[k] for p in one._pieces(k, name)) for name in names
        }
        stores.append({name: torch.cat([found[number] for number in sorted(found)]) for name, found in parts.items()})
    filled = sum(one.filled for one in several)
    return Gathered(stores, dict(sorted(pictures.items())), dict(sorted(kept.items())), filled)


def _any(pictures: Mapping[str, Pictures]) -> Pictures:
    """Take what is known behind any filter: which pictures can be read does not depend on it."""
    return next(iter(pictures.values()))
