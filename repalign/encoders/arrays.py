"""Files of numbers: npy, npz and safetensors, read without pickle, as named tensors with the ids of their rows."""

import csv
import hashlib
import json
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from repalign.encoders.files import find_file
from repalign.encoders.spec import Spec
from repalign.errors import InputError

IDS = "ids"
GROUPS = "groups"
ORDER = "layers"
READABLE = (".npy", ".npz", ".safetensors", ".csv")
MISSING = ("", "na", "nan")  # what an empty cell is written as, in any case
FINGERPRINT_BYTES = 16


@dataclass(frozen=True)
class Arrays:
    """Arrays of a file by name, in order, float32 or float64; `ids` and `groups` of the stimuli where it has them."""

    values: dict[str, Tensor]
    ids: tuple[str, ...] | None = None
    groups: tuple[str, ...] | None = None


CsvReader = Callable[[Spec, Path, str], Arrays]


def read_arrays(spec: Spec, single: str, read_csv: CsvReader, *, missing: bool = False) -> Arrays:
    """Read the file that `spec` names; an array without a name of its own is called `single`.

    Raises InputError when the file is absent, of another kind, damaged, or holds anything but finite numbers;
    with `missing`, NaN is let through.
    """
    path = find_file(spec.name, f"{spec.source} file")
    readers: dict[str, CsvReader] = dict(
        zip(READABLE, (_read_npy, _read_npz, _read_safetensors, read_csv), strict=True)
    )
    if path.suffix.lower() not in readers:
        raise InputError(f"{spec}: {path.name} is none of {', '.join(readers)}; save the arrays as one of these")
    arrays = readers[path.suffix.lower()](spec, path, single)
    for name, values in arrays.values.items():
        wrong = values.isinf() if missing else ~values.isfinite()
        if wrong.any():
            what = "infinite; a missing pair is NaN" if missing else "NaN or infinite"
            raise InputError(f"{spec}: {name!r} has {int(wrong.sum())} entries that are {what}")
    return arrays


def row_ids(spec: Spec, arrays: Arrays, n: int) -> tuple[str, ...]:
    """Give the ids of `n` rows: the file's own, checked, or "0", "1", … in order."""
    if arrays.ids is None:
        return tuple(str(i) for i in range(n))
    if len(arrays.ids) != n:
        raise InputError(f"{spec}: {len(arrays.ids)} ids for {n} rows; give one id a row")
    if len(set(arrays.ids)) != n:
        twice = sorted({i for i in arrays.ids if arrays.ids.count(i) > 1})
        raise InputError(f"{spec}: {len(twice)} ids stand more than once ({', '.join(twice[:5])}); ids must be unique")
    return arrays.ids


def row_groups(spec: Spec, arrays: Arrays, n: int) -> tuple[str, ...] | None:
    """Give the groups of `n` rows where the file has them, one each."""
    if arrays.groups is not None and len(arrays.groups) != n:
        raise InputError(f"{spec}: {len(arrays.groups)} groups for {n} stimuli; give one group a stimulus, or none")
    return arrays.groups


def describe_file(spec: Spec, arrays: Arrays) -> dict[str, object]:
    """Say for `study.json` where the arrays came from and whether their rows are known only by order."""
    path = Path(spec.name).expanduser()
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=FINGERPRINT_BYTES))
    return {"path": str(path), "fingerprint": digest.hexdigest(), "ids_by_order": arrays.ids is None}


def to_tensor(where: Spec | str, name: str, array: NDArray) -> Tensor:
    """Keep float32 and float64, widen float16 to float32 and turn integers into float64.

    Raises InputError for anything that is no real number.
    """
    if array.dtype.kind == "f" and array.dtype.itemsize <= 4:
        return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
    if array.dtype.kind in "fiub":
        return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float64))
    raise InputError(f"{where}: {name!r} holds {array.dtype} and no real numbers; save it as float32")


