"""Study folders with made-up but plausible numbers, written as the contract says."""

import csv
import json
from pathlib import Path

import numpy as np
from PIL import Image

COLUMNS = (
    "encoder_a", "filter_a", "layer_a", "encoder_b", "filter_b", "layer_b", "metric", "options", "n",
    "value", "se", "ci_low", "ci_high", "null_mean", "p", "q",
)  # fmt: skip
LAYER_COLUMNS = ("side", "encoder", "layer", "kind", "shape", "depth", "parameters", "participation_ratio", "untrained")
METRICS = (
    ("cka_linear", "Linear CKA, debiased", [-1, 1], "Kornblith et al. 2019, arXiv:1905.00414, eq. 3"),
    ("cka_rbf", "RBF CKA, debiased", [-1, 1], "Kornblith et al. 2019, arXiv:1905.00414, section 3"),
    ("rsa", "RSA, Spearman of correlation distances", [-1, 1], "Kriegeskorte et al. 2008"),
)  # fmt: skip
GROUPS = ("astronaut", "chelsea", "coffee", "motorcycle", "rocket", "retina", "brick", "camera")


def layer_names(count: int, style: str) -> list[str]:
    if style == "resnet":
        return ["stem", *(f"layer{1 + 4 * k // max(1, count - 2)}.{k}" for k in range(count - 2)), "norm"][:count]
    if style == "swin":
        return ["patch_embed", *(f"layers.{4 * k // max(1, count - 2)}.blocks.{k}" for k in range(count - 2)), "norm"][
            :count
        ]
    return ["patch_embed", *(f"blocks.{k}" for k in range(count - 2)), "norm"][:count]


def made_up_scores(za: np.ndarray, zb: np.ndarray, kind: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed + kind)
    near = np.exp(-((za[:, None] - zb[None, :] + 0.06) ** 2) / (0.10 + 0.05 * kind))
    hump = 0.35 + 0.6 * np.sin(np.pi * (0.15 + 0.6 * za))[:, None]
    return 0.95 * near * hump - 0.14 + 0.03 * rng.standard_normal((len(za), len(zb)))


def fake_study(
    folder: Path,
    la: int = 10,
    lb: int = 12,
    *,
    names: tuple[str, str] = ("pocket:dino", "pocket:resnet"),
    layers_a: list[str] | None = None,
    layers_b: list[str] | None = None,
    metrics: int = 3,
    untrained: str = "",
    intervals: bool = False,
    undefined: bool = False,
    all_undefined: bool = False,
    warnings: tuple[str, ...] = (),
    notes: tuple[str, ...] = ("views of only 8 photographs; intervals over so few groups are illustrative",),
    paired: bool = False,
    same: bool = False,
    seed: int = 0,
) -> Path:
    """Write one study of `la` × `lb` layers into `folder` and return it."""
    folder.mkdir(parents=True)
    layers = {"a": layers_a or layer_names(la, "vit"), "b": layers_b or layer_names(lb, "resnet")}
    if same:
        layers["b"] = layers["a"]
    depths = {side: np.linspace(0, 1, len(those)) for side, those in layers.items()}
    holes = (slice(None),) if all_undefined else (slice(0, 1), (2, 1)) if undefined else ()
    _write_alignment(folder, layers, depths, names, metrics, intervals, holes, seed)
    _write_layers(folder, layers, depths, names, untrained)
    meta = _meta(folder, names, metrics, untrained, warnings, notes, paired)
    (folder / "study.json").write_text(json.dumps(meta, ensure_ascii=False), encoding="utf-8")
    return folder


def edit_meta(folder: Path, **changes: object) -> None:
    meta = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    (folder / "study.json").write_text(json.dumps({**meta, **changes}), encoding="utf-8")


def _write_alignment(folder, layers, depths, names, metrics, intervals, holes, seed):
    with (folder / "alignment.csv").open("w", newline="", encoding="utf-8") as stream:
        out = csv.writer(stream)
        out.writerow(COLUMNS)
        for kind, (metric, *_) in enumerate(METRICS[:metrics]):
            scores = made_up_scores(depths["a"], depths["b"], kind, seed)
            for hole in holes:
                scores[hole] = np.nan
            for i, a in enumerate(layers["a"]):
                for j, b in enumerate(layers["b"]):
                    out.writerow(
                        [
                            names[0],
                            "",
                            a,
                            names[1],
                            "",
                            b,
                            metric,
                            '{"debiased": true}',
                            260,
                            *_numbers(scores[i, j], intervals),
                        ]
                    )


