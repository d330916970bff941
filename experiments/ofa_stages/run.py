"""Does it matter which stages get a branch? Tune, then run every arm of every pair and seed; stops and goes on.

    python experiments/ofa_stages/run.py tune --data cifar10-jpeg.zip --out runs/ofa
    python experiments/ofa_stages/run.py run --data cifar10-jpeg.zip --out runs/ofa --worker 0 --workers 2

A job is one number of labels, one pair, one seed: its rows appear in `--out` when all of its arms are done, and a job
whose rows are there is not run again. `table.py` puts them together. The test pictures are read once for each run, at
its end; tuning and the rules see held-out training pictures only.
"""

import argparse
import csv
import itertools
import json
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import timm.layers
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1] / "pocket"))
sys.path.insert(0, str(Path(__file__).parent))
from deciding import Decision, decide, features
from pictures import HELD_OUT, Pictures, read_pictures
from training import Arm, Lesson, accuracy, labelled, predict, prepare_lesson, train

from repalign.encoders import load_encoder
from repalign.types import Encoder

HERE = Path(__file__).parent
TUNED = HERE / "tuned.csv"
STAGES = (1, 2, 3, 4)
SPLIT_SEED = 20261128  # which held-out pictures validate and which probe


def settings() -> dict[str, Any]:
    """Read the configuration."""
    return tomllib.loads((HERE / "config.toml").read_text(encoding="utf-8"))


def load_pictures(data: Path, out: Path) -> dict[str, Pictures]:
    """Give the parts: `train` (no held-out picture), `validation`, `probe` and `test`; decoded once, kept in `out`."""
    kept = out / "pictures.pt"
    if not kept.exists():
        out.mkdir(parents=True, exist_ok=True)
        both = {split: read_pictures(data, split) for split in ("train", "test")}
        torch.save({k: (p.pixels, p.labels, p.names) for k, p in both.items()}, kept.with_suffix(".part"))
        kept.with_suffix(".part").replace(kept)
    both = {k: Pictures(*parts) for k, parts in torch.load(kept, weights_only=True).items()}
    held = set(HELD_OUT.read_text().split())
    own = np.array([name in held for name in both["train"].names])
    inside = torch.from_numpy(np.flatnonzero(own))
    inside = inside[torch.randperm(len(inside), generator=torch.Generator().manual_seed(SPLIT_SEED))]
    config = settings()["pictures"]
    first, last = config["validation"], config["validation"] + config["probe"]
    return {
        "train": both["train"].subset(torch.from_numpy(np.flatnonzero(~own))),
        "validation": both["train"].subset(inside[:first]),
        "probe": both["train"].subset(inside[first:last]),
        "test": both["test"],
    }


def load_teacher(name: str) -> nn.Module:
    """Load a pocket encoder."""
    encoder = load_encoder(f"pocket:{name}")
    assert isinstance(encoder, Encoder)
    return encoder.module


def lesson_of(parts: dict[str, Pictures], teacher: nn.Module, labels: int, seed: int) -> Lesson:
    """Draw the labelled pictures of a seed with their views."""
    return prepare_lesson(labelled(parts["train"], labels, seed), teacher, settings()["pictures"]["views"], seed)


def tune(parts: dict[str, Pictures]) -> None:
    """Choose learning rate and weights for each pair on the validation pictures; a pair that is there is kept."""
    config = settings()
    rows = read_rows(TUNED)
    for pair, (teacher_name, student_name) in config["pairs"].items():
        if any(row["pair"] == pair and row["what"] == "branches_weight" for row in rows):
            continue
        rows = [row for row in rows if row["pair"] != pair]
        teacher = load_teacher(teacher_name)
        lessons = {seed: lesson_of(parts, teacher, 500, seed) for seed in config["tuning_seeds"]}
        chosen: dict[str, float] = {}
        for what, values in config["tuning"].items():
            for value in values:
                trial = {**chosen, what: value}
                arm = _tuned_arm(what, trial)
                scores = []
                for seed, lesson in lessons.items():
                    done = train(
                        student_name, teacher, arm, lesson, config, config["regimes"]["500"]["epochs"],
                        trial["learning_rate"], seed,
                    )  # fmt: skip
                    scores.append(accuracy(done.student, parts["validation"]))
                rows.append({"pair": pair, "what": what, "value": value, "validation": f"{np.mean(scores):.4f}"})
            own = [row for row in rows if row["pair"] == pair and row["what"] == what]
            chosen[what] = float(max(own, key=lambda row: float(row["validation"]))["value"])
            print(pair, what, chosen[what], [row["validation"] for row in own], flush=True)
        write_rows(TUNED, rows)


def _tuned_arm(what: str, trial: dict[str, float]) -> Arm:
    match what:
        case "learning_rate":
            return Arm("ce")
        case "kd_weight":
            return Arm("kd", kd=trial["kd_weight"])
        case "logits_weight":
            return Arm("ofa", logits=trial["logits_weight"])
        case _:
            return Arm("ofa1234", STAGES, trial["logits_weight"], trial["branches_weight"])


