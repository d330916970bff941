"""Alignment: every layer of one side against every layer of the other, as one matrix product.

Each metric turns a layer into one vector `e` that lists what it says about every pair of stimuli, and the
similarity of two layers is the cosine of their vectors. With the unit vectors of all layers stacked as rows,
`E_a (la, m)` and `E_b (lb, m)`, the whole matrix of scores is `E_a E_bᵀ`: each layer is embedded once, not once
a pair.
"""

import os
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from repalign.errors import InputError, RepalignWarning
from repalign.metrics.base import Metric, UndefinedError
from repalign.types import Activations, Alignment

MEMORY_SHARE = 0.6  # of the machine's memory that stacked embeddings may take


def align(a: Activations, b: Activations, metric: Metric) -> Alignment:
    """Score every layer of `a` against every layer of `b`, `(la, lb)` float64.

    A layer without a geometry (constant features) gives NaN, one warning and its reason in `undefined`.

    Raises InputError when the two sides hold different stimuli, when a layer holds NaN or infinite values, and
    when there are fewer stimuli than the metric needs.
    """
    if a.ids != b.ids:
        shared = len(set(a.ids) & set(b.ids))
        raise InputError(
            f"{a.encoder} has {len(a)} stimuli and {b.encoder} {len(b)}, of which {shared} have the same id in "
            "both; compare the same stimuli in the same order"
        )
    if len(a) < metric.fewest:
        raise InputError(f"{metric.name} needs at least {metric.fewest} stimuli, not {len(a)}")
    _check_memory(len(a), len(a.layers) + len(b.layers))
    left = _embed(a, metric)
    right = left if b is a else _embed(b, metric)
    for side, embedded in ((a, left), (b, right))[: 1 if b is a else 2]:
        for layer, reason in embedded.undefined.items():
            message = f"layer {layer!r} of {side.encoder} has no score (NaN): {reason}"
            warnings.warn(message, RepalignWarning, stacklevel=2)
    scores = np.full((len(a.layers), len(b.layers)), np.nan)
    if left.rows and right.rows:
        scores[np.ix_(left.rows, right.rows)] = (left.stacked() @ right.stacked().T).cpu().numpy()
    undefined = left.undefined | right.undefined
    return Alignment(metric.name, metric.options, tuple(a.layers), tuple(b.layers), len(a), scores, undefined)


def check_features(name: str, x: Tensor) -> None:
    """Raise InputError unless `x` is `(n, d)` with d ≥ 1 and finite, naming the layer and the count."""
    if x.ndim != 2 or x.shape[1] == 0:
        raise InputError(f"layer {name!r} has shape {tuple(x.shape)}; features must be (stimuli, features)")
    bad = int((~torch.isfinite(x)).sum())
    if bad:
        rows = int((~torch.isfinite(x)).any(1).sum())
        raise InputError(f"layer {name!r} holds {bad} NaN or infinite values in {rows} of {len(x)} stimuli")


@dataclass(frozen=True)
class _Embedded:
    """Unit vectors of the layers that have a geometry, their `rows`, and why the others have none."""

    vectors: list[Tensor]
    rows: list[int]
    undefined: dict[str, str]

    def stacked(self) -> Float[Tensor, "l m"]:
        return torch.stack(self.vectors)


def _embed(side: Activations, metric: Metric) -> _Embedded:
    """Embed each layer once and scale it to length one."""
    result = _Embedded([], [], {})
    for row, (name, x) in enumerate(side.layers.items()):
        check_features(name, x)
        try:
            vector = metric.embed_rdm(x.double()) if side.geometry == "rdm" else metric.embed(x)
        except UndefinedError as reason:
            result.undefined[name] = str(reason)
        except InputError as error:
            raise InputError(f"{side.encoder}, layer {name!r}: {error}") from None
        else:
            result.vectors.append(vector / vector.norm())
            result.rows.append(row)
    return result


def _check_memory(n: int, layers: int) -> None:
    need = 8 * layers * n * (n + 1) // 2
    have = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if need > MEMORY_SHARE * have:
        raise InputError(
            f"{n} stimuli × {layers} layers need {need / 1e9:.0f} GB for all pairs of stimuli, and this machine has "
            f"{have / 1e9:.0f} GB; use --limit N or fewer --layers"
        )
