"""FitNets (Romero et al. 2015): a stage of the student, mapped by a regressor, predicts a stage of the teacher."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, mse_loss

from repalign.distill.base import Criterion, Distiller, Losses, cross_entropy
from repalign.distill.logits import check_pair, check_weights, full_precision, wide
from repalign.distill.networks import run
from repalign.distill.stages import Stage, channels, choose_stages
from repalign.types import Layer

WEIGHT = 100.0  # of the hint, in the benchmark of Tian et al. (ICLR 2020, arXiv 1910.10699)


def fitnet_loss(student_map: Float[Tensor, "..."], teacher_map: Float[Tensor, "..."]) -> Float[Tensor, ""]:
    """Average the squared difference of the regressor's output and the teacher's features, both `(n, c, h, w)`.

    Romero et al. (ICLR 2015, arXiv 1412.6550) sum where this averages, and halve; the mean is what later benchmarks
    weigh. In float32 at least; no gradient reaches the teacher.

    Raises InputError for unequal shapes.
    """
    check_pair(student_map, teacher_map, "features", "n, c, h, w")
    with full_precision(student_map):
        return mse_loss(wide(student_map), wide(teacher_map.detach()).to(wide(student_map).dtype))


class FitNetDistiller(Distiller):
    """Let a stage of the student predict a stage of the teacher through a 1 × 1 convolution; `weight` weighs it.

    `stage` is the student's, counted from 1, by default its middle one (the second of four); `teacher_stage` by default
    that of the same number, or the last where there are fewer. Features of any layout become maps without their prefix
    tokens, and the finer grid is averaged to the coarser one (the paper's networks have equal grids). Trained together
    with the labels, where the paper trains the hint first. Losses: `ground_truth`, `hint`.

    Raises InputError as `Distiller` does, for a stage that does not exist, and for weights that are negative or all 0.
    """

    def __init__(
        self, student: nn.Module, teacher: nn.Module, num_classes: int, *, stage: int | None = None,
        teacher_stage: int | None = None, weight: float = WEIGHT, example: Tensor | None = None,
        teacher_input: Callable[[Tensor], Tensor] | None = None, criterion: Criterion = cross_entropy,
        ground_truth: float = 1.0,
    ) -> None:  # fmt: skip
        super().__init__(
            student, teacher, num_classes, example=example, teacher_input=teacher_input, criterion=criterion,
            ground_truth=ground_truth,
        )  # fmt: skip
        check_weights(ground_truth=ground_truth, weight=weight)
        mine, theirs = self.stages(), self.teacher_stages()
        self.stage = _choose(mine, (len(mine) + 1) // 2 if stage is None else stage)
        same = min(self.stage.number, len(theirs))
        self.teacher_stage = _choose(theirs, same if teacher_stage is None else teacher_stage)
        self.weight = weight
        widths = channels(self.stage.layer), channels(self.teacher_stage.layer)
        self.regressor = self.beside_student(nn.Conv2d(*widths, kernel_size=1)).requires_grad_(weight > 0)

    def forward(self, x: Tensor, y: Tensor, index: Tensor | None = None) -> tuple[Losses, Float[Tensor, "n c"]]:
        """Compute the parts of the objective and the student's logits for a batch."""
        mine, theirs = self.stage.layer, self.teacher_stage.layer
        logits, outputs, _ = run(self.student, x, [mine.name])
        losses = self.hard(logits, y)
        if self.weight:
            wanted = as_map(self.run_teacher(x, [theirs.name])[1][theirs.name], theirs)
            own = as_map(outputs[mine.name], mine)
            grid = min(own.shape[2], wanted.shape[2]), min(own.shape[3], wanted.shape[3])
            hint = fitnet_loss(self.regressor(adaptive_avg_pool2d(own, grid)), adaptive_avg_pool2d(wanted, grid))
            losses["hint"] = self.weight * hint
        return losses, logits


def as_map(x: Float[Tensor, "n ..."], layer: Layer) -> Float[Tensor, "n c h w"]:
    """View a layer's output as a map; vectors, and tokens that lie on no grid, as a single position."""
    match layer.layout:
        case "nchw":
            return x
        case "nhwc":
            return x.permute(0, 3, 1, 2)
        case "vector":
            return x[:, :, None, None]
        case _ if layer.grid is None:
            return x.mean(1)[:, :, None, None]
        case _:
            return x[:, layer.prefix :].transpose(1, 2).unflatten(2, layer.grid)


def _choose(stages: tuple[Stage, ...], number: int) -> Stage:
    return choose_stages(stages, [number])[0]
