"""A classifier seen from outside: its logits, its layers, what its classifier is given; no architecture is named."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from repalign.encoders.structure import find_layers
from repalign.errors import InputError
from repalign.hooks import first_tensor, record, trace
from repalign.types import Layer


@dataclass(frozen=True)
class Anatomy:
    """What one dry run shows of a classifier.

    `layers` are all that can be recorded, shallow to deep; `classes` the width of its logits `(b, classes)`;
    `classifier` the name of the linear layer, or 1 × 1 convolution of a single position, that gives them, whose input
    `(b, width)` is the penultimate representation. Both are None where no such layer ends the network. Of several heads
    whose logits are averaged, as in a distilled DeiT, it is the last.
    """

    layers: tuple[Layer, ...]
    classes: int
    classifier: str | None
    width: int | None


def examine(name: str, module: nn.Module, example: Tensor, remedy: str = "give pictures it can run") -> Anatomy:
    """Run `example (b, 3, h, w)` in eval mode, without gradients, and leave the network as it was.

    Raises InputError naming the network when its output is no `(b, classes)`, or, with `remedy`, when it can't run the
    example.
    """
    with frozen(module):
        try:
            logits = logits_of(module(example))
        except Exception as error:
            shape = tuple(example.shape[1:])
            raise InputError(f"{name} can't run pictures of shape {shape} ({error}); {remedy}") from error
        if logits is None or logits.ndim != 2 or len(logits) != len(example):
            got = "no tensor" if logits is None else f"shape {tuple(logits.shape)}"
            raise InputError(f"{name} gives {got}, not logits (batch, classes); give a network with its classifier")
        classifier, width = _find_classifier(module, example, (len(logits), logits.shape[1]))
        return Anatomy(find_layers(module, example), logits.shape[1], classifier, width)


def logits_of(output: object) -> Tensor | None:
    """Find the logits in what a classifier returns: a tensor, the first of several, or a field `logits`."""
    return first_tensor(getattr(output, "logits", output))


def has_class_token(module: nn.Module) -> bool:
    """Tell whether a network's first token stands for the whole picture, and is not a register.

    As timm's `has_class_token` declares it, or else by a parameter with such a name (`cls_token`, `class_embedding`).
    """
    declared = getattr(module, "has_class_token", None)
    own_names = (name.rpartition(".")[2] for name, _ in module.named_parameters())
    return any(re.search("cls|class", name) for name in own_names) if declared is None else bool(declared)


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Put a network into eval mode without gradients for the length of the block."""
    modes = {m: m.training for m in module.modules()}
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        module.train(modes[module])  # some networks forget what they have computed ahead for eval only when told
        for m, training in modes.items():
            m.training = training


def run(
    module: nn.Module, x: Tensor, layers: Sequence[str] = (), classifier: str | None = None
) -> tuple[Float[Tensor, "b c"], dict[str, Tensor], Float[Tensor, "b d"] | None]:
    """Run a batch once: logits `(b, c)`, the outputs of `layers` by name, and what `classifier` was given `(b, d)`.

    Gradients flow through all three. What is recorded is memory of its own: a layer after it may write in place.
    """
    given = () if classifier is None else (classifier,)
    with (
        record(module, dict.fromkeys(layers, Tensor.clone), detach=False) as outputs,
        record(module, dict.fromkeys(given, Tensor.clone), inputs=True, detach=False) as inputs,
    ):
        logits = logits_of(module(x))
        assert logits is not None  # `examine` has seen it
        penultimate = inputs.take()[classifier].flatten(1) if classifier is not None else None
        return logits, outputs.take(), penultimate


def _find_classifier(module: nn.Module, example: Tensor, shape: tuple[int, int]) -> tuple[str | None, int | None]:
    """Find the last layer that gives the logits, of this shape, or at least as many numbers, and its input's width."""
    widths: dict[str, int] = {}
    for call in trace(module, example):
        layer, once = call.module, call.calls == 1
        if once and call.shape == shape and isinstance(layer, nn.Linear):
            widths[call.name] = layer.in_features
        elif once and call.shape == (*shape, 1, 1) and isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1):
            widths[call.name] = layer.in_channels
    names = list(widths)
    if len(names) > 1:  # what comes last may be something else
        with record(module, dict.fromkeys(names, Tensor.clone)) as recording:
            logits, outputs = logits_of(module(example)), recording.take()
        names = [n for n in names if logits is not None and torch.equal(outputs[n].flatten(1), logits)] or names
    return (names[-1], widths[names[-1]]) if names else (None, None)
