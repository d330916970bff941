"""Run folders with made-up but plausible numbers."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
from fake_diagnosis import RESNET, STAGES, VIT, fake_diagnosis

from repalign.distill.recipe import Recipe

ACCURACIES = {"before": (0.452, 0.449), "last": (0.702, 0.694), "best": (0.718, 0.691), "teacher": (0.886, 0.881)}


def fake_distillation(
    folder: Path,
    epochs: int = 30,
    *,
    planned: int | None = None,
    method: str = "ofa",
    teacher: bool = True,
    test: bool = True,
    diagnosed: bool = True,
    aligned: bool = True,
    state: str = "finished",
    stages: tuple[int, ...] = (3, 4),
    seed: int = 0,
) -> Path:
    """Write one run of so many epochs into `folder` and return it."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    (folder / "log.jsonl").write_text("".join(map(_json, _log(epochs, method, stages, rng))))
    if aligned and teacher:
        measured = sorted({0, *range(5, epochs + 1, 5), epochs})
        (folder / "alignment.jsonl").write_text("".join(map(_json, _alignment(measured))))
    if diagnosed and teacher:
        fake_diagnosis(folder / "before", blocks=False)
        if state == "finished":
            fake_diagnosis(folder / "after", np.clip(np.array(STAGES) + 0.08, -1, 1), blocks=False)
    meta = _meta(epochs if planned is None else planned, method, teacher, stages, state)
    meta["data"]["parts"] = {name: part for name, part in meta["data"]["parts"].items() if test or name != "test"}
    meta["results"] = _results(epochs, teacher, test) if state == "finished" else {}
    (folder / "run.json").write_text(json.dumps(meta), encoding="utf-8")
    return folder


def _json(values: dict) -> str:
    return json.dumps(values) + "\n"


def _log(epochs, method, stages, rng):
    parts = {"ground_truth": 2.1, "logits": 2.3} if method != "ce" else {"ground_truth": 2.1}
    parts |= {f"stage{k}": 2.4 - 0.1 * k for k in stages} if method == "ofa" else {}
    for epoch in range(1, epochs + 1):
        share = 1 - np.exp(-4 * epoch / 30)
        losses = {name: start * (1 - 0.7 * share) + 0.02 * rng.standard_normal() for name, start in parts.items()}
        accuracy = 0.4 + 0.31 * share + 0.01 * rng.standard_normal()
        yield {
            "epoch": epoch, "seconds": 9.5, "lr": 1e-3 * (1 + np.cos(np.pi * epoch / 31)) / 2, "losses": losses,
            "train_loss": sum(losses.values()), "validation_accuracy": accuracy, "validation_nll": 1.0,
            "gradient_norm": 2.0,
        }  # fmt: skip


def _alignment(measured: list[int]):
    for epoch in measured:
        scores = np.array(STAGES) + 0.002 * epoch * np.eye(4) - 0.001 * epoch * np.eye(4)[::-1]
        for i, student in enumerate(VIT):
            for j, teacher in enumerate(RESNET):
                yield {
                    "epoch": epoch, "stage_student": i + 1, "stage_teacher": j + 1, "layer_student": student,
                    "layer_teacher": teacher, "value": float(scores[i, j]),
                }  # fmt: skip


def _results(epochs: int, teacher: bool, test: bool) -> dict:
    results = {}
    for name, accuracies in ACCURACIES.items():
        if teacher or name != "teacher":
            results[name] = {"epoch": {"last": epochs, "best": max(1, epochs - 4)}.get(name, 0)}
            for part, accuracy in zip(("validation", "test")[: 1 + test], accuracies, strict=False):
                results[name] |= {f"{part}_accuracy": accuracy, f"{part}_accuracy_se": 0.0064, f"{part}_n": 5000}
    return results


def _network(name: str, untrained: bool = False) -> dict:
    return {
        "name": name, "source": name, "fingerprint": "9f3c07be21d4", "untrained": untrained, "classes": 10,
        "parameters": 701_466, "input_size": [32, 32], "notes": [],
    }  # fmt: skip


def _meta(planned: int, method: str, teacher: bool, stages: tuple[int, ...], state: str) -> dict:
    named = {"student": "pocket:vit", "data": "cifar/", "teacher": "pocket:resnet" if teacher else None}
    options = {"ofa": {"stages": list(stages), "gamma": 1.0}, "ce": {}}.get(method, {"temperature": 4.0})
    parts = {"train": 45_000, "validation": 5000, "test": 10_000}
    return {
        "format": 1, "kind": "distillation", "state": state, "created": "2026-03-04T10:21:07+00:00", "seed": 0,
        "command": "repalign distill --config diagnosis/distill.toml --out run",
        "versions": {"repalign": "0.1.0", "torch": "2.14.0"}, "recipe": asdict(Recipe(epochs=planned)),
        "configuration": {**named, "method": method, "options": options, "labels": None, "evidence": {"rule": "gap"}},
        "teacher": _network("pocket:resnet") if teacher else None, "student": _network("pocket:vit"),
        "data": {
            "classes": [f"class {k}" for k in range(10)], "notes": [],
            "parts": {name: {"name": f"cifar/{name}", "n": n, "fingerprint": "5b0c"} for name, n in parts.items()},
        },
        "notes": ["5,000 of 50,000 training pictures are set aside for validation (seed 0)"],
        "stages": [{"number": k, "layer": VIT[k - 1], "branch": method == "ofa" and k in stages} for k in (1, 2, 3, 4)],
        "added_parameters": 297_000 if method == "ofa" else 0, "timings": {"training": 285.0},
    }  # fmt: skip
