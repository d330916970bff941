"""A comparison as a study folder: everything computed, written once, so that reports can draw it again."""

import json
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from repalign.align import Prepared
from repalign.conditions import (
    Conditions,
    Known,
    costs,
    describe_controls,
    describe_filter,
    load_conditions,
    mantel_rows,
    two_conditions,
)
from repalign.controls import CONTROLS
from repalign.description import (
    FORMAT,
    describe_encoder,
    describe_inference,
    describe_metric,
    describe_precision,
    describe_stimuli,
    describe_subjects,
    versions,
)
from repalign.encoders import ENCODERS
from repalign.encoders.spec import parse_spec
from repalign.errors import InputError, RepalignWarning, collected_warnings, unknown
from repalign.extract import pick_device
from repalign.filters import FILTERS
from repalign.folder import check_out, new_folder
from repalign.infer.matrix import Plan
from repalign.infer.over_subjects import OverSubjects
from repalign.infer.stability import stability
from repalign.infer.two_sample import two_sample_layers
from repalign.measuring import infer_sides, prepare_sides, said_of_subset, stream_sides
from repalign.metrics import DEFAULT_METRICS, Metric, parse_metric
from repalign.progress import Track, silent
from repalign.projected import said_of_projection
from repalign.report import render
from repalign.side import Options, Side
from repalign.sides import load_sides
from repalign.storage import storage
from repalign.streaming import Streamed
from repalign.subjects.aligned import ceilings
from repalign.tables import Result, features_to_save, save_features, write_tables, write_thumbnails
from repalign.together import processes, together
from repalign.twosample import make_two_sample

DEMO = ("pocket:dino", "pocket:resnet", "bundled:photos")
TWO_SAMPLE_DEFAULTS = ("mmd2", "energy", "sliced_wasserstein1")


@dataclass(frozen=True)
class Comparison:
    """What `repalign compare` was asked for, under the names of its options.

    `controls` and `tests` are for one encoder under two conditions: filters that change the pictures as much, and
    two-sample statistics. `save_features` of A: "none", those "held" in memory, or "all".
    """

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
    controls: tuple[str, ...] = CONTROLS
    tests: tuple[str, ...] = TWO_SAMPLE_DEFAULTS
    save_features: str = "none"
    command: str = ""

    @property
    def folder(self) -> Path:
        """Give the study folder: the one asked for, or a new one named after the two sides."""
        return self.out or _free_name(self)