def _numbers(value: float, intervals: bool) -> list[object]:
    if np.isnan(value):
        return [""] * 7
    if not intervals:
        return [repr(float(value)), *[""] * 6]
    half = 0.05 + 0.02 * abs(value)
    p = min(1.0, 10 ** (-12 * max(value, 0)))
    return [repr(float(v)) for v in (value, half / 2, value - half, value + half, 0.003, p, min(1, 2 * p))]


def _write_layers(folder, layers, depths, names, untrained):
    with (folder / "layers.csv").open("w", newline="", encoding="utf-8") as stream:
        out = csv.writer(stream)
        out.writerow(LAYER_COLUMNS)
        for side, name in zip("ab", names, strict=True):
            for k, layer in enumerate(layers[side]):
                ratio = 1.4 if k == 1 else 4 + 30 * np.sin(0.3 + 2.5 * depths[side][k])
                kind = "Conv2d" if k == 0 else "Block"
                shape = "128×8×8" if side == "a" else "65×192"
                out.writerow([side, name, layer, kind, shape, depths[side][k], 74_112, ratio, side in untrained])


def _meta(folder, names, metrics, untrained, warnings, notes, paired):
    encoders = {
        side: {
            "name": name, "source": "pocket", "fingerprint": f"{side}3f9c07be21d4", "untrained": side in untrained,
            "parameters": 1_213_440 if side == "a" else 701_466, "input": "32×32", "notes": [],
        }
        for side, name in zip("ab", names, strict=True)
    }  # fmt: skip
    stimuli = {
        "name": "bundled:photos", "n": 260, "labels": None,
        "groups": {g: 32 if k < 4 else 33 for k, g in enumerate(GROUPS)},
        "fingerprint": "5b0c9d11aa27", "notes": list(notes), "skipped": [],
    }  # fmt: skip
    return {
        "format": 1,
        "kind": "compare",
        "created": "2026-03-04T10:21:07+00:00",
        "command": f"repalign compare --a {names[0]} --b {names[1]} --data bundled:photos --out study",
        "config": {"a": names[0], "b": names[1], "data": "bundled:photos", "batch_size": 64, "pool": "mean"},
        "versions": {"repalign": "0.1.0", "torch": "2.9.0", "timm": "1.0.20", "numpy": "2.4.6"},
        "encoders": encoders,
        "stimuli": {"a": stimuli, "b": {**stimuli, "name": "cat/", "groups": None} if paired else None},
        "metrics": [
            {
                "id": m, "name": m, "label": label, "options": {"debiased": True}, "bounds": bounds,
                "higher_is_similar": True, "symmetric": True, "chance": "0 when independent", "reference": reference,
            }
            for m, label, bounds, reference in METRICS[:metrics]
        ],
        "pool": "mean",
        "layers": "blocks",
        "seed": 0,
        "device": "cpu",
        "precision": "float64",
        "timings": {"load": 0.8, "extract": 11.94, "align": 0.4},
        "warnings": list(warnings),
        "thumbs": _thumbs(folder),
    }  # fmt: skip


def _thumbs(folder: Path, count: int = 16) -> list[dict[str, object]]:
    (folder / "thumbs").mkdir()
    listed = []
    for k in range(count):
        y, x = np.mgrid[0:96, 0:96] / 96.0
        picture = np.stack([0.5 + 0.5 * np.sin(3 * x + k), y, 0.5 + 0.5 * np.cos(2 * y - k)], -1)
        Image.fromarray((255 * picture).astype(np.uint8)).save(folder / "thumbs" / f"{k:03d}.png")
        group = GROUPS[k % len(GROUPS)]
        listed.append({"file": f"thumbs/{k:03d}.png", "id": f"{group}/{k}", "group": group, "label": None})
    return listed
