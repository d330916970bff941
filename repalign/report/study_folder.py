"""A study folder as it was saved, `study.json` and the tables beside it, checked once, here."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from repalign.errors import InputError
from repalign.report.conditions_folder import read_conditions
from repalign.report.saved import Certainty, Metric, SavedLayer, Side, Study
from repalign.report.saved_conditions import Conditions
from repalign.report.saved_tables import read_points, read_table, read_tests, texts

FORMAT = 1
FILES = {"study.json": ("compare", "study"), "diagnosis.json": ("diagnosis",), "run.json": ("distillation",)}
"""The file that says what a folder holds, and the kinds it may name, the first where it names none."""

AGAIN = {"study.json": "run the study again", "diagnosis.json": "diagnose again", "run.json": "distil again"}
NUMBERS = ("n", "value", "se", "ci_low", "ci_high", "null_mean", "p", "q")
LATER_NUMBERS = ("p_adjusted", "independent")
NAMES = ("encoder_a", "filter_a", "layer_a", "encoder_b", "filter_b", "layer_b", "metric", "options")
LAYER_NUMBERS = ("depth", "parameters", "participation_ratio")
LATER_LAYER_NUMBERS = ("largest_share",)
LAYER_NAMES = ("side", "encoder", "layer", "kind", "shape", "untrained")
NEEDED = ("kind", "command", "config", "versions", "encoders", "stimuli", "metrics")


def read_study(path: Path) -> Study:
    """Read a study folder and check it.

    Raises InputError when `path` is no study folder, when its format is another one and when a file in it is
    damaged or contradicts another.
    """
    meta = read_meta(path, "compare", NEEDED)
    alignment = read_table(path / "alignment.csv", NAMES, NUMBERS, LATER_NUMBERS)
    layers = read_table(path / "layers.csv", LAYER_NAMES, LAYER_NUMBERS, LATER_LAYER_NUMBERS)
    if alignment.empty:
        raise InputError(f"{path / 'alignment.csv'} has no rows; run the study again")
    try:
        metrics = tuple(saved_metric(m) for m in meta["metrics"])
        conditions = read_conditions(path, meta, metrics, set(texts(alignment, "layer_a")))
        a, b = (_side(path, meta, alignment, layers, conditions, key) for key in "ab")
        certainty = {str(k): _certainty(one) for k, one in (meta.get("inference") or {}).items()}
    except InputError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(
            f"{path / 'study.json'} is not laid out as a study ({error!r}); run the study again"
        ) from error
    _check_one_pair(path, alignment)
    _check_metrics(path, alignment, metrics)
    laid: dict[tuple[str, str], np.ndarray] = {}
    for metric in metrics:
        laid.update(_lay_out(path, alignment, metric, a, b))
    points, tests = read_points(path / "curves.csv", metrics), read_tests(path / "tests.csv")
    return Study(path, meta, alignment, layers, metrics, a, b, laid, certainty, points, tests, conditions)


def read_meta(path: Path, kind: str, needed: tuple[str, ...]) -> dict[str, Any]:
    """Read `study.json`, or the file that takes its place, of a folder of one kind, with the keys that this kind needs.

    Raises InputError when it is not there, is damaged, is of another format or kind, or lacks a key.
    """
    name = next(name for name, kinds in FILES.items() if kind in kinds)
    meta = _read_json(path / name)
    missing = [key for key in needed if key not in meta]
    if missing:
        raise InputError(f"{path / name} lacks {', '.join(missing)}; {AGAIN[name]}")
    if meta["kind"] != kind:
        raise InputError(f"{path / name} is of kind {meta['kind']!r}, and a study of kind {kind!r} was asked for")
    return meta


def read_kind(path: Path) -> str:
    """Tell of which kind a folder is, "" when it doesn't say; raises InputError as `read_meta` does."""
    name = next((name for name in FILES if (path / name).is_file()), "study.json")
    return str(_read_json(path / name).get("kind", ""))


def _read_json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        other = f", nor {' or '.join(list(FILES)[1:])}" if file.name == "study.json" else ""
        raise InputError(
            f"{file.parent} is no study folder (it has no {file.name}{other}); give the folder that --out named"
        )
    again, kinds = AGAIN[file.name], FILES[file.name]
    try:
        meta = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{file} is damaged ({error}); {again}") from error
    found = meta.get("format") if isinstance(meta, dict) else None
    if found != FORMAT:
        raise InputError(
            f"{file} has format {found!r} and this repalign reads format {FORMAT}; "
            f"use the repalign that wrote it or {again}"
        )
    if meta.get("kind", kinds[0]) not in kinds:
        known = " and ".join(map(repr, kinds))
        raise InputError(f"{file} is of kind {meta['kind']!r}; this repalign draws reports of kind {known}")
    return meta


def saved_metric(described: Mapping[str, Any]) -> Metric:
    """Read a measure as `study.json` describes it; raises what a wrong layout raises."""
    bounds = described.get("bounds")
    return Metric(
        id=str(described["id"]),
        name=str(described.get("name") or described["id"]),
        label=str(described["label"]),
        higher_is_similar=bool(described.get("higher_is_similar", True)),
        symmetric=bool(described.get("symmetric", True)),
        bounds=None if bounds is None else (float(bounds[0]), float(bounds[1])),
        chance=str(described.get("chance") or ""),
        reference=str(described.get("reference") or ""),
    )