def run(comparison: Comparison, track: Track = silent, known: Known | None = None) -> Path:
    """Compute a comparison, write its study folder with figures and page, and return the folder.

    The folder appears only when everything in it is there: an error or Ctrl-C leaves nothing behind. `known` is handed
    from one encoder to the next, as in `load_conditions`.

    Raises InputError for anything that can't be used as asked.
    """
    metrics = [parse_metric(m) for m in comparison.metrics]
    if len(set(metrics)) < len(metrics):
        raise InputError(f"a metric is asked for twice: {', '.join(comparison.metrics)}")
    check_wanted(comparison.tests, comparison.controls)
    _check_savable(comparison)
    out = comparison.folder
    check_out(out, comparison.force)
    began = time.perf_counter()
    options = comparison.options
    with together() as team, storage(options.cache, out.parent) as stored, collected_warnings() as messages:
        left, right = load_sides(
            comparison.a, comparison.b, comparison.data, comparison.data_b, options, track, metrics=metrics,
            pairs=comparison.pairs, storage=stored, together=team,
        )  # fmt: skip
        sure = comparison.plan.interval != "none"
        streamed = {
            m: stream_sides(left, right, m, comparison.pairs, options.bytes, together=team, interval=sure, track=track)
            for m in metrics
        }
        if not team.first:  # the others have added their share; one process does the rest
            return out
        conditions = None
        if two_conditions(left, right):
            conditions = load_conditions(left, right, comparison.controls, options, track, known, stored.cache)
        if left.encoder is not None and left.encoder is right.encoder and left.layers != right.layers:
            said = "the two sides have different layers, so none is matched with itself: no controls and no tests"
            warnings.warn(said, RepalignWarning, stacklevel=1)
        timings = {"load_and_extract": time.perf_counter() - began}
        results = [
            _measure((left, right), m, streamed[m], conditions, comparison, track, timings) for m in metrics
        ]  # fmt: skip
        tests = pd.DataFrame() if conditions is None else _tests((left, right), results, comparison)
        different = (left,) if right is left else (left, right)
        projected = [note for side in different for note in said_of_projection(side)]
        features = features_to_save(left, comparison.save_features)
    meta = describe(comparison, out, (left, right), results, timings, [*messages, *projected])
    meta["controls"] = describe_controls(conditions) if conditions else []
    with new_folder(out, comparison.force) as folder:
        write_tables(folder, (left, right), results)
        if features is not None:
            save_features(folder / "features_a.safetensors", features)
        for name, table in (("curves", pd.concat([r.curves for r in results])), ("tests", tests)):
            if not table.empty:
                table.to_csv(folder / f"{name}.csv", index=False)
        meta["thumbs"] = write_thumbnails(folder, (left, right))
        (folder / "study.json").write_text(json.dumps(meta, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        render(folder)
    return out


def _check_savable(comparison: Comparison) -> None:
    """Raise InputError when A's features are to be saved, and it has none of its own, or no process has them all."""
    if comparison.save_features != "all":
        return
    if parse_spec(comparison.a, ENCODERS).source == "rdm":
        raise InputError(f"--save-features: {comparison.a} has no features of its own; leave it out")
    if processes() > 1:
        raise InputError("--save-features: no process has all features; run one, or leave it out")


def check_wanted(tests: Sequence[str], controls: Sequence[str]) -> None:
    """Raise InputError for tests and controls that do not exist, before anything is computed."""
    for name in tests:
        make_two_sample(name)
    for name in controls:
        if name not in FILTERS:
            raise unknown("control", name, FILTERS)


def _measure(
    sides: tuple[Side, Side], metric: Metric, streamed: Streamed | None, conditions: Conditions | None,
    comparison: Comparison, track: Track, timings: dict[str, float],
) -> Result:  # fmt: skip
    """Score all layer pairs, then say how sure the scores are, how they depend on choices, and what controls give."""
    left, right = sides
    began = time.perf_counter()
    prepared = prepare_sides(left, right, metric, comparison.pairs, comparison.options.bytes)
    alignment = prepared.alignment()
    scored = time.perf_counter()
    inference = infer_sides(prepared, streamed, comparison.plan, alignment, track)
    several = left.subjects or right.subjects
    bounds = ceilings(several, prepared) if several and isinstance(prepared, OverSubjects) else {}
    sure = time.perf_counter()
    pooled = {k: (left.pooled[k], right.pooled[k]) for k in left.pooled if k in right.pooled}
    curves = stability(prepared, pooled, comparison.plan.seed) if comparison.stability else pd.DataFrame()
    steady = time.perf_counter()
    paired = None
    if conditions and isinstance(prepared, Prepared):
        paired = costs(prepared, conditions, comparison.plan, said_of_subset(left))
    for name, seconds in (
        ("align", scored - began),
        ("infer", sure - scored),
        ("stability", steady - sure),
        ("conditions", time.perf_counter() - steady),
    ):
        timings[name] = timings.get(name, 0.0) + seconds
    return Result(metric, inference, curves, bounds, paired)


def _tests(sides: tuple[Side, Side], results: Sequence[Result], comparison: Comparison) -> pd.DataFrame:
    """Test each layer for a difference between two conditions; RSA's permutation test stands beside as Mantel's."""
    left, right = (side.activations for side in sides)
    plan = comparison.plan
    found = [mantel_rows(r.inference, r.metric.spec) for r in results if r.metric.name == "rsa"]
    if comparison.tests:
        layers = [(name, name) for name in left.layers]
        found.append(
            two_sample_layers(left, right, layers, comparison.tests, plan.n_permutations, left.groups, plan.seed)
        )
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def configuration(comparison: Comparison) -> dict[str, object]:
    """List everything a comparison was asked for, by the names of its options."""
    asked = {k: v for k, v in asdict(comparison).items() if k not in ("command", "options", "plan")}
    plan = {"interval": comparison.plan.interval, "level": comparison.plan.level}
    plan["permutations"] = comparison.plan.n_permutations
    specs = [parse_metric(m).spec for m in comparison.metrics]
    return asked | asdict(comparison.options) | plan | {"out": str(comparison.out), "metrics": specs}


def describe(
    comparison: Comparison, out: Path, sides: tuple[Side, Side], results: Sequence[Result],
    timings: dict[str, float], messages: Sequence[str],
) -> dict[str, object]:  # fmt: skip
    """Describe how a study was made: everything of `study.json` but the thumbnails."""
    (left, right), metrics = sides, [r.metric for r in results]
    config = configuration(comparison) | {"out": str(out)}
    # a second set of pictures, or rows lost on one side, is described beside the first
    paired = right.stimuli is not None and right.stimuli is not left.stimuli
    return {
        "format": FORMAT,
        "kind": "compare",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": comparison.command,
        "config": config,
        "versions": versions(),
        "encoders": {
            key: describe_encoder(side) | describe_subjects(side, results)
            for key, side in zip("ab", sides, strict=True)
        },
        "stimuli": {"a": describe_stimuli(left), "b": describe_stimuli(right) if paired else None},
        "metrics": [describe_metric(m) for m in metrics],
        "inference": {r.metric.spec: describe_inference(r.inference, comparison.plan) for r in results},
        "filters": {key: describe_filter(side) for key, side in zip("ab", sides, strict=True)},
        "pool": comparison.options.pool,
        "layers": comparison.options.layers,
        "seed": comparison.options.seed,
        "device": str(pick_device(comparison.options.device)),
        "computed": describe_precision(left, right),
        "precision_check": found.describe() if (found := left.check or right.check) else None,
        "pairwise": {"held": len(left.activations), "of": left.n, "seed": comparison.options.seed},
        "timings": {k: round(v, 3) for k, v in timings.items()},
        "warnings": list(dict.fromkeys([*messages, *left.notes, *right.notes])),
    }


def _free_name(comparison: Comparison) -> Path:
    """Name a folder after the two sides, with a number when it is taken."""
    text = f"repalign-{comparison.a}" + (f"-{comparison.b}" if comparison.b else "")
    stem = "".join(c if c.isalnum() or c in "-._" else "-" for c in text)[:80]
    names = (Path(stem if k == 1 else f"{stem}-{k}") for k in range(1, 10**6))
    return next(name for name in names if not name.exists())
