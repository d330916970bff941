"""Filters one after the other."""

from dataclasses import dataclass
from typing import final

from repalign.errors import InputError
from repalign.filters.base import Filter, Step


@final
@dataclass(frozen=True)
class Chain(Filter):
    """Lead light through `parts` in their order."""

    parts: tuple[Step, ...]

    def __post_init__(self) -> None:
        if not self.parts:
            raise InputError("a chain needs at least one filter")

    @property
    def steps(self) -> tuple[Step, ...]:
        """List the single filters."""
        return self.parts
