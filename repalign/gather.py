"""The parts of a study gathered: tables of all encoders, their ranking, and how alike they are among themselves."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from repalign.align import align_all, matched
from repalign.description import FORMAT
from repalign.design import ConditionEntry, Design, EncoderEntry, slug
from repalign.encoders import load_encoder
from repalign.errors import collected_warnings
from repalign.infer.matched import MatchedScores
from repalign.infer.ranking import Ranked, rank
from repalign.metrics import Metric, parse_metric
from repalign.parts import Part, check_agreement, check_tables
from repalign.report.figures import write_whole
from repalign.types import Activations, Alignment

MAPPED = 500  # stimuli on which encoders are compared with each other: every pair of encoders is embedded
FEATURES = "features_a.safetensors"
NAME = "\0"  # stands in a warning where an encoder's name does


def gather(out: Path, design: Design, parts: Sequence[Part], failed: Sequence[Mapping[str, str]], command: str) -> None:
    """Write the tables and `study.json` of a study from its parts, each file whole or not at all.

    Raises InputError for parts that were computed on different pictures or with different weights, and damaged ones.
    """
    metrics = [parse_metric(spec) for spec in design.metrics]
    metas = [part.meta() for part in parts]
    check_agreement(parts, metas)
    for part in parts:
        check_tables(part, [metric.spec for metric in metrics])
    first = [part for part in parts if part.condition == design.conditions[0]]
    for name in ("alignment", "tests", "controls"):
        _write(out / f"{name}.csv", pd.concat([_of_part(part, name) for part in parts], ignore_index=True))
    _write(out / "layers.csv", pd.concat([_layers(part) for part in first], ignore_index=True))
    _write(out / "ranking.csv", _ranking(design, parts, metrics))
    with collected_warnings():  # of layers without a score; the parts have said so
        table = encoder_map([part for part in parts if (part.folder / FEATURES).is_file()], metrics[0], design)
    _write(out / "map.csv", table)
    thumbs = _thumbnails(out, design, parts, metas)
    meta = _describe(design, parts, metas, failed, command) | {"thumbs": thumbs}
    write_whole(out / "study.json", (json.dumps(meta, indent=1, ensure_ascii=False) + "\n").encode())


def encoder_map(parts: Sequence[Part], metric: Metric, design: Design) -> pd.DataFrame:
    """Score every encoder with every other on the originals: the mean over layers matched by depth, both ways.

    A seeded subset of at most 500 stimuli that all encoders have serves for it. A metric that isn't symmetric scores
    both orders, each in its own place.
    """
    seen = _on_shared(parts, design.plan.seed)
    names, sides = list(seen), list(seen.values())
    found = {(one, one): 1.0 for one in seen}
    for (i, j), aligned in align_all(sides, metric, design.pairs).items():
        found[names[i], names[j]] = _mutual(sides[i], sides[j], aligned)
        if metric.symmetric:
            found[names[j], names[i]] = found[names[i], names[j]]
    rows = [(metric.spec, one, other, found[one, other]) for one in seen for other in seen]
    return pd.DataFrame(rows, columns=["metric", "encoder_a", "encoder_b", "similarity"])


def _mutual(a: Activations, b: Activations, aligned: Alignment) -> float:
    scores = aligned.scores
    depths = [np.array(list(side.depths.values())) for side in (a, b)]
    there, back = matched(*depths, same=False), matched(*depths[::-1], same=False)
    ways = scores[np.arange(len(there)), there], scores[back, np.arange(len(back))]
    return float(np.mean([float(np.nanmean(way)) if np.isfinite(way).any() else np.nan for way in ways]))


def _features(part: Part) -> Activations:
    """Read the layers of an encoder on the originals, with their depths."""
    found = load_encoder(f"features:{part.folder / FEATURES}")
    assert isinstance(found, Activations)  # that is what features: gives
    table = part.table("layers")
    depths = {str(k): float(v) for k, v in zip(table["layer"], table["depth"], strict=True)}
    known = {layer: depths[layer] for layer in found.layers}
    return replace(found, encoder=part.encoder.name, depths=known)


def _on_shared(parts: Sequence[Part], seed: int) -> dict[str, Activations]:
    """Read a seeded subset of the stimuli that all encoders have: a condition with a second set may lack some.

    The files are read twice, so that no more than one encoder is in memory with all its stimuli.
    """
    ids = [_features(part).ids for part in parts]
    common = set.intersection(*map(set, ids)) if ids else set()
    shared = [name for name in ids[0] if name in common] if ids else []
    drawn = sorted(np.random.default_rng(seed).permutation(len(shared))[:MAPPED].tolist())
    return {part.encoder.slug: _features(part).join([shared[i] for i in drawn]) for part in parts}


def _ranking(design: Design, parts: Sequence[Part], metrics: Sequence[Metric]) -> pd.DataFrame:
    """Rank the encoders under every condition and measure by their mean over layers."""
    rows = []
    for condition in design.conditions:
        of_it = {part.encoder.slug: part for part in parts if part.condition == condition}
        summaries = {name: _by_metric(part) for name, part in of_it.items()}
        for metric in metrics:
            scores = {name: mean_scores(part, metric, design.plan.seed) for name, part in of_it.items()}
            plan = design.plan
            ranked = rank(scores, metric.higher_is_similar, plan.n_permutations, plan.level, plan.seed)
            rows += [
                _ranked_row(condition, metric, of_it[one.name].encoder, summaries[one.name][metric.spec], one)
                for one in ranked
            ]
    return pd.DataFrame(rows)


def _ranked_row(
    condition: ConditionEntry, metric: Metric, encoder: EncoderEntry, summary: Mapping[str, Any], one: Ranked
) -> dict[str, object]:
    taken = ("n", "n_groups", "layers", "mean", "mean_se", "mean_low", "mean_high", "peak_layer", "peak", "held_layer",
             "held", "held_low", "held_high", "held_share")  # fmt: skip
    notes = [note for note in (summary["note"], one.note) if note]
    return {
        "condition": condition.id, "metric": metric.spec, "rank": one.rank, "encoder": encoder.slug,
        "family": encoder.family, **{k: summary[k] for k in taken}, "difference": one.difference,
        "difference_low": one.difference_low, "difference_high": one.difference_high, "p": one.p,
        "p_adjusted": one.p_adjusted, "note": "; ".join(notes),
    }  # fmt: skip


def _by_metric(part: Part) -> dict[str, dict[str, Any]]:
    return {str(row["metric"]): dict(row) for row in part.table("summary").to_dict("records")}  # type: ignore[call-overload]


def mean_scores(part: Part, metric: Metric, seed: int = 0) -> MatchedScores:
    """Read the mean over layers of a finished part under one metric, with each unit left out."""
    summary = _by_metric(part)[metric.spec]
    deleted = part.table("deleted")
    deleted = deleted.loc[deleted["metric"] == metric.spec]
    return MatchedScores(
        metric.spec, ("",), np.array([_number(summary["mean"])]),
        np.array([[_number(value)] for value in deleted["value"]]), tuple(deleted["unit"]), int(summary["n"]),
        int(float(summary["n_groups"])) if summary["n_groups"] else None, metric.bounds, seed=seed,
    )  # fmt: skip


def _number(text: str) -> float:
    """Read a number to its last digit; an empty cell is NaN."""
    return float(text) if text else float("nan")


def _of_part(part: Part, name: str) -> pd.DataFrame:
    """Read a table of a part as text, with its condition and encoder in front."""
    table = part.table(name)
    if not table.empty:
        table.insert(0, "encoder", part.encoder.slug)
        table.insert(0, "condition", part.condition.id)
    return table


def _layers(part: Part) -> pd.DataFrame:
    table = part.table("layers")
    table = table.loc[table["side"] == "a"].drop(columns=["side", "encoder"])
    table.insert(0, "encoder", part.encoder.slug)
    return table


def _write(file: Path, table: pd.DataFrame) -> None:
    """Write a table; one without rows is left out, and an older one removed."""
    if table.empty:
        file.unlink(missing_ok=True)
        return
    text = StringIO()
    table.to_csv(text, index=False)
    write_whole(file, text.getvalue().encode())


def _thumbnails(
    out: Path, design: Design, parts: Sequence[Part], metas: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Copy the pictures of one encoder: each stimulus as it is, and under every condition."""
    folder = out / "thumbs"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    entries: list[dict[str, Any]] = []
    for part, meta in zip(parts, metas, strict=True):
        if part.encoder != parts[0].encoder:
            continue
        for k, one in enumerate(meta["thumbs"]):
            if part.condition == design.conditions[0]:
                file = f"thumbs/{k:03d}.png"
                shutil.copyfile(part.folder / one["file"], out / file)
                entries.append(
                    {"file": file, "id": one["id"], "group": one["group"], "label": one["label"], "copies": {}}
                )
            elif k >= len(entries) or entries[k]["id"] != one["id"]:
                continue  # a second set that lost pictures shows others
            copy = f"thumbs/{k:03d}-{slug(part.condition.id)}.png"
            shutil.copyfile(part.folder / one["file_b"], out / copy)
            entries[k]["copies"][part.condition.id] = copy
    return entries


