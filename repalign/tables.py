"""The tables and pictures of a study folder: scores with their certainty, layers, thumbnails."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

import pandas as pd
import torch
from PIL.Image import Image
from torch import Tensor

from repalign.conditions import Costs
from repalign.errors import InputError
from repalign.memory import check_memory
from repalign.metrics import Metric
from repalign.side import Side
from repalign.spectrum import largest_share, participation_ratio
from repalign.stimuli.image import thumbnail
from repalign.subjects.ceiling import NoiseCeiling
from repalign.types import Activations, Inference
from repalign.viewing import View

THUMBNAILS = 12
COLUMNS = [
    "encoder_a", "filter_a", "layer_a", "encoder_b", "filter_b", "layer_b", "metric", "options", "n", "value",
    "se", "ci_low", "ci_high", "null_mean", "p", "p_adjusted", "q", "independent", "untrained",
]  # fmt: skip


@dataclass(frozen=True)
class Result:
    """What one metric gave: scores with certainty, stability curves, subjects' ceilings, a second view's costs."""

    metric: Metric
    inference: Inference
    curves: pd.DataFrame
    ceilings: Mapping[str, NoiseCeiling]
    costs: Costs | None = None


def write_tables(folder: Path, sides: tuple[Side, Side], results: Sequence[Result]) -> None:
    """Write `alignment.csv`, one row a metric and layer pair, and `layers.csv`."""
    left, right = (s.activations for s in sides)
    frames = []
    for result in results:
        metric = result.metric
        frame = result.inference.to_frame().assign(
            metric=metric.spec,
            options=json.dumps(metric.options),
            encoder_a=left.encoder,
            filter_a=left.filter,
            encoder_b=right.encoder,
            filter_b=right.filter,
            untrained=" ".join(name for name, side in zip("ab", (left, right), strict=True) if side.untrained),
        )
        frames.append(frame.reindex(columns=COLUMNS))
    pd.concat(frames).to_csv(folder / "alignment.csv", index=False)
    rows = [row for name, side in zip("ab", sides, strict=True) for row in _layer_rows(name, side)]
    pd.DataFrame(rows).to_csv(folder / "layers.csv", index=False)
    costs = [r.costs for r in results if r.costs is not None]
    for name in ("summary", "controls", "deleted"):
        parts = [table for one in costs if not (table := getattr(one, name)).empty]
        if parts:
            pd.concat(parts).to_csv(folder / f"{name}.csv", index=False)


def features_to_save(side: Side, which: str) -> Activations | None:
    """Give the features of the stimuli that are "held" in memory, of "all", or None for "none"."""
    if which == "none":
        return None
    return side.activations if which == "held" else _all_features(side)


def _all_features(side: Side) -> Activations:
    """Give the features of all stimuli, those too that are not held in memory.

    Raises InputError for RDMs and several subjects, when features don't fit there, and for pictures that passed once.
    """
    rows, held = side.rows, side.activations
    if side.subjects or held.geometry != "features":
        raise InputError(f"--save-features: {held.encoder} has no features of its own; leave it out")
    if rows is None:
        if len(held) < side.n:
            raise InputError("--save-features: a stream's features are not kept; leave it out")
        return held
    check_memory(4 * len(rows) * sum(rows.widths.values()), "--save-features: all features", "--limit N")
    layers = {name: torch.cat([rows.read(k, [name])[name] for k in range(len(rows.ids))]) for name in rows.widths}
    groups = None if rows.groups is None else tuple(name for block in rows.groups for name in block)
    return replace(held, ids=tuple(name for block in rows.ids for name in block), groups=groups, layers=layers)


def save_features(file: Path, activations: Activations) -> None:
    """Save every layer's features, which `features:FILE` reads again with ids, groups and the order of layers."""
    from safetensors.torch import save_file

    said = {"ids": activations.ids, "groups": activations.groups, "layers": list(activations.layers)}
    tensors = {name: x.contiguous() for name, x in activations.layers.items()}
    save_file(tensors, file, metadata={k: json.dumps(v) for k, v in said.items() if v is not None})


def _layer_rows(name: str, side: Side) -> Iterator[dict[str, object]]:
    known = {layer.name: layer for layer in side.layers}
    for layer in side.activations.layers:
        found = known.get(layer)
        values = [one.layers[layer] for one in (side.subjects.activations if side.subjects else [side.activations])]
        square = side.activations.geometry != "features"
        yield {
            "side": name,
            "encoder": side.activations.encoder,
            "layer": layer,
            "kind": found.kind if found else side.activations.geometry,
            "shape": "×".join(map(str, found.shape)) if found else _shape(values),
            "depth": side.activations.depths[layer],
            "parameters": found.parameters if found else 0,
            "participation_ratio": float("nan") if square else fmean(map(participation_ratio, values)),
            "largest_share": float("nan") if square else fmean(map(largest_share, values)),
            "untrained": side.activations.untrained,
        }


def _shape(values: Sequence[Tensor]) -> str:
    """Write the shape of one stimulus; where subjects differ, from the smallest to the largest."""
    axes = [(min(sizes), max(sizes)) for sizes in zip(*(x.shape[1:] for x in values), strict=True)]
    return "×".join(str(low) if low == high else f"{low}…{high}" for low, high in axes)


def write_thumbnails(folder: Path, sides: tuple[Side, Side]) -> list[dict[str, str]]:
    """Save up to twelve stimuli, spread over the set, and what the second side saw of them where that differs."""
    left, right = sides
    shown = left if left.stimuli is not None else right
    stimuli = shown.stimuli
    if stimuli is None:
        return []
    paired = left.stimuli is not None and right.stimuli is not None and right is not left
    paired = paired and (right.stimuli is not stimuli or right.activations.filter != left.activations.filter)
    place = {name: i for i, name in enumerate(stimuli.ids)}
    ids = [name for name in left.activations.ids if name in place]  # of a stream, few pictures are kept
    (folder / "thumbs").mkdir()
    entries = []
    for k in range(min(THUMBNAILS, len(ids))):
        name = ids[k * len(ids) // min(THUMBNAILS, len(ids))]
        i = place[name]
        entry = {
            "file": f"thumbs/{k:03d}.png",
            "id": name,
            "group": stimuli.groups[i] if stimuli.groups else "",
            "label": stimuli.labels[i] if stimuli.labels else "",
        }
        thumbnail(_seen(shown, name)).save(folder / entry["file"])
        if paired:
            entry["file_b"] = f"thumbs/{k:03d}-b.png"
            thumbnail(_seen(right, name)).save(folder / entry["file_b"])
        entries.append(entry)
    return entries


def _seen(side: Side, name: str) -> Image:
    """Give a stimulus as a side saw it."""
    assert side.stimuli is not None  # write_thumbnails has seen to it
    return View(side.stimuli, side.filter).show(side.stimuli.ids.index(name))
