"""What the folder of a study of many encoders holds, once it is read."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from repalign.report.saved import Metric, SavedLayer, Tested
from repalign.report.saved_conditions import Control, Effect, Optics
from repalign.report.wording import interval, number


@dataclass(frozen=True)
class Interval:
    """A number with the ends of its interval, each NaN where unknown."""

    value: float
    low: float = math.nan
    high: float = math.nan

    @property
    def span(self) -> str:
        """Write the interval, nothing where there is none."""
        return "" if math.isnan(self.low) or math.isnan(self.high) else interval(self.low, self.high)

    @property
    def text(self) -> str:
        """Write number and interval."""
        return f"{number(self.value)} {self.span}".rstrip()


@dataclass(frozen=True)
class Condition:
    """What the pictures are compared with: their copies through the filter `spec`, or the set `data_b`.

    `strengths` describe its controls, and `reference` says what to cite; `difference` and `clipped` are NaN where
    unknown.
    """

    id: str
    label: str
    spec: str = ""
    data_b: str = ""
    difference: float = math.nan
    clipped: float = math.nan
    notes: tuple[str, ...] = ()
    strengths: tuple[Control, ...] = ()
    reference: str = ""


@dataclass(frozen=True)
class Originals:
    """The set of pictures that every encoder saw as they are, and how many."""

    name: str
    count: int


@dataclass(frozen=True)
class SavedEncoder:
    """One encoder with its layers from shallow to deep.

    `report` and `transfer` say per condition where its own report lies, and what optics leave at its input's Nyquist
    frequency.
    """

    id: str
    name: str
    family: str
    source: str
    fingerprint: str
    untrained: bool
    parameters: float
    input: str
    notes: tuple[str, ...]
    layers: tuple[SavedLayer, ...]
    report: Mapping[str, str] = field(default_factory=dict)
    transfer: Mapping[str, tuple[Optics, ...]] = field(default_factory=dict)

    @property
    def described(self) -> str:
        """Name the encoder, and say when it is untrained."""
        return f"{self.name} (untrained)" if self.untrained else self.name

    @property
    def depths(self) -> Float[np.ndarray, " l"]:
        """List the layers' depths in 0..1."""
        return np.array([layer.depth for layer in self.layers])


@dataclass(frozen=True)
class Ranked:
    """One row of `ranking.csv`: an encoder's place under a condition by a measure.

    `mean` is over layers; `peak` was picked and scored on all stimuli, `held` on different halves; `difference` is
    the encoder's mean less the best one's; `layers` counts those that have a score, NaN in older studies.
    """

    condition: str
    metric: str
    encoder: str
    rank: float
    n: float
    n_groups: float
    mean: Interval
    peak_layer: str
    peak: float
    held_layer: str
    held: Interval
    held_share: float
    difference: Interval
    p: float
    p_adjusted: float
    note: str
    layers: float = math.nan

    def behind(self, alpha: float) -> bool:
        """Tell whether the difference to the best is more than luck: by its interval, and by its p where it has one."""
        told = self.difference.low > 0 or self.difference.high < 0
        return told and not self.p_adjusted >= alpha


@dataclass(frozen=True)
class Failed:
    """An encoder that gave no numbers, and why."""

    name: str
    family: str
    error: str


@dataclass(frozen=True)
class ManyStudy:
    """Everything the report shows: `meta` is `study.json`.

    `scores` holds per condition, encoder and measure three matrices, layers × layers: scores and both ends of their
    intervals; `ranking` per condition and measure the rows, best first; `effects` and `tests` per condition and
    encoder; `similarity` per measure the encoders' mutual similarity, in the order of `encoders`.
    """

    path: Path
    meta: Mapping[str, Any]
    title: str
    paper_style: bool
    level: float
    metrics: tuple[Metric, ...]
    conditions: tuple[Condition, ...]
    families: tuple[str, ...]
    encoders: tuple[SavedEncoder, ...]
    failed: tuple[Failed, ...]
    originals: Originals
    scores: Mapping[tuple[str, str, str], Float[np.ndarray, "3 l l"]]
    ranking: Mapping[tuple[str, str], tuple[Ranked, ...]]
    effects: Mapping[tuple[str, str], tuple[Effect, ...]] = field(default_factory=dict)
    tests: Mapping[tuple[str, str], tuple[Tested, ...]] = field(default_factory=dict)
    similarity: Mapping[str, Float[np.ndarray, "e e"]] = field(default_factory=dict)

    @property
    def stimuli(self) -> Mapping[str, Any]:
        """Give what else `study.json` says of the originals."""
        return self.meta["stimuli"]["a"]

    @property
    def seen(self) -> str:
        """Say how many stimuli of which set every encoder saw."""
        return f"{self.originals.count:,} {self.pictures} of {self.originals.name}"

    @property
    def pictures(self) -> str:
        """Say what the stimuli are: pictures when the study kept some of them, else stimuli."""
        return "pictures" if self.meta.get("thumbs") else "stimuli"

    @property
    def alpha(self) -> float:
        """Give the level of tests that belongs to that of the intervals."""
        return round(1 - self.level, 12)

    def encoder(self, slug: str) -> SavedEncoder:
        """Find an encoder."""
        return next(one for one in self.encoders if one.id == slug)

    def seen_under(self, condition: Condition) -> tuple[SavedEncoder, ...]:
        """List the encoders that have scores under a condition, best first by the first measure."""
        rows = self.ranking.get((condition.id, self.metrics[0].id), ())
        return tuple(self.encoder(row.encoder) for row in rows)

    def ranked(self, condition: Condition, metric: Metric, encoder: SavedEncoder) -> Ranked | None:
        """Find an encoder's row in the ranking."""
        rows = self.ranking.get((condition.id, metric.id), ())
        return next((row for row in rows if row.encoder == encoder.id), None)

    def over(self, row: Ranked) -> str:
        """Say over how many of its layers an encoder's mean is, nothing when over all of them."""
        count = len(self.encoder(row.encoder).layers)
        return f"over {row.layers:.0f} of {count} layers" if 0 < row.layers < count else ""

    def curve(self, condition: Condition, encoder: SavedEncoder, metric: Metric) -> Float[np.ndarray, "3 l"]:
        """Give each layer's score with itself under the condition, and both ends of its interval."""
        return np.diagonal(self.scores[condition.id, encoder.id, metric.id], axis1=1, axis2=2)
