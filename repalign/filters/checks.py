"""Checks of options that several filters share."""

import math
from typing import TypeVar

from repalign.errors import InputError

Number = TypeVar("Number", int, float)


def share(name: str, option: str, value: float) -> None:
    """Raise InputError unless `value` lies in 0..1."""
    if not 0 <= value <= 1:
        raise InputError(f"{name}: {option} is a share in 0..1, not {value}")


def positive(name: str, option: str, value: int | float, unit: str, *, infinite: bool = False) -> None:
    """Raise InputError unless `value` is above 0, and finite unless `infinite`."""
    if not (value > 0 and (infinite or math.isfinite(value))):
        raise InputError(f"{name}: {option} must be a positive number ({unit}), not {value}")


def required(name: str, option: str, value: Number | None, meaning: str) -> Number:
    """Return `value`; raise InputError with what the option means when it was not given."""
    if value is None:
        raise InputError(f"{name} needs {option}, {meaning}; write {name}:{option}=…")
    return value
