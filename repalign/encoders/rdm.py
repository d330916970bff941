"""Saved dissimilarity matrices (RDMs) as an encoder: brain data, behaviour, or another program's distances."""

from collections.abc import Mapping
from math import isqrt
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from repalign.encoders.arrays import (
    Arrays,
    describe_file,
    is_missing,
    is_number,
    parse_cells,
    read_arrays,
    read_rows,
    row_groups,
    row_ids,
)
from repalign.encoders.group import Subjects, check_pairs, group_activations, is_several, join, load_files
from repalign.encoders.spec import Spec
from repalign.errors import InputError
from repalign.types import Activations

SINGLE = "rdm"
TOLERANCE = 1e-6  # of the largest entry: what writing float32 as text and averaging runs leave behind


def load(spec: Spec, *, allow_partial: bool = False) -> Activations:
    """Read RDMs: square `(n, n)` or condensed as scipy's `pdist` writes them, `(n(n-1)/2,)`; NaN is a missing pair.

    An npz or safetensors file holds one for each layer; ids and groups as for `features:`. A csv is square, with or
    without a first row and a first column of ids, or one condensed row or column; an empty cell, NA and nan are
    missing. Several subjects give the mean of their RDMs, each scaled to a root mean square of 1 (`load_subjects`
    says where they stand). `meta["missing"]` counts the missing pairs of each layer. `allow_partial` changes
    nothing here.

    Raises InputError for a matrix that is not square, not symmetric, or without a zero diagonal, for a length that
    is no n(n-1)/2, for layers of unequal n, and for a stimulus without any pair.
    """
    subjects = load_subjects(spec)
    if len(subjects.names) == 1 and not is_several(spec):
        return subjects.activations[0]
    return group_activations(spec, subjects)


def load_subjects(spec: Spec) -> Subjects:
    """Read the RDMs of every subject: a folder or pattern with one file for each, or one file of stacked RDMs.

    Stacked are `(subjects, n, n)` and, unless it is square, `(subjects, n(n-1)/2)`.
    """
    if is_several(spec):
        return load_files(spec, _load_one)
    subjects = _load_file(spec)
    names = [str(i) for i in range(len(subjects))] if len(subjects) > 1 else [Path(spec.name).stem]
    return join(str(spec), names, subjects) if len(subjects) > 1 else _alone(names[0], subjects[0])


def square_rdm(where: Spec | str, name: str, values: Tensor) -> Float[Tensor, "n n"]:
    """Check one RDM, square or condensed, and make it exactly symmetric with an exactly zero diagonal.

    Where only one of `(i, j)` and `(j, i)` is NaN, the other is taken for both.
    """
    if values.ndim == 1:
        return _from_condensed(where, name, values)
    if values.ndim != 2 or values.shape[0] != values.shape[1] or not len(values):
        raise InputError(
            f"{where}: {name!r} has shape {tuple(values.shape)}, but an RDM is square (n, n) or condensed "
            "(n(n-1)/2,), and those of several subjects are stacked, (subjects, n, n) or (subjects, n(n-1)/2)"
        )
    present = values.nan_to_num(0)
    scale, diagonal = present.abs().max(), present.diagonal().abs().max()
    asymmetry = (values - values.T).nan_to_num(0).abs()
    if diagonal > TOLERANCE * scale:
        raise InputError(
            f"{where}: {name!r} has {diagonal:.4g} on its diagonal, but a stimulus is at distance 0 from itself; "
            "if these are similarities, save 1 - similarity"
        )
    if asymmetry.max() > TOLERANCE * scale:
        i, j = divmod(int(asymmetry.argmax()), len(values))
        raise InputError(
            f"{where}: {name!r} is not symmetric: entries ({i}, {j}) and ({j}, {i}) differ by "
            f"{asymmetry.max():.4g}, the most of all; if both directions were measured, save their mean, (d + d.T) / 2"
        )
    return torch.stack([values, values.T]).nanmean(0).fill_diagonal_(0)


def _load_one(spec: Spec) -> Activations:
    """Load a file that must hold one subject."""
    found = _load_file(spec)
    if len(found) > 1:
        raise InputError(f"{spec} holds {len(found)} subjects; among several files each is one subject, so split it")
    return found[0]


def _load_file(spec: Spec) -> list[Activations]:
    """Load one file as one or more subjects."""
    arrays = read_arrays(spec, SINGLE, _read_csv, missing=True)
    if not arrays.values:
        raise InputError(f"{spec}: there is no array in the file; save a square matrix")
    stacks = {name: _stack(values) for name, values in arrays.values.items()}
    counts = {name: len(stack) for name, stack in stacks.items()}
    if len(set(counts.values())) > 1:
        raise InputError(f"{spec}: layers of unequal numbers of subjects ({_listed(counts)}); give all to each")
    meta = describe_file(spec, arrays)
    return [_subject(spec, arrays, {k: v[s] for k, v in stacks.items()}, meta) for s in range(max(counts.values()))]


