"""Why does KD lead: its temperature, its weight, its form? Tunes and runs each combination, pair by pair; goes on.

    python experiments/ofa_stages/apart.py --data cifar10-jpeg.zip --out runs/ofa --worker 0 --workers 2
    python experiments/ofa_stages/apart.py --out runs/ofa           # puts the rows together: apart.csv and apart.md

At γ = 1 the loss of OFA for the logits is the cross-entropy with the label plus that with the teacher, so at T = 1 it
differs from KD only in how heavy the label is; at T = 4 the label's part is softened too.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import timm.layers
import torch

sys.path.insert(0, str(Path(__file__).parent))
import run
from run import HERE, STAGES, lesson_of, load_pictures, load_teacher
from table import Contrast, between, contrast_rows, markdown
from torch import nn
from training import Arm, Lesson, accuracy, train

CONTRASTS = (
    *(
        Contrast(f"{arm} − student alone", between(arm, "ce"))
        for arm in ("kd-1", "kd-4", "ofa-1", "ofa-4", "all-4", "all-code")
    ),
    Contrast("temperature: kd-4 − kd-1", between("kd-4", "kd-1")),
    Contrast("temperature: ofa-4 − ofa-1", between("ofa-4", "ofa-1")),
    Contrast("form: kd-1 − ofa-1", between("kd-1", "ofa-1")),
    Contrast("form: kd-4 − ofa-4", between("kd-4", "ofa-4")),
    Contrast("branches: all-4 − ofa-4", between("all-4", "ofa-4")),
    Contrast("branches: all-code − kd-1", between("all-code", "kd-1")),
    Contrast("all-code − kd-4", between("all-code", "kd-4")),
)


def train_arm(
    name: str, weight: float, beside: float, pair: str, teacher: nn.Module, lesson: Lesson, seed: int
) -> nn.Module:
    """Train one arm; `beside` is the weight of the logits where `weight` is that of branches. Both count times T²."""
    config = run.settings()
    form, temperature, variant, _ = config["apart"]["arms"][name]
    config["methods"] |= {"kd_temperature": temperature, "ofa_temperature": temperature, "ofa_variant": variant}
    scaled, scaled_beside = weight * temperature**2, beside * temperature**2
    arm = {
        "kd": Arm(name, kd=weight),  # whose loss has the factor T² already
        "ofa": Arm(name, logits=scaled),
        "branches": Arm(name, STAGES, scaled_beside, scaled),
    }[form]
    epochs, rate = config["regimes"][str(config["apart"]["labels"])]["epochs"], run.chosen(pair)["learning_rate"]
    return train(config["pairs"][pair][1], teacher, arm, lesson, config, epochs, rate, seed).student


def tune_pair(parts: dict[str, Any], pair: str, teacher: nn.Module, file: Path) -> None:
    """Try every weight of every arm on the validation pictures; of equal ones the first is chosen."""
    config, rows = run.settings(), run.read_rows(file)
    lessons = {seed: lesson_of(parts, teacher, config["apart"]["labels"], seed) for seed in config["tuning_seeds"]}
    for name, (*_, logits) in config["apart"]["arms"].items():
        beside = best_weight(rows, logits) if logits else 0.0
        for weight in config["apart"]["weights"]:
            if any(row["arm"] == name and float(row["weight"]) == weight for row in rows):
                continue
            scores = [
                accuracy(train_arm(name, weight, beside, pair, teacher, lesson, seed), parts["validation"])
                for seed, lesson in lessons.items()
            ]
            rows.append({"pair": pair, "arm": name, "weight": weight, "validation": f"{np.mean(scores):.4f}"})
            run.write_rows(file, rows)
            print(pair, name, weight, rows[-1]["validation"], flush=True)


def best_weight(rows: list[dict[str, Any]], name: str) -> float:
    """Give the weight that tuning chose for an arm."""
    return float(max((r for r in rows if r["arm"] == name), key=lambda r: float(r["validation"]))["weight"])


def run_pair(parts: dict[str, Any], pair: str, teacher: nn.Module, out: Path) -> None:
    """Run every arm at its best weight with every seed; the test pictures are read after a run's last epoch."""
    config, tuned = run.settings(), run.read_rows(_file(out, "tuned", pair))
    best = {name: best_weight(tuned, name) for name in config["apart"]["arms"]}
    for seed in config["seeds"]:
        rows = run.read_rows(file := _file(out, str(seed), pair))
        left = [name for name in best if name not in {row["arm"] for row in rows}]
        if not left:
            continue
        lesson = lesson_of(parts, teacher, config["apart"]["labels"], seed)
        for name in left:
            beside = best.get(config["apart"]["arms"][name][-1], 0.0)
            score = accuracy(train_arm(name, best[name], beside, pair, teacher, lesson, seed), parts["test"])
            start = {"labels": config["apart"]["labels"], "pair": pair, "seed": seed}
            rows.append({**start, "arm": name, "weight": best[name], "test": f"{score:.4f}"})
            run.write_rows(file, rows)
            print(pair, seed, name, score, flush=True)


def _file(out: Path, what: str, pair: str) -> Path:
    return out / "apart" / f"{what}-{pair.replace('→', '-')}.csv"


def gather(out: Path) -> None:
    """Write apart_tuned.csv, apart.csv and apart.md; the student alone is that of results.csv, with the same seeds."""
    files = sorted((out / "apart").glob("*-*.csv"))
    tuned = pd.concat([pd.read_csv(f) for f in files if f.stem.startswith("tuned")], ignore_index=True)
    rows = pd.concat([pd.read_csv(f) for f in files if not f.stem.startswith("tuned")], ignore_index=True)
    order = ["labels", "pair", "seed"]
    tuned.to_csv(HERE / "apart_tuned.csv", index=False)
    rows.sort_values(order, kind="stable").to_csv(HERE / "apart.csv", index=False)
    alone = pd.read_csv(HERE / "results.csv").query("arm == 'ce'")
    both = pd.concat([alone[alone.labels.isin(rows.labels)], rows], ignore_index=True)
    found = {key: (dict(zip(own.arm, 100 * own.test, strict=True)), {}) for key, own in both.groupby(order)}
    tables = [contrast_rows(found, labels, CONTRASTS) for labels in sorted(set(rows.labels))]
    weights = tuned.pivot_table("validation", ["pair", "arm"], "weight", sort=False).map(lambda v: f"{100 * v:.2f}")
    flat = weights.reset_index().astype(str)
    (HERE / "apart.md").write_text(
        "\n\n".join(
            [
                *map(markdown, tables), "Validation accuracy of each weight, two seeds, in per cent:",
                markdown([list(map(str, flat.columns)), *flat.to_numpy().tolist()]),
            ]
        )
        + "\n",
        encoding="utf-8",
    )  # fmt: skip


def main() -> None:
    """Tune and run this worker's pairs; without `--data` put together what there is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, help="cifar10-jpeg.zip; without it the rows are put together")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--worker", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    if options.data is None:
        gather(options.out)
        return
    torch.set_num_threads(1)
    timm.layers.set_fused_attn(False)
    parts = load_pictures(options.data, options.out)
    (options.out / "apart").mkdir(exist_ok=True)
    for pair, (teacher_name, _) in list(run.settings()["pairs"].items())[options.worker :: options.workers]:
        teacher = load_teacher(teacher_name)
        tune_pair(parts, pair, teacher, _file(options.out, "tuned", pair))
        run_pair(parts, pair, teacher, options.out)


if __name__ == "__main__":
    main()
