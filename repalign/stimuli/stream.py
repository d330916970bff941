"""Pictures that arrive one after the other and are not kept: sets that fit no disk."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from typing import final

from PIL.Image import Image

from repalign.errors import MOST_LISTED, InputError, UnreadableImagesError
from repalign.stimuli.image import open_rgb

AHEAD = 64  # pictures decoded before they are asked for: a batch or two, 50 MB at 500 × 500 pixels


@dataclass(frozen=True)
class Stream:
    """Pictures that can only be read from front to back.

    `open(rank, world)` gives this process's share as `(id, picture)`, 8-bit RGB: always in the same order, and all
    processes together give each picture once, under the same ids for any `world`. `length` is None where nobody knows;
    `notes` are said wherever a number from these pictures stands.
    """

    name: str
    open: Callable[[int, int], Iterator[tuple[str, Image]]]
    notes: tuple[str, ...] = ()
    length: int | None = None


@final
class Skipped:
    """Counts the pictures that a stream left out, and keeps the first 40 of them with the reason."""

    def __init__(self) -> None:
        self.count = 0
        self.first: list[tuple[str, str]] = []

    def add(self, name: str, reason: str) -> None:
        """Count one picture."""
        self.count += 1
        if len(self.first) < MOST_LISTED:
            self.first.append((name, reason))

    def clear(self) -> None:
        """Start anew, where the same pictures will be read again."""
        self.count = 0
        self.first.clear()


@dataclass(frozen=True)
class Item:
    """A picture that has arrived: its id, and how to get its encoded bytes."""

    id: str
    read: Callable[[], bytes]


def share(sources: int, read: Callable[[int], Iterator[Item]], rank: int, world: int) -> Iterator[Item]:
    """Give one process its share of numbered sources: whole ones, or every `world`-th item when they are too few.

    With fewer sources than processes each process reads all of them.
    """
    if sources >= world:
        for number in range(rank, sources, world):
            yield from read(number)
    else:
        yield from islice(chain.from_iterable(map(read, range(sources))), rank, None, world)


def decoded(items: Iterator[Item], skipped: Skipped | None) -> Iterator[tuple[str, Image]]:
    """Decode pictures on several threads, a few ahead, and give them in the order in which they came.

    Raises UnreadableImagesError at the first that can't be decoded, unless there is a `skipped` to count it.
    """
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        waiting: deque[Future[_Seen]] = deque()
        try:
            for item in items:
                waiting.append(threads.submit(_decode, item))
                if len(waiting) == AHEAD:
                    yield from _shown(waiting.popleft().result(), skipped)
            while waiting:
                yield from _shown(waiting.popleft().result(), skipped)
        finally:
            threads.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True)
class _Seen:
    id: str
    picture: Image | None
    reason: str


def _decode(item: Item) -> _Seen:
    try:
        return _Seen(item.id, open_rgb(item.read(), item.id), "")
    except InputError as error:
        return _Seen(item.id, None, str(error))
    except (OSError, ValueError) as error:
        return _Seen(item.id, None, f"{item.id} can't be read: {error}; mend it or leave it out")


def _shown(seen: _Seen, skipped: Skipped | None) -> Iterator[tuple[str, Image]]:
    if seen.picture is not None:
        yield seen.id, seen.picture
    elif skipped is None:
        raise UnreadableImagesError(
            f"{seen.reason}; or go on without it with --skip-unreadable", ((seen.id, seen.reason),)
        )
    else:
        skipped.add(seen.id, seen.reason)


def missing_library(kind: str, library: str, error: ImportError) -> InputError:
    """Build the error for a stream whose library is not installed."""
    return InputError(
        f"{kind} streams need the library {library}, which can't be imported ({error}): pip install 'repalign[stream]'"
    )
