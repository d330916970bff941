"""Subjects and models from files and from arrays."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from repalign.align import check_features
from repalign.encoders import features, rdm
from repalign.encoders.arrays import to_tensor
from repalign.encoders.group import Subjects, check_pairs, join
from repalign.encoders.spec import Spec, parse_spec
from repalign.errors import InputError
from repalign.types import Activations, Geometry
from repalign.wrap import as_array, check_named, names_of

LOADERS: dict[str, Callable[[Spec], Subjects]] = {"features": features.load_subjects, "rdm": rdm.load_subjects}


def load_subjects(spec: str) -> Subjects:
    """Load `features:` or `rdm:` and a folder or pattern, every file one subject; or one file of stacked RDMs.

    Stimuli are joined by id, not by order: those that all subjects have stay, in the first subject's order, and a
    warning names the others. Files without ids are joined by order and need the same number of rows.

    Raises InputError for files that can't be read, subjects with different layers, and fewer than four stimuli that
    all share.
    """
    parsed = parse_spec(spec, LOADERS)
    return LOADERS[parsed.source](parsed)


def subjects_from_arrays(
    arrays: Mapping[str, ArrayLike | Tensor],
    *,
    ids: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    groups: Mapping[str, str] | None = None,
    rdms: bool = False,
) -> Subjects:
    """Take one array a subject, by name: features `(n, d)`, repeats `(r, n, d)`, or, with `rdms`, RDMs `(n, n)`.

    `ids` name the rows, the same for all subjects or for each by name; `groups` say each id's group.

    Raises InputError as `load_subjects` does.

    >>> x = np.arange(12.0).reshape(6, 2) ** 2
    >>> subjects_from_arrays({"s1": x, "s2": x[::-1]}, ids={"s1": "abcdef", "s2": "fedcba"}).layers
    ('features',)
    """
    check_named("subjects", arrays)
    if not arrays:
        raise InputError("there is no subject; give at least one array, {name: array}")
    key = rdm.SINGLE if rdms else features.SINGLE
    given = []
    for name, values in arrays.items():
        rows = rows_from_arrays(name, {key: values}, ids[name] if isinstance(ids, Mapping) else ids, rdms)
        given.append(replace(rows, groups=None if groups is None else _groups(name, rows.ids, groups)))
    return join("subjects", tuple(arrays), given)


def rows_from_arrays(
    name: str, arrays: Mapping[str, ArrayLike | Tensor], ids: Sequence[str] | None, rdms: bool
) -> Activations:
    """Wrap arrays of one kind as layers whose rows are `ids`, or, without ids, are known by order.

    Raises InputError naming the array that is not finite real numbers of the right shape.
    """
    check_named(name, arrays)
    ids = names_of("ids", ids)
    layers = {key: _layer(name, key, _to_real(name, key, values), rdms) for key, values in arrays.items()}
    axes = {x.ndim for x in layers.values()}
    if len(axes) != 1:
        raise InputError(f"{name}: some arrays have two axes and some three; give all (n, d) or all (repeats, n, d)")
    geometry: Geometry = "rdm" if rdms else "repeats" if axes == {3} else "features"
    named = tuple(map(str, range(next(iter(layers.values())).shape[-2]) if ids is None else ids))
    if len(set(named)) != len(named):
        twice = sorted({i for i in named if named.count(i) > 1})
        raise InputError(f"{name}: {len(twice)} ids stand more than once ({', '.join(twice[:5])}); ids must be unique")
    for key, x in layers.items():
        if x.shape[-2] != len(named):
            what = "the first array" if ids is None else "ids"
            raise InputError(f"{name}: {key!r} has {x.shape[-2]} rows, and {what} {len(named)}; give one a stimulus")
        if rdms:
            check_pairs(name, key, x, named)
    depths = dict(zip(layers, np.linspace(0, 1, len(layers)).tolist(), strict=True))
    return Activations(name, "", named, layers, depths, geometry=geometry, meta={"ids_by_order": ids is None})


def _to_real(name: str, key: str, values: ArrayLike | Tensor) -> Tensor:
    """Turn an array into a float tensor on the CPU."""
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        values = values.float() if values.dtype == torch.bfloat16 else values
    array = as_array(f"{key!r} of {name}", values)
    return to_tensor(name, key, array if array.flags.writeable else array.copy())


def _layer(name: str, key: str, x: Tensor, rdms: bool) -> Tensor:
    if not rdms:
        check_features(f"{key} of {name}", x, 3 if x.ndim == 3 else 2)
        return x
    if x.isinf().any():
        raise InputError(f"{name}: {key!r} has {int(x.isinf().sum())} infinite entries; a missing pair is NaN")
    return rdm.square_rdm(name, key, x)


def _groups(name: str, ids: Sequence[str], groups: Mapping[str, str]) -> tuple[str, ...]:
    without = [i for i in ids if i not in groups]
    if without:
        raise InputError(f"{name}: {len(without)} stimuli have no group ({', '.join(without[:5])}); give each id one")
    return tuple(str(groups[i]) for i in ids)
