"""What teacher and student know of the classes: accuracy, likelihood, calibration, and which of them knows more."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Bool, Int
from torch import Tensor

from repalign.diagnosis.proportion import PairedDifference, Proportion, paired_difference, proportion
from repalign.diagnosis.whole import Seen
from repalign.distill.evaluate import Scores, disagreement, scores


@dataclass(frozen=True)
class Labels:
    """The class of each picture `(n,)`, numbered in the order of the names of all classes of the data."""

    codes: Int[Tensor, " n"]
    names: tuple[str, ...]

    @property
    def chance(self) -> float:
        """Give the share of the largest class: what naming it every time would be right on."""
        return max(Counter(self.codes.tolist()).values()) / len(self.codes)


@dataclass(frozen=True)
class Judged:
    """How good a network's logits are, its accuracy with an interval over pictures or whole groups."""

    scores: Scores
    accuracy: Proportion
    correct: Bool[Tensor, " n"]

    def above(self, chance: float) -> bool:
        """Tell whether the accuracy's whole interval is above chance."""
        return self.accuracy.ci_low > chance

    def below(self, chance: float) -> bool:
        """Tell whether the accuracy's whole interval is below chance."""
        return self.accuracy.ci_high < chance


@dataclass(frozen=True)
class Competence:
    """What labels and logits say: None where there are no labels, or a network's classes are not those of the data.

    `difference` is the teacher's accuracy less the student's on the same pictures; `disagreement` the share of pictures
    to which they give different classes, where they have equally many.
    """

    teacher: Judged | None
    student: Judged | None
    difference: PairedDifference | None
    disagreement: float | None
    chance: float | None


def judge_both(teacher: Seen, student: Seen, labels: Labels | None, groups: Sequence[str] | None) -> Competence:
    """Score the logits of both networks against the labels, and against each other."""
    one, other = (_judged(side, labels, groups) for side in (teacher, student))
    difference = None
    if one is not None and other is not None:
        difference = paired_difference(one.correct.numpy(), other.correct.numpy(), groups)
    apart = None
    if teacher.logits is not None and student.logits is not None and not student.part.fresh_classifier:
        equal = teacher.logits.shape == student.logits.shape
        apart = disagreement(teacher.logits, student.logits) if equal else None
    return Competence(one, other, difference, apart, None if labels is None else labels.chance)


def _judged(side: Seen, labels: Labels | None, groups: Sequence[str] | None) -> Judged | None:
    """Score a network's logits; None where there are none, no labels, other classes, or an untrained classifier."""
    if side.logits is None or labels is None or side.part.fresh_classifier:
        return None
    if side.logits.shape[1] != len(labels.names):
        return None
    correct = side.logits.argmax(1) == labels.codes
    return Judged(scores(side.logits, labels.codes), proportion(correct.numpy(), groups), correct)
