"""The folder of a study of many encoders as it was saved, checked once, here."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from repalign.errors import InputError
from repalign.report.conditions_folder import saved_control, saved_filter
from repalign.report.many.saved import Condition, Failed, ManyStudy, Originals, SavedEncoder
from repalign.report.many.tables import read_effects, read_ranking, read_scores, read_similarity, read_tested
from repalign.report.saved import SavedLayer
from repalign.report.saved_tables import read_table, texts
from repalign.report.study_folder import read_meta, saved_metric

NEEDED = ("kind", "title", "command", "config", "versions", "metrics", "conditions", "families", "encoders", "stimuli")
LAYER_NAMES = ("encoder", "layer", "kind", "shape")
LAYER_NUMBERS = ("depth", "parameters", "participation_ratio")
LEVEL = 0.95


def read_many(path: Path) -> ManyStudy:
    """Read the folder of a study of many encoders and check it.

    Raises InputError when `path` is no such folder, and when a file in it is damaged or contradicts another.
    """
    meta = read_meta(path, "study", NEEDED)
    layers = _read_layers(path / "layers.csv")
    try:
        metrics = tuple(saved_metric(one) for one in meta["metrics"])
        encoders = tuple(_encoder(one, layers) for one in meta["encoders"])
        conditions = tuple(_condition(one) for one in meta["conditions"])
        failed = tuple(_failed(one) for one in meta.get("failed") or ())
        families = tuple(dict.fromkeys([*map(str, meta["families"]), *(one.family for one in encoders)]))
        originals = Originals(str(meta["stimuli"]["a"]["name"]), int(meta["stimuli"]["a"]["n"]))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(
            f"{path / 'study.json'} is not laid out as a study of many encoders ({error!r}); run the study again"
        ) from error
    _check_names(path, metrics, conditions, encoders)
    _check_layers(path, encoders)
    known = ([c.id for c in conditions], [e.id for e in encoders], [m.id for m in metrics])
    scores = read_scores(path / "alignment.csv", known, {e.id: tuple(x.name for x in e.layers) for e in encoders})
    return ManyStudy(
        path=path,
        meta=meta,
        title=str(meta["title"] or meta.get("name") or ""),
        paper_style=bool(meta.get("paper_style", False)),
        level=float(meta.get("level") or LEVEL),
        metrics=metrics,
        conditions=conditions,
        families=families,
        encoders=encoders,
        failed=failed,
        originals=originals,
        scores=scores,
        ranking=read_ranking(path / "ranking.csv", known, set(scores)),
        effects=read_effects(path / "controls.csv", known),
        tests=read_tested(path / "tests.csv", known),
        similarity=read_similarity(path / "map.csv", known),
    )


def _read_layers(file: Path) -> dict[str, tuple[SavedLayer, ...]]:
    """Read the layers of every encoder, from shallow to deep as they stand there."""
    table = read_table(file, LAYER_NAMES, LAYER_NUMBERS, ("largest_share",))
    columns = [texts(table, name) for name in LAYER_NAMES]
    columns += [[float(v) for v in table[name]] for name in (*LAYER_NUMBERS, "largest_share")]
    found: dict[str, list[SavedLayer]] = {}
    for slug, *row in zip(*columns, strict=True):
        found.setdefault(str(slug), []).append(SavedLayer(*row))
    return {slug: tuple(rows) for slug, rows in found.items()}


def _encoder(described: Mapping[str, Any], layers: Mapping[str, tuple[SavedLayer, ...]]) -> SavedEncoder:
    slug, transfer = str(described["id"]), dict(described.get("transfer") or {})
    return SavedEncoder(
        id=slug,
        name=str(described["name"]),
        family=str(described.get("family") or "other"),
        source=str(described.get("source") or ""),
        fingerprint=str(described.get("fingerprint") or ""),
        untrained=bool(described.get("untrained", False)),
        parameters=float(described.get("parameters") or math.nan),
        input=str(described.get("input") or ""),
        notes=tuple(str(note) for note in described.get("notes") or ()),
        layers=layers.get(slug, ()),
        report={str(k): str(v) for k, v in (described.get("report") or {}).items()},
        transfer={str(k): saved_filter({"spec": k, "transfer": v}).transfer for k, v in transfer.items()},
    )


def _condition(described: Mapping[str, Any]) -> Condition:
    slug, spec = str(described["id"]), str(described.get("spec") or "")
    return Condition(
        id=slug,
        label=str(described.get("label") or spec or slug),
        spec=spec,
        data_b=str(described.get("data_b") or ""),
        difference=_number(described.get("difference")),
        clipped=_number(described.get("clipped")),
        notes=tuple(str(note) for note in described.get("notes") or ()),
        strengths=tuple(saved_control(one) for one in described.get("control_filters") or ()),
        reference=str(described.get("reference") or ""),
    )


def _failed(described: Mapping[str, Any]) -> Failed:
    return Failed(str(described["name"]), str(described.get("family") or ""), str(described.get("error") or "unknown"))


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _check_names(path: Path, *lists: tuple[Any, ...]) -> None:
    for what, some in zip(("metrics", "conditions"), lists[:2], strict=True):
        if not some:
            raise InputError(f"{path / 'study.json'} lists no {what}; run the study again")
    for some in lists:
        names = [one.id for one in some]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise InputError(f"{path / 'study.json'} lists {', '.join(twice)} more than once; run the study again")


def _check_layers(path: Path, encoders: tuple[SavedEncoder, ...]) -> None:
    file = path / "layers.csv"
    bare = [one.name for one in encoders if not one.layers]
    if bare:
        raise InputError(f"{file} lacks the layers of {', '.join(bare[:5])}; run the study again")
    for one in encoders:
        if not np.isfinite(one.depths).all():
            raise InputError(f"{file}: a layer of {one.name} has no depth; run the study again")
        if len({layer.name for layer in one.layers}) < len(one.layers):
            raise InputError(f"{file}: {one.name} has a layer more than once; run the study again")
