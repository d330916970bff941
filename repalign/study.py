"""A comparison as a study folder: everything computed, written once, so that reports can draw it again."""

import json
import platform
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from math import isfinite
from pathlib import Path

import pandas as pd

from repalign.errors import InputError, RepalignWarning
from repalign.extract import pick_device
from repalign.folder import check_out, new_folder
from repalign.infer.matrix import Plan, infer
from repalign.infer.over_subjects import OverSubjects
from repalign.infer.stability import stability
from repalign.infer.two_sample import two_sample_layers
from repalign.metrics import DEFAULT_METRICS, Metric, parse_metric
from repalign.progress import Track, silent
from repalign.report import render
from repalign.sides import Options, Side, load_sides, prepare_sides
from repalign.subjects.aligned import ceilings
from repalign.tables import Result, write_tables, write_thumbnails
from repalign.types import Inference

DEMO = ("pocket:dino", "pocket:resnet", "bundled:photos")
FORMAT = 1
TWO_SAMPLE_DEFAULTS = ("mmd2", "energy", "sliced_wasserstein1")
LIBRARIES = ("repalign", "torch", "torchvision", "timm", "transformers", "numpy", "pillow")


@dataclass(frozen=True)
class Comparison:
    """What `repalign compare` was asked for, under the names of its options."""

    a: str
    b: str | None = None
    data: str | None = None
    data_b: str | None = None
    metrics: tuple[str, ...] = DEFAULT_METRICS
    out: Path | None = None
    force: bool = False
    options: Options = field(default_factory=Options)
    plan: Plan = field(default_factory=Plan)
    stability: bool = True
    pairs: str = "between"
    command: str = ""


