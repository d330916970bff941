"""Saved features as an encoder: npy, npz, safetensors or csv, one row a stimulus, no network at all."""

from pathlib import Path

import numpy as np
from torch import Tensor

from repalign.encoders.arrays import (
    Arrays,
    describe_file,
    parse_cells,
    read_arrays,
    read_rows,
    row_groups,
    row_ids,
)
from repalign.encoders.group import Subjects, is_several, load_files
from repalign.encoders.spec import Spec
from repalign.errors import InputError
from repalign.types import Activations

SINGLE = "features"
ID_COLUMN = "id"
GROUP_COLUMN = "group"


def load(spec: Spec, *, allow_partial: bool = False) -> Activations:
    """Read features, each layer `(n, d)`: npy and csv hold one, npz and safetensors one for each 2-D array.

    Arrays `(r, n, d)` are the same stimuli measured r times; then all layers must be, and `meta["notes"]` says so.
    Rows are named by the npz's array `ids`, the safetensors metadata's JSON list `ids` or the csv's column `id`;
    otherwise "0", "1", … in order, and `meta["ids_by_order"]` says so. `groups` likewise, in a csv the second
    column, `group`. Layers keep the file's order (safetensors: the metadata's JSON list `layers`, or by name).
    `allow_partial` is for networks and changes nothing here.

    Raises InputError for a file that can't be read, more than three axes, layers of unequal n, wrong ids, and for a
    folder or pattern: the features of one subject are not those of another, so the subjects have no mean, and laid
    side by side they would weigh by their number of voxels and hide how much subjects differ.
    """
    if is_several(spec):
        raise InputError(
            f"{spec} stands for several subjects, whose features have no mean; name one file, compare every subject "
            "with ra.model_comparison(ra.load_subjects(…), …), or save one RDM for each subject and name them rdm:…"
        )
    return _load_file(spec)


def load_subjects(spec: Spec) -> Subjects:
    """Read the features of every subject: a folder or pattern with one file for each, or one file of one subject."""
    if is_several(spec):
        return load_files(spec, _load_file)
    alone = _load_file(spec)
    return Subjects((Path(spec.name).stem,), alone.ids, (alone,), alone.groups)


def _load_file(spec: Spec) -> Activations:
    arrays = read_arrays(spec, SINGLE, _read_csv)
    layers = _layers(spec, arrays)
    repeated = next(iter(layers.values())).ndim == 3
    n = next(iter(layers.values())).shape[-2]
    left_out = sorted(set(arrays.values) - set(layers))
    notes = [_repeats_note(layers)] if repeated else []
    depths = np.linspace(0, 1, len(layers)) if len(layers) > 1 else [1.0]
    return Activations(
        encoder=str(spec),
        stimuli="",
        ids=row_ids(spec, arrays, n),
        layers=layers,
        depths=dict(zip(layers, map(float, depths), strict=True)),
        geometry="repeats" if repeated else "features",
        groups=row_groups(spec, arrays, n),
        meta=describe_file(spec, arrays)
        | ({"left_out": left_out} if left_out else {})
        | ({"notes": notes} if notes else {}),
    )


def _layers(spec: Spec, arrays: Arrays) -> dict[str, Tensor]:
    """Choose the arrays that are layers, all `(n, d)` or all `(r, n, d)`; vectors are left out."""
    shapes = {k: tuple(v.shape) for k, v in arrays.values.items()}
    for name, shape in shapes.items():
        if len(shape) > 3:
            raise InputError(
                f"{spec}: {name!r} has shape {shape}, but features are (stimuli, features); average over positions, "
                f"x.mean(axis={tuple(range(2, len(shape)))}), or flatten them, x.reshape(len(x), -1), and save again"
            )
    layers = {k: v for k, v in arrays.values.items() if v.ndim > 1}
    if not layers or not all(v.numel() for v in layers.values()):
        raise InputError(f"{spec}: no array of shape (stimuli, features) with anything in it; save one")
    sizes = {k: tuple(v.shape[:-1]) for k, v in layers.items()}
    if len(set(sizes.values())) > 1:
        _refuse_unequal(spec, sizes)
    first, size = next(iter(sizes.items()))
    if len(size) == 2 and arrays.ids is not None and len(arrays.ids) == size[0] != size[1]:
        raise InputError(
            f"{spec}: {first!r} has shape {shapes[first]}, taken as (repeats, stimuli, features), but there are "
            f"{size[0]} ids; if the middle axis counts positions, average over them, x.mean(axis=1), and save again"
        )
    return layers


def _refuse_unequal(spec: Spec, sizes: dict[str, tuple[int, ...]]) -> None:
    listed = list(sizes.items())[:5]
    if all(len(size) == 1 for size in sizes.values()):
        counts = ", ".join(f"{name}: {size[0]}" for name, size in listed)
        raise InputError(f"{spec}: layers have unequal numbers of rows ({counts}); give each the same stimuli")
    shapes = ", ".join(f"{name}: {' × '.join(map(str, size))} × d" for name, size in listed)
    raise InputError(
        f"{spec}: three axes are (repeats, stimuli, features), and every layer needs the same repeats and stimuli "
        f"({shapes}); if the middle axis counts positions, average over them, x.mean(axis=1), and save again"
    )


def _repeats_note(layers: dict[str, Tensor]) -> str:
    repeats, n, _ = next(iter(layers.values())).shape
    widths = ", ".join(str(d) for d in dict.fromkeys(v.shape[-1] for v in layers.values()))
    return f"three axes taken as {repeats} repeats of {n} stimuli × {widths} features"


def _read_csv(spec: Spec, path: Path, single: str) -> Arrays:
    """Read a table with a header: the column `id`, perhaps `group`, then one column a feature."""
    header, *rows = read_rows(spec, path)
    if header[0] != ID_COLUMN:
        raise InputError(
            f"{spec}: the first column must be called {ID_COLUMN!r}, and is called {header[0]!r}; "
            "give the table a header: id,feature_0,feature_1,…"
        )
    names = 2 if header[1:2] == [GROUP_COLUMN] else 1
    values = parse_cells(spec, [row[names:] for row in rows], len(header) - names, line=2, column=1 + names)
    groups = tuple(row[1] for row in rows) if names == 2 else None
    return Arrays({single: values}, tuple(row[0] for row in rows), groups)
