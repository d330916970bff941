"""A study folder as it was saved: `study.json`, `alignment.csv` and `layers.csv`, checked once, here."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from repalign.errors import InputError

FORMAT = 1
NUMBERS = ("n", "value", "se", "ci_low", "ci_high", "null_mean", "p", "q")
NAMES = ("encoder_a", "filter_a", "layer_a", "encoder_b", "filter_b", "layer_b", "metric", "options")
LAYER_NUMBERS = ("depth", "parameters", "participation_ratio")
LAYER_NAMES = ("side", "encoder", "layer", "kind", "shape", "untrained")
NEEDED = ("kind", "command", "config", "versions", "encoders", "stimuli", "metrics")


@dataclass(frozen=True)
class Metric:
    """One measure of the study as `study.json` describes it; `bounds` is None when there are none."""

    id: str
    name: str
    label: str
    higher_is_similar: bool = True
    symmetric: bool = True
    bounds: tuple[float, float] | None = None
    chance: str = ""
    reference: str = ""


@dataclass(frozen=True)
class SavedLayer:
    """One layer as `layers.csv` has it; `parameters` and `participation_ratio` are NaN where unknown."""

    name: str
    kind: str
    shape: str
    depth: float
    parameters: float
    participation_ratio: float


@dataclass(frozen=True)
class Side:
    """One side of the comparison, with its layers from shallow to deep."""

    key: str
    name: str
    filter: str
    stimuli: str
    fingerprint: str
    untrained: bool
    notes: tuple[str, ...]
    saved: tuple[SavedLayer, ...]

    @property
    def layers(self) -> tuple[str, ...]:
        """List the layers' names."""
        return tuple(layer.name for layer in self.saved)

    @property
    def depths(self) -> Float[np.ndarray, " l"]:
        """List the layers' depths in 0..1."""
        return np.array([layer.depth for layer in self.saved])

    @property
    def ratios(self) -> Float[np.ndarray, " l"]:
        """List the layers' participation ratios."""
        return np.array([layer.participation_ratio for layer in self.saved])


@dataclass(frozen=True)
class Study:
    """Everything a report shows: `meta` is `study.json`, `alignment` and `layers` are the tables.

    `laid` holds every column of numbers of every metric as a read-only matrix, layers of A × layers of B.
    """

    path: Path
    meta: Mapping[str, Any]
    alignment: pd.DataFrame
    layers: pd.DataFrame
    metrics: tuple[Metric, ...]
    a: Side
    b: Side
    laid: Mapping[tuple[str, str], Float[np.ndarray, "la lb"]]

    @property
    def n(self) -> int:
        """Count the stimuli."""
        return int(self.laid[self.metrics[0].id, "n"][0, 0])

    @property
    def pictures(self) -> str:
        """Say what the stimuli are: pictures when the study kept some of them, else stimuli."""
        return "pictures" if self.meta.get("thumbs") else "stimuli"

    def matrix(self, metric: Metric, column: str = "value") -> Float[np.ndarray, "la lb"]:
        """Give one column of `alignment.csv` as layers of A × layers of B; what is empty is NaN."""
        return self.laid[metric.id, column]

    def has(self, column: str) -> bool:
        """Tell whether any row of `alignment.csv` fills `column`."""
        return any(bool(np.isfinite(self.laid[metric.id, column]).any()) for metric in self.metrics)

    def lowest(self) -> float:
        """Find the lowest score of all metrics, 0 when every one is undefined."""
        return min((float(np.nanmin(self.matrix(m))) for m in self.metrics if self._scored(m)), default=0.0)

    def highest(self) -> float:
        """Find the highest score of all metrics, 0 when every one is undefined."""
        return max((float(np.nanmax(self.matrix(m))) for m in self.metrics if self._scored(m)), default=0.0)

    def _scored(self, metric: Metric) -> bool:
        return bool(np.isfinite(self.matrix(metric)).any())


def read_study(path: Path) -> Study:
    """Read a study folder and check it.

    Raises InputError when `path` is no study folder, when its format is another one and when a file in it is
    damaged or contradicts another.
    """
    meta = _read_meta(path)
    alignment = _read_table(path / "alignment.csv", NAMES, NUMBERS)
    layers = _read_table(path / "layers.csv", LAYER_NAMES, LAYER_NUMBERS)
    if alignment.empty:
        raise InputError(f"{path / 'alignment.csv'} has no rows; run the study again")
    try:
        metrics = tuple(_metric(m) for m in meta["metrics"])
        a, b = (_side(path, meta, alignment, layers, key) for key in "ab")
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path / 'study.json'} is not laid out as a study ({error!r}); run the study again"
        ) from error
    _check_one_pair(path, alignment)
    _check_metrics(path, alignment, metrics)
    laid: dict[tuple[str, str], np.ndarray] = {}
    for metric in metrics:
        laid.update(_lay_out(path, alignment, metric, a, b))
    return Study(path, meta, alignment, layers, metrics, a, b, laid)


