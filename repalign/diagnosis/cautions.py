"""What stands against the numbers: obstacles to any distillation, doubts about the similarities, and warnings."""

from collections.abc import Sequence

import numpy as np

from repalign.diagnosis.choices import Evidence
from repalign.diagnosis.competence import Competence, Labels
from repalign.diagnosis.whole import Part

FEW, VERY_FEW = 1000, 100  # pictures: below the first rules are shaky, below the second they decide nothing
ALPHA = 0.05

WARM_START = (
    "train the student alone for a few epochs (repalign distill --method ce), then diagnose "
    "NAME@RUN/student.safetensors"
)


def obstacles(teacher: Part, student: Part, labels: Labels | None, competence: Competence) -> list[str]:
    """Say what forbids distilling this teacher's logits, each with its remedy; nothing when they can be."""
    found = [_without_logits(who, part) for who, part in (("teacher", teacher), ("student", student))]
    said = [reason for reason in found if reason]
    if not said:
        said += _unequal_classes(teacher, student, labels)
    if teacher.encoder.untrained:
        said.append("the teacher is untrained: its logits mean nothing; give a trained one")
    elif competence.teacher is not None and not competence.teacher.above(competence.chance or 0.0):
        said.append(
            f"the teacher is near chance on these pictures: right on {competence.teacher.accuracy}, chance "
            f"{competence.chance:.1%}; give a teacher trained on these classes, in the order of their sorted names"
        )
    return said


def _without_logits(who: str, part: Part) -> str:
    if part.anatomy is not None:
        return ""
    return f"the {who} gives no logits, so there are none to distil; give a network with a classifier of these classes"


def _unequal_classes(teacher: Part, student: Part, labels: Labels | None) -> list[str]:
    counts = {"teacher": teacher.classes, "student": student.classes}
    if labels is not None:
        counts["data"] = len(labels.names)
    if len(set(counts.values())) == 1:
        return []
    told = ", ".join(f"{who} {count}" for who, count in counts.items())
    return [
        f"the numbers of classes differ ({told}), so the logits can't be distilled; train a new classifier on the "
        "teacher for the data's classes, and build the student for them; the features are compared all the same"
    ]


def doubts(student: Part, competence: Competence, n: int) -> list[str]:
    """Say why a rule must not choose by these similarities; nothing when it may."""
    found = []
    misleads = (
        "similarities at initialisation mislead (in a pilot 6 of 8 stages of untrained students matched the teacher's "
        f"first stage); {WARM_START}"
    )
    if student.encoder.untrained:
        found.append(f"the student is untrained: {misleads}")
    elif competence.student is not None and not competence.student.above(competence.chance or 0.0):
        found.append(
            f"the student is not above chance (right on {competence.student.accuracy}, chance {competence.chance:.1%}) "
            f"and counts as untrained: {misleads}"
        )
    if n < VERY_FEW:
        found.append(f"{n} pictures are too few for a rule; give at least {VERY_FEW}, better {FEW:,}")
    return found


def warn(
    teacher: Part, student: Part, labels: Labels | None, competence: Competence, evidence: Evidence, n: int
) -> list[str]:
    """List what a reader should know before trusting the numbers: all but obstacles and doubts."""
    found = [*teacher.notes, *student.notes]
    if VERY_FEW <= n < FEW:
        found.append(f"{n} pictures are few: intervals are wide and the rules shaky; {FEW:,} are better")
    if labels is None:
        found.append("the pictures have no labels: whether the teacher knows more than the student is unknown")
    if student.fresh_classifier:
        found.append("the student's classifier is untrained, so its accuracy and logits are not judged")
    found += _by_comparison(competence)
    found += _by_order(competence, teacher, student)
    return found + _by_nulls(evidence)


def _by_comparison(competence: Competence) -> list[str]:
    difference = competence.difference
    if difference is None or difference.ci_low > 0:
        return []
    told = f"teacher less student {difference} of accuracy on the same pictures"
    if difference.ci_high < 0:
        return [f"the teacher is weaker than the student ({told}): it may teach little, or harm"]
    return [f"the teacher is not shown to be better than the student ({told})"]


def _by_order(competence: Competence, teacher: Part, student: Part) -> list[str]:
    chance = competence.chance or 0.0
    return [
        f"the {who} is below chance ({one.accuracy}, chance {chance:.1%}): its classes may stand in another order than "
        "the sorted names of the data's classes"
        for who, one, part in (("teacher", competence.teacher, teacher), ("student", competence.student, student))
        if one is not None and one.below(chance) and not part.encoder.untrained
    ]


def _by_nulls(evidence: Evidence) -> list[str]:
    """Name the matched stages that shuffled pictures or an untrained student do as well as."""
    scores, found = evidence.at_matched, []
    value, low, p, untrained = (x[:, 0] for x in (scores.value, scores.ci_low, scores.p, scores.untrained))
    unlike = _numbers(np.isfinite(value) & (p > ALPHA))
    if unlike:
        found.append(f"no more alike than with shuffled pictures (p > {ALPHA:g}): student {unlike}")
    if not np.array_equal(value, untrained, equal_nan=True):  # an untrained student is its own null
        alike = _numbers(low <= untrained)
        if alike:
            found.append(
                f"not surely more like the teacher than an untrained network of the student's architecture: {alike}"
            )
    return found


def _numbers(marked: Sequence[bool] | np.ndarray) -> str:
    numbers = [str(k) for k, yes in enumerate(marked, start=1) if yes]
    return f"stage{'s' if len(numbers) > 1 else ''} {', '.join(numbers)}" if numbers else ""