def run_jobs(parts: dict[str, Pictures], out: Path, worker: int, workers: int, regime: str | None) -> None:
    """Run this worker's share of the jobs, seed by seed."""
    config = settings()
    names = [regime] if regime else list(config["regimes"])
    jobs = [(labels, seed, pair) for labels in names for seed in config["seeds"] for pair in config["pairs"]]
    for labels, seed, pair in jobs[worker::workers]:
        file = out / f"{labels}-{pair.replace('→', '-')}-{seed}.csv"
        if not file.exists():
            rows = list(_job(parts, config, labels, seed, pair, file.with_suffix(".json")))
            write_rows(file, rows)


def _job(
    parts: dict[str, Pictures], config: dict[str, Any], labels: str, seed: int, pair: str, decisions: Path
) -> Iterator[dict[str, object]]:
    """Run all arms of a job; the student alone comes first, and the rules look at it."""
    teacher_name, student_name = config["pairs"][pair]
    teacher, regime = load_teacher(teacher_name), config["regimes"][labels]
    tuned = chosen(pair)
    lesson = lesson_of(parts, teacher, int(labels), seed)
    found: list[Decision] = []
    for number, arm in enumerate(_arms(tuned, regime["arms"], found)):
        done = train(student_name, teacher, arm, lesson, config, regime["epochs"], tuned["learning_rate"], seed)
        if number == 0:
            found += _look(done.student, teacher, parts, config, decisions)
        top = predict(done.student, parts["test"].pixels).argmax(1)
        yield {
            "labels": labels, "pair": pair, "seed": seed, "arm": arm.name,
            "test": f"{float((top == parts['test'].labels).double().mean()):.4f}", "loss": f"{done.loss:.4f}",
            "head_parameters": done.head_parameters, "seconds": f"{done.seconds:.1f}",
        }  # fmt: skip
        print(labels, pair, seed, arm.name, f"{done.seconds:.1f} s", flush=True)


def _look(
    student: nn.Module, teacher: nn.Module, parts: dict[str, Pictures], config: dict[str, Any], file: Path
) -> list[Decision]:
    """Let the rules decide on the probe pictures, and keep what they saw."""
    pixels = parts["probe"].pixels
    found, numbers = decide(features(student, pixels), features(teacher, pixels), config["methods"]["tau"])
    told = [{"rule": d.rule, "kept": d.kept, "anti": d.anti, "sufficient": d.sufficient} for d in found]
    file.write_text(json.dumps({"decisions": told, **numbers}) + "\n")
    return found


def _arms(tuned: dict[str, float], which: str, found: list[Decision]) -> Iterator[Arm]:
    """List the arms; what the rules found is there once the first arm is done."""
    yield Arm("ce")
    yield Arm("kd", kd=tuned["kd_weight"])
    yield Arm("ofa", logits=tuned["logits_weight"])
    chosen = [(4,), STAGES, *(d.kept for d in found), *(d.anti for d in found)]
    if which == "sizes":
        chosen += [s for size in {len(d.kept) for d in found} for s in itertools.combinations(STAGES, size)]
    for subset in sorted({s for s in chosen if s}, key=lambda s: (len(s), s)):
        name = "ofa" + "".join(map(str, subset))
        yield Arm(name, subset, tuned["logits_weight"], tuned["branches_weight"])


def chosen(pair: str) -> dict[str, float]:
    """Give what tuning chose for a pair: of equal scores the first."""
    rows = [row for row in read_rows(TUNED) if row["pair"] == pair]
    if not rows:
        raise SystemExit(f"{pair} is not tuned; run: run.py tune")
    best: dict[str, dict[str, str]] = {}
    for row in rows:
        if row["what"] not in best or float(row["validation"]) > float(best[row["what"]]["validation"]):
            best[row["what"]] = row
    return {what: float(row["value"]) for what, row in best.items()}


def read_rows(file: Path) -> list[dict[str, Any]]:
    """Read a table; an absent one has no rows."""
    if not file.exists():
        return []
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


def write_rows(file: Path, rows: list[dict[str, Any]]) -> None:
    """Write a table whole or not at all."""
    part = file.with_suffix(".part")
    with part.open("w", newline="") as opened:
        writer = csv.DictWriter(opened, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    part.replace(file)


def main() -> None:
    """Read the arguments and tune or run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=["tune", "run"])
    parser.add_argument("--data", type=Path, required=True, help="folder or zip with train|test/CLASS/*.jpg")
    parser.add_argument("--out", type=Path, required=True, help="rows of each job, and the decoded pictures")
    parser.add_argument("--worker", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--regime", help="one number of labels only")
    options = parser.parse_args()
    torch.set_num_threads(1)
    timm.layers.set_fused_attn(False)
    parts = load_pictures(options.data, options.out)
    if options.what == "tune":
        tune(parts)
    else:
        run_jobs(parts, options.out, options.worker, options.workers, options.regime)


if __name__ == "__main__":
    main()
