"""The loss of OFA-KD: the teacher's final logits as targets, with the target class's probability enhanced."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from repalign.distill.logits import check_pair, check_positive, full_precision, target_labels, wide
from repalign.errors import unknown

VARIANTS = ("paper", "code")


@dataclass(frozen=True)
class Lesson:
    """What a batch asks of every branch: the teacher's softened `probabilities` and the one-hot `target`, `(n, c)`."""

    probabilities: Float[Tensor, "n c"]
    target: Float[Tensor, "n c"]
    temperature: float


def ofa_loss(
    student_logits: Float[Tensor, "..."], teacher_logits: Float[Tensor, "..."], targets: Tensor, gamma: float = 1.0,
    temperature: float = 1.0, variant: str = "paper",
) -> Float[Tensor, ""]:  # fmt: skip
    """Compare a branch's or the student's logits `(n, c)` with the teacher's final ones `(n, c)`; the batch's mean.

    With p = softmax(z / T) and target class ŷ, `paper` is −(1 + p_t,ŷ)^γ log p_s,ŷ − Σ_{c≠ŷ} p_t,c log p_s,c (Hao et
    al. 2023, arXiv 2310.19444), and `code`, in wide use, −Σ_c [(p_t,c + m_c)^γ − m_c] log p_s,c with m the one-hot
    target: at γ = 1 the latter is the soft cross-entropy, whatever the label. No factor T². `targets` are labels `(n,)`
    or soft targets `(n, c)`, whose largest entry is ŷ. Computed through log-softmax in float32 at least, also under
    autocast, so that logits far apart give finite values and gradients. No gradient reaches the teacher.

    Raises InputError for shapes that don't fit, γ or T that are not positive, and an unknown variant.
    """
    check_knobs(gamma, temperature, variant)
    check_pair(student_logits, teacher_logits)
    return branch_loss(student_logits, teach(teacher_logits, targets, temperature), gamma, variant)


def teach(teacher_logits: Float[Tensor, "n c"], targets: Tensor, temperature: float) -> Lesson:
    """Prepare what all branches of a batch share.

    Raises InputError for targets that don't fit the logits.
    """
    with full_precision(teacher_logits):
        probabilities = torch.softmax(wide(teacher_logits.detach()) / temperature, dim=1)
        return Lesson(probabilities, target_mask(targets, teacher_logits), temperature)


def branch_loss(student_logits: Float[Tensor, "n c"], lesson: Lesson, gamma: float, variant: str) -> Float[Tensor, ""]:
    """Compute `ofa_loss` of one branch."""
    with full_precision(student_logits):
        log_student = torch.log_softmax(wide(student_logits) / lesson.temperature, dim=1)
        weights = enhanced(lesson.probabilities, lesson.target, gamma, variant)
        return -(weights.to(log_student.dtype) * log_student).sum(1).mean()


def enhanced(
    teacher: Float[Tensor, "n c"], target: Float[Tensor, "n c"], gamma: float, variant: str
) -> Float[Tensor, "n c"]:
    """Weigh each class by the teacher's probabilities, the one-hot `target` class more."""
    if variant == "paper":
        return torch.where(target > 0, (1 + teacher) ** gamma, teacher)
    return (teacher + target) ** gamma - target


def target_mask(targets: Tensor, logits: Float[Tensor, "n c"]) -> Float[Tensor, "n c"]:
    """Mark each row's target class with 1: the label `(n,)`, or the largest entry of a soft target `(n, c)`.

    Raises InputError for targets that don't fit the logits.
    """
    labels = target_labels(targets, logits)
    return torch.zeros(logits.shape, dtype=torch.float32, device=logits.device).scatter_(1, labels[:, None], 1.0)


def check_knobs(gamma: float, temperature: float, variant: str) -> None:
    """Raise InputError for a γ or temperature that isn't positive, or an unknown variant."""
    if variant not in VARIANTS:
        raise unknown("variant", variant, VARIANTS)
    check_positive(gamma=gamma, temperature=temperature)
