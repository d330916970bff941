"""Saved dissimilarity matrices (RDMs) as an encoder: brain data, behaviour, or another program's distances."""

from math import isqrt
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from repalign.encoders.arrays import Arrays, describe_file, is_number, parse_cells, read_arrays, read_rows, row_ids
from repalign.encoders.spec import Spec
from repalign.errors import InputError
from repalign.types import Activations

SINGLE = "rdm"
TOLERANCE = 1e-6  # of the largest entry: what writing float32 as text and averaging runs leave behind


def load(spec: Spec, *, allow_partial: bool = False) -> Activations:
    """Read RDMs: square `(n, n)` or condensed as scipy's `pdist` writes them, `(n(n-1)/2,)`.

    An npz or safetensors file holds one for each layer; ids as for `features:`. A csv is square, with or without
    a first row and a first column of ids, or one condensed row or column. `allow_partial` changes nothing here.

    Raises InputError for a matrix that is not square, not symmetric, or without a zero diagonal, for a length that
    is no n(n-1)/2, and for layers of unequal n.
    """
    arrays = read_arrays(spec, SINGLE, _read_csv)
    if not arrays.values:
        raise InputError(f"{spec}: there is no array in the file; save a square matrix")
    layers = {name: _square(spec, name, values) for name, values in arrays.values.items()}
    counts = {name: len(matrix) for name, matrix in layers.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name}: {n}" for name, n in list(counts.items())[:5])
        raise InputError(f"{spec}: RDMs of unequal numbers of stimuli ({listed}); give each the same stimuli")
    depths = np.linspace(0, 1, len(layers)) if len(layers) > 1 else [1.0]
    return Activations(
        encoder=str(spec),
        stimuli="",
        ids=row_ids(spec, arrays, next(iter(counts.values()))),
        layers=layers,
        depths=dict(zip(layers, map(float, depths), strict=True)),
        geometry="rdm",
        meta=describe_file(spec, arrays),
    )


def _square(spec: Spec, name: str, values: Tensor) -> Tensor:
    """Check one RDM and make it exactly symmetric with an exactly zero diagonal."""
    if values.ndim == 1:
        return _from_condensed(spec, name, values)
    if values.ndim != 2 or values.shape[0] != values.shape[1] or not len(values):
        raise InputError(
            f"{spec}: {name!r} has shape {tuple(values.shape)}, but an RDM is square (n, n) or condensed "
            "(n(n-1)/2,); several RDMs go into one npz, each under its own name"
        )
    scale = values.abs().max()
    diagonal, asymmetry = values.diagonal().abs().max(), (values - values.T).abs()
    if diagonal > TOLERANCE * scale:
        raise InputError(
            f"{spec}: {name!r} has {diagonal:.4g} on its diagonal, but a stimulus is at distance 0 from itself; "
            "if these are similarities, save 1 - similarity"
        )
    if asymmetry.max() > TOLERANCE * scale:
        i, j = divmod(int(asymmetry.argmax()), len(values))
        raise InputError(
            f"{spec}: {name!r} is not symmetric: entries ({i}, {j}) and ({j}, {i}) differ by "
            f"{asymmetry.max():.4g}, the most of all; if both directions were measured, save their mean, (d + d.T) / 2"
        )
    return ((values + values.T) / 2).fill_diagonal_(0)


def _from_condensed(spec: Spec, name: str, values: Tensor) -> Tensor:
    """Lay a vector of the upper triangle, row by row, out as a square matrix."""
    length = len(values)
    n = (1 + isqrt(1 + 8 * length)) // 2
    if n < 2 or n * (n - 1) // 2 != length:
        below, above = max(n, 2), max(n, 2) + 1
        raise InputError(
            f"{spec}: {name!r} has {length} entries, which is n(n-1)/2 for no n; next to it are "
            f"{below * (below - 1) // 2} (n = {below}) and {above * (above - 1) // 2} (n = {above})"
        )
    matrix = torch.zeros(n, n, dtype=values.dtype)
    row, column = torch.triu_indices(n, n, offset=1)
    matrix[row, column] = values
    return matrix + matrix.T


def _read_csv(spec: Spec, path: Path, single: str) -> Arrays:
    """Find out from the table's shape, and from its first cell, whether ids stand before the numbers."""
    rows = read_rows(spec, path)
    height, width = len(rows), len(rows[0])
    both = height == width and not is_number(rows[0][0])
    header, column = both or height == width + 1, both or width == height + 1
    ids = rows[0][1 if column else 0 :] if header else [row[0] for row in rows] if column else None
    if both and ids != [row[0] for row in rows[1:]]:
        raise InputError(
            f"{spec}: the ids of the first row and the first column differ; give the same in the same order"
        )
    cells = [row[int(column) :] for row in rows[int(header) :]]
    values = parse_cells(spec, cells, width - int(column), line=1 + int(header), column=1 + int(column))
    condensed = ids is None and 1 in (height, width)
    return Arrays({single: values.flatten() if condensed else values}, None if ids is None else tuple(ids))
