"""Folders of studies of many encoders with made-up but plausible numbers, written as the contract says."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

METRICS = (
    ("cka_rbf:debiased=false", "cka_rbf", "RBF CKA, biased", True, "Kornblith et al. 2019, arXiv:1905.00414, sec. 3"),
    ("cka_linear:debiased=false", "cka_linear", "Linear CKA, biased", True, "Kornblith et al. 2019, eq. 3"),
    ("rsa", "rsa", "RSA, Spearman of correlation distances", True, "Kriegeskorte et al. 2008"),
    ("procrustes", "procrustes", "Procrustes distance", False, "Williams et al. 2021"),
)
FAMILIES = {
    "CNN": ("resnet50", "efficientnet_b3", "convnext_tiny"),
    "ViT, supervised": ("vit_base_patch16_224", "vit_large_patch16_224", "deit_small"),
    "windowed": ("swin_tiny", "swin_base", "swinv2_small_window8_256"),
    "ViT, self-supervised": ("dino_vitb16", "dinov2_vits14", "mae_vitb16"),
}
CONDITIONS = (
    ("cat60", "cat, scene 60° wide", "cat:fov_deg=60"),
    ("cat8", "cat, scene 8° wide", "cat:fov_deg=8"),
    ("grey", "grey, by luminance", "grey"),
    ("night", "cat, scene 60° wide, 0.01 cd/m²", "cat:fov_deg=60,luminance=0.01"),
    ("jpeg", "JPEG, quality 20", "jpeg:q=20"),
    ("video", "cat/", ""),
)
CONTROLS = (
    ("grey", "grey, by luminance", 0.0497, 1.0, ""),
    ("blur:cpd=1.26,fov_deg=60", "Gaussian blur, half contrast at 1.26 cycles/°", 0.0499, 1.0, ""),
    ("noise:sd=0.051", "white noise, SD 0.051", 0.0502, 1.01, ""),
    ("deutan", "human without green cones", 0.0311, 0.62, "has no strength to match"),
    ("", "red_removal", None, None, "its strongest setting changes linear light by 0.021, less than the condition"),
)
GROUPS = ("astronaut", "chelsea", "coffee", "motorcycle", "rocket", "retina")


def many_families(count: int) -> dict[str, tuple[str, ...]]:
    """Spread so many encoders over five families."""
    names = ("CNN", "ViT", "windowed", "self-supervised", "hybrid")
    return {
        n: tuple(f"{n.lower()}_{i}" for i in range((count + len(names) - 1 - k) // len(names)))
        for k, n in enumerate(names)
        if count > k
    }


def fake_many(
    folder: Path, *, families: dict[str, tuple[str, ...]] | None = None, conditions: int = 2, metrics: int = 3,
    layers: int = 14, failed: bool = True, undefined: tuple[str, ...] = (), untrained: tuple[str, ...] = (),
    optional: bool = True, only: tuple[int, ...] | None = None, notes: tuple[str, ...] = (), seed: int = 0,
) -> Path:  # fmt: skip
    """Write one study; `undefined` names encoders without a defined score, `only` chooses metrics by number."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    measures = [METRICS[k] for k in only] if only else list(METRICS[:metrics])
    encoders = [(name, family) for family, names in (families or FAMILIES).items() for name in names]
    tables: dict[str, list[dict[str, object]]] = {
        n: [] for n in ("alignment", "layers", "ranking", "controls", "tests")
    }
    base = {
        name: 0.45 + 0.1 * (len(encoders) - k) / len(encoders) * 4 * rng.random()
        for k, (name, _) in enumerate(encoders)
    }
    depth = {name: max(1, layers + (k % 3) * 2 - 2 if layers > 2 else layers) for k, (name, _) in enumerate(encoders)}
    for name, _ in encoders:
        tables["layers"] += _layers(name, depth[name])
    for k, (condition, *_) in enumerate(CONDITIONS[:conditions]):
        for m, measure in enumerate(measures):
            means = {}
            for name, _ in encoders:
                level = np.nan if name in undefined else base[name] - 0.08 * k - 0.07 * m
                scores = _scores(depth[name], level, rng)
                scores = scores if measure[3] else 1.3 * (1 - scores)
                tables["alignment"] += _pairs(condition, name, measure[0], scores)
                means[name] = float(np.mean(np.diagonal(scores)))
                if optional:
                    tables["controls"] += _controls(condition, name, measure[0], means[name], rng)
            tables["ranking"] += _ranking(condition, measure, dict(encoders), means, rng)
        if optional:
            for name, _ in encoders:
                tables["tests"] += _tests(condition, name, depth[name], rng)
    for name, rows in tables.items():
        if rows:
            pd.DataFrame(rows).to_csv(folder / f"{name}.csv", index=False)
    if optional:
        _map(folder, measures[0], encoders, undefined, rng)
    meta = _meta(folder, encoders, measures, conditions, failed, untrained, notes, optional)
    (folder / "study.json").write_text(json.dumps(meta, ensure_ascii=False), encoding="utf-8")
    return folder


