"""Where features are kept: in the cache, or, without one, beside the study for as long as it takes."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from repalign.cache import Cache, open_cache, temporary_cache
from repalign.errors import InputError


@dataclass(frozen=True)
class Storage:
    """The cache that keeps features for the next run, if any, and where too many of them for memory go."""

    cache: Cache | None
    spill: Callable[[], Cache]


def _nowhere() -> Cache:
    raise InputError("more stimuli than max_pairwise need a place for their features; give storage(…)")


NO_STORAGE = Storage(None, _nowhere)


@contextmanager
def storage(cached: bool, beside: Path | None = None) -> Iterator[Storage]:
    """Open the cache, or a place beside `beside` that is made when it is needed and removed at the end."""
    with ExitStack() as stack:
        if cached:
            cache = open_cache()
            yield Storage(cache, lambda: cache)
            return
        made: list[Cache] = []

        def spill() -> Cache:
            if not made:
                made.append(stack.enter_context(temporary_cache(beside)))
            return made[0]

        yield Storage(None, spill)
