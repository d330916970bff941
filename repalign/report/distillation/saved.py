"""What a run folder holds, once it is read: the log, the alignment to the teacher, and what the student came to."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from repalign.distill.rules import proportional
from repalign.report.diagnosis.saved import Diagnosis

FINISHED, RUNNING = "finished", "running"
BEFORE, LAST, BEST, TEACHER = "student before", "last epoch", "best on validation", "teacher"
NAMES = {"before": BEFORE, "last": LAST, "best": BEST, "teacher": TEACHER}
"""What stands under which key of the results in `run.json`."""


@dataclass(frozen=True)
class Learner:
    """Teacher or student as it was when the run started."""

    name: str
    source: str
    fingerprint: str
    untrained: bool
    parameters: float

    @property
    def described(self) -> str:
        """Name the network, and say when it was untrained."""
        return f"{self.name} (untrained)" if self.untrained else self.name


@dataclass(frozen=True)
class Epoch:
    """One line of `log.jsonl`: means over an epoch, and the validation accuracy after it; NaN where unknown."""

    number: int
    rate: float
    accuracy: float
    losses: Mapping[str, float]


@dataclass(frozen=True)
class Outcome:
    """One network's accuracies, 0..1, with their standard errors; NaN where unknown, epoch 0 where there is none."""

    name: str
    epoch: int
    validation: float
    validation_se: float
    test: float
    test_se: float


@dataclass(frozen=True)
class Alignment:
    """Debiased CKA of the student's stages with the teacher's, on the same validation pictures every time.

    `values[k]` was measured after epoch `epochs[k]`, 0 before training; NaN where a stage has no geometry.
    """

    epochs: tuple[int, ...]
    student: tuple[str, ...]
    teacher: tuple[str, ...]
    values: Float[np.ndarray, "e ks kt"]

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """List the places of the stages at the same share of the way: those of one number where they are as many."""
        count, others = len(self.student), len(self.teacher)
        return tuple((k - 1, proportional(k, count, others) - 1) for k in range(1, count + 1))


@dataclass(frozen=True)
class Distillation:
    """Everything a report shows: `meta` is `run.json`; a run of labels alone may have no teacher.

    `stages` are the numbers of those that had a branch, `before` and `after` the diagnoses around the training.
    """

    path: Path
    meta: Mapping[str, Any]
    method: str
    teacher: Learner | None
    student: Learner
    stages: tuple[int, ...]
    state: str
    planned: int
    outcomes: tuple[Outcome, ...] = ()
    epochs: tuple[Epoch, ...] = ()
    alignment: Alignment | None = None
    before: Diagnosis | None = None
    after: Diagnosis | None = None
    notes: tuple[str, ...] = ()

    def outcome(self, name: str) -> Outcome | None:
        """Find an outcome by its name."""
        return next((one for one in self.outcomes if one.name == name), None)

    @property
    def parts(self) -> tuple[str, ...]:
        """List the parts of the loss, in the order in which they first appear."""
        return tuple(dict.fromkeys(name for epoch in self.epochs for name in epoch.losses))

    @property
    def has_test(self) -> bool:
        """Tell whether any network was judged on test pictures."""
        return any(math.isfinite(one.test) for one in self.outcomes)