def _read_meta(path: Path) -> dict[str, Any]:
    file = path / "study.json"
    if not file.is_file():
        raise InputError(f"{path} is no study folder (it has no study.json); give the folder that --out named")
    try:
        meta = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{file} is damaged ({error}); run the study again") from error
    found = meta.get("format") if isinstance(meta, dict) else None
    if found != FORMAT:
        raise InputError(
            f"{file} has format {found!r} and this repalign reads format {FORMAT}; "
            "use the repalign that wrote it or run the study again"
        )
    missing = [key for key in NEEDED if key not in meta]
    if missing:
        raise InputError(f"{file} lacks {', '.join(missing)}; run the study again")
    if meta["kind"] != "compare":
        raise InputError(f"{file} is of kind {meta['kind']!r}; this repalign draws reports of kind 'compare'")
    return meta


def _read_table(file: Path, names: tuple[str, ...], numbers: tuple[str, ...]) -> pd.DataFrame:
    """Read a CSV with its names as text (a layer may be called "NA") and its numbers as float64."""
    if not file.is_file():
        raise InputError(f"{file.parent} has no {file.name}; run the study again")
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False)
    except (ValueError, OSError) as error:
        raise InputError(f"{file} can't be read ({error}); run the study again") from error
    missing = [name for name in names + numbers if name not in table.columns]
    if missing:
        raise InputError(f"{file} lacks the columns {', '.join(missing)}; run the study again")
    for name in numbers:
        try:
            table[name] = [float(text) if text else np.nan for text in table[name]]
        except ValueError as error:
            raise InputError(f"{file}: column {name} holds something that is no number ({error})") from error
    return table


def _metric(described: Mapping[str, Any]) -> Metric:
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


def _side(path: Path, meta: Mapping[str, Any], alignment: pd.DataFrame, layers: pd.DataFrame, key: str) -> Side:
    encoder = meta["encoders"][key]
    stimuli = meta["stimuli"].get(key) or meta["stimuli"]["a"]
    return Side(
        key=key,
        name=str(encoder["name"]),
        filter=_texts(alignment, f"filter_{key}")[0],
        stimuli=str(stimuli["name"]),
        fingerprint=str(encoder.get("fingerprint") or ""),
        untrained=bool(encoder.get("untrained", False)),
        notes=tuple(str(note) for note in encoder.get("notes") or ()),
        saved=_saved_layers(path, _texts(alignment, f"layer_{key}"), layers, key),
    )


def _saved_layers(path: Path, named: list[str], layers: pd.DataFrame, key: str) -> tuple[SavedLayer, ...]:
    """Find the layers of one side in `layers.csv`, in the order in which `alignment.csv` first names them."""
    columns = [_texts(layers, name) for name in ("layer", "kind", "shape")]
    columns += [[float(number) for number in layers[name]] for name in LAYER_NUMBERS]
    rows = zip(_texts(layers, "side"), *columns, strict=True)
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


def _texts(table: pd.DataFrame, column: str) -> list[str]:
    return [str(text) for text in table[column]]


def _check_one_pair(path: Path, alignment: pd.DataFrame) -> None:
    for key in ("encoder_a", "filter_a", "encoder_b", "filter_b"):
        found = sorted(set(_texts(alignment, key)))
        if len(found) > 1:
            raise InputError(
                f"{path / 'alignment.csv'} holds {len(found)} values of {key} ({', '.join(found[:3])}); "
                "a report of kind 'compare' shows one pair"
            )
    empty = int(np.isnan(np.array(alignment["n"], dtype=np.float64)).sum())
    if empty:
        raise InputError(f"{path / 'alignment.csv'}: n is empty in {empty} rows; run the study again")


def _check_metrics(path: Path, alignment: pd.DataFrame, metrics: tuple[Metric, ...]) -> None:
    odd = set(_texts(alignment, "metric")) ^ {m.id for m in metrics}
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
        places.append(np.array([place[name] for name in _texts(alignment, key)])[chosen])
    shape = (len(a.layers), len(b.layers))
    rows, pairs = int(chosen.sum()), shape[0] * shape[1]
    once = len(np.unique(np.ravel_multi_index((places[0], places[1]), shape)))
    if rows != pairs or once != pairs:
        raise InputError(
            f"{path / 'alignment.csv'}: {metric.id} has {rows} rows ({once} different) for "
            f"{shape[0]} × {shape[1]} layers, which makes {pairs}; run the study again"
        )
    laid = {}
    for column in NUMBERS:
        values = np.empty(shape)
        values[places[0], places[1]] = np.array(alignment[column], dtype=np.float64)[chosen]
        values.setflags(write=False)
        laid[metric.id, column] = values
    return laid