def _certainty(described: Mapping[str, Any]) -> Certainty:
    groups = described.get("n_groups")
    return Certainty(
        interval=str(described.get("interval") or "none"),
        level=float(described.get("level") or 0.95),
        n_groups=None if groups is None else int(groups),
        n_permutations=int(described.get("n_permutations") or 0),
        seed=int(described.get("seed") or 0),
        notes=tuple(str(note) for note in described.get("notes") or ()),
    )


def _side(
    path: Path, meta: Mapping[str, Any], alignment: pd.DataFrame, layers: pd.DataFrame, conditions: Conditions, key: str
) -> Side:
    encoder = meta["encoders"][key]
    subjects = encoder.get("subjects") or {}
    stimuli = meta["stimuli"].get(key) or meta["stimuli"]["a"]
    return Side(
        key=key,
        name=str(encoder["name"]),
        filter=conditions.label(key, texts(alignment, f"filter_{key}")[0]),
        stimuli=str(stimuli["name"]),
        fingerprint=str(encoder.get("fingerprint") or ""),
        untrained=bool(encoder.get("untrained", False)),
        notes=tuple(str(note) for note in encoder.get("notes") or ()),
        saved=_saved_layers(path, texts(alignment, f"layer_{key}"), layers, key),
        subjects=int(subjects.get("n") or 0),
        ceilings={str(k): _ceiling(one) for k, one in (subjects.get("ceiling") or {}).items()},
    )


def _ceiling(layers: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    return {str(name): (float(low), float(high)) for name, (low, high) in layers.items() if None not in (low, high)}


def _saved_layers(path: Path, named: list[str], layers: pd.DataFrame, key: str) -> tuple[SavedLayer, ...]:
    """Find the layers of one side in `layers.csv`, in the order in which `alignment.csv` first names them."""
    columns = [texts(layers, name) for name in ("layer", "kind", "shape")]
    columns += [[float(number) for number in layers[name]] for name in LAYER_NUMBERS + LATER_LAYER_NUMBERS]
    rows = zip(texts(layers, "side"), *columns, strict=True)
    found = {row[1]: SavedLayer(*row[1:]) for row in rows if row[0] == key}
    wanted = list(dict.fromkeys(named))
    missing = [name for name in wanted if name not in found]
    if missing:
        raise InputError(
            f"{path / 'layers.csv'} lacks {len(missing)} layers of side {key} that alignment.csv has "
            f"({', '.join(missing[:5])}); run the study again"
        )
    shallow = [name for name in wanted if not np.isfinite(found[name].depth)]
    if shallow:
        raise InputError(f"{path / 'layers.csv'}: {shallow[0]} of side {key} has no depth; run the study again")
    return tuple(found[name] for name in wanted)


def _check_one_pair(path: Path, alignment: pd.DataFrame) -> None:
    for key in ("encoder_a", "filter_a", "encoder_b", "filter_b"):
        found = sorted(set(texts(alignment, key)))
        if len(found) > 1:
            raise InputError(
                f"{path / 'alignment.csv'} holds {len(found)} values of {key} ({', '.join(found[:3])}); "
                "a report of kind 'compare' shows one pair"
            )
    empty = int(np.isnan(np.array(alignment["n"], dtype=np.float64)).sum())
    if empty:
        raise InputError(f"{path / 'alignment.csv'}: n is empty in {empty} rows; run the study again")


def _check_metrics(path: Path, alignment: pd.DataFrame, metrics: tuple[Metric, ...]) -> None:
    odd = set(texts(alignment, "metric")) ^ {m.id for m in metrics}
    if odd:
        raise InputError(
            f"{path}: study.json and alignment.csv disagree about the metrics ({', '.join(sorted(odd))}); "
            "run the study again"
        )


def _lay_out(
    path: Path, alignment: pd.DataFrame, metric: Metric, a: Side, b: Side
) -> dict[tuple[str, str], Float[np.ndarray, "la lb"]]:
    """Make a matrix of every column of numbers, after checking that every layer pair stands there once."""
    chosen = np.array(alignment["metric"], dtype=object) == metric.id
    places = []
    for key, side in (("layer_a", a), ("layer_b", b)):
        place = {name: k for k, name in enumerate(side.layers)}
        places.append(np.array([place[name] for name in texts(alignment, key)])[chosen])
    shape = (len(a.layers), len(b.layers))
    rows, pairs = int(chosen.sum()), shape[0] * shape[1]
    once = len(np.unique(np.ravel_multi_index((places[0], places[1]), shape)))
    if rows != pairs or once != pairs:
        raise InputError(
            f"{path / 'alignment.csv'}: {metric.id} has {rows} rows ({once} different) for "
            f"{shape[0]} × {shape[1]} layers, which makes {pairs}; run the study again"
        )
    laid = {}
    for column in NUMBERS + LATER_NUMBERS:
        values = np.empty(shape)
        values[places[0], places[1]] = np.array(alignment[column], dtype=np.float64)[chosen]
        values.setflags(write=False)
        laid[metric.id, column] = values
    return laid
