"""Diagnosis folders with made-up but plausible numbers."""

import csv
import json
from pathlib import Path

import numpy as np

from repalign.distill.rules import gap, knee, lag, monotone_path, proportional

VIT = ("blocks.0", "blocks.1", "blocks.3", "blocks.5")
RESNET = ("layer1.1", "layer2.1", "layer3.1", "layer4.1")
BLOCKS = {"vit": [f"blocks.{k}" for k in range(6)], "resnet": [f"layer{s}.{k}" for s in (1, 2, 3, 4) for k in (0, 1)]}
STAGES = (
    [0.88, 0.71, 0.42, 0.21],
    [0.70, 0.74, 0.55, 0.33],
    [0.31, 0.52, 0.49, 0.41],
    [0.04, 0.16, 0.30, 0.47],
)
FLOPS, PARAMETERS = (31e6, 14e6, 5.2e6, 0.9e6), (412_000, 301_000, 198_000, 99_000)
TOML = """format = 1
teacher = "pocket:resnet"
student = "pocket:vit@warm/student.safetensors"
data = "cifar/"
method = "ofa"

[options]
stages = [4]
gamma = 1.0
variant = "paper"
temperature = 1.0

[evidence]
rule = "gap"
tau = 0.4
"""


def fake_diagnosis(
    folder: Path,
    scores=STAGES,
    *,
    intervals: bool = True,
    labels: bool = True,
    untrained: str = "",
    blocks: bool = True,
    penultimate: bool = True,
    half: float = 0.06,
    warnings: tuple[str, ...] = (),
    verdict: dict | None = None,
    seed: int = 0,
) -> Path:
    """Write one diagnosis of `scores` (student × teacher stages) into `folder` and return it."""
    folder.mkdir(parents=True)
    scores = np.array(scores, dtype=float)
    student, teacher = _stages("student", scores.shape[0]), _stages("teacher", scores.shape[1])
    _write(folder / "stages.csv", [*teacher, *student])
    to_last = np.clip(0.1 + 0.5 * np.linspace(0, 1, len(student)) ** 3, -1, 1)
    rows = _pairs("stage", student, teacher, scores, intervals, half, seed)
    if blocks:
        names = [[{"layer": layer, "stage": ""} for layer in BLOCKS[kind]] for kind in ("vit", "resnet")]
        rows += _pairs("block", *names, _blocks(6, 8, seed), intervals, half, seed)
    if penultimate:
        head = [{"layer": "global_pool", "stage": "penultimate"}]
        rows += _pairs("penultimate", student, head, to_last[:, None], intervals, half / 2, seed)[: len(student)]
    _write(folder / "alignment.csv", rows)
    _write(folder / "heads.csv", [_head(k, row) for k, row in enumerate(student)])
    if labels:
        _write(folder / "probe.csv", _probes(student))
    (folder / "distill.toml").write_text(TOML, encoding="utf-8")
    meta = _meta(scores, to_last, half, labels, untrained, warnings)
    (folder / "diagnosis.json").write_text(json.dumps({**meta, **({"verdict": verdict} if verdict else {})}))
    return folder


def edit_json(file: Path, **changes: object) -> None:
    """Change top-level keys of a JSON file; None takes a key away."""
    meta = {**json.loads(file.read_text(encoding="utf-8")), **changes}
    file.write_text(json.dumps({k: v for k, v in meta.items() if v is not None}), encoding="utf-8")


def edit_csv(file: Path, change) -> None:
    """Rewrite the rows of a table, dictionaries by column."""
    with file.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    _write(file, change(rows))


def _write(file: Path, rows: list[dict]) -> None:
    with file.open("w", newline="", encoding="utf-8") as stream:
        out = csv.DictWriter(stream, list(rows[0]))
        out.writeheader()
        out.writerows(rows)


def _stages(side: str, count: int) -> list[dict]:
    names = VIT if side == "student" else RESNET
    return [
        {
            "side": side, "stage": k + 1, "layer": names[k], "kind": "Block", "shape": "65×128", "grid": "8×8",
            "depth": (k + 1) / count, "parameters": 198_000,
        }
        for k in range(count)
    ]  # fmt: skip


def _pairs(level, student, teacher, scores, intervals, half, seed):
    rng = np.random.default_rng(seed)
    metrics = ("cka_linear",) if level == "penultimate" else ("cka_linear", "rsa")
    rows = []
    for metric in metrics:
        for i, s in enumerate(student):
            for j, t in enumerate(teacher):
                value = scores[i, j] if metric == "cka_linear" else 0.85 * scores[i, j] + 0.02 * rng.standard_normal()
                row = {
                    "level": level, "metric": metric, "layer_student": s["layer"], "layer_teacher": t["layer"],
                    "stage_student": s["stage"], "stage_teacher": t["stage"], "n": 1000, "value": value, "se": "",
                    "ci_low": "", "ci_high": "", "null_mean": 0.001, "p": 0.0005 if value > 0.1 else 0.4,
                    "untrained_value": 0.9 * scores[i, 0] if level == "stage" and metric == "cka_linear" else "",
                }  # fmt: skip
                if intervals:
                    row |= {"se": half / 2, "ci_low": value - half, "ci_high": value + half}
                rows.append({k: "" if v != v else v for k, v in row.items()})
    return rows


