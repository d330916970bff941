"""OFA-KD (Hao et al., NeurIPS 2023): branches at the student's stages learn the teacher's final logits."""

from collections.abc import Callable, Sequence

from jaxtyping import Float
from torch import Tensor, nn

from repalign.distill.base import Criterion, Distiller, Losses, cross_entropy
from repalign.distill.heads import build_head
from repalign.distill.logits import check_weights
from repalign.distill.networks import has_class_token, run
from repalign.distill.ofa_loss import branch_loss, check_knobs, teach
from repalign.distill.stages import choose_stages
from repalign.errors import InputError


class OFADistiller(Distiller):
    """Pull the student's logits, and those of a branch at each chosen stage, to the teacher's final logits.

    `stages`: "all", "last", "none" (the logits alone), or numbers from 1, as in [1, 3]. `gamma`: one for all, or one a
    chosen stage, shallow first, and a last one for the logits. `ground_truth`, `logits` and `branches` weigh the parts,
    and a weight of 0 drops them; `branches` holds for each branch. No teacher feature enters. Losses: `ground_truth`,
    `logits`, `stage1`, …; see `ofa_loss`.

    Raises InputError as `Distiller` does, for a stage that does not exist, for as many γ as do not fit, and for weights
    that are negative or all 0.
    """

    def __init__(
        self, student: nn.Module, teacher: nn.Module, stages: str | Sequence[int], num_classes: int, *,
        gamma: float | Sequence[float] = 1.0, temperature: float = 1.0, variant: str = "paper",
        ground_truth: float = 1.0, logits: float = 1.0, branches: float = 1.0, example: Tensor | None = None,
        teacher_input: Callable[[Tensor], Tensor] | None = None, criterion: Criterion = cross_entropy,
    ) -> None:  # fmt: skip
        super().__init__(
            student, teacher, num_classes, example=example, teacher_input=teacher_input, criterion=criterion,
            ground_truth=ground_truth,
        )  # fmt: skip
        every = self.stages()
        self.chosen = choose_stages(every, stages)
        self.gammas = _spread(gamma, len(self.chosen))
        self.temperature, self.variant = temperature, variant
        self.logits_weight, self.branch_weight = logits, branches
        for each in self.gammas:
            check_knobs(each, temperature, variant)
        check_weights(ground_truth=ground_truth, logits=logits, branches=branches if self.chosen else 0.0)
        width = max(self.seen.width or 0, self.seen_teacher.width or 0) or num_classes
        token = has_class_token(student)
        heads = {f"stage{s.number}": build_head(s, every, num_classes, width, token) for s in self.chosen}
        self.heads = nn.ModuleDict({name: self.beside_student(head) for name, head in heads.items()})
        self.heads.requires_grad_(branches > 0)

    def forward(self, x: Tensor, y: Tensor, index: Tensor | None = None) -> tuple[Losses, Float[Tensor, "n c"]]:
        """Compute the parts of the objective and the student's logits for a batch."""
        logits, features, _ = run(self.student, x, [s.layer.name for s in self.chosen])
        lesson = teach(self.teacher_logits(x), y, self.temperature)
        losses = self.hard(logits, y)
        if self.logits_weight:
            losses["logits"] = self.logits_weight * branch_loss(logits, lesson, self.gammas[-1], self.variant)
        if self.branch_weight:
            for stage, gamma in zip(self.chosen, self.gammas[:-1], strict=True):
                name = f"stage{stage.number}"
                branch = self.heads[name](features[stage.layer.name])
                losses[name] = self.branch_weight * branch_loss(branch, lesson, gamma, self.variant)
        return losses, logits


def _spread(gamma: float | Sequence[float], branches: int) -> tuple[float, ...]:
    """Give each branch, and last the logits, its γ."""
    if isinstance(gamma, int | float):
        return (float(gamma),) * (branches + 1)
    if len(gamma) != branches + 1:
        raise InputError(f"gamma has {len(gamma)} values; {branches} branches and the logits need {branches + 1}, or 1")
    return tuple(map(float, gamma))