def run(comparison: Comparison, track: Track = silent) -> Path:
    """Compute a comparison, write its study folder with figures and page, and return the folder.

    The folder appears only when everything in it is there: an error or Ctrl-C leaves nothing behind.

    Raises InputError for anything that can't be used as asked.
    """
    metrics = [parse_metric(m) for m in comparison.metrics]
    if len(set(metrics)) < len(metrics):
        raise InputError(f"a metric is asked for twice: {', '.join(comparison.metrics)}")
    out = comparison.out or _free_name(comparison)
    check_out(out, comparison.force)
    began = time.perf_counter()
    with _collected_warnings() as messages:
        left, right = load_sides(
            comparison.a, comparison.b, comparison.data, comparison.data_b, comparison.options, track
        )
        timings = {"load_and_extract": time.perf_counter() - began}
        results = [_measure((left, right), m, comparison, track, timings) for m in metrics]
        tests = _two_samples((left, right), comparison)
    with new_folder(out, comparison.force) as folder:
        write_tables(folder, (left, right), results)
        for name, table in (("curves", pd.concat([r.curves for r in results])), ("tests", tests)):
            if not table.empty:
                table.to_csv(folder / f"{name}.csv", index=False)
        meta = describe(comparison, out, (left, right), results, timings, messages)
        meta["inference"] = {r.metric.spec: _describe_inference(r.inference, comparison.plan) for r in results}
        meta["thumbs"] = write_thumbnails(folder, (left, right))
        (folder / "study.json").write_text(json.dumps(meta, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        render(folder)
    return out


def _measure(
    sides: tuple[Side, Side], metric: Metric, comparison: Comparison, track: Track, timings: dict[str, float]
) -> Result:
    """Score all layer pairs, then say how sure the scores are and how they depend on choices."""
    left, right = sides
    began = time.perf_counter()
    prepared = prepare_sides(left, right, metric, comparison.pairs)
    alignment = prepared.alignment()
    scored = time.perf_counter()
    inference = infer(prepared, comparison.plan, alignment, track)
    several = left.subjects or right.subjects
    bounds = ceilings(several, prepared) if several and isinstance(prepared, OverSubjects) else {}
    sure = time.perf_counter()
    pooled = {k: (left.pooled[k], right.pooled[k]) for k in left.pooled if k in right.pooled}
    curves = stability(prepared, pooled, comparison.plan.seed) if comparison.stability else pd.DataFrame()
    for name, seconds in (
        ("align", scored - began),
        ("infer", sure - scored),
        ("stability", time.perf_counter() - sure),
    ):
        timings[name] = timings.get(name, 0.0) + seconds
    return Result(metric, inference, curves, bounds)


def _two_samples(sides: tuple[Side, Side], comparison: Comparison) -> pd.DataFrame:
    """Test each layer for a difference between two conditions, where one encoder sees both."""
    left, right = (side.activations for side in sides)
    if sides[0].encoder is None or sides[0].encoder is not sides[1].encoder or sides[0].stimuli is sides[1].stimuli:
        return pd.DataFrame()
    layers = [(name, name) for name in left.layers if name in right.layers]
    plan = comparison.plan
    return two_sample_layers(left, right, layers, TWO_SAMPLE_DEFAULTS, plan.n_permutations, left.groups, plan.seed)


def _describe_inference(found: Inference, plan: Plan) -> dict[str, object]:
    return {
        "interval": found.interval, "level": plan.level, "n_groups": found.n_groups,
        "n_permutations": found.n_permutations, "seed": found.seed, "notes": list(found.notes),
    }  # fmt: skip


def describe(
    comparison: Comparison, out: Path, sides: tuple[Side, Side], results: Sequence[Result],
    timings: dict[str, float], messages: Sequence[str],
) -> dict[str, object]:  # fmt: skip
    """Describe how a study was made: everything of `study.json` but the thumbnails."""
    (left, right), metrics = sides, [r.metric for r in results]
    asked = {k: v for k, v in asdict(comparison).items() if k not in ("command", "options", "plan")}
    plan = {"interval": comparison.plan.interval, "level": comparison.plan.level}
    plan["permutations"] = comparison.plan.n_permutations
    config = asked | asdict(comparison.options) | plan | {"out": str(out), "metrics": [m.spec for m in metrics]}
    # a second set of pictures, or rows lost on one side, is described beside the first
    paired = right.stimuli is not None and right.stimuli is not left.stimuli
    return {
        "format": FORMAT,
        "kind": "compare",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": comparison.command,
        "config": config,
        "versions": {name: version(name) for name in LIBRARIES} | {"python": platform.python_version()},
        "encoders": {
            key: _describe_encoder(side) | _describe_subjects(side, results)
            for key, side in zip("ab", sides, strict=True)
        },
        "stimuli": {"a": _describe_stimuli(left), "b": _describe_stimuli(right) if paired else None},
        "metrics": [_describe_metric(m) for m in metrics],
        "pool": comparison.options.pool,
        "layers": comparison.options.layers,
        "seed": comparison.options.seed,
        "device": str(pick_device(comparison.options.device)),
        "precision": "float32 features, float64 geometry",
        "timings": {k: round(v, 3) for k, v in timings.items()},
        "warnings": list(dict.fromkeys([*messages, *left.notes, *right.notes])),
    }


def _describe_encoder(side: Side) -> dict[str, object]:
    encoder, activations = side.encoder, side.activations
    if encoder is None:
        return {
            "name": activations.encoder, "source": activations.geometry, "fingerprint": "", "untrained": False,
            "parameters": 0, "input": "", "notes": [],
        }  # fmt: skip
    return {
        "name": encoder.name,
        "source": encoder.source,
        "fingerprint": encoder.fingerprint,
        "untrained": encoder.untrained,
        "parameters": sum(p.numel() for p in encoder.module.parameters()),
        "input": f"{encoder.input_size[0]}×{encoder.input_size[1]}",
        "notes": list(encoder.notes),
    }


def _describe_subjects(side: Side, results: Sequence[Result]) -> dict[str, object]:
    """Describe several subjects: who they are and, by metric and layer, the noise ceiling's two bounds."""
    if side.subjects is None:
        return {}
    ceiling = {r.metric.spec: {k: [c.lower, c.upper] for k, c in r.ceilings.items()} for r in results if r.ceilings}
    names = side.subjects.names
    return {"subjects": {"n": len(names), "names": list(names), "ceiling": ceiling}}


def _describe_stimuli(side: Side) -> dict[str, object]:
    activations, stimuli = side.activations, side.stimuli
    kept = set(activations.ids)

    def counted(values: tuple[str, ...] | None) -> dict[str, int] | None:
        if values is None or stimuli is None:
            return None
        return dict(Counter(v for i, v in zip(stimuli.ids, values, strict=True) if i in kept))

    return {
        "name": stimuli.name if stimuli else activations.stimuli,
        "n": len(activations),
        "groups": counted(stimuli.groups) if stimuli else None,
        "labels": counted(stimuli.labels) if stimuli else None,
        "fingerprint": activations.meta.get("fingerprint", ""),
        "notes": list(stimuli.notes) if stimuli else [],
        "skipped": [list(item) for item in activations.meta.get("skipped", ())],  # type: ignore[attr-defined]
    }


def _describe_metric(metric: Metric) -> dict[str, object]:
    return {
        "id": metric.spec,
        "name": metric.name,
        "label": metric.label,
        "options": metric.options,
        "bounds": list(metric.bounds) if all(map(isfinite, metric.bounds)) else None,
        "higher_is_similar": metric.higher_is_similar,
        "symmetric": metric.symmetric,
        "chance": metric.chance,
        "reference": metric.reference,
    }


def _free_name(comparison: Comparison) -> Path:
    """Name a folder after the two sides, with a number when it is taken."""
    text = f"repalign-{comparison.a}" + (f"-{comparison.b}" if comparison.b else "")
    stem = "".join(c if c.isalnum() or c in "-._" else "-" for c in text)[:80]
    names = (Path(stem if k == 1 else f"{stem}-{k}") for k in range(1, 10**6))
    return next(name for name in names if not name.exists())


@contextmanager
def _collected_warnings() -> Iterator[list[str]]:
    """Collect repalign's own warnings as messages; others pass on as they are."""
    messages: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RepalignWarning)
        yield messages
    for warning in caught:
        if issubclass(warning.category, RepalignWarning):
            messages.append(str(warning.message))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