def edit_many(folder: Path, **changes: object) -> None:
    meta = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    (folder / "study.json").write_text(json.dumps({**meta, **changes}, ensure_ascii=False), encoding="utf-8")


def _layers(name, count):
    return [
        {
            "encoder": name, "layer": f"blocks.{k}" if k else "patch_embed", "kind": "Block", "shape": "197×768",
            "depth": k / max(1, count - 1), "parameters": 7_087_872, "participation_ratio": 9.5,
            "largest_share": 0.1, "untrained": False,
        }
        for k in range(count)
    ]  # fmt: skip


def _scores(count, level, rng):
    z = np.linspace(0, 1, count)
    along = level * (1.2 - 0.55 * z + 0.1 * np.sin(5 * z + 8 * level)) if np.isfinite(level) else np.full(count, np.nan)
    near = np.exp(-((z[:, None] - z[None, :]) ** 2) / 0.12)
    return np.clip(np.sqrt(np.outer(along, along)) * near + 0.02 * rng.standard_normal((count, count)), -1, 1)


def _pairs(condition, name, metric, scores):
    layers = [row["layer"] for row in _layers(name, len(scores))]
    return [
        {
            "condition": condition, "encoder": name, "encoder_a": name, "filter_a": "", "layer_a": a, "encoder_b": name,
            "filter_b": condition, "layer_b": b, "metric": metric, "options": "{}", "n": 256, "value": v, "se": 0.02,
            "ci_low": v - 0.04, "ci_high": v + 0.04, "null_mean": 0.0, "p": 0.001, "p_adjusted": 0.002, "q": 0.001,
            "independent": np.nan, "untrained": "",
        }
        for a, row in zip(layers, scores, strict=True)
        for b, v in zip(layers, row, strict=True)
    ]  # fmt: skip


def _ranking(condition, measure, family, means, rng):
    sign = -1 if measure[3] else 1
    order = sorted(means, key=lambda name: (np.isnan(means[name]), sign * means[name]))
    best, rows = means[order[0]], []
    for k, name in enumerate(order):
        mean, known = means[name], not np.isnan(means[name])
        gap, p = mean - best, float(np.clip(np.exp(-90 * abs(mean - best)), 0.001, 1))
        rows.append(
            {
                "condition": condition, "metric": measure[0], "rank": k + 1, "encoder": name, "family": family[name],
                "n": 256, "n_groups": 32, "mean": mean, "mean_se": 0.02, "mean_low": mean - 0.03,
                "mean_high": mean + 0.04, "peak_layer": "blocks.2" if known else "", "peak": mean + 0.12,
                "held_layer": "blocks.1" if known else "", "held": mean + 0.09, "held_low": mean + 0.02,
                "held_high": mean + 0.15, "held_share": 0.65 if known else np.nan, "difference": gap,
                "difference_low": gap - 0.03 if k else 0,
                "difference_high": gap + 0.02 + 0.01 * rng.random() if k else 0,
                "p": p if k and known else np.nan, "p_adjusted": min(1, 2 * p) if k and known else np.nan,
                "note": "" if known else "no layer has a defined score, so it comes last",
            }
        )  # fmt: skip
    return rows


def _controls(condition, name, metric, mean, rng):
    rows = []
    for k, (spec, *_) in enumerate(CONTROLS):
        if spec:
            gap = float(-0.08 + 0.05 * k + 0.03 * rng.standard_normal())
            rows += [
                {
                    "condition": condition, "encoder": name, "control": spec, "metric": metric, "layer": layer,
                    "value": mean - gap, "se": 0.02, "ci_low": mean - gap - 0.03, "ci_high": mean - gap + 0.03,
                    "difference": gap, "difference_se": 0.01, "difference_low": gap - 0.03,
                    "difference_high": gap + 0.03,
                    "p": float(np.clip(np.exp(-60 * abs(gap)), 0.001, 1)), "note": "",
                }
                for layer in ("", "blocks.1")
            ]  # fmt: skip
    return rows


def _tests(condition, name, count, rng):
    rows = []
    for test, metric in (("mmd2", ""), ("energy", ""), ("mantel", "rsa")):
        for row in _layers(name, count):
            p = 0.001 if test == "mantel" else float(np.clip(rng.random() ** 4, 0.001, 1))
            rows.append(
                {
                    "condition": condition, "encoder": name, "test": test, "layer_a": row["layer"],
                    "layer_b": row["layer"], "metric": metric, "statistic": 0.02 + 0.1 * rng.random(),
                    "null_mean": 0.0003, "p": p, "p_adjusted": min(1.0, 3 * p), "q": p, "n": 256, "n_groups": 32,
                    "n_permutations": 999,
                    "note": "p can't rank encoders: both sides show the same scenes" if test == "mantel" else "",
                }
            )  # fmt: skip
    return rows


