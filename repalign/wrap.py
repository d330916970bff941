"""What is given, as repalign's own types: arrays as activations, names of groups, metrics by name or as they are."""

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from repalign.align import check_features
from repalign.encoders.rdm import TOLERANCE
from repalign.errors import InputError
from repalign.metrics import Metric, make_metric, parse_metric
from repalign.types import Activations, Geometry

TYPES = {"f": np.float64, "i": np.float64, "u": np.float64, "c": np.complex128, "b": np.bool_}  # by numpy's kind


def as_activations(name: str, arrays: Mapping[str, ArrayLike | Tensor]) -> Activations:
    """Wrap feature arrays `(n, d)`, or repeats `(r, n, d)`, as activations, ids by order.

    Raises InputError for anything that is no finite real array, and for layers of unequal n.
    """
    check_named(name, arrays)
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
        if not _is_rdm(x):
            raise InputError(
                f"{key!r} with shape {tuple(x.shape)} is no distance matrix; give a symmetric (n, n) with 0 diagonal"
            )
    return _activations(name, layers, "rdm", 0)


def as_tensor(name: str, values: ArrayLike | Tensor) -> Tensor:
    """Turn an array into a float32 or float64 tensor, without a copy where torch can share its memory.

    Raises InputError for anything but real numbers in rows of one length.
    """
    x = values.detach() if isinstance(values, Tensor) else _shared(name, as_array(f"layer {name!r}", values))
    if x.is_complex() or x.dtype == torch.bool or x.layout != torch.strided:
        kind = x.dtype if x.layout == torch.strided else x.layout
        raise InputError(f"layer {name!r} is {kind}; features must be real numbers in a plain array")
    return x if x.dtype in (torch.float32, torch.float64) else x.double()


def as_array(what: str, values: object) -> NDArray:
    """Turn what was given into an array of any kind. Raises InputError naming `what` for rows of unequal length."""
    try:
        return np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:  # RuntimeError: a list of tensors that need gradients
        raise InputError(f"{what} is no array ({error}); give rows of one length") from None


def names_of(what: str, given: object) -> tuple[str, ...] | None:
    """List the names that were given, as text. Raises InputError for anything that holds none."""
    if given is None:
        return None
    if not isinstance(given, Iterable) or getattr(given, "ndim", 1) == 0:  # an array of no axis can't be gone through
        raise InputError(f"{what} must list one name for each row, not {given!r}")
    return tuple(map(str, given))


def check_groups(groups: Iterable[object] | None, n: int) -> tuple[str, ...] | None:
    """Name the group of each of n stimuli. Raises InputError when there is not one for each."""
    names = names_of("groups", groups)
    if names is not None and len(names) != n:
        raise InputError(f"{len(names)} groups for {n} stimuli; give one each or none")
    return names


def check_named(what: str, arrays: object) -> None:
    """Raise InputError unless arrays are given by name."""
    if not isinstance(arrays, Mapping):
        raise InputError(f"{what} must hold arrays by name, {{'name': array}}, not {type(arrays).__name__}")


def as_metric(metric: str | Metric, options: Mapping[str, object]) -> Metric:
    """Take a metric, or build it from its name and options, or from `name:key=value,…`.

    Raises InputError for an unknown name or option, and for options beside a metric that has its own.
    """
    if isinstance(metric, str) and ":" not in metric:
        return make_metric(metric, **options)
    if not isinstance(metric, str | Metric):
        raise InputError(f"metric must be a name, such as 'cka_linear', or a Metric, not {metric!r}")
    if options:
        spec = metric if isinstance(metric, str) else metric.spec
        raise InputError(
            f"the metric {spec!r} has its options already, so {', '.join(options)} can't be given beside it; give "
            "options either with the bare name or in the metric"
        )
    return metric if isinstance(metric, Metric) else parse_metric(metric)


def _is_rdm(x: Tensor) -> bool:
    """Tell whether a matrix is square, symmetric up to the rounding of its largest entry, with a zero diagonal."""
    if x.ndim != 2 or x.shape[0] != x.shape[1] or not len(x) or torch.isinf(x).any():
        return False
    known = torch.nan_to_num(x)
    rounding = TOLERANCE * float(known.abs().max())
    return float((known - known.T).abs().max()) <= rounding and float(known.diagonal().abs().max()) <= rounding


def _shared(name: str, array: NDArray) -> Tensor:
    """Let torch share the memory of a float32 or float64 array where it can: not if read-only or turned around."""
    if array.dtype.kind not in TYPES:
        raise InputError(f"layer {name!r} holds {array.dtype}; features must be real numbers, such as float32")
    wanted = np.float32 if array.dtype.kind == "f" and array.itemsize == 4 else TYPES[array.dtype.kind]
    with np.errstate(over="ignore"):  # what is too large for float64 becomes infinite, and is reported as that
        array = array.astype(wanted, copy=False)
    shareable = array.flags.writeable and all(stride >= 0 for stride in array.strides)
    return torch.from_numpy(array if shareable else array.copy())


def _activations(name: str, layers: dict[str, Tensor], geometry: Geometry, axis: int) -> Activations:
    counts = {key: x.shape[axis] for key, x in layers.items()}
    if len(set(counts.values())) > 1:
        raise InputError(f"layers of {name} differ in their number of stimuli: {counts}")
    n = next(iter(counts.values()))
    depths = dict(zip(layers, np.linspace(0, 1, len(layers)).tolist(), strict=True))
    return Activations(name, "arrays", tuple(map(str, range(n))), layers, depths, geometry=geometry)
