"""What every rule says of one pair of networks: the rules over similarities, and the two that need none."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from repalign.diagnosis.similarity import Scores
from repalign.distill.rules import TAU, Choice, gap, knee, lag, monotone_path, proportional
from repalign.errors import InputError, unknown


@dataclass(frozen=True)
class Evidence:
    """What rules may look at: similarities of stages `(ks, kt)`, and of student stages to the teacher's penultimate.

    `penultimate (ks, 1)` is None where no linear layer ends the teacher. `unusable` says, by its number, why a stage
    can carry no branch.
    """

    stages: Scores
    penultimate: Scores | None
    unusable: Mapping[int, str]

    @property
    def matched(self) -> tuple[int, ...]:
        """Give the teacher's stage at the same share of the way for each student stage, counted from 1."""
        count = self.stages.value.shape
        return tuple(proportional(k, *count) for k in range(1, count[0] + 1))

    @property
    def at_matched(self) -> Scores:
        """Take the similarity of each student stage with that teacher stage, `(ks, 1)`."""
        return self.stages.at([k - 1 for k in self.matched])


def _gap(evidence: Evidence, tau: float) -> Choice:
    scores = evidence.at_matched
    return gap(scores.value[:, 0], scores.ci_low[:, 0], scores.ci_high[:, 0], tau)


def _lag(evidence: Evidence, tau: float) -> Choice:
    scores = evidence.stages
    return lag(scores.value, scores.ci_low, scores.ci_high)


def _knee(evidence: Evidence, tau: float) -> Choice:
    scores = evidence.penultimate
    if scores is None:
        return Choice(
            "knee", (), (), False, "no linear layer ends the teacher, so it has no penultimate representation"
        )
    return knee(scores.value[:, 0], scores.ci_low[:, 0], scores.ci_high[:, 0])


def _all(evidence: Evidence, tau: float) -> Choice:
    count = len(evidence.stages.value)
    return Choice("all", tuple(range(1, count + 1)), tuple(f"stage {k}: kept" for k in range(1, count + 1)))


def _logits(evidence: Evidence, tau: float) -> Choice:
    count = len(evidence.stages.value)
    return Choice("logits", (), tuple(f"stage {k}: left out" for k in range(1, count + 1)))


RULES: dict[str, Callable[[Evidence, float], Choice]] = {
    "gap": _gap,
    "lag": _lag,
    "knee": _knee,
    "all": _all,
    "logits": _logits,
}
BY_SIMILARITY = ("gap", "lag", "knee")
SOURCES = {
    "gap": "repalign's rule, from OFA-KD's premise (Hao et al. 2023) that branches bridge what is unlike",
    "lag": "repalign's rule; monotone matching of layers by CKA as in adapter transfer (LoRASuite)",
    "knee": "the point farthest from the chord (Satopää et al. 2011, doi:10.1109/ICDCSW.2011.20)",
    "all": "OFA-KD's own choice: every stage (Hao et al. 2023, arXiv 2310.19444)",
    "logits": "knowledge distillation of the logits alone (Hinton et al. 2015, arXiv 1503.02531)",
}


def check_rule(rule: str, tau: float) -> None:
    """Raise InputError for an unknown rule, and for a τ that can't be a bound of 1 − CKA."""
    if rule not in RULES:
        raise unknown("rule", rule, RULES)
    if not 0 <= tau <= 2:
        raise InputError(f"tau must lie between 0 and 2, the range of 1 − CKA, not {tau}")


def choose_all(evidence: Evidence, tau: float = TAU) -> dict[str, Choice]:
    """Ask every rule; a stage that can carry no branch is never kept, and its sentence says why."""
    return {name: _usable(rule(evidence, tau), evidence.unusable) for name, rule in RULES.items()}


def _usable(choice: Choice, unusable: Mapping[int, str]) -> Choice:
    reasons = tuple(
        f"stage {k}: {unusable[k]}, so not kept" if k in unusable and k in choice.kept else reason
        for k, reason in enumerate(choice.reasons, start=1)
    )
    return replace(choice, kept=tuple(k for k in choice.kept if k not in unusable), reasons=reasons)


def best_path(matrix: Float[np.ndarray, "ks kt"]) -> tuple[tuple[int, int], ...]:
    """Match stages along the monotone path of the largest summed similarity; nothing where a score is missing."""
    if not np.isfinite(matrix).all():
        return ()
    return tuple(enumerate(monotone_path(matrix), start=1))


def describe_matching(matched: Sequence[int], teacher_stages: int) -> str:
    """Say which teacher stage each student stage is compared with by `gap`."""
    if len(matched) == teacher_stages:
        return "each student stage with the teacher's stage of the same number"
    pairs = ", ".join(f"{k} with {j}" for k, j in enumerate(matched, start=1))
    return f"{len(matched)} student and {teacher_stages} teacher stages, matched at the same share of the way: {pairs}"
