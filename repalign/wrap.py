"""Plain arrays as activations: what every function that takes arrays does first."""

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from repalign.align import check_features
from repalign.errors import InputError
from repalign.types import Activations, Geometry


def as_activations(name: str, arrays: Mapping[str, ArrayLike | Tensor]) -> Activations:
    """Wrap feature arrays `(n, d)`, or repeats `(r, n, d)`, as activations, ids by order.

    Raises InputError for anything that is no finite real array, and for layers of unequal n.
    """
    layers = {key: as_tensor(key, values) for key, values in arrays.items()}
    if not layers:
        raise InputError(f"{name} holds no layer; give at least one array of shape (stimuli, features)")
    repeated = all(x.ndim == 3 for x in layers.values())
    for key, x in layers.items():
        check_features(key, x, 3 if repeated else 2)
    return _activations(name, layers, "repeats" if repeated else "features", -2)


def as_rdms(name: str, arrays: Mapping[str, ArrayLike | Tensor]) -> Activations:
    """Wrap distance matrices `(n, n)`, missing pairs NaN, as activations, ids by order.

    Raises InputError for a matrix that is not square and symmetric with a zero diagonal.
    """
    layers = {key: as_tensor(key, values).double() for key, values in arrays.items()}
    for key, x in layers.items():
        known = torch.nan_to_num(x)
        square = x.ndim == 2 and x.shape[0] == x.shape[1]
        if not square or not torch.allclose(known, known.T) or known.diagonal().any() or torch.isinf(x).any():
            raise InputError(
                f"{key!r} with shape {tuple(x.shape)} is no distance matrix; give a symmetric (n, n) with 0 diagonal"
            )
    return _activations(name, layers, "rdm", 0)


def as_tensor(name: str, values: ArrayLike | Tensor) -> Tensor:
    """Turn an array into a float32 or float64 tensor. Raises InputError for anything but real numbers."""
    x = values.detach() if isinstance(values, Tensor) else torch.as_tensor(np.asarray(values))
    if x.is_complex() or x.dtype == torch.bool:
        raise InputError(f"layer {name!r} is {x.dtype}; features must be real numbers")
    return x if x.dtype in (torch.float32, torch.float64) else x.double()


def check_groups(groups: Iterable[object] | None, n: int) -> tuple[str, ...] | None:
    """Name the group of each of n stimuli. Raises InputError when there is not one for each."""
    if groups is None:
        return None
    names = tuple(map(str, groups))
    if len(names) != n:
        raise InputError(f"{len(names)} groups for {n} stimuli; give one each or none")
    return names


def _activations(name: str, layers: dict[str, Tensor], geometry: Geometry, axis: int) -> Activations:
    counts = {key: x.shape[axis] for key, x in layers.items()}
    if len(set(counts.values())) > 1:
        raise InputError(f"layers of {name} differ in their number of stimuli: {counts}")
    n = next(iter(counts.values()))
    depths = dict(zip(layers, np.linspace(0, 1, len(layers)).tolist(), strict=True))
    return Activations(name, "arrays", tuple(map(str, range(n))), layers, depths, geometry=geometry)
