"""The student alone: what every method is measured against."""

from collections.abc import Callable
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from repalign.distill.base import Criterion, Distiller, Losses, cross_entropy
from repalign.distill.logits import check_weights
from repalign.distill.networks import run


class CEDistiller(Distiller):
    """Train on the labels alone, in the same loop as the methods that have a teacher.

    `teacher` is None; one that is given is only kept, for whoever compares with it. Losses: `ground_truth`.

    Raises InputError as `Distiller` does, and for a weight that isn't positive.
    """

    needs_teacher: ClassVar[bool] = False

    def __init__(
        self, student: nn.Module, teacher: nn.Module | None, num_classes: int, *, example: Tensor | None = None,
        teacher_input: Callable[[Tensor], Tensor] | None = None, criterion: Criterion = cross_entropy,
        ground_truth: float = 1.0,
    ) -> None:  # fmt: skip
        super().__init__(
            student, teacher, num_classes, example=example, teacher_input=teacher_input, criterion=criterion,
            ground_truth=ground_truth,
        )  # fmt: skip
        check_weights(ground_truth=ground_truth)

    def forward(self, x: Tensor, y: Tensor, index: Tensor | None = None) -> tuple[Losses, Float[Tensor, "n c"]]:
        """Compute the one part of the objective and the student's logits for a batch."""
        logits = run(self.student, x)[0]
        return self.hard(logits, y), logits
