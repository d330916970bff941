"""Distillers by name: which options each knows, and one built from them."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from repalign.distill import DISTILLERS
from repalign.distill.base import Criterion, Distiller
from repalign.errors import InputError, unknown

GIVEN = {"student", "teacher", "num_classes", "example", "teacher_input", "criterion", "pictures"}  # not by the user


def known_options(method: str) -> dict[str, object]:
    """List the options of a method with their defaults.

    Raises InputError for an unknown method.
    """
    if method not in DISTILLERS:
        raise unknown("method", method, DISTILLERS)
    parameters = inspect.signature(DISTILLERS[method]).parameters
    return {name: p.default for name, p in parameters.items() if name not in GIVEN}


def check_options(method: str, options: Mapping[str, object]) -> None:
    """Raise InputError for an option that the method does not know."""
    known = known_options(method)
    for name in options:
        if name not in known:
            raise InputError(f"method {method} knows no {name}; its options: {', '.join(sorted(known))}")


def make_distiller(
    method: str, student: nn.Module, teacher: nn.Module | None, num_classes: int, options: Mapping[str, Any], *,
    pictures: int, example: Tensor, teacher_input: Callable[[Tensor], Tensor] | None, criterion: Criterion,
) -> Distiller:  # fmt: skip
    """Build a distiller for a training set of `pictures`; `ce` leaves the teacher aside.

    What it draws for its own parts comes from torch's global generator. Raises InputError for an unknown method or
    option, a value of the wrong type, and as the method does.
    """
    check_options(method, options)
    kind = DISTILLERS[method]
    further: dict[str, Any] = {"pictures": pictures} if "pictures" in inspect.signature(kind).parameters else {}
    try:
        return kind(
            student=student, teacher=teacher if kind.needs_teacher else None, num_classes=num_classes, example=example,
            teacher_input=teacher_input if kind.needs_teacher else None, criterion=criterion, **options, **further,
        )  # fmt: skip
    except TypeError as error:
        raise InputError(f"method {method} can't use {dict(options)!r}: {error}") from error


def smoothed(label_smoothing: float) -> Criterion:
    """Build the cross-entropy with labels `(n,)` smoothed; probabilities `(n, c)` are taken as they are."""

    def criterion(logits: Tensor, targets: Tensor) -> Tensor:
        if targets.ndim == 2:
            return nn.functional.cross_entropy(logits, targets.to(logits.dtype))
        return nn.functional.cross_entropy(logits, targets.long(), label_smoothing=label_smoothing)

    return criterion


def total(losses: Mapping[str, Tensor]) -> Tensor:
    """Add the parts of an objective up."""
    return torch.stack([part.float() for part in losses.values()]).sum()
