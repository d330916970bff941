"""A diagnosis folder as it was saved, checked once, here."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from repalign.errors import InputError
from repalign.report.diagnosis.saved import TEACHER, Diagnosis, Grid, Head, Network, Probe, Rule, SavedStage, Verdict
from repalign.report.saved import Metric
from repalign.report.saved_tables import read_table, rows_of, texts
from repalign.report.study_folder import read_meta, saved_metric

AGAIN = "diagnose again"
NEEDED = ("kind", "command", "versions", "teacher", "student", "data", "rules", "verdict")
STAGE_NAMES, STAGE_NUMBERS = ("side", "layer", "kind", "shape"), ("stage", "depth", "parameters")
SCORE_NAMES = ("level", "metric", "layer_student", "layer_teacher")
SCORE_NUMBERS = ("n", "value", "se", "ci_low", "ci_high", "null_mean", "p", "untrained_value")
PROBE_NAMES, PROBE_NUMBERS = ("stage", "layer"), ("accuracy", "se", "n_train", "n_test")
HEAD_NUMBERS = ("stage", "parameters", "flops", "share_of_student_parameters", "share_of_student_flops")
LEVELS = ("stage", "block", "penultimate")
LABELS = {"cka_linear": "Linear CKA, debiased", "rsa": "RSA, Spearman of correlation distances"}
CHANCE = "0 on average"


def read_diagnosis(path: Path) -> Diagnosis:
    """Read a diagnosis folder and check it.

    Raises InputError when `path` is no such folder, and when a file in it is damaged or contradicts another.
    """
    meta = read_meta(path, "diagnosis", NEEDED)
    file = path / "diagnosis.json"
    stages = read_table(path / "stages.csv", STAGE_NAMES, STAGE_NUMBERS, again=AGAIN)
    try:
        teacher, student = (_network(meta, stages, side) for side in ("teacher", "student"))
        found = Diagnosis(
            path=path,
            meta=meta,
            teacher=teacher,
            student=student,
            grids=_read_grids(path / "alignment.csv", meta, teacher, student),
            rules=tuple(_rule(one) for one in meta["rules"]),
            verdict=_verdict(meta["verdict"]),
            tau=_known((meta.get("settings") or {}).get("tau")),
            disagreement=_known(meta.get("disagreement")),
            chance=_known(meta.get("chance")),
            ways=tuple((int(k), int(j)) for k, j in meta.get("path") or ()),
            probes=_read_probes(path / "probe.csv"),
            heads=_read_heads(path / "heads.csv"),
            toml=_read_toml(path / "distill.toml"),
            warnings=tuple(map(str, meta.get("warnings") or ())),
        )
    except InputError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"{file} is not laid out as a diagnosis ({error!r}); {AGAIN}") from error
    _check_stages(file, found)
    return found


def _known(value: object) -> float:
    """Read a number that may be missing."""
    return math.nan if value is None else float(value)  # pyright: ignore[reportArgumentType]


def _network(meta: Mapping[str, Any], stages: pd.DataFrame, side: str) -> Network:
    one, logits = meta[side], meta.get(f"{side}_logits") or {}
    size = one.get("input_size")
    return Network(
        side=side,
        name=str(one["name"]),
        source=str(one.get("source") or ""),
        fingerprint=str(one.get("fingerprint") or ""),
        untrained=bool(one.get("untrained", False)),
        classes=_known(one.get("classes")),
        parameters=_known(one.get("parameters")),
        input_size="×".join(map(str, size)) if isinstance(size, list) else str(size or ""),
        stages=tuple(_stages_of(stages, side)),
        **{name: _known(logits.get(name)) for name in ("accuracy", "accuracy_se", "nll", "ece")},
    )


def _stages_of(table: pd.DataFrame, side: str) -> list[SavedStage]:
    """List the stages of one side, shallow to deep; raises InputError unless they count from 1."""
    rows = rows_of(table, STAGE_NAMES, STAGE_NUMBERS)
    found = [
        SavedStage(int(number), layer, kind, shape, depth, parameters)
        for at, layer, kind, shape, number, depth, parameters in rows
        if at == side and math.isfinite(number)
    ]
    found.sort(key=lambda stage: stage.number)
    numbers = [stage.number for stage in found]
    if not found or numbers != list(range(1, len(found) + 1)):
        raise InputError(f"stages.csv lists the stages {numbers} of the {side}, which must count from 1; {AGAIN}")
    return found


def _read_grids(file: Path, meta: Mapping[str, Any], teacher: Network, student: Network) -> tuple[Grid, ...]:
    """Lay out every level and measure, the measure that decides first."""
    table = read_table(file, SCORE_NAMES, SCORE_NUMBERS[:2], SCORE_NUMBERS[2:], again=AGAIN)
    odd = sorted(set(texts(table, "level")) - set(LEVELS))
    if odd:
        raise InputError(f"{file} has rows of level {', '.join(odd)}; a diagnosis has {', '.join(LEVELS)}; {AGAIN}")
    described = {metric.name: metric for metric in map(saved_metric, meta.get("metrics") or ())}
    first = str((meta.get("settings") or {}).get("metric") or "cka_linear")
    metrics = sorted(dict.fromkeys(texts(table, "metric")), key=lambda name: name != first)
    grids = []
    for level in LEVELS:
        for name in metrics:
            rows = table.loc[(table["level"] == level) & (table["metric"] == name)]
            metric = described.get(name) or Metric(name, name, LABELS.get(name, name), chance=CHANCE)
            if not rows.empty:
                known = (student.layers, teacher.layers) if level == "stage" else (student.layers, ())
                grids.append(_lay_out(file, rows, level, metric, *(known if level != "block" else ((), ()))))
    if not any(grid.level == "stage" for grid in grids):
        raise InputError(f"{file} has no rows of level 'stage'; {AGAIN}")
    return tuple(grids)


def _lay_out(
    file: Path, rows: pd.DataFrame, level: str, metric: Metric, student: tuple[str, ...], teacher: tuple[str, ...]
) -> Grid:
    """Make matrices of the rows of one level and measure, of the layers given, or of those found, in their order."""
    names = [texts(rows, column) for column in ("layer_student", "layer_teacher")]
    layers = [known or tuple(dict.fromkeys(found)) for known, found in zip((student, teacher), names, strict=True)]
    places = [{name: k for k, name in enumerate(some)} for some in layers]
    odd = sorted({name for found, place in zip(names, places, strict=True) for name in found if name not in place})
    if odd:
        raise InputError(f"{file}: {', '.join(odd[:5])} stands at level {level} and not in stages.csv; {AGAIN}")
    i, j = ([place[name] for name in found] for found, place in zip(names, places, strict=True))
    shape = (len(layers[0]), len(layers[1]))
    once = len(set(zip(i, j, strict=True)))
    if not len(rows) == once == shape[0] * shape[1]:
        raise InputError(
            f"{file}: {metric.id} has {len(rows)} rows ({once} different) of level {level} for {shape[0]} × {shape[1]} "
            f"layers; {AGAIN}"
        )
    laid = {}
    for column in SCORE_NUMBERS:
        laid[column] = np.empty(shape)
        laid[column][i, j] = np.array(rows[column], dtype=np.float64)
        laid[column].setflags(write=False)
    return Grid(level, metric, layers[0], layers[1], laid)


def _read_probes(file: Path) -> tuple[Probe, ...]:
    """Read the linear probes, nothing when the diagnosis has none (no labels)."""
    if not file.is_file():
        return ()
    rows = rows_of(read_table(file, PROBE_NAMES, PROBE_NUMBERS, again=AGAIN), PROBE_NAMES, PROBE_NUMBERS)
    return tuple(Probe(0 if stage == TEACHER else int(stage), *rest) for stage, *rest in rows)


def _read_heads(file: Path) -> tuple[Head, ...]:
    """Read what each head costs, nothing when the diagnosis doesn't say."""
    if not file.is_file():
        return ()
    rows = rows_of(read_table(file, ("layer",), HEAD_NUMBERS, again=AGAIN), ("layer",), HEAD_NUMBERS)
    return tuple(Head(int(stage), layer, *rest) for layer, stage, *rest in rows)


