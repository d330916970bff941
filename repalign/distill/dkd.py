"""Decoupled knowledge distillation (Zhao et al. 2022): the target class against the rest, and the rest in itself."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import kl_div, log_softmax

from repalign.distill.base import Criterion, Distiller, Losses, cross_entropy
from repalign.distill.logits import (
    check_pair,
    check_positive,
    check_weights,
    full_precision,
    target_labels,
    wide,
)
from repalign.distill.networks import run
from repalign.errors import InputError

# Zhao et al. (CVPR 2022, arXiv 2203.08679), as in the authors' code for CIFAR-100; they tune β to the teacher
ALPHA, BETA, TEMPERATURE = 1.0, 8.0, 4.0


@dataclass(frozen=True)
class Decoupled:
    """The two halves of a Kullback–Leibler divergence: of target against rest, and among the `others`."""

    target: Float[Tensor, ""]
    others: Float[Tensor, ""]


def dkd_loss(
    student_logits: Float[Tensor, "..."], teacher_logits: Float[Tensor, "..."], targets: Tensor, alpha: float = ALPHA,
    beta: float = BETA, temperature: float = TEMPERATURE,
) -> Float[Tensor, ""]:  # fmt: skip
    """Add α TCKD + β NCKD of logits `(n, c)` and targets, labels `(n,)` or soft `(n, c)`; see `decouple`.

    Raises InputError as `decouple` does.
    """
    parts = decouple(student_logits, teacher_logits, targets, temperature)
    return alpha * parts.target + beta * parts.others


def decouple(
    student_logits: Float[Tensor, "..."], teacher_logits: Float[Tensor, "..."], targets: Tensor,
    temperature: float = TEMPERATURE,
) -> Decoupled:  # fmt: skip
    """Split the divergence of the student's from the teacher's probabilities at the target class; means over the batch.

    TCKD is T² KL(b_t ‖ b_s), b the probabilities of the target class and of all others together; NCKD is
    T² KL(p̂_t ‖ p̂_s), p̂ those of the other classes among themselves (Zhao et al. 2022, section 3). The target is left
    out by its place, so that no constant stands for minus infinity. Soft targets name it by their largest entry.
    In float32 at least; no gradient reaches the teacher.

    Raises InputError for shapes that don't fit, fewer than two classes, and a temperature that isn't positive.
    """
    check_positive(temperature=temperature)
    check_pair(student_logits, teacher_logits)
    if student_logits.shape[1] < 2:
        raise InputError(f"dkd sets the target apart from other classes, but there is only {student_logits.shape[1]}")
    labels = target_labels(targets, student_logits)
    with full_precision(student_logits):
        student = _split(wide(student_logits) / temperature, labels)
        teacher = _split(wide(teacher_logits.detach()) / temperature, labels)
        target, others = (
            temperature**2 * kl_div(s, t, log_target=True, reduction="batchmean")
            for s, t in zip(student, teacher, strict=True)
        )
        return Decoupled(target, others)


def _split(
    logits: Float[Tensor, "n c"], labels: Int[Tensor, " n"]
) -> tuple[Float[Tensor, "n 2"], Float[Tensor, "n c-1"]]:
    """Give log-probabilities: of the target and of all others together, and of the others among themselves."""
    places = torch.arange(logits.shape[1] - 1, device=logits.device)
    others = logits.gather(1, places + (places >= labels[:, None]))
    both = torch.cat([logits.gather(1, labels[:, None]), others.logsumexp(1, keepdim=True)], dim=1)
    return log_softmax(both, dim=1), log_softmax(others, dim=1)


class DKDDistiller(Distiller):
    """Pull the student's logits to the teacher's by the two parts of `dkd_loss`, weighed by `alpha` and `beta`.

    The authors let both grow from 0 over the first epochs (20 of 240 on CIFAR-100); that is left to the training loop.
    Losses: `ground_truth`, `target_class`, `other_classes`.

    Raises InputError as `Distiller` does, for a temperature that isn't positive, and for weights that are negative or
    all 0.
    """

    def __init__(
        self, student: nn.Module, teacher: nn.Module, num_classes: int, *, alpha: float = ALPHA, beta: float = BETA,
        temperature: float = TEMPERATURE, example: Tensor | None = None,
        teacher_input: Callable[[Tensor], Tensor] | None = None, criterion: Criterion = cross_entropy,
        ground_truth: float = 1.0,
    ) -> None:  # fmt: skip
        super().__init__(
            student, teacher, num_classes, example=example, teacher_input=teacher_input, criterion=criterion,
            ground_truth=ground_truth,
        )  # fmt: skip
        check_positive(temperature=temperature)
        check_weights(ground_truth=ground_truth, alpha=alpha, beta=beta)
        self.alpha, self.beta, self.temperature = alpha, beta, temperature

    def forward(self, x: Tensor, y: Tensor, index: Tensor | None = None) -> tuple[Losses, Float[Tensor, "n c"]]:
        """Compute the parts of the objective and the student's logits for a batch."""
        logits = run(self.student, x)[0]
        parts = decouple(logits, self.teacher_logits(x), y, self.temperature)
        losses = self.hard(logits, y)
        if self.alpha:
            losses["target_class"] = self.alpha * parts.target
        if self.beta:
            losses["other_classes"] = self.beta * parts.others
        return losses, logits
