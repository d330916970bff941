"""Pooling: from a layer's output with positions to one row of features per stimulus."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from repalign.errors import InputError, LayerError, unknown
from repalign.types import Layer

METHODS = ("mean", "cls", "max", "flatten", "grid")


@dataclass(frozen=True)
class Pool:
    """A pooling method; `cells` is k of `grid:k`, otherwise 0."""

    method: str
    cells: int = 0

    def __str__(self) -> str:
        return f"grid:{self.cells}" if self.method == "grid" else self.method


def parse_pool(text: str) -> Pool:
    """Read `mean`, `cls`, `max`, `flatten` or `grid:k`.

    Raises InputError for any other name and for k below 1.

    >>> parse_pool("grid:4")
    Pool(method='grid', cells=4)
    """
    method, _, argument = text.partition(":")
    if method not in METHODS:
        raise unknown("pooling", text, ("mean", "cls", "max", "flatten", "grid:k"))
    if method != "grid":
        if argument:
            raise InputError(f"pooling {method!r} takes no argument, but {text!r} gives {argument!r}")
        return Pool(method)
    if not argument.isdigit() or int(argument) < 1:
        raise InputError(f"pooling {text!r} needs a whole number of cells a side, as in grid:4")
    return Pool("grid", int(argument))


def can_pool(layer: Layer, pool: Pool) -> str | None:
    """Say why `pool` can't be applied to `layer`, or None when it can."""
    if layer.layout == "vector":
        return None
    if pool.method == "cls" and not layer.prefix:
        return "has no class token"
    if pool.method == "grid" and layer.grid is None:
        return "has no grid of positions"
    return None


def reducer(layer: Layer, pool: Pool) -> Callable[[Tensor], Tensor]:
    """Build the function that turns an output of `layer`, batch first, into float32 rows `(batch, d)`.

    `mean`, `max`, `flatten` and `grid` use the positions and leave prefix tokens (class, distillation,
    registers) out; `cls` is the first prefix token. A vector passes as it is. The result owns its memory.

    Raises LayerError when the layer can't be pooled so.
    """
    reason = can_pool(layer, pool)
    if reason:
        raise LayerError(f"layer {layer.name!r} {reason}, so --pool {pool} can't be used; use --pool mean")
    if layer.layout == "vector":
        return lambda x: x.to(torch.float32, copy=True)
    if pool.method == "cls":
        return lambda x: x[:, 0].to(torch.float32, copy=True)
    if pool.method == "grid":
        return lambda x: adaptive_avg_pool2d(_image(x.float(), layer), pool.cells).flatten(1)
    if pool.method == "flatten":
        first = layer.prefix if layer.layout == "tokens" else 0
        return lambda x: (x[:, first:] if first else x).flatten(1).to(torch.float32, copy=True)
    if pool.method == "max":
        return lambda x: _positions(x, layer).amax(1).float()
    return lambda x: _positions(x, layer).mean(1, dtype=torch.float32)


def _positions(x: Tensor, layer: Layer) -> Tensor:
    """View an output as `(batch, positions, channels)` without prefix tokens."""
    if layer.layout == "nchw":
        return x.flatten(2).transpose(1, 2)
    if layer.layout == "nhwc":
        return x.flatten(1, 2)
    return x[:, layer.prefix :]


def _image(x: Tensor, layer: Layer) -> Tensor:
    """View an output as `(batch, channels, height, width)` without prefix tokens."""
    if layer.layout == "nchw":
        return x
    if layer.layout == "nhwc":
        return x.permute(0, 3, 1, 2)
    assert layer.grid is not None  # can_pool has seen to it
    return x[:, layer.prefix :].transpose(1, 2).unflatten(2, layer.grid)
