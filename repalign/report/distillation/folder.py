"""A run folder as it was saved, checked once, here; a run that is not finished has less in it."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from repalign.distill.log import ALIGNMENT, LOG, read_lines
from repalign.errors import InputError
from repalign.report.diagnosis.folder import read_diagnosis
from repalign.report.diagnosis.saved import Diagnosis
from repalign.report.distillation.saved import NAMES, Alignment, Distillation, Epoch, Learner, Outcome
from repalign.report.study_folder import read_meta

AGAIN = "distil again"
NEEDED = ("kind", "command", "state", "configuration", "recipe", "versions", "student", "data", "results")
SIDES = ("student", "teacher")


def read_distillation(path: Path) -> Distillation:
    """Read a run folder and check it.

    Raises InputError when `path` is no such folder, and when a file in it is damaged or contradicts another.
    """
    meta = read_meta(path, "distillation", NEEDED)
    try:
        return Distillation(
            path=path,
            meta=meta,
            method=str(meta["configuration"]["method"]),
            teacher=_learner(meta["teacher"]) if meta.get("teacher") else None,
            student=_learner(meta["student"]),
            stages=tuple(int(one["number"]) for one in meta.get("stages") or () if one["branch"]),
            state=str(meta["state"]),
            planned=int(meta["recipe"]["epochs"]),
            outcomes=_outcomes(meta["results"]),
            epochs=tuple(_epoch(line) for line in _lines(path / LOG)),
            alignment=_alignment(path / ALIGNMENT),
            before=_diagnosis(path / "before"),
            after=_diagnosis(path / "after"),
            notes=tuple(map(str, meta.get("notes") or ())),
        )
    except InputError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"{path / 'run.json'} is not laid out as a run ({error!r}); {AGAIN}") from error


def _learner(one: Mapping[str, Any]) -> Learner:
    return Learner(
        name=str(one["name"]),
        source=str(one.get("source") or ""),
        fingerprint=str(one.get("fingerprint") or ""),
        untrained=bool(one.get("untrained", False)),
        parameters=_known(one.get("parameters")),
    )


def _outcomes(results: Mapping[str, Any]) -> tuple[Outcome, ...]:
    return tuple(_outcome(name, results[key]) for key, name in NAMES.items() if key in results)


def _outcome(name: str, one: Mapping[str, Any]) -> Outcome:
    keys = [f"{part}_{what}" for part in ("validation", "test") for what in ("accuracy", "accuracy_se")]
    return Outcome(name, int(one.get("epoch") or 0), *(_known(one.get(key)) for key in keys))


def _known(value: object) -> float:
    """Read a number that may be missing."""
    return math.nan if value is None else float(value)  # pyright: ignore[reportArgumentType]


def _lines(file: Path) -> list[dict[str, Any]]:
    """Read a log, nothing when it isn't there; raises InputError for a line that is no JSON or has no epoch."""
    try:
        lines = read_lines(file)
        epochs = [int(line["epoch"]) for line in lines]
    except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{file} is damaged ({error!r}); {AGAIN}") from error
    if epochs != sorted(epochs):
        raise InputError(f"{file} does not go forward from epoch to epoch; {AGAIN}")
    return lines


def _epoch(line: Mapping[str, Any]) -> Epoch:
    return Epoch(
        number=int(line["epoch"]),
        rate=_known(line.get("lr")),
        accuracy=_known(line.get("validation_accuracy")),
        losses={str(name): _known(value) for name, value in (line.get("losses") or {}).items()},
    )


def _alignment(file: Path) -> Alignment | None:
    """Lay out the alignment by epoch and stages, None when none was measured.

    Raises InputError when a pair of stages is missing in an epoch or stands there twice.
    """
    rows = _lines(file)
    if not rows:
        return None
    try:
        sides = [dict(sorted((int(row[f"stage_{side}"]), str(row[f"layer_{side}"])) for row in rows)) for side in SIDES]
        epochs = sorted({int(row["epoch"]) for row in rows})
        places = [(epochs.index(int(row["epoch"])), *(int(row[f"stage_{side}"]) - 1 for side in SIDES)) for row in rows]
        values = [_known(row["value"]) for row in rows]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{file} is not laid out as the alignment of a run ({error!r}); {AGAIN}") from error
    shape = (len(epochs), *map(len, sides))
    counted = all(list(side) == list(range(1, len(side) + 1)) for side in sides)
    if not counted or len(set(places)) != len(places) or len(places) != math.prod(shape):
        raise InputError(
            f"{file} has {len(places)} rows ({len(set(places))} different) for {shape[0]} epochs of {shape[1]} × "
            f"{shape[2]} stages; {AGAIN}"
        )
    laid = np.empty(shape)
    laid[tuple(np.array(places).T)] = values
    laid.setflags(write=False)
    return Alignment(tuple(epochs), tuple(sides[0].values()), tuple(sides[1].values()), laid)


def _diagnosis(folder: Path) -> Diagnosis | None:
    return read_diagnosis(folder) if (folder / "diagnosis.json").is_file() else None
