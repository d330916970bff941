"""What the losses share: float32 at least, the checks of what they are given, and the target class."""

from math import inf

import torch
from jaxtyping import Int
from torch import Tensor

from repalign.errors import InputError


def wide(x: Tensor) -> Tensor:
    """Give a tensor in float32, or in float64 as it is."""
    return x if x.dtype == torch.float64 else x.float()


def full_precision(x: Tensor) -> torch.autocast:
    """Switch autocast off on the tensor's device, for the length of a block."""
    return torch.autocast(x.device.type, enabled=False)


def check_pair(student: Tensor, teacher: Tensor, what: str = "logits", axes: str = "n, classes") -> None:
    """Raise InputError unless both have one shape, with as many axes as `axes` names."""
    if student.shape != teacher.shape or student.ndim != axes.count(",") + 1:
        raise InputError(
            f"student {what} {tuple(student.shape)} and teacher {what} {tuple(teacher.shape)} must have one shape "
            f"({axes})"
        )


def check_rows(student: Tensor, teacher: Tensor, what: str) -> None:
    """Raise InputError unless both are rows `(n, width)` of the same n pictures, whatever their widths."""
    if student.ndim != 2 or teacher.ndim != 2 or len(student) != len(teacher):
        raise InputError(
            f"student {what} {tuple(student.shape)} and teacher {what} {tuple(teacher.shape)} must be rows (n, width) "
            "of the same n pictures"
        )


def check_positive(**knobs: float | int) -> None:
    """Raise InputError for a value that isn't positive and finite."""
    for name, value in knobs.items():
        if not 0 < value < inf:
            raise InputError(f"{name} must be positive and finite, not {value}")


def check_weights(**weights: float | int) -> None:
    """Raise InputError for a weight that is negative or not finite, and where none is left to train with."""
    for name, value in weights.items():
        if not 0 <= value < inf:
            raise InputError(f"the weight {name} must be finite and 0 or more, not {value}")
    if not any(weights.values()):
        raise InputError(f"the weights {', '.join(weights)} are all 0, so there is nothing to learn; raise one")


def bounds(numbers: Int[Tensor, " n"]) -> list[int]:
    """Find the least and the greatest number, 0 and 0 of none, waiting for a GPU only once."""
    return torch.stack(numbers.aminmax()).tolist() if len(numbers) else [0, 0]


def target_labels(targets: Tensor, logits: Tensor) -> Int[Tensor, " n"]:
    """Give each row's target class: the label `(n,)`, or the largest entry of a soft target `(n, c)`.

    Raises InputError for targets that don't fit the logits `(n, c)`.
    """
    n, classes = logits.shape
    if targets.shape not in ((n,), (n, classes)):
        raise InputError(f"targets {tuple(targets.shape)} don't fit logits {(n, classes)}; give (n,) or (n, classes)")
    if targets.ndim == 2:
        return targets.argmax(1).to(logits.device)
    if targets.is_floating_point():
        raise InputError(f"targets of shape (n,) are labels, whole numbers from 0, not {targets.dtype}")
    low, high = bounds(targets)
    if low < 0 or high >= classes:
        raise InputError(f"targets run from {low} to {high}; there are {classes} classes")
    return targets.to(logits.device, torch.long)
