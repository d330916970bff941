"""What every test and interval asks of its numbers: counts, seeds and levels."""

from numbers import Integral, Real

from repalign.errors import InputError


def check_count(name: str, value: object) -> int:
    """Give a count of 0 or more. Raises InputError for anything else."""
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < 0:
        raise InputError(f"{name} must be a whole number of 0 or more, not {value!r}")
    return int(value)


def check_seed(value: object) -> int:
    """Give a seed of 0 or more. Raises InputError for anything else."""
    return check_count("seed", value)


def check_level(value: object) -> float:
    """Give the level of an interval, between 0 and 1. Raises InputError for anything else."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < float(value) < 1:
        raise InputError(f"level must lie between 0 and 1, as 0.95 does, not {value!r}")
    return float(value)