def _read_toml(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.is_file() else ""


def _rule(one: Mapping[str, Any]) -> Rule:
    return Rule(
        name=str(one["rule"]),
        source=str(one.get("source") or ""),
        kept=tuple(int(number) for number in one["kept"]),
        sufficient=bool(one.get("sufficient", True)),
        why=str(one.get("why") or ""),
        reasons=tuple(map(str, one.get("reasons") or ())),
    )


def _verdict(one: Mapping[str, Any]) -> Verdict:
    stages = tuple(int(number) for number in one.get("stages") or ())
    return Verdict(str(one["method"]), stages, str(one.get("rule") or ""), tuple(map(str, one.get("sentences") or ())))


def _check_stages(file: Path, found: Diagnosis) -> None:
    """Raise InputError when a rule, the verdict, a probe, a head or a match names a stage that is not there."""
    student, teacher = len(found.student.stages), len(found.teacher.stages)
    named = [("verdict", number) for number in found.verdict.stages]
    named += [(f"rule {rule.name}", number) for rule in found.rules for number in rule.kept]
    named += [("probe.csv", one.stage) for one in found.probes if one.stage]
    named += [("heads.csv", one.stage) for one in found.heads] + [("path", k) for k, _ in found.ways]
    odd = [(what, number) for what, number in named if not 1 <= number <= student]
    if odd:
        raise InputError(f"{file}: {odd[0][0]} names stage {odd[0][1]} of a student with {student}; {AGAIN}")
    far = [number for _, number in found.ways if not 1 <= number <= teacher]
    if far:
        raise InputError(f"{file}: path names stage {far[0]} of a teacher with {teacher}; {AGAIN}")
    uneven = [rule for rule in found.rules if rule.reasons and len(rule.reasons) != student]
    if uneven:
        reasons = len(uneven[0].reasons)
        raise InputError(f"{file}: rule {uneven[0].name} has {reasons} reasons for {student} stages; {AGAIN}")
