"""What one pass over a stream keeps: a sample of rows, the sums of linear CKA, and what is known of all pictures."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt

import torch
from PIL.Image import Image
from torch import Tensor

from repalign.chunks import CHUNK
from repalign.decoding import Decoded
from repalign.errors import MOST_LISTED
from repalign.stimuli.album import Album
from repalign.stimuli.reservoir import Reservoir
from repalign.stimuli.stream import Skipped
from repalign.streaming import Once
from repalign.together import Together

Features = tuple[Mapping[str, Tensor], ...]
DIGEST = 16  # bytes


@dataclass(frozen=True)
class Batch:
    """Pictures that have arrived and what encoders are given of them."""

    ids: tuple[str, ...]
    pictures: tuple[Image, ...]
    decoded: tuple[Decoded, ...]


@dataclass
class Through:
    """What a filter did to all pictures: sums of the share that it cut and of how far it moved them, its notes."""

    clipped: float = 0.0
    squares: float = 0.0
    notes: dict[str, None] = field(default_factory=dict)

    def add(self, other: "Through") -> None:
        """Add what it did to others; the first notes stand for all."""
        self.clipped += other.clipped
        self.squares += other.squares
        new = [note for note in other.notes if note not in self.notes]
        self.notes |= dict.fromkeys(new[: MOST_LISTED - len(self.notes)])


@dataclass
class Known:
    """What is known of all pictures seen: how many, a digest of ids and pixels, what filters did, what was left out.

    The digest is a sum, modulo 2¹²⁸, of one of each picture, so that it depends on no order.
    """

    seen: int = 0
    content: int = 0
    through: dict[str, Through] = field(default_factory=dict)
    skipped: Skipped = field(default_factory=Skipped)

    def add(self, other: "Known") -> None:
        """Add what is known of other pictures."""
        self.seen += other.seen
        self.content = (self.content + other.content) % (1 << 8 * DIGEST)
        for spec, found in other.through.items():
            self.through.setdefault(spec, Through()).add(found)
        self.skipped.count += other.skipped.count
        self.skipped.first = [*self.skipped.first, *other.skipped.first][:MOST_LISTED]

    def said_by_filter(self, spec: str) -> dict[str, object]:
        """Average what a filter did, as `Gathered.said_by_filter` does; nothing where there is no filter."""
        found = self.through.get(spec)
        if not spec or found is None:
            return {}
        return {
            "clipped": found.clipped / self.seen,
            "difference": sqrt(found.squares / self.seen),
            "filter_notes": tuple(found.notes),
        }

    @property
    def fingerprint(self) -> str:
        """Give the digest as text."""
        return f"{self.content:032x}"


@dataclass
class Kept:
    """Grows with every batch: `samples`, a request each, the `album`, the sums of the first and last request `once`.

    Rows wait until there are 256 of them, since adding few to the sums costs as much as adding many.
    """

    samples: list[Reservoir]
    album: Album
    once: Once | None
    last: int
    known: Known = field(default_factory=Known)
    waiting: list[tuple[tuple[str, ...], Features]] = field(default_factory=list)

    def add(self, batch: Batch, features: Features) -> None:
        """Take over a batch."""
        self.known.add(_known(batch))
        self.album.add(batch.ids, batch.pictures)
        self.waiting.append((batch.ids, features))
        if sum(len(ids) for ids, _ in self.waiting) >= CHUNK:
            self._flush()

    def finish(self, together: Together) -> None:
        """Bring the samples of all processes to the first one."""
        self._flush()
        self.album.gather(together)
        for k, sample in enumerate(self.samples):
            several = together.gather(sample.trimmed(together))
            self.samples[k] = merged(several) if several else sample
        for other in (together.gather(self.known) or [])[1:]:
            self.known.add(other)

    def _flush(self) -> None:
        if not self.waiting:
            return
        ids = tuple(name for some, _ in self.waiting for name in some)
        batches = [features for _, features in self.waiting]
        rows = [{name: torch.cat([b[k][name] for b in batches]) for name in one} for k, one in enumerate(batches[0])]
        self.waiting.clear()
        for sample, layers in zip(self.samples, rows, strict=True):
            sample.add(ids, layers)
        if self.once is not None:
            self.once.add(ids, rows[0], rows[self.last])


def merged(several: Sequence[Reservoir]) -> Reservoir:
    """Put the samples of several processes together."""
    first, *others = several
    for other in others:
        first.merge(other)
    return first


def _known(batch: Batch) -> Known:
    found = Known(len(batch.ids))
    for name, decoded in zip(batch.ids, batch.decoded, strict=True):
        digest = hashlib.blake2b(name.encode() + b"\0" + bytes.fromhex(decoded.digest), digest_size=DIGEST).digest()
        found.content += int.from_bytes(digest)
        for spec, seen in decoded.seen.items():
            one = Through(seen.clipped, seen.squares, dict.fromkeys(seen.notes))
            found.through.setdefault(spec, Through()).add(one)
    return found
