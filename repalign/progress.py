"""How long work reports its progress: a context that gives a function to call with the count just done."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

Advance = Callable[[int], None]
Track = Callable[[str, int], AbstractContextManager[Advance]]


def silent(_label: str, _total: int) -> AbstractContextManager[Advance]:
    """Report no progress."""
    return nullcontext(quiet)


def quiet(_count: int) -> None:
    """Pass a count over."""
