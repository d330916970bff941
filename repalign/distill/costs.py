"""What a branch costs: parameters and operations, beside those of the student that it is added to in training."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from repalign.distill.heads import build_head
from repalign.distill.networks import frozen
from repalign.distill.stages import Stage


@dataclass(frozen=True)
class Cost:
    """Parameters, and floating-point operations of the forward pass of one picture.

    A multiplication and its addition are two operations. Convolutions, matrix products and attention count; norms,
    activations, sums and means do not.
    """

    parameters: int
    flops: int

    def share_of(self, whole: "Cost") -> "Share":
        """Divide both by those of the network to which they are added; NaN by 0."""
        pairs = ((self.parameters, whole.parameters), (self.flops, whole.flops))
        return Share(*(part / of if of else float("nan") for part, of in pairs))


@dataclass(frozen=True)
class Share:
    """A cost as fractions of another: 0.5 adds half as many parameters or operations again."""

    parameters: float
    flops: float


def cost_of(module: nn.Module, x: Tensor) -> Cost:
    """Count a network's parameters, each once, and its operations for the first of `x (b, …)`, run in eval mode."""
    with frozen(module), torch.enable_grad(), _countable(), FlopCounterMode(display=False) as counter:
        module(x[:1])  # with gradients: the counter asks for the graph of a parameter that is passed on (a class token)
    return Cost(sum(p.numel() for p in module.parameters()), counter.get_total_flops())


def costs_of_heads(stages: Sequence[Stage], num_classes: int, width: int, class_token: bool = False) -> dict[int, Cost]:
    """Count the cost of the branch of every stage, by its number; `build_head` says what the others are.

    Nothing is drawn, allocated or computed: shapes are enough.
    """
    every = tuple(stages)
    costs = {}
    for stage in every:
        with torch.device("meta"):
            head, x = build_head(stage, every, num_classes, width, class_token), torch.empty(1, *stage.layer.shape)
        costs[stage.number] = cost_of(head, x)
    return costs


@contextmanager
def _countable() -> Iterator[None]:
    """Have everything computed by operations that the counter knows; fused attention and recurrences would count 0."""
    libraries: tuple[Any, ...] = (torch.backends.mkldnn, torch.backends.cudnn)
    were, fast = [library.enabled for library in libraries], torch.backends.mha.get_fastpath_enabled()
    try:
        for library in libraries:
            library.enabled = False
        torch.backends.mha.set_fastpath_enabled(False)
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        for library, enabled in zip(libraries, were, strict=True):
            library.enabled = enabled
        torch.backends.mha.set_fastpath_enabled(fast)
