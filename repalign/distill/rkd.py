"""Relational knowledge distillation (Park et al. 2019): distances and angles between pictures follow the teacher's."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import huber_loss

from repalign.distill.base import Criterion, Distiller, Losses, cross_entropy
from repalign.distill.logits import check_rows, check_weights, full_precision, wide
from repalign.distill.penultimate import find_endings, run_both

# of the benchmark of Tian et al. (ICLR 2020, arXiv 1910.10699), in the ratio 1 to 2 of Park et al.
DISTANCE, ANGLE = 25.0, 50.0
DELTA = 1.0  # where Huber's loss turns linear (Park et al. 2019)


def rkd_loss(
    student: Float[Tensor, "..."], teacher: Float[Tensor, "..."], distance: float = DISTANCE, angle: float = ANGLE
) -> Float[Tensor, ""]:
    """Add the weighted parts of representations `(n, d_s)` and `(n, d_t)`; see `rkd_distance` and `rkd_angle`.

    Raises InputError when these are not rows of the same pictures.
    """
    return distance * rkd_distance(student, teacher) + angle * rkd_angle(student, teacher)


def rkd_distance(student: Float[Tensor, "..."], teacher: Float[Tensor, "..."]) -> Float[Tensor, ""]:
    """Compare the distances between pictures, each network's in units of their mean over the batch, by Huber's loss.

    `(n, d_s)` and `(n, d_t)`; the mean over pairs of two pictures (Park et al., CVPR 2019, arXiv 1904.05068, whose sum
    it replaces as their code does). In float32 at least; no gradient reaches the teacher.

    Raises InputError when these are not rows of the same pictures.
    """
    check_rows(student, teacher, "representations")
    with full_precision(student):
        mine, theirs = _distances(wide(student)), _distances(wide(teacher.detach()))
        off = _apart(len(student), student.device)
        return _mean(huber_loss(mine, theirs.to(mine.dtype), reduction="none", delta=DELTA), off)


def rkd_angle(student: Float[Tensor, "..."], teacher: Float[Tensor, "..."]) -> Float[Tensor, ""]:
    """Compare the cosines of the angles that triples of pictures form, by Huber's loss.

    `(n, d_s)` and `(n, d_t)`; the mean over triples of three pictures (Park et al. 2019, as in `rkd_distance`). Holds
    n³ cosines and n² d differences.

    Raises InputError when these are not rows of the same pictures.
    """
    check_rows(student, teacher, "representations")
    with full_precision(student):
        mine, theirs = _cosines(wide(student)), _cosines(wide(teacher.detach()))
        off = _apart(len(student), student.device)
        distinct = off[:, :, None] & off[:, None, :] & off[None, :, :]
        return _mean(huber_loss(mine, theirs.to(mine.dtype), reduction="none", delta=DELTA), distinct)


def _distances(x: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
    """Measure all distances, divided by the mean over pairs; 0 where all pictures coincide."""
    distances = _differences(x).norm(dim=2)
    mean = distances.sum() / max(len(x) * (len(x) - 1), 1)
    return distances / torch.where(mean > 0, mean, 1)


def _cosines(x: Float[Tensor, "n d"]) -> Float[Tensor, "n n n"]:
    """Give `[j, i, k]`, the cosine of the angle at j between i and k; 0 where i or k coincides with j."""
    differences = _differences(x)
    lengths = differences.norm(dim=2, keepdim=True)
    units = differences / torch.where(lengths > 0, lengths, 1)  # a length clamped from below gives huge gradients
    return units @ units.transpose(1, 2)


def _differences(x: Float[Tensor, "n d"]) -> Float[Tensor, "n n d"]:
    """Subtract each row from each: exact where pictures lie close, which products of rows are not."""
    return x[None, :] - x[:, None]


def _apart(n: int, device: torch.device) -> Tensor:
    """Mark the pairs of two different pictures `(n, n)`."""
    return ~torch.eye(n, dtype=torch.bool, device=device)


def _mean(values: Tensor, kept: Tensor) -> Float[Tensor, ""]:
    """Average over the marked places; 0 where there are none, as in a batch of one picture."""
    return torch.where(kept, values, 0).sum() / kept.sum().clamp(min=1)


class RKDDistiller(Distiller):
    """Let distances and angles between the penultimate representations of a batch follow the teacher's.

    `distance` and `angle` weigh the parts of `rkd_loss`. Losses: `ground_truth`, `distance`, `angle`.

    Raises InputError as `Distiller` does, for networks that end in no linear layer, and for weights that are negative
    or all 0.
    """

    def __init__(
        self, student: nn.Module, teacher: nn.Module, num_classes: int, *, distance: float = DISTANCE,
        angle: float = ANGLE, example: Tensor | None = None, teacher_input: Callable[[Tensor], Tensor] | None = None,
        criterion: Criterion = cross_entropy, ground_truth: float = 1.0,
    ) -> None:  # fmt: skip
        super().__init__(
            student, teacher, num_classes, example=example, teacher_input=teacher_input, criterion=criterion,
            ground_truth=ground_truth,
        )  # fmt: skip
        check_weights(ground_truth=ground_truth, distance=distance, angle=angle)
        self.distance, self.angle = distance, angle
        self.endings = find_endings(self)

    def forward(self, x: Tensor, y: Tensor, index: Tensor | None = None) -> tuple[Losses, Float[Tensor, "n c"]]:
        """Compute the parts of the objective and the student's logits for a batch."""
        both = run_both(self, self.endings, x)
        losses = self.hard(both.logits, y)
        if self.distance:
            losses["distance"] = self.distance * rkd_distance(both.student, both.teacher)
        if self.angle:
            losses["angle"] = self.angle * rkd_angle(both.student, both.teacher)
        return losses, both.logits