def read_rows(spec: Spec, path: Path) -> list[list[str]]:
    """Read the cells of a csv file, empty lines left out."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [[cell.strip() for cell in row] for row in csv.reader(file) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{spec}: {path.name} is no csv file in UTF-8 ({error})") from error
    if not rows:
        raise InputError(f"{spec}: {path.name} is empty")
    return rows


def parse_cells(
    spec: Spec, rows: list[list[str]], width: int, line: int, column: int, *, missing: bool = False
) -> Tensor:
    """Turn cells into float64 `(len(rows), width)`; `line` and `column` count from the file's first cell, 1.

    With `missing`, an empty cell and NA are NaN.
    """
    values = torch.empty(len(rows), width, dtype=torch.float64)
    for i, row in enumerate(rows):
        if len(row) != width:
            raise InputError(f"{spec}: line {line + i} has {len(row) + column - 1} cells, not {width + column - 1}")
        cells = ["nan" if missing and is_missing(cell) else cell for cell in row]
        try:
            values[i] = torch.tensor([float(cell) for cell in cells], dtype=torch.float64)
        except ValueError as error:
            j = next(j for j, cell in enumerate(cells) if not is_number(cell))
            raise InputError(f"{spec}: line {line + i}, column {column + j} holds {row[j]!r} and no number") from error
    return values


def is_missing(cell: str) -> bool:
    """Tell whether a cell stands for a missing value."""
    return cell.lower() in MISSING


def is_number(cell: str) -> bool:
    """Tell whether a cell reads as a number."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _read_npy(spec: Spec, path: Path, single: str) -> Arrays:
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise _not_plain(spec, path) from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise InputError(f"{spec}: {path.name} is an archive of arrays; give it the ending .npz")
    return Arrays({single: to_tensor(spec, single, array)})


def _read_npz(spec: Spec, path: Path, single: str) -> Arrays:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, EOFError, OSError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        raise _not_plain(spec, path) from error
    ids, groups = (
        None if v is None else tuple(map(_text, v.ravel())) for v in (arrays.pop(IDS, None), arrays.pop(GROUPS, None))
    )
    return Arrays({k: to_tensor(spec, k, v) for k, v in arrays.items()}, ids, groups)


def _read_safetensors(spec: Spec, path: Path, single: str) -> Arrays:
    """Read tensors in the order of the metadata's JSON list `layers`, or by name with numbers counted.

    The format itself keeps no order.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in sorted(file.keys(), key=natural_order)}
    except SafetensorError as error:
        raise InputError(f"{spec}: {path.name} is no safetensors file, or a damaged one ({error})") from error
    try:
        ids, groups, order = (json.loads(metadata.get(key, "null")) for key in (IDS, GROUPS, ORDER))
    except json.JSONDecodeError as error:
        raise InputError(
            f"{spec}: the metadata must hold {IDS!r}, {GROUPS!r} and {ORDER!r} as JSON lists ({error})"
        ) from error
    if order is not None and sorted(order) != sorted(tensors):
        raise InputError(f"{spec}: the metadata's {ORDER!r} must list every tensor once, as a JSON list of names")
    values = {name: _float(spec, name, tensors[name]) for name in order or tensors}
    return Arrays(values, *(None if v is None else tuple(map(str, v)) for v in (ids, groups)))


def _float(spec: Spec, name: str, tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype == torch.bfloat16 else to_tensor(spec, name, tensor.numpy())


def natural_order(name: str) -> list[tuple[int, str]]:
    """Sort block2 before block10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _text(item: object) -> str:
    return item.decode() if isinstance(item, bytes) else str(item)


def _not_plain(spec: Spec, path: Path) -> InputError:
    return InputError(
        f"{spec}: {path.name} is damaged, or no {path.suffix} file, or holds Python objects; those need pickle, which "
        "can run any code and is not opened. Save plain numbers: np.save(path, array.astype('float32'))"
    )