def _describe(
    design: Design, parts: Sequence[Part], metas: Sequence[Mapping[str, Any]], failed: Sequence[Mapping[str, str]],
    command: str,
) -> dict[str, Any]:  # fmt: skip
    first = metas[0]
    of_encoder = {part.encoder.slug: [] for part in parts}
    for part, meta in zip(parts, metas, strict=True):
        of_encoder[part.encoder.slug].append((part, meta))
    families = dict.fromkeys(entry.family for entry in design.encoders)
    config = {
        k: v for k, v in asdict(design).items() if k not in ("options", "plan", "encoders", "conditions", "choices")
    }
    config |= {k: v for k, v in first["config"].items() if k not in config and k not in ("a", "b", "out", "filter")}
    return {
        "format": FORMAT,
        "kind": "study",
        "name": design.name,
        "title": design.title,
        "paper_style": design.preset == "paper",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "config": config,
        "versions": first["versions"],
        "seed": design.plan.seed,
        "metrics": first["metrics"],
        "level": design.plan.level,
        "n_permutations": design.plan.n_permutations,
        "inference": first["inference"],
        "conditions": [_describe_condition(c, parts, metas) for c in design.conditions],
        "families": list(families),
        "encoders": [_describe_encoder(several) for several in of_encoder.values()],
        "stimuli": {"a": _stimuli(first)},
        "mapped": min(MAPPED, first["pairwise"]["held"]),
        "failed": list(failed),
        "choices": list(design.choices),
        "notes": [],
        "warnings": _warnings(parts, metas),
        "timings": _add_up([meta["timings"] for meta in metas]),
    }


