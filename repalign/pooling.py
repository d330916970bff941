"""Pooling: from a layer's output with positions to one row of features per stimulus."""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from repalign.errors import InputError, LayerError, unknown
from repalign.projection import CountSketch
from repalign.types import Layer

METHODS = ("mean", "cls", "max", "flatten", "grid")


@dataclass(frozen=True)
class Pool:
    """A pooling method; `cells` is k of `grid:k`, `features` k of `flatten:k`, otherwise 0."""

    method: str
    cells: int = 0
    features: int = 0

    def __str__(self) -> str:
        argument = self.cells or self.features
        return f"{self.method}:{argument}" if argument else self.method


def parse_pool(text: str) -> Pool:
    """Read `mean`, `cls`, `max`, `flatten`, `flatten:k` (projected to k features) or `grid:k`.

    Raises InputError for any other name and for k below 1.

    >>> parse_pool("grid:4")
    Pool(method='grid', cells=4, features=0)
    """
    method, colon, argument = text.partition(":")
    if method not in METHODS:
        raise unknown("pooling", text, ("mean", "cls", "max", "flatten", "flatten:k", "grid:k"))
    if method == "grid":
        return Pool("grid", cells=_count(text, argument, "cells a side, as in grid:4"))
    if method == "flatten" and colon:
        return Pool("flatten", features=_count(text, argument, "features to project to, as in flatten:4096"))
    if colon:
        raise InputError(f"pooling {method!r} takes no argument, but {text!r} gives {argument!r}")
    return Pool(method)


def _count(text: str, argument: str, what: str) -> int:
    if not (argument.isascii() and argument.isdigit()) or int(argument) < 1:
        raise InputError(f"pooling {text!r} needs a whole number of {what}")
    return int(argument)


def can_pool(layer: Layer, pool: Pool) -> str | None:
    """Say why `pool` can't be applied to `layer`, or None when it can."""
    if layer.layout == "vector":
        return None
    if pool.method == "cls" and not layer.prefix:
        return "has no class token"
    if pool.method == "grid" and layer.grid is None:
        return "has no grid of positions"
    return None


def width(layer: Layer, pool: Pool) -> int:
    """Count the features that `layer` gives a stimulus under `pool`."""
    channels = layer.shape[0] if layer.layout == "nchw" else layer.shape[-1]
    if pool.method == "flatten":
        flat = prod(layer.shape) - channels * layer.prefix
        return min(flat, pool.features) if pool.features else flat
    return channels * pool.cells**2 if pool.method == "grid" and layer.layout != "vector" else channels


def reducer(layer: Layer, pool: Pool, seed: int = 0) -> Callable[[Tensor], Tensor]:
    """Build the function that turns an output of `layer`, batch first, into float32 rows `(batch, d)`.

    `mean`, `max`, `flatten` and `grid` use the positions and leave prefix tokens (class, distillation,
    registers) out; `cls` is the first prefix token. A vector passes as it is. `flatten:k` projects what `flatten`
    gives to k features where there are more, by a `CountSketch` drawn with `seed`. Halves are added up in float32.
    The result owns its memory.

    Raises LayerError when the layer can't be pooled so.
    """
    reason = can_pool(layer, pool)
    if reason:
        raise LayerError(f"layer {layer.name!r} {reason}, so --pool {pool} can't be used; use --pool mean")
    if pool.method == "flatten" and pool.features:
        return _projected(layer, pool, seed)
    if layer.layout == "vector":
        return lambda x: x.to(torch.float32, copy=True)
    if pool.method == "cls":
        return lambda x: x[:, 0].to(torch.float32, copy=True)
    if pool.method == "grid":
        return lambda x: adaptive_avg_pool2d(_image(x.float(), layer), pool.cells).flatten(1)
    if pool.method == "flatten":
        return lambda x: _flat(_patches(x, layer))
    if pool.method == "max":
        return lambda x: _positions(x, layer).amax(1).float()
    return lambda x: _positions(x, layer).mean(1, dtype=torch.float32)


def _projected(layer: Layer, pool: Pool, seed: int) -> Callable[[Tensor], Tensor]:
    """Build `flatten:k`; channels come last, so that the channels_last output of convolutions is not copied first."""
    sketch = CountSketch(width(layer, Pool("flatten")), pool.features, seed)
    if layer.layout == "nchw":
        return lambda x: sketch(x.permute(0, 2, 3, 1).flatten(1))
    return lambda x: sketch(_patches(x, layer).flatten(1))


def _flat(x: Tensor) -> Tensor:
    """Lay an output out as rows with one copy, whatever its strides and dtype."""
    rows = torch.empty(len(x), prod(x.shape[1:]), device=x.device)
    rows.view(x.shape).copy_(x)
    return rows


def _patches(x: Tensor, layer: Layer) -> Tensor:
    """View an output without prefix tokens."""
    return x[:, layer.prefix :] if layer.layout == "tokens" else x


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
