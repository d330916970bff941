"""Knowledge distillation (Hinton et al. 2015): the student's softened probabilities follow the teacher's."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import kl_div, log_softmax

from repalign.distill.base import Criterion, Distiller, Losses, cross_entropy
from repalign.distill.logits import check_pair, check_positive, check_weights, full_precision, wide
from repalign.distill.networks import run

TEMPERATURE = 4.0  # of the benchmark of Tian et al. (ICLR 2020, arXiv 1910.10699), and common since


def kd_loss(
    student_logits: Float[Tensor, "..."], teacher_logits: Float[Tensor, "..."], temperature: float = TEMPERATURE
) -> Float[Tensor, ""]:
    """Compare logits `(n, c)`: T² Σ_c p_t,c (log p_t,c − log p_s,c) with p = softmax(z / T); the mean over the batch.

    The factor T² keeps the size of the gradients when T changes (Hinton, Vinyals, Dean 2015, arXiv 1503.02531, section
    2, where the cross-entropy stands, which differs by a constant). In float32 at least; no gradient reaches the
    teacher.

    Raises InputError for unequal shapes and a temperature that isn't positive.
    """
    check_positive(temperature=temperature)
    check_pair(student_logits, teacher_logits)
    with full_precision(student_logits):
        student = log_softmax(wide(student_logits) / temperature, dim=1)
        teacher = log_softmax(wide(teacher_logits.detach()) / temperature, dim=1)
        return temperature**2 * kl_div(student, teacher, log_target=True, reduction="batchmean")


class KDDistiller(Distiller):
    """Pull the student's logits to the teacher's; `weight` weighs `kd_loss`.

    Tian et al. (2020) weigh the labels by 0.1 and this part by 0.9; here both weigh 1, as in OFA-KD. Losses:
    `ground_truth`, `kd`.

    Raises InputError as `Distiller` does, for a temperature that isn't positive, and for weights that are negative or
    all 0.
    """

    def __init__(
        self, student: nn.Module, teacher: nn.Module, num_classes: int, *, temperature: float = TEMPERATURE,
        weight: float = 1.0, example: Tensor | None = None, teacher_input: Callable[[Tensor], Tensor] | None = None,
        criterion: Criterion = cross_entropy, ground_truth: float = 1.0,
    ) -> None:  # fmt: skip
        super().__init__(
            student, teacher, num_classes, example=example, teacher_input=teacher_input, criterion=criterion,
            ground_truth=ground_truth,
        )  # fmt: skip
        check_positive(temperature=temperature)
        check_weights(ground_truth=ground_truth, weight=weight)
        self.temperature, self.weight = temperature, weight

    def forward(self, x: Tensor, y: Tensor, index: Tensor | None = None) -> tuple[Losses, Float[Tensor, "n c"]]:
        """Compute the parts of the objective and the student's logits for a batch."""
        logits = run(self.student, x)[0]
        losses = self.hard(logits, y)
        if self.weight:
            losses["kd"] = self.weight * kd_loss(logits, self.teacher_logits(x), self.temperature)
        return losses, logits
