"""Which stages deserve a branch: three rules over similarities, each one function with its source.

Every rule takes numbers that a diagnosis has computed, knows no network, and returns a `Choice`. The logit branch
always stays beside the stages that a rule keeps. What the rules are worth is measured in `experiments/ofa_stages/`.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

TAU = 0.4  # 1 − CKA above which a stage counts as apart from the teacher; fixed before any run of the experiment
FEWEST_FOR_KNEE = 4  # with fewer stages there is no interior to choose a knee from


@dataclass(frozen=True)
class Choice:
    """What a rule says: the numbers of the stages to keep, and a sentence for each of the student's stages.

    With `sufficient` False the evidence does not carry a choice, `kept` is empty, and `why` says what is missing.
    """

    rule: str
    kept: tuple[int, ...]
    reasons: tuple[str, ...]
    sufficient: bool = True
    why: str = ""


def proportional(stage: int, student_stages: int, teacher_stages: int) -> int:
    """Give the teacher's stage at the same share of the way, counted from 1; of two equally near, the deeper.

    >>> [proportional(k, 4, 3) for k in (1, 2, 3, 4)]
    [1, 2, 2, 3]
    """
    places = np.arange(1, teacher_stages + 1) * student_stages
    distance = np.abs(places - stage * teacher_stages)
    return int(np.flatnonzero(distance == distance.min())[-1]) + 1


def gap(
    similarity: Float[np.ndarray, " k"], ci_low: Float[np.ndarray, " k"], ci_high: Float[np.ndarray, " k"],
    tau: float = TAU,
) -> Choice:  # fmt: skip
    """Keep the stages that are surely apart from the teacher's at the same share of the way.

    `similarity (k,)` is the debiased CKA of each student stage with that teacher stage, `ci_low` and `ci_high` its
    interval. Stage k stays when the lower end of the interval of 1 − CKA, which is 1 − `ci_high`, exceeds `tau`. Where
    none stays and an interval is missing or holds τ, the evidence is insufficient. Source: this project's rule, from
    OFA-KD's premise (Hao et al. 2023) that branches bridge what is unlike; it was fixed before its experiment.
    """
    kept, reasons, undecided = [], [], []
    for k, (value, low, high) in enumerate(zip(similarity, ci_low, ci_high, strict=True), start=1):
        apart = f"1 − CKA = {1 - value:.2f} [{1 - high:.2f}, {1 - low:.2f}]"
        if not np.isfinite([value, low, high]).all():
            undecided.append(k)
            reasons.append(f"stage {k}: no interval, so not kept")
        elif 1 - high > tau:
            kept.append(k)
            reasons.append(f"stage {k}: {apart}, surely above τ = {tau:g}: kept")
        elif 1 - low <= tau:
            reasons.append(f"stage {k}: {apart}, surely not above τ = {tau:g}: left out")
        else:
            undecided.append(k)
            reasons.append(f"stage {k}: {apart} holds τ = {tau:g}, undecided: left out")
    if undecided and not kept:
        named = ", ".join(map(str, undecided))
        why = f"no stage is surely above τ = {tau:g}, and stage{'s' if len(undecided) > 1 else ''} {named} may be"
        return Choice("gap", (), tuple(reasons), False, why)
    return Choice("gap", tuple(kept), tuple(reasons))


def monotone_path(matrix: Float[np.ndarray, "ks kt"]) -> tuple[int, ...]:
    """Match each student stage with a teacher stage, never going back, so that the summed similarity is largest.

    Returns the teacher's stages, counted from 1. Dynamic programming: best(k, j) = matrix(k, j) + max over i ≤ j of
    best(k − 1, i), as in dynamic time warping without skips (Sakoe & Chiba 1978); of equal paths the shallower.
    """
    best = np.zeros(matrix.shape)
    came = np.zeros(matrix.shape, dtype=int)
    best[0] = matrix[0]
    for k in range(1, len(matrix)):
        for j in range(matrix.shape[1]):
            came[k, j] = int(np.argmax(best[k - 1, : j + 1]))
            best[k, j] = matrix[k, j] + best[k - 1, came[k, j]]
    path = [int(np.argmax(best[-1]))]
    for k in range(len(matrix) - 1, 0, -1):
        path.append(int(came[k, path[-1]]))
    return tuple(j + 1 for j in reversed(path))


def lag(
    matrix: Float[np.ndarray, "ks kt"], ci_low: Float[np.ndarray, "ks kt"], ci_high: Float[np.ndarray, "ks kt"]
) -> Choice:
    """Keep the student stages whose match in the teacher is shallower than their proportional depth.

    `matrix` holds the debiased CKA of every student stage with every teacher stage, `ci_low` and `ci_high` its
    interval, which is told and decides nothing; the match is `monotone_path`'s. A stage that still does what the
    teacher does earlier lags behind. Source: this project's rule; matching layers by CKA along a monotone path is known
    from the transfer of adapters between models (LoRASuite).
    """
    if not np.isfinite(matrix).all():
        return Choice("lag", (), (), False, "a pair of stages has no similarity")
    kept, reasons = [], []
    for k, match in enumerate(monotone_path(matrix), start=1):
        expected = proportional(k, *matrix.shape)
        behind = match < expected
        place = "shallower than" if behind else "the same as" if match == expected else "deeper than"
        there, here = (_told(matrix, ci_low, ci_high, (k - 1, j - 1)) for j in (match, expected))
        numbers = f"CKA {there} there" if match == expected else f"CKA {there} there, {here} here"
        said = f"stage {k} matches the teacher's stage {match}, {place} its proportional stage {expected}"
        reasons.append(f"{said} ({numbers}): {'kept' if behind else 'left out'}")
        if behind:
            kept.append(k)
    return Choice("lag", tuple(kept), tuple(reasons))


def knee(
    similarity: Float[np.ndarray, " k"], ci_low: Float[np.ndarray, " k"], ci_high: Float[np.ndarray, " k"]
) -> Choice:
    """Keep the stages from the knee of the similarity to the teacher's penultimate layer up to the last.

    `similarity (k,)` is the debiased CKA of each student stage with what the teacher's classifier is given. The knee is
    the interior stage farthest from the chord between the first and the last (Satopää et al. 2011, doi:
    10.1109/ICDCSW.2011.20). Fewer than four stages, missing intervals, or a knee whose interval holds the chord are
    insufficient. The early stages that it drops carry the costliest heads.
    """
    count = len(similarity)
    if count < FEWEST_FOR_KNEE:
        return Choice("knee", (), (), False, f"a knee needs {FEWEST_FOR_KNEE} stages, and there are {count}")
    if not np.isfinite([similarity, ci_low, ci_high]).all():
        return Choice("knee", (), (), False, "a stage has no similarity to the teacher's penultimate layer")
    chord = np.linspace(similarity[0], similarity[-1], count)
    inner = np.abs(similarity - chord)[1:-1]
    at = int(np.argmax(inner)) + 1
    told = f"stage {at + 1} lies {inner[at - 1]:.2f} from the chord (CKA {similarity[at]:.2f}, chord {chord[at]:.2f})"
    if ci_low[at] <= chord[at] <= ci_high[at]:
        return Choice("knee", (), (), False, f"no knee: {told}, within its interval")
    reasons = tuple(
        f"stage {k}: CKA {_told(similarity, ci_low, ci_high, k - 1)} to the teacher's penultimate layer, "
        f"{'from the knee on: kept' if k > at else 'before the knee: left out'}"
        for k in range(1, count + 1)
    )
    return Choice(
        "knee", tuple(range(at + 1, count + 1)), (*reasons[:at], f"{reasons[at]} ({told})", *reasons[at + 1 :])
    )


def _told(value: np.ndarray, low: np.ndarray, high: np.ndarray, at: int | tuple[int, int]) -> str:
    """Write a number with its interval."""
    return f"{value[at]:.2f} [{low[at]:.2f}, {high[at]:.2f}]"
