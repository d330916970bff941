"""What a study folder holds, once it is read: measures, sides with their layers, scores, and how sure they are."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from repalign.report.saved_conditions import Conditions


@dataclass(frozen=True)
class Metric:
    """One measure of the study as `study.json` describes it; `bounds` is None when there are none."""

    id: str
    name: str
    label: str
    higher_is_similar: bool = True
    symmetric: bool = True
    bounds: tuple[float, float] | None = None
    chance: str = ""
    reference: str = ""


@dataclass(frozen=True)
class Certainty:
    """How the intervals and p-values of one measure were made.

    `interval` is `jackknife`, `half` or `none`; `n_groups` is None when stimuli are exchangeable one by one;
    `notes` say what is approximate and why something is missing.
    """

    interval: str
    level: float
    n_groups: int | None
    n_permutations: int
    seed: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class SavedLayer:
    """One layer as `layers.csv` has it; numbers are NaN where unknown.

    `largest_share` is the part of the layer's variance, 0..1, that its strongest channel carries.
    """

    name: str
    kind: str
    shape: str
    depth: float
    parameters: float
    participation_ratio: float
    largest_share: float


@dataclass(frozen=True)
class Point:
    """One row of `curves.csv`: a score under one choice, with the range over `draws` seeded draws.

    `kind` says what `x` is: `stimuli` (a number of them), `split_half` (nothing) or `pool` (a pooling's name). Empty
    layers mean the average over layers matched by depth; `n` counts stimuli.
    """

    metric: str
    kind: str
    layer_a: str
    layer_b: str
    x: str
    n: float
    value: float
    low: float
    high: float
    draws: float


@dataclass(frozen=True)
class Tested:
    """One row of `tests.csv`: a test of one layer of each side; numbers are NaN where there is none."""

    test: str
    layer_a: str
    layer_b: str
    metric: str
    note: str
    statistic: float
    null_mean: float
    p: float
    p_adjusted: float
    q: float
    n: float
    n_groups: float
    n_permutations: float


@dataclass(frozen=True)
class Side:
    """One side of the comparison, with its layers from shallow to deep.

    `subjects` counts those whose dissimilarities the side pools, 0 when it is one; `ceilings` hold what a perfect
    model could score with them, lower and upper, by measure and layer.
    """

    key: str
    name: str
    filter: str
    stimuli: str
    fingerprint: str
    untrained: bool
    notes: tuple[str, ...]
    saved: tuple[SavedLayer, ...]
    subjects: int = 0
    ceilings: Mapping[str, Mapping[str, tuple[float, float]]] = field(default_factory=dict)

    @property
    def layers(self) -> tuple[str, ...]:
        """List the layers' names."""
        return tuple(layer.name for layer in self.saved)

    @property
    def depths(self) -> Float[np.ndarray, " l"]:
        """List the layers' depths in 0..1."""
        return np.array([layer.depth for layer in self.saved])

    @property
    def ratios(self) -> Float[np.ndarray, " l"]:
        """List the layers' participation ratios."""
        return np.array([layer.participation_ratio for layer in self.saved])

    @property
    def shares(self) -> Float[np.ndarray, " l"]:
        """List the part of each layer's variance in its strongest channel."""
        return np.array([layer.largest_share for layer in self.saved])

    def ceiling(self, metric: Metric) -> Float[np.ndarray, "2 l"]:
        """List the lower and upper noise ceiling of every layer, NaN where there is none."""
        known = self.ceilings.get(metric.id, {})
        return np.array([known.get(name, (np.nan, np.nan)) for name in self.layers], dtype=np.float64).T


@dataclass(frozen=True)
class Study:
    """Everything a report shows: `meta` is `study.json`, `alignment` and `layers` are the tables.

    `laid` holds every column of numbers of every metric as a read-only matrix, layers of A × layers of B;
    `certainty` says per metric id how intervals and p-values were made, as far as the study says it.
    """

    path: Path
    meta: Mapping[str, Any]
    alignment: pd.DataFrame
    layers: pd.DataFrame
    metrics: tuple[Metric, ...]
    a: Side
    b: Side
    laid: Mapping[tuple[str, str], Float[np.ndarray, "la lb"]]
    certainty: Mapping[str, Certainty] = field(default_factory=dict)
    points: tuple[Point, ...] = ()
    tests: tuple[Tested, ...] = ()
    conditions: Conditions = field(default_factory=Conditions)

    @property
    def n(self) -> int:
        """Count the stimuli; a measure that needs every pair of them may have been given fewer."""
        return max(int(self.laid[metric.id, "n"][0, 0]) for metric in self.metrics)

    @property
    def counted(self) -> str:
        """Say how many stimuli there are; without a number where measures were given different ones."""
        counts = {int(self.laid[metric.id, "n"][0, 0]) for metric in self.metrics}
        return f"{self.n:,} {self.pictures}" if len(counts) == 1 else self.pictures

    @property
    def pictures(self) -> str:
        """Say what the stimuli are: pictures when the study kept some of them, else stimuli."""
        return "pictures" if self.meta.get("thumbs") else "stimuli"

    def matrix(self, metric: Metric, column: str = "value") -> Float[np.ndarray, "la lb"]:
        """Give one column of `alignment.csv` as layers of A × layers of B; what is empty is NaN."""
        return self.laid[metric.id, column]

    def has(self, column: str) -> bool:
        """Tell whether any row of `alignment.csv` fills `column`."""
        return any(bool(np.isfinite(self.laid[metric.id, column]).any()) for metric in self.metrics)

    def lowest(self) -> float:
        """Find the lowest score of all metrics, 0 when every one is undefined."""
        return min((float(np.nanmin(self.matrix(m))) for m in self.metrics if self._scored(m)), default=0.0)

    def highest(self) -> float:
        """Find the highest score of all metrics, 0 when every one is undefined."""
        return max((float(np.nanmax(self.matrix(m))) for m in self.metrics if self._scored(m)), default=0.0)

    def _scored(self, metric: Metric) -> bool:
        return bool(np.isfinite(self.matrix(metric)).any())
