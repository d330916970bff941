"""A classifier seen from outside: its logits, its layers, what its classifier is given; no architecture is named."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from repalign.encoders.structure import find_layers
from repalign.errors import InputError
from repalign.hooks import first_tensor, record, trace
from repalign.types import Layer


@dataclass(frozen=True)
class Anatomy:
    """What one dry run shows of a classifier.

    `layers` are all that can be recorded, shallow to deep; `classes` the width of its logits `(b, classes)`;
    `classifier` the name of the linear layer that gives them, whose input `(b, width)` is the penultimate
    representation, or None where no linear layer ends the network.
    """

    layers: tuple[Layer, ...]
    classes: int
    classifier: str | None
    width: int | None


def examine(name: str, module: nn.Module, example: Tensor, remedy: str = "give pictures it can run") -> Anatomy:
    """Run `example (b, 3, h, w)` once in eval mode, without gradients, and leave the network as it was.

    Raises InputError naming the network when its output is no `(b, classes)`, or, with `remedy`, when it can't run the
    example.
    """
    with frozen(module):
        try:
            logits = logits_of(module(example))
        except (RuntimeError, TypeError, ValueError, AssertionError) as error:
            raise InputError(f"{name} can't run pictures of shape {tuple(example.shape[1:])} ({error}); {remedy}") from error
        if logits is None or logits.ndim != 2 or len(logits) != len(example):
            got = "no tensor" if logits is None else f"shape {tuple(logits.shape)}"
            raise InputError(f"{name} gives {got}, not logits (batch, classes); give a network with its classifier")
        layers = find_layers(module, example)
        last = [
            call.name
            for call in trace(module, example)
            if isinstance(call.module, nn.Linear) and call.shape == tuple(logits.shape) and call.calls == 1
        ]
        classifier, width = (last[-1], dict(module.named_modules())[last[-1]].in_features) if last else (None, None)
        if classifier is not None:
            with record(module, {classifier: Tensor.clone}, inputs=True) as recording:
                module(example)
                if recording.take()[classifier].ndim != 2:  # a classifier of every position
                    classifier, width = None, None
    return Anatomy(layers, int(logits.shape[1]), classifier, width)  # pyright: ignore[reportArgumentType]


def logits_of(output: object) -> Tensor | None:
    """Find the logits in what a classifier returns: a tensor, the first of several, or a field `logits`."""
    return first_tensor(getattr(output, "logits", output))


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Put a network into eval mode without gradients for the length of the block."""
    modes = {m: m.training for m in module.modules()}
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for m, training in modes.items():
            m.training = training


def run(
    module: nn.Module, x: Tensor, layers: Sequence[str] = (), classifier: str | None = None
) -> tuple[Tensor, dict[str, Tensor], Tensor | None]:
    """Run a batch once: logits `(b, c)`, the outputs of `layers` by name, and what `classifier` was given `(b, d)`.

    Gradients flow through all three. What is recorded is memory of its own, so that a layer after it may write in place.
    """
    given = () if classifier is None else (classifier,)
    with (
        record(module, dict.fromkeys(layers, Tensor.clone), detach=False) as outputs,
        record(module, dict.fromkeys(given, Tensor.clone), inputs=True, detach=False) as inputs,
    ):
        logits = logits_of(module(x))
        assert logits is not None  # `examine` has seen it
        penultimate = inputs.take().get(classifier) if classifier is not None else None
        return logits, outputs.take(), penultimate