def _stack(values: Tensor) -> list[Tensor]:
    """Take an array apart into the RDMs of its subjects."""
    stacked = values.ndim == 3 or (values.ndim == 2 and _count(values.shape[1]) and values.shape[0] != values.shape[1])
    return list(values) if stacked and len(values) else [values]


def _subject(spec: Spec, arrays: Arrays, given: dict[str, Tensor], meta: dict[str, object]) -> Activations:
    layers = {name: square_rdm(spec, name, values) for name, values in given.items()}
    counts = {name: len(matrix) for name, matrix in layers.items()}
    if len(set(counts.values())) > 1:
        raise InputError(f"{spec}: RDMs of unequal numbers of stimuli ({_listed(counts)}); give each the same stimuli")
    n = next(iter(counts.values()))
    ids = row_ids(spec, arrays, n)
    for name, matrix in layers.items():
        check_pairs(spec, name, matrix, ids)
    depths = np.linspace(0, 1, len(layers)) if len(layers) > 1 else [1.0]
    return Activations(
        encoder=str(spec),
        stimuli="",
        ids=ids,
        layers=layers,
        depths=dict(zip(layers, map(float, depths), strict=True)),
        geometry="rdm",
        groups=row_groups(spec, arrays, n),
        meta={**meta, **_missing(given, layers)},
    )


def _missing(given: dict[str, Tensor], layers: dict[str, Tensor]) -> Mapping[str, object]:
    """Count the missing pairs of each layer, and say which were taken from the other side of the diagonal."""
    missing = {name: int(m.isnan().sum()) // 2 for name, m in layers.items() if m.isnan().any()}
    halves = {name: int((v.isnan() ^ v.T.isnan()).sum()) // 2 for name, v in given.items() if v.ndim == 2}
    notes = [
        f"{name!r}: {count} pairs are missing (NaN) on one side of the diagonal and taken from the other"
        for name, count in halves.items()
        if count
    ]
    return {k: v for k, v in {"missing": missing, "notes": notes}.items() if v}


def _alone(name: str, subject: Activations) -> Subjects:
    return Subjects((name,), subject.ids, (subject,), subject.groups)


def _count(length: int) -> int:
    """Give the n for which `length` is n(n-1)/2, or 0."""
    n = (1 + isqrt(1 + 8 * length)) // 2
    return n if n >= 2 and n * (n - 1) // 2 == length else 0


def _from_condensed(where: Spec | str, name: str, values: Tensor) -> Tensor:
    """Lay a vector of the upper triangle, row by row, out as a square matrix."""
    n = _count(len(values))
    if not n:
        below = max((1 + isqrt(1 + 8 * len(values))) // 2, 2)
        above = below + 1
        raise InputError(
            f"{where}: {name!r} has {len(values)} entries, which is n(n-1)/2 for no n; next to it are "
            f"{below * (below - 1) // 2} (n = {below}) and {above * (above - 1) // 2} (n = {above})"
        )
    matrix = torch.zeros(n, n, dtype=values.dtype)
    row, column = torch.triu_indices(n, n, offset=1)
    matrix[row, column] = values
    matrix[column, row] = values
    return matrix


def _read_csv(spec: Spec, path: Path, single: str) -> Arrays:
    """Find out from the table's shape, and from its first cell, whether ids stand before the numbers."""
    rows = read_rows(spec, path)
    height, width = len(rows), len(rows[0])
    both = height == width and not is_number(rows[0][0])
    if both:
        _check_corner(spec, rows)
    header, column = both or height == width + 1, both or width == height + 1
    ids = rows[0][1 if column else 0 :] if header else [row[0] for row in rows] if column else None
    if both and ids != [row[0] for row in rows[1:]]:
        raise InputError(
            f"{spec}: the ids of the first row and the first column differ; give the same in the same order"
        )
    cells = [row[int(column) :] for row in rows[int(header) :]]
    values = parse_cells(spec, cells, width - int(column), 1 + int(header), 1 + int(column), missing=True)
    condensed = ids is None and 1 in (height, width)
    return Arrays({single: values.flatten() if condensed else values}, None if ids is None else tuple(ids))


def _check_corner(spec: Spec, rows: list[list[str]]) -> None:
    """Raise InputError when an empty first cell may stand before ids as well as on an empty diagonal."""
    numbers = all(is_number(cell) or is_missing(cell) for cell in rows[0][1:])
    if numbers and all(len(row) > i and is_missing(row[i]) for i, row in enumerate(rows)):
        raise InputError(
            f"{spec}: the diagonal is empty, so the first row may hold ids or distances; write 0 on the diagonal"
        )


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name}: {n}" for name, n in list(counts.items())[:5])
