"""Numbers that are not finite: which part of a training step they came from, and what to do about it."""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from repalign.distill.base import Distiller, Losses, NoTeacher
from repalign.errors import RepalignError
from repalign.stimuli.checks import some

SLOWER = "lower --lr, bound the gradient (--clip 1) or lengthen --warmup"


class DivergedError(RepalignError):
    """Raised when a loss, a gradient or a weight is NaN or infinite; training stops there."""

    exit_code = 2


def diverged(
    distiller: Distiller, x: Tensor, losses: Losses, logits: Tensor, ids: Sequence[str], where: str, kept: str
) -> DivergedError:
    """Build the error for a step whose loss or gradient is not finite: the part that isn't, its pictures, a remedy.

    `ids` name the pictures of the batch `x (b, 3, h, w)`, `where` the epoch and batch, and `kept` the last good
    checkpoint. The teacher is run again to look at its logits.
    """
    part, rows, remedy = _cause(distiller, x, losses, logits)
    shown = [name for name, bad in zip(ids, rows, strict=True) if bad] if any(rows) else list(ids)
    whose = f"{len(shown)} of the batch's {len(ids)} pictures" if any(rows) else f"all {len(ids)} pictures of the batch"
    return DivergedError(
        f"{where}: {part} not finite ({whose}: {some(shown)}). Training stopped; {remedy}. The last good checkpoint is "
        f"{kept}"
    )


def bad_weights(names: Iterable[str], where: str, kept: str) -> DivergedError:
    """Build the error for weights or running statistics that are not finite at the end of an epoch."""
    return DivergedError(
        f"{where}: {some(list(names))} of the student or its branches are not finite. Training stopped; {SLOWER}. The "
        f"last good checkpoint is {kept}"
    )


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Name the tensors that hold NaN or infinity."""
    return [name for name, v in tensors.items() if v.is_floating_point() and not bool(torch.isfinite(v).all())]


def _cause(distiller: Distiller, x: Tensor, losses: Losses, logits: Tensor) -> tuple[str, list[bool], str]:
    """Find the first part, in the order of computation, that is not finite; which pictures show it; and a remedy."""
    nobody = [False] * len(x)
    if any(rows := _rows(x)):
        return "the pictures' own values are", rows, "look at them and at what prepares them"
    if weights := not_finite(distiller.learned()):
        return f"weights are ({some(weights)})", nobody, SLOWER
    if not isinstance(distiller.teacher, NoTeacher) and any(rows := _rows(distiller.teacher_logits(x))):
        return "the teacher's logits are", rows, "check the teacher's weights, or take --amp none"
    if any(rows := _rows(logits)):
        return "the student's logits are", rows, f"{SLOWER}, or take --amp none"
    if heads := not_finite(losses):
        return f"the loss of {', '.join(heads)} is", nobody, f"{SLOWER}, or lower γ and the weight of this part"
    gradients = {name: p.grad for name, p in distiller.named_parameters() if p.grad is not None}
    worst = not_finite(gradients)
    named = f" ({some(worst)})" if worst else ""
    return f"the loss is finite, but gradients{named} are", nobody, SLOWER


def _rows(values: Tensor) -> list[bool]:
    """Mark the rows that hold NaN or infinity."""
    return (~torch.isfinite(values.detach()).flatten(1).all(1)).tolist()