def _stimuli(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Describe the originals, and say when the numbers of the study are of a part of them."""
    described, pairwise = dict(meta["stimuli"]["a"]), meta["pairwise"]
    if pairwise["held"] < pairwise["of"]:
        said = f"means, ranking, controls and map are of a seeded subset of {pairwise['held']:,} (max_pairwise)"
        described["notes"] = [*described.get("notes", []), said]
    return described


def _describe_condition(
    condition: ConditionEntry, parts: Sequence[Part], metas: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Describe a condition by the first encoder that has it; filters act before any encoder's own preprocessing."""
    meta = next(meta for part, meta in zip(parts, metas, strict=True) if part.condition == condition)
    seen, n, usual = meta["filters"]["b"] or {}, meta["stimuli"]["a"]["n"], metas[0]["stimuli"]["a"]["n"]
    fewer = [] if n == usual else [f"{n} stimuli, where {parts[0].condition.id} has {usual}"]
    return {
        "id": condition.id,
        "n": n,
        "label": seen.get("label") or f"{condition.data_b}",
        "spec": seen.get("spec", ""),
        "data_b": condition.data_b,
        "difference": seen.get("difference"),
        "clipped": seen.get("clipped"),
        "notes": [*seen.get("notes", []), *fewer],
        "reference": seen.get("reference", ""),
        "controls": condition.controls,
        "control_filters": meta["controls"],
    }


def _describe_encoder(several: Sequence[tuple[Part, Mapping[str, Any]]]) -> dict[str, Any]:
    part, meta = several[0]
    return {
        "id": part.encoder.slug,
        "name": part.encoder.name,
        "family": part.encoder.family,
        **{k: v for k, v in meta["encoders"]["a"].items() if k != "name"},
        "transfer": {p.condition.id: (m["filters"]["b"] or {}).get("transfer", []) for p, m in several},
        "report": {p.condition.id: f"parts/{p.encoder.slug}/{p.folder.name}/report.html" for p, _ in several},
    }


def _warnings(parts: Sequence[Part], metas: Sequence[Mapping[str, Any]]) -> list[str]:
    """List the warnings of all parts; one that every encoder has, but for its name, is said once."""
    said: dict[str, dict[str, None]] = {}
    for part, meta in zip(parts, metas, strict=True):
        for text in meta["warnings"]:
            said.setdefault(text.replace(part.encoder.name, NAME), {})[part.encoder.name] = None
    everyone = len({part.encoder.name for part in parts})
    return [
        text.replace(NAME, name)
        for text, names in said.items()
        for name in (["each encoder"] if len(names) == everyone > 1 else names)
    ]


def _add_up(timings: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {k: round(sum(one.get(k, 0.0) for one in timings), 3) for k in timings[0]}
