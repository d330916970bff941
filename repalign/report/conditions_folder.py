"""What a study folder says of filters, two conditions and controls, read and checked."""

import math
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

import pandas as pd

from repalign.errors import InputError
from repalign.report.saved import Metric
from repalign.report.saved_conditions import Conditions, Control, Effect, Optics, SavedFilter, Summary
from repalign.report.saved_tables import read_table, rows_of, texts

SUMMARY_NAMES = ("metric", "peak_layer", "held_layer", "note")
SUMMARY_NUMBERS = (
    "n", "n_groups", "layers", "mean", "mean_se", "mean_low", "mean_high", "peak", "held", "held_se", "held_low",
    "held_high", "held_share",
)  # fmt: skip
EFFECT_NAMES = ("control", "metric", "layer", "note")
EFFECT_NUMBERS = (
    "value", "se", "ci_low", "ci_high", "difference", "difference_se", "difference_low", "difference_high", "p",
)  # fmt: skip


def read_conditions(
    path: Path, meta: Mapping[str, Any], metrics: tuple[Metric, ...], layers: Set[str]
) -> Conditions:  # fmt: skip
    """Read filters, summaries and controls, each as far as the study has it; `layers` are those of side A.

    Raises InputError when a file is damaged, or when they contradict each other.
    """
    try:
        filters = {str(k): saved_filter(one) for k, one in (meta.get("filters") or {}).items() if one}
        controls = tuple(saved_control(one) for one in meta.get("controls") or ())
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(
            f"{path / 'study.json'}: filters or controls are not laid out as in a study ({error!r}); "
            "run the study again"
        ) from error
    ids = {metric.id for metric in metrics}
    summaries = _read_summaries(path / "summary.csv", ids, layers)
    effects = _read_effects(path / "controls.csv", ids, layers, controls)
    if effects and not summaries:
        raise InputError(f"{path} has controls.csv but no summary.csv beside it; run the study again")
    return Conditions(filters, controls, summaries, effects)


def saved_filter(described: Mapping[str, Any]) -> SavedFilter:
    """Read a filter as `study.json` describes it; raises what a wrong layout raises."""
    return SavedFilter(
        spec=str(described["spec"]),
        label=str(described.get("label") or described["spec"]),
        reference=str(described.get("reference") or ""),
        notes=tuple(str(note) for note in described.get("notes") or ()),
        clipped=_number(described.get("clipped")),
        difference=_number(described.get("difference")),
        transfer=tuple(_optics(one) for one in described.get("transfer") or ()),
    )


def saved_control(described: Mapping[str, Any]) -> Control:
    """Read a control as `study.json` describes it; raises what a wrong layout raises."""
    spec, name = str(described["spec"]), str(described.get("name") or "")
    return Control(
        spec=spec,
        label=str(described.get("label") or name or spec),
        name=name or spec,
        difference=_number(described.get("difference")),
        ratio=_number(described.get("ratio")),
        clipped=_number(described.get("clipped")),
        note=str(described.get("note") or ""),
    )


def _optics(described: Mapping[str, Any]) -> Optics:
    return Optics(
        fov_deg=float(described["fov_deg"]),
        pixels=int(described["pixels"]),
        seen=float(described.get("seen", 1.0)),
        at_nyquist=_number(described.get("at_nyquist")),
        extent=float(described.get("extent", 1.0)),
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _read_summaries(file: Path, metrics: Set[str], layers: Set[str]) -> tuple[Summary, ...]:
    if not file.is_file():
        return ()
    table = read_table(file, SUMMARY_NAMES, SUMMARY_NUMBERS)
    _check(file, table, "metric", metrics)
    for column in ("peak_layer", "held_layer"):
        _check(file, table, column, layers | {""})
    found = texts(table, "metric")
    if len(set(found)) < len(found):
        raise InputError(f"{file} has more than one row of a measure ({', '.join(found)}); run the study again")
    return tuple(Summary(*row) for row in rows_of(table, SUMMARY_NAMES, SUMMARY_NUMBERS))


def _read_effects(
    file: Path, metrics: Set[str], layers: Set[str], controls: tuple[Control, ...]
) -> tuple[Effect, ...]:  # fmt: skip
    known = {one.spec for one in controls if one.spec}
    if not file.is_file():
        if known:
            raise InputError(f"{file} is missing and study.json lists controls; put it back or run the study again")
        return ()
    table = read_table(file, EFFECT_NAMES, EFFECT_NUMBERS)
    for column, names in (("metric", metrics), ("control", known), ("layer", layers | {""})):
        _check(file, table, column, names)
    return tuple(Effect(*row) for row in rows_of(table, EFFECT_NAMES, EFFECT_NUMBERS))


def _check(file: Path, table: pd.DataFrame, column: str, known: Set[str]) -> None:
    odd = sorted(set(texts(table, column)) - known)
    if odd:
        raise InputError(
            f"{file} is about {', '.join(odd)} ({column}), which the study does not have; run the study again"
        )
