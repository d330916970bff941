"""The registry of two-sample statistics. To add one: a file with its class, and a line here."""

import inspect
from collections.abc import Callable

from repalign.errors import InputError, unknown
from repalign.twosample.base import Arrangeable, TwoSampleStatistic
from repalign.twosample.energy import Energy
from repalign.twosample.mmd import MMD2
from repalign.twosample.wasserstein import SlicedWasserstein1, Wasserstein1

TWO_SAMPLE: dict[str, Callable[..., TwoSampleStatistic]] = {
    "mmd2": MMD2,
    "energy": Energy,
    "wasserstein1": Wasserstein1,
    "sliced_wasserstein1": SlicedWasserstein1,
}

__all__ = ["TWO_SAMPLE", "Arrangeable", "TwoSampleStatistic", "make_two_sample"]


def make_two_sample(name: str, **options: object) -> TwoSampleStatistic:
    """Build a two-sample statistic by name.

    Raises InputError for an unknown name or option, and for a value the statistic does not take.

    >>> make_two_sample("mmd2", bandwidth=2).options
    {'bandwidth': 2.0}
    """
    if name not in TWO_SAMPLE:
        raise unknown("two-sample statistic", name, TWO_SAMPLE)
    kinds = {key: type(p.default) for key, p in inspect.signature(TWO_SAMPLE[name]).parameters.items()}
    for key in options:
        if key not in kinds:
            raise unknown(f"option of {name}", key, kinds)
    return TWO_SAMPLE[name](**{key: _number(name, key, value, kinds[key]) for key, value in options.items()})


def _number(statistic: str, key: str, value: object, kind: type) -> int | float:
    try:
        number = float(str(value))
    except ValueError:
        number = None
    if number is None or (kind is int and not number.is_integer()):
        wanted = "a whole number" if kind is int else "a number"
        raise InputError(f"{statistic}: {key} takes {wanted}, not {value!r}")
    return kind(number)
