"""Pictures on their way from a stream to encoders: read, decoded and preprocessed while encoders run."""

from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TypeVar, cast

from PIL.Image import Image

from repalign.chunks import How, Runners
from repalign.decoding import Request, see
from repalign.errors import InputError
from repalign.kept import Batch, Features, Known
from repalign.metrics.cka import LinearCKA
from repalign.stimuli import load_stream
from repalign.stimuli.stream import Skipped, Stream
from repalign.together import Together

Arriving = Generator[tuple[str, Image], None, None]
T = TypeVar("T")


@dataclass(frozen=True)
class Incoming:
    """A stream, how many of its first pictures are wanted, and who counts those that can't be decoded."""

    stream: Stream
    limit: int | None = None
    skipped: Skipped | None = None

    @property
    def n(self) -> int | None:
        """Count the pictures, where anybody knows."""
        known = [n for n in (self.limit, self.stream.length) if n is not None]
        return min(known) if known else None

    def pictures(self, together: Together) -> Arriving:
        """Give this process's share: of all, its own shards; of the first few, every so many-th picture.

        The first few lie in the first shards, which every process reads, so they are the same ones for any number.
        """
        share = (together.rank, together.world) if self.limit is None else (0, 1)
        with closing(cast("Arriving", self.stream.open(*share))) as arriving:
            yield from arriving if self.limit is None else islice(arriving, together.rank, self.limit, together.world)

    def counted(self, together: Together) -> Skipped:
        """Give what this process left out, each picture counted by one process."""
        seen_by_all = self.limit is not None and not together.first
        return Skipped() if self.skipped is None or seen_by_all else self.skipped

    def notes(self, known: Known) -> tuple[str, ...]:
        """Say what the numbers are about."""
        said = list(self.stream.notes)
        if self.limit is not None:
            said.append(f"--limit {self.limit}: the first pictures of the stream, not a random subset of it")
        if len(known.skipped.first) < known.skipped.count:
            named = len(known.skipped.first)
            said.append(
                f"{known.skipped.count:,} pictures can't be decoded and are left out; {named} of them are named"
            )
        return tuple(said)


def incoming(data: object, data_b: object, groups: str, limit: int | None, skip_unreadable: bool) -> Incoming | None:
    """Open a stream, where `data` or `data_b` names one.

    Raises InputError for what a stream does not have: a second version, groups; and what `load_stream` refuses.
    """
    for name in (data_b, data):
        skipped = Skipped() if skip_unreadable else None
        stream = load_stream(name, skipped) if isinstance(name, str) else None
        if stream is None:
            continue
        if data_b is not None:
            raise InputError(
                f"{stream.name} is read from front to back, so it can't be paired with other pictures by name; leave "
                "out --data-b and compare through --filter, or give local copies of both sets"
            )
        if groups not in ("own", "none"):
            raise InputError(f"--groups {groups}: a stream has no groups; leave it out, or compare a local copy")
        if limit is not None and limit < LinearCKA.fewest:
            raise InputError(f"--limit {limit} leaves too few stimuli; give at least {LinearCKA.fewest}")
        return Incoming(stream, limit, skipped)
    return None


def passed(requests: Sequence[Request], pictures: Arriving, how: How) -> Iterator[tuple[Batch, Features]]:
    """Run all encoders over pictures, batch after batch in their order; the next one is made ready meanwhile.

    Raises what reading and decoding raise, and InputError for a picture that a filter can't take.
    """
    with (
        ThreadPoolExecutor(how.threads) as threads,
        ExitStack() as running,
        closing(_batches(requests, pictures, how, threads)) as batches,
        closing(ahead(batches)) as ready,
    ):
        runners = Runners(requests, how, running)
        previous = None
        for batch in ready:
            begun = batch, runners.begin(batch.decoded)
            if previous is not None:
                yield previous[0], previous[1]()
            previous = begun
        if previous is not None:
            yield previous[0], previous[1]()


def ahead(items: Iterator[T]) -> Generator[T, None, None]:
    """Have each item's successor made, in a thread of its own, while the item is used; none of them is None."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = thread.submit(next, items, None)
            yield item


def _batches(
    requests: Sequence[Request], pictures: Arriving, how: How, threads: ThreadPoolExecutor
) -> Generator[Batch, None, None]:
    with closing(pictures):
        while part := tuple(islice(pictures, how.batch_size)):
            ids, shown = zip(*part, strict=True)
            yield Batch(ids, shown, tuple(threads.map(partial(see, requests), shown, ids)))
