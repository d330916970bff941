"""What a comparison of models over subjects found."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from repalign.subjects.ceiling import NoiseCeiling

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("kind", "a", "b", "value", "se_subjects", "se_stimuli", "se", "ci_low", "ci_high", "p_value", "q_value")


@dataclass(frozen=True)
class Estimates:
    """Means over subjects `(k,)` with their standard errors.

    `se_subjects`: these stimuli, other subjects; `se_stimuli`: these subjects, other stimuli; `se`: both at once,
    with the 95 % interval `ci_low`..`ci_high`.
    """

    value: NDArray[np.float64]
    se_subjects: NDArray[np.float64]
    se_stimuli: NDArray[np.float64]
    se: NDArray[np.float64]
    ci_low: NDArray[np.float64]
    ci_high: NDArray[np.float64]


@dataclass(frozen=True)
class Differences:
    """Differences `a − b` of the named `pairs`, with sign-flip p over subjects and Benjamini–Hochberg q over pairs."""

    pairs: tuple[tuple[str, str], ...]
    estimates: Estimates
    p_values: NDArray[np.float64]
    q_values: NDArray[np.float64]


@dataclass(frozen=True)
class ModelComparison:
    """How well each model fits each subject, `scores (models, subjects)`, and what follows from that.

    `between` holds all pairs of models, `against_ceiling` each model less the lower noise ceiling (None where the
    metric has none). `n` stimuli in `n_units` stimuli or groups; `n_flips` arrangements of signs, all there are
    when `exact`.
    """

    metric: str
    options: Mapping[str, object]
    layer: str
    models: tuple[str, ...]
    subjects: tuple[str, ...]
    n: int
    n_units: int
    scores: NDArray[np.float64]
    estimates: Estimates
    between: Differences
    ceiling: NoiseCeiling | None
    against_ceiling: Differences | None
    n_flips: int
    exact: bool
    seed: int
    notes: tuple[str, ...] = ()

    def to_frame(self) -> "pd.DataFrame":
        """List one row a model, a bound of the noise ceiling, and a difference, told apart by `kind`."""
        import pandas as pd

        rows = _rows("model", [(name, "") for name in self.models], self.estimates)
        if self.ceiling is not None:
            for bound, value in (("lower", self.ceiling.lower), ("upper", self.ceiling.upper)):
                rows.append(("ceiling", bound, "", value, *[np.nan] * (len(COLUMNS) - 4)))
        for kind, found in (("difference", self.between), ("against_ceiling", self.against_ceiling)):
            if found is not None:
                rows += _rows(kind, found.pairs, found.estimates, found.p_values, found.q_values)
        return pd.DataFrame(rows, columns=list(COLUMNS))


def _rows(
    kind: str,
    pairs: "tuple[tuple[str, str], ...] | list[tuple[str, str]]",
    found: Estimates,
    p: NDArray[np.float64] | None = None,
    q: NDArray[np.float64] | None = None,
) -> list[tuple]:
    nothing = np.full(len(pairs), np.nan)
    numbers = (
        found.value, found.se_subjects, found.se_stimuli, found.se, found.ci_low, found.ci_high,
        nothing if p is None else p, nothing if q is None else q,
    )  # fmt: skip
    return [(kind, a, b, *map(float, row)) for (a, b), row in zip(pairs, zip(*numbers, strict=True), strict=True)]
