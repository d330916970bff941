"""What a diagnosis folder holds, once it is read: both networks, their similarities, what the rules say of them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from repalign.distill.rules import proportional
from repalign.report.saved import Metric

TEACHER = "teacher"
"""What `probe.csv` writes for a stage where the probe reads the teacher's penultimate layer."""


@dataclass(frozen=True)
class SavedStage:
    """One stage as `stages.csv` has it, counted from 1; numbers are NaN where unknown."""

    number: int
    layer: str
    kind: str
    shape: str
    depth: float
    parameters: float

    @property
    def named(self) -> str:
        """Name the stage by number and layer."""
        return f"{self.number} {self.layer}"


@dataclass(frozen=True)
class Network:
    """Teacher or student with its stages and what its logits came to; numbers are NaN where unknown."""

    side: str
    name: str
    source: str
    fingerprint: str
    untrained: bool
    classes: float
    parameters: float
    input_size: str
    stages: tuple[SavedStage, ...]
    accuracy: float
    accuracy_se: float
    nll: float
    ece: float

    @property
    def described(self) -> str:
        """Name the network, and say when it is untrained."""
        return f"{self.name} (untrained)" if self.untrained else self.name

    @property
    def layers(self) -> tuple[str, ...]:
        """List the layers that end its stages."""
        return tuple(stage.layer for stage in self.stages)


@dataclass(frozen=True)
class Grid:
    """Similarities of one measure: layers of the student × layers of the teacher, shallow to deep.

    `level` is `stage`, `block` or `penultimate` (the teacher's layer before its classifier, one column); `laid` holds
    every column of numbers as a read-only matrix.
    """

    level: str
    metric: Metric
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    laid: Mapping[str, Float[np.ndarray, "ls lt"]]

    def matrix(self, column: str = "value") -> Float[np.ndarray, "ls lt"]:
        """Give one column of `alignment.csv`; what is empty is NaN."""
        return self.laid[column]

    @property
    def muted(self) -> Bool[np.ndarray, "ls lt"]:
        """Mark the cells whose interval includes the null's mean; none without intervals."""
        null = self.matrix("null_mean")
        return (self.matrix("ci_low") <= null) & (null <= self.matrix("ci_high"))

    def has(self, column: str) -> bool:
        """Tell whether any row fills `column`."""
        return bool(np.isfinite(self.matrix(column)).any())


@dataclass(frozen=True)
class Probe:
    """A linear classifier on one stage of the student, or on the teacher's penultimate layer (`stage` 0)."""

    stage: int
    layer: str
    accuracy: float
    se: float
    n_train: float
    n_test: float


@dataclass(frozen=True)
class Head:
    """What the head of one stage would cost, also as shares of the student's own; NaN where unknown."""

    stage: int
    layer: str
    parameters: float
    flops: float
    share_of_parameters: float
    share_of_flops: float


@dataclass(frozen=True)
class Rule:
    """What one rule says of every stage: `reasons` one a stage, or none where the evidence is insufficient."""

    name: str
    source: str
    kept: tuple[int, ...]
    sufficient: bool
    why: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Verdict:
    """What the diagnosis recommends: `method` is `ofa`, `kd`, `ce` or `insufficient`; the rule that decided."""

    method: str
    stages: tuple[int, ...]
    rule: str
    sentences: tuple[str, ...]

    @property
    def decided(self) -> bool:
        """Tell whether the rule's choice is what is recommended."""
        return self.method in ("ofa", "kd")


@dataclass(frozen=True)
class Diagnosis:
    """Everything a report shows: `meta` is `diagnosis.json`, `toml` the configuration that `distil` reads.

    `ways` holds the matched stages that the rule `lag` went along, student's and teacher's number; `tau` is NaN where
    the folder does not say it.
    """

    path: Path
    meta: Mapping[str, Any]
    teacher: Network
    student: Network
    grids: tuple[Grid, ...]
    rules: tuple[Rule, ...]
    verdict: Verdict
    tau: float
    disagreement: float = math.nan
    chance: float = math.nan
    ways: tuple[tuple[int, int], ...] = ()
    probes: tuple[Probe, ...] = ()
    heads: tuple[Head, ...] = ()
    toml: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def networks(self) -> tuple[Network, Network]:
        """Give teacher and student."""
        return self.teacher, self.student

    def level(self, level: str) -> tuple[Grid, ...]:
        """List the measures of one level, the measure that decides first."""
        return tuple(grid for grid in self.grids if grid.level == level)

    @property
    def stages(self) -> Grid:
        """Give the stage by stage similarities by the measure that decides."""
        return self.level("stage")[0]

    @property
    def penultimate(self) -> Grid | None:
        """Give the similarities to the teacher's penultimate layer, None without any."""
        return next(iter(self.level("penultimate")), None)

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """List the places of the stages that `gap` compares: each of the student's, the teacher's as far along."""
        count, others = len(self.student.stages), len(self.teacher.stages)
        return tuple((k - 1, proportional(k, count, others) - 1) for k in range(1, count + 1))

    def along(self, column: str = "value") -> Float[np.ndarray, " ls"]:
        """Take from one column the pairs that `gap` compares."""
        rows, columns = np.array(self.pairs).T
        return self.stages.matrix(column)[rows, columns]

    @property
    def pictures(self) -> int:
        """Count the pictures whose features were compared."""
        found = self.stages.matrix("n")
        return int(np.nanmax(found)) if np.isfinite(found).any() else 0

    def rule(self, name: str) -> Rule | None:
        """Find a rule by its name."""
        return next((one for one in self.rules if one.name == name), None)