def _map(folder, measure, encoders, undefined, rng):
    names = [name for name, _ in encoders]
    families = list(dict.fromkeys(f for _, f in encoders))
    centres = rng.standard_normal((len(families), 6))
    places = np.array([centres[families.index(f)] for _, f in encoders])
    places += 0.5 * rng.standard_normal(places.shape)
    gaps = np.linalg.norm(places[:, None] - places[None], axis=-1)
    rows = [
        {
            "metric": measure[0], "encoder_a": a, "encoder_b": b,
            "similarity": np.nan if a != b and {a, b} & set(undefined) else 1 - 0.6 * gaps[i, j] / (gaps.max() or 1),
        }
        for i, a in enumerate(names)
        for j, b in enumerate(names)
    ]  # fmt: skip
    pd.DataFrame(rows).to_csv(folder / "map.csv", index=False)


def _meta(folder, encoders, measures, conditions, failed, untrained, notes, optional):
    described = [
        {
            "id": c, "label": label, "spec": spec, "data_b": None if spec else "cat/", "controls": optional,
            "control_filters": _control_filters() if optional else [], "difference": 0.0497 if spec else None,
            "clipped": 0.021 if spec else None, "notes": [], "reference": "Bonds 1972" if spec else "",
        }
        for c, label, spec in CONDITIONS[:conditions]
    ]  # fmt: skip
    stimuli = {
        "name": "bundled:photos:colour", "n": 256, "labels": None, "groups": {f"video {k}": 8 for k in range(32)},
        "fingerprint": "5b0c9d11aa27", "skipped": [],
        "notes": ["views of only 32 photographs; intervals over so few groups are illustrative"],
    }  # fmt: skip
    return {
        "format": 1,
        "kind": "study",
        "name": "purrturbed",
        "title": "Purrturbed but stable?",
        "paper_style": True,
        "created": "2026-03-04T10:21:07+00:00",
        "command": "repalign study experiments/purrturbed.toml --out purrturbed",
        "config": {"data": "bundled:photos:colour", "preset": "paper", "pool": "mean", "layers": "blocks"},
        "versions": {"repalign": "0.1.0", "torch": "2.9.0", "timm": "1.0.20", "numpy": "2.4.6"},
        "seed": 0,
        "metrics": [
            {
                "id": m, "name": name, "label": label, "options": {}, "bounds": [0, 1], "higher_is_similar": higher,
                "symmetric": True, "chance": "", "reference": reference,
            }
            for m, name, label, higher, reference in measures
        ],
        "level": 0.95,
        "n_permutations": 9999,
        "conditions": described,
        "families": list(dict.fromkeys(family for _, family in encoders)),
        "encoders": [_encoder(folder, name, family, conditions, untrained, optional) for name, family in encoders],
        "stimuli": {"a": stimuli},
        "failed": [{"name": "regnety_032", "family": "CNN", "error": "no weights in the cache, and no network"}]
        if failed
        else [],
        "choices": ["mean pooling over positions and tokens", "RBF width: the median over all pairs"],
        "notes": list(notes),
        "warnings": [],
        "thumbs": _thumbs(folder, conditions) if optional else [],
        "timings": {"extract": 412.3, "infer": 99.5},
    }  # fmt: skip


def _control_filters():
    return [
        {
            "spec": s,
            "label": label,
            "name": s.split(":")[0] or label,
            "difference": d,
            "ratio": r,
            "clipped": 0.0,
            "note": n,
        }
        for s, label, d, r, n in CONTROLS
    ]


def _encoder(folder, name, family, conditions, untrained, optional):
    report, transfer = {}, {}
    for condition, _, spec in CONDITIONS[:conditions]:
        part = folder / "parts" / name / condition
        part.mkdir(parents=True)
        (part / "report.html").write_text("its own report")
        report[condition] = f"parts/{name}/{condition}/report.html"
        fov = 8.0 if condition == "cat8" else 60.0
        left = {8.0: 0.02, 60.0: 0.66}[fov] if "small" not in name else 0.7
        if spec.startswith("cat") and optional:
            one = {"fov_deg": fov, "pixels": 224, "seen": 0.88, "extent": 1.0, "at_nyquist": left}
            transfer[condition] = [one]
    return {
        "id": name, "name": name, "family": family, "source": "timm", "fingerprint": f"3f9c07{len(name):02d}",
        "untrained": name in untrained, "parameters": 5_000_000 + 997 * len(name) ** 4, "input": "224×224",
        "notes": [], "transfer": transfer, "report": report,
    }  # fmt: skip


def _thumbs(folder, conditions, count=12):
    (folder / "thumbs").mkdir()
    listed = []
    for k in range(count):
        y, x = np.mgrid[0:96, 0:96] / 96.0
        picture = np.stack([0.5 + 0.5 * np.sin(6 * x + k), y, 0.5 + 0.5 * np.cos(4 * y - k)], -1)
        names = {c: f"thumbs/{k:03d}-{c}.png" for c, *_ in CONDITIONS[:conditions]}
        for c, file in [("", f"thumbs/{k:03d}.png"), *names.items()]:
            seen = picture if not c else picture.mean(-1, keepdims=True) * np.array([0.7, 0.8, 1.0])
            Image.fromarray((255 * seen).astype(np.uint8)).save(folder / file)
        group = GROUPS[k % len(GROUPS)]
        listed.append(
            {"file": f"thumbs/{k:03d}.png", "id": f"{group}/{k}", "group": group, "label": "", "copies": names}
        )
    return listed
