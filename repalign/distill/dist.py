"""DIST (Huang et al. 2022): the student's probabilities need only correlate with the teacher's."""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from repalign.distill.base import Criterion, Distiller, Losses, cross_entropy
from repalign.distill.logits import check_pair, check_positive, check_weights, full_precision, wide
from repalign.distill.networks import run

# Huang et al. (NeurIPS 2022, arXiv 2205.10536) from memory: β = γ = 2, and T = 1 on ImageNet (4 on CIFAR-100)
BETA, GAMMA, TEMPERATURE = 2.0, 2.0, 1.0
EPSILON = 1e-8  # keeps the correlation of constants defined, at 0; as in the authors' code


@dataclass(frozen=True)
class Relations:
    """Mean distance 1 − ρ, `inter`: within pictures over the classes, and `intra`: within classes over the pictures."""

    inter: Float[Tensor, ""]
    intra: Float[Tensor, ""]


def dist_loss(
    student_logits: Float[Tensor, "..."], teacher_logits: Float[Tensor, "..."], beta: float = BETA,
    gamma: float = GAMMA, temperature: float = TEMPERATURE,
) -> Float[Tensor, ""]:  # fmt: skip
    """Add β inter + γ intra of logits `(n, c)`; see `relate`.

    Raises InputError as `relate` does.
    """
    parts = relate(student_logits, teacher_logits, temperature)
    return beta * parts.inter + gamma * parts.intra


def relate(
    student_logits: Float[Tensor, "..."], teacher_logits: Float[Tensor, "..."], temperature: float = TEMPERATURE
) -> Relations:
    """Correlate softmax(z / T) of student and teacher, logits `(n, c)`: each row, and each column; means of 1 − ρ.

    ρ is Pearson's correlation, so that neither shift nor scale of the student's probabilities counts (Huang et al.
    2022). Without the factor T² that the authors' code has and their paper has not: ρ does not shrink as T grows. A
    constant row or column, as in a batch of one picture, has distance 1 and no gradient. In float32 at least; no
    gradient reaches the teacher.

    Raises InputError for unequal shapes and a temperature that isn't positive.
    """
    check_positive(temperature=temperature)
    check_pair(student_logits, teacher_logits)
    with full_precision(student_logits):
        student = (wide(student_logits) / temperature).softmax(1)
        teacher = (wide(teacher_logits.detach()) / temperature).softmax(1)
        return Relations(1 - _pearson(student, teacher).mean(), 1 - _pearson(student.T, teacher.T).mean())


def _pearson(a: Float[Tensor, "n c"], b: Float[Tensor, "n c"]) -> Float[Tensor, " n"]:
    """Correlate each row of `a` with that of `b`."""
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1) + EPSILON)


class DISTDistiller(Distiller):
    """Let the student's probabilities correlate with the teacher's; `beta` and `gamma` weigh the parts of `dist_loss`.

    Losses: `ground_truth`, `inter_class`, `intra_class`.

    Raises InputError as `Distiller` does, for a temperature that isn't positive, and for weights that are negative or
    all 0.
    """

    def __init__(
        self, student: nn.Module, teacher: nn.Module, num_classes: int, *, beta: float = BETA, gamma: float = GAMMA,
        temperature: float = TEMPERATURE, example: Tensor | None = None,
        teacher_input: Callable[[Tensor], Tensor] | None = None, criterion: Criterion = cross_entropy,
        ground_truth: float = 1.0,
    ) -> None:  # fmt: skip
        super().__init__(
            student, teacher, num_classes, example=example, teacher_input=teacher_input, criterion=criterion,
            ground_truth=ground_truth,
        )  # fmt: skip
        check_positive(temperature=temperature)
        check_weights(ground_truth=ground_truth, beta=beta, gamma=gamma)
        self.beta, self.gamma, self.temperature = beta, gamma, temperature

    def forward(self, x: Tensor, y: Tensor, index: Tensor | None = None) -> tuple[Losses, Float[Tensor, "n c"]]:
        """Compute the parts of the objective and the student's logits for a batch."""
        logits = run(self.student, x)[0]
        parts = relate(logits, self.teacher_logits(x), self.temperature)
        losses = self.hard(logits, y)
        if self.beta:
            losses["inter_class"] = self.beta * parts.inter
        if self.gamma:
            losses["intra_class"] = self.gamma * parts.intra
        return losses, logits
