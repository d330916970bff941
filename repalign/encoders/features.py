"""Saved features as an encoder: npy, npz, safetensors or csv, one row a stimulus, no network at all."""

from pathlib import Path

import numpy as np

from repalign.encoders.arrays import Arrays, describe_file, parse_cells, read_arrays, read_rows, row_ids
from repalign.encoders.spec import Spec
from repalign.errors import InputError
from repalign.types import Activations

SINGLE = "features"
ID_COLUMN = "id"


def load(spec: Spec, *, allow_partial: bool = False) -> Activations:
    """Read features, each layer `(n, d)`: npy and csv hold one, npz and safetensors one for each 2-D array.

    Rows are named by the npz's array `ids`, the safetensors metadata's JSON list `ids` or the csv's column `id`;
    otherwise "0", "1", … in order, and `meta["ids_by_order"]` says so. Layers keep the file's order (safetensors:
    the metadata's JSON list `layers`, or by name). `allow_partial` is for networks and changes nothing here.

    Raises InputError for a file that can't be read, more than two axes, layers of unequal n and wrong ids.
    """
    arrays = read_arrays(spec, SINGLE, _read_csv)
    deep = {k: tuple(v.shape) for k, v in arrays.values.items() if v.ndim > 2}
    if deep:
        name, shape = next(iter(deep.items()))
        raise InputError(
            f"{spec}: {name!r} has shape {shape}, but features are (stimuli, features); average over positions, "
            f"x.mean(axis={tuple(range(2, len(shape)))}), or flatten them, x.reshape(len(x), -1), and save again"
        )
    layers = {k: v for k, v in arrays.values.items() if v.ndim == 2}
    if not layers or not all(v.numel() for v in layers.values()):
        raise InputError(f"{spec}: no array of shape (stimuli, features) with anything in it; save one")
    counts = {k: len(v) for k, v in layers.items()}
    if len(set(counts.values())) > 1:
        raise InputError(f"{spec}: layers have unequal numbers of rows ({_listed(counts)}); give each the same stimuli")
    left_out = sorted(set(arrays.values) - set(layers))
    ids = row_ids(spec, arrays, next(iter(counts.values())))
    depths = np.linspace(0, 1, len(layers)) if len(layers) > 1 else [1.0]
    return Activations(
        encoder=str(spec),
        stimuli="",
        ids=ids,
        layers=layers,
        depths=dict(zip(layers, map(float, depths), strict=True)),
        meta=describe_file(spec, arrays) | ({"left_out": left_out} if left_out else {}),
    )


def _read_csv(spec: Spec, path: Path, single: str) -> Arrays:
    """Read a table with a header: the column `id`, then one column a feature."""
    header, *rows = read_rows(spec, path)
    if header[0] != ID_COLUMN:
        raise InputError(
            f"{spec}: the first column must be called {ID_COLUMN!r}, and is called {header[0]!r}; "
            "give the table a header: id,feature_0,feature_1,…"
        )
    values = parse_cells(spec, [row[1:] for row in rows], len(header) - 1, line=2, column=2)
    return Arrays({single: values}, tuple(row[0] for row in rows))


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name}: {n}" for name, n in list(counts.items())[:5])