def _blocks(ls: int, lt: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    zs, zt = np.linspace(0, 1, ls), np.linspace(0, 1, lt)
    near = np.exp(-((zs[:, None] - zt[None, :] - 0.1) ** 2) / 0.12)
    return 0.9 * near * (1 - 0.5 * zs[:, None]) - 0.04 + 0.02 * rng.standard_normal((ls, lt))


def _head(k: int, row: dict) -> dict:
    own, passes = PARAMETERS[k], FLOPS[k]
    return {
        "stage": row["stage"], "layer": row["layer"], "parameters": own, "flops": passes,
        "share_of_student_parameters": own / 1.21e6, "share_of_student_flops": passes / 80e6,
    }  # fmt: skip


def _probes(student: list[dict]) -> list[dict]:
    sizes = {"se": 0.011, "n_train": 2000, "n_test": 1000}
    probes = [
        {"stage": s["stage"], "layer": s["layer"], "accuracy": 0.38 + 0.09 * k, **sizes} for k, s in enumerate(student)
    ]
    return [*probes, {"stage": "teacher", "layer": "global_pool", "accuracy": 0.874, **sizes}]


def _rules(scores: np.ndarray, to_last: np.ndarray, half: float) -> list[dict]:
    pairs = [proportional(k + 1, *scores.shape) - 1 for k in range(len(scores))]
    along = scores[np.arange(len(scores)), pairs]
    found = [
        gap(along, along - half, along + half),
        lag(scores, scores - half, scores + half),
        knee(to_last, to_last - half / 2, to_last + half / 2),
    ]
    sources = ("this project's, from OFA-KD's premise", "this project's; LoRASuite", "Satopää et al. 2011")
    return [
        {
            "rule": one.rule, "source": source, "kept": list(one.kept), "sufficient": one.sufficient, "why": one.why,
            "reasons": list(one.reasons),
        }
        for one, source in zip(found, sources, strict=True)
    ]  # fmt: skip


def _sentences(method: str, kept: list[int], rule: dict) -> list[str]:
    first = {"ofa": f"Distil with OFA-KD with branches at {kept}.", "kd": "Distil with the logits alone (KD)."}
    reasons = [f"S{reason[1:]}." for reason in rule["reasons"]]
    return [first.get(method, "Insufficient evidence to choose stages by the rule gap."), *reasons]


def _network(name: str, source: str, untrained: bool) -> dict:
    return {
        "name": name, "source": source, "fingerprint": "9f3c07be21d4", "untrained": untrained, "classes": 10,
        "parameters": 1_213_440, "input_size": [32, 32],
    }  # fmt: skip


def _meta(scores, to_last, half, labels, untrained, warnings) -> dict:
    rules = _rules(scores, to_last, half)
    kept = rules[0]["kept"]
    method = "ofa" if kept else "kd" if rules[0]["sufficient"] else "insufficient"
    finite = np.isfinite(scores).all()
    ways = [[k + 1, j] for k, j in enumerate(monotone_path(scores))] if finite else []
    teacher = {"accuracy": 0.886, "accuracy_se": 0.0101, "nll": 0.362, "ece": 0.031}
    student = {"accuracy": 0.702, "accuracy_se": 0.0145, "nll": 0.861, "ece": 0.058}
    names = ["airplane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    return {
        "format": 1, "kind": "diagnosis", "created": "2026-03-04T10:21:07+00:00", "seed": 0,
        "command": "repalign diagnose --teacher pocket:resnet --student pocket:vit --data cifar/ --out diagnosis",
        "versions": {"repalign": "0.1.0", "torch": "2.14.0", "timm": "1.0.31"},
        "teacher": _network("pocket:resnet", "pocket", "teacher" in untrained),
        "student": _network("pocket:vit", "pocket", "student" in untrained),
        "data": {
            "name": "cifar/", "n": 5000, "labelled": labels, "classes": names if labels else None, "groups": None,
            "fingerprint": "5b0c9d11aa27",
        },
        "pictures": {"alignment": 1000, "evaluated": 1000, "probe_train": 2000, "probe_test": 1000},
        "teacher_logits": teacher if labels else None, "student_logits": student if labels else None,
        "difference": {"value": 0.184, "ci_low": 0.151, "ci_high": 0.217} if labels else None,
        "disagreement": 0.273, "chance": 0.1 if labels else None,
        "logits": {
            "teacher_min": -9.1, "teacher_max": 17.4, "teacher_gap_max": 22.6, "student_gap_max": 14.9,
            "float16_overflow": False, "naive_log_softmax_overflow": False,
            "said": "The teacher's logits stay within 22.6 of each other: float16 and any log-softmax hold them.",
        },
        "settings": {"metric": "cka_linear", "tau": 0.4, "pictures": 2000, "rule": "gap"},
        "inference": {"cka_linear": {"interval": "jackknife", "n_groups": None, "n_permutations": 199, "notes": []}},
        "rules": rules, "path": ways,
        "verdict": {
            "method": method, "stages": kept, "rule": "gap", "gamma": [1.0], "temperature": 1.0,
            "weights": {"ground_truth": 1, "logits": 1, "branches": 1},
            "sentences": _sentences(method, kept, rules[0]),
        },
        "warnings": list(warnings), "timings": {"features": 11.9, "probes": 4.2, "similarities": 1.1},
    }  # fmt: skip
