"""The plain parts of the page: facts, tables, and how the study was made."""

import math
from dataclasses import dataclass
from typing import Any

from repalign.report.certainty import certainty_rows
from repalign.report.conditions import condition_facts, filter_rows, is_paired
from repalign.report.depth_charts import ONE_DIRECTION
from repalign.report.saved import Side, Study
from repalign.report.scores import Pair, diagonal, top_pairs
from repalign.report.sentences import ONE_CHANNEL, described
from repalign.report.wording import big, counted, interval, number, per_cent, plain, probability

TABLED = 2_500
"""Up to so many layer pairs a page carries every score as a table."""

ALSO_CONFIGURED = ("pool", "layers", "seed", "device", "computed")
"""Keys of `study.json` listed with the configuration."""


@dataclass(frozen=True)
class Fact:
    """One line near the headline: what, how much, and small print."""

    what: str
    value: str
    more: tuple[str, ...] = ()
    flag: str = ""


@dataclass(frozen=True)
class LayerRow:
    """One layer in the table of layers."""

    layer: str
    kind: str
    shape: str
    depth: str
    parameters: str
    ratio: str
    dominated: bool
    share: str
    loud: bool


def facts(study: Study) -> list[Fact]:
    """List what was compared."""
    stimuli = study.meta["stimuli"]["a"]
    groups = stimuli.get("groups")
    more = (counted(len(groups), "group"),) if groups else ()
    held = (study.meta.get("pairwise") or {}).get("held", study.n)
    if held < study.n:
        more = (*more, f"pairs of {held:,} of them")
    listed = [Fact(study.pictures, f"{study.n:,}", more)]
    paired = is_paired(study)
    for side in (study.a,) if paired else (study.a, study.b):
        encoder = study.meta["encoders"][side.key]
        parameters = f"{big(float(encoder['parameters']))} parameters" if encoder.get("parameters") else ""
        seen = f"input {encoder['input']}" if encoder.get("input") else ""
        size = " · ".join(part for part in (counted(len(side.layers), "layer"), parameters) if part)
        more = (size, seen) if seen else (size,)
        name = f"{side.name} through {side.filter}" if side.filter and not paired else side.name
        what = "encoder" if paired else f"encoder {side.key.upper()}"
        listed.append(Fact(what, name, more, "untrained" if side.untrained else ""))
    listed.extend(Fact(*one) for one in condition_facts(study))
    pairs = counted(len(study.a.layers) * len(study.b.layers), "pair of layers", "pairs of layers")
    return [*listed, Fact("measures", f"{len(study.metrics)}", (f"{pairs} each",))]


def summary_rows(study: Study) -> list[dict[str, str]]:
    """Give per measure the best pair and the depth-matched mean, peak and minimum."""
    rows = []
    for metric in study.metrics:
        best, along = top_pairs(study, metric, 1), diagonal(study, metric)
        row = {"label": metric.label, "chance": metric.chance, **_best(best[0] if best else None)}
        row["direction"] = "" if metric.higher_is_similar else "lower is more alike"
        row["mean"] = "undefined" if along is None else number(along.mean)
        row["peak"] = "undefined" if along is None else number(along.peak.value)
        row["peak_at"] = "" if along is None else f"depth {number(along.peak_depth)}"
        row["lowest"] = "" if along is None else number(along.lowest.value)
        rows.append(row)
    return rows


def _best(pair: Pair | None) -> dict[str, str]:
    """Write the best pair: where, its score with interval, what chance gives there, and the adjusted p."""
    if pair is None:
        return {"where": "", "score": "undefined", "interval": "", "null": "", "independent": "", "p": ""}
    null, independent = ("" if math.isnan(v) else number(v) for v in (pair.null_mean, pair.independent))
    return {
        "where": f"{pair.layer_a} × {pair.layer_b}",
        "score": number(pair.value),
        "interval": interval(pair.ci_low, pair.ci_high) if pair.has_interval else "",
        "null": null,
        "independent": independent,
        "p": probability(pair.p),
    }


def layer_rows(study: Study) -> list[tuple[str, list[LayerRow]]]:
    """List the layers of both sides, shallow to deep, flagging those that one direction dominates."""
    return [(described(side), _layers_of(side)) for side in (study.a, study.b)]


def _layers_of(side: Side) -> list[LayerRow]:
    return [
        LayerRow(
            layer=layer.name,
            kind=layer.kind,
            shape=layer.shape,
            depth=number(layer.depth),
            parameters="" if math.isnan(layer.parameters) else f"{int(layer.parameters):,}",
            ratio="" if math.isnan(layer.participation_ratio) else number(layer.participation_ratio, 1),
            dominated=layer.participation_ratio < ONE_DIRECTION,
            share=per_cent(layer.largest_share),
            loud=layer.largest_share > ONE_CHANNEL,
        )
        for layer in side.saved
    ]


def score_tables(study: Study) -> list[dict[str, Any]]:
    """Lay out every score as text, deep layers first, or nothing when there are too many."""
    if len(study.a.layers) * len(study.b.layers) > TABLED:
        return []
    tables = []
    for metric in study.metrics:
        scores = study.matrix(metric)
        rows = [(name, [number(float(v), 3) for v in row]) for name, row in zip(study.a.layers, scores, strict=True)]
        tables.append({"label": metric.label, "rows": rows[::-1]})
    return tables


def made_from(study: Study) -> dict[str, Any]:
    """List how the study was made: configuration, versions, fingerprints, times, and how to cite."""
    meta = study.meta
    config = {**{key: meta.get(key) for key in ALSO_CONFIGURED}, **meta["config"]}
    return {
        "created": str(meta.get("created") or "")[:16].replace("T", " "),
        "command": str(meta["command"]),
        "config": [(str(k), plain(v)) for k, v in config.items() if v is not None],
        "filters": filter_rows(study),
        "versions": [(str(k), plain(v)) for k, v in meta["versions"].items()],
        "sure": certainty_rows(study),
        "prints": _fingerprints(study),
        "timings": [(str(k).replace("_", " "), f"{float(v):.1f} s") for k, v in (meta.get("timings") or {}).items()],
        "cited": _cited(study),
    }


def _fingerprints(study: Study) -> list[tuple[str, str]]:
    prints = []
    for side in (study.a, study.b):
        source = str(study.meta["encoders"][side.key].get("source") or "")
        prints.append((described(side), f"{source} {side.fingerprint}".strip()))
    for key in ("a", "b"):
        stimuli = study.meta["stimuli"].get(key)
        if stimuli and stimuli.get("fingerprint"):
            prints.append((str(stimuli["name"]), str(stimuli["fingerprint"])))
    return list(dict.fromkeys(prints))


def _cited(study: Study) -> list[dict[str, str]]:
    """Say per filter and metric what to cite, with the options that its id does not spell out."""
    cited = []
    for one in study.conditions.filters.values():
        cited.append({"label": one.label, "id": one.spec, "options": "", "reference": one.reference})
    for metric, one in zip(study.metrics, study.meta["metrics"], strict=True):
        unsaid = {k: v for k, v in (one.get("options") or {}).items() if f"{k}=" not in metric.id}
        options = ", ".join(f"{k} = {plain(v)}" for k, v in unsaid.items())
        cited.append({"label": metric.label, "id": metric.id, "options": options, "reference": metric.reference})
    return cited
