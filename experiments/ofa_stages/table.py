"""Put the rows of all jobs together: results.csv, decisions.csv, table.md, figure.png and .svg beside this file.

    python experiments/ofa_stages/table.py --out runs/ofa       # from the jobs' rows
    python experiments/ofa_stages/table.py                      # from the committed results.csv and decisions.csv

Differences are paired: runs of one seed share labelled pictures, views, order and initial weights. An interval is that
of the mean over seeds (t, 95 %); pooled lines first average a seed's pairs, whose runs share pictures.
"""

import argparse
import json
import sys
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

sys.path.insert(0, str(Path(__file__).parents[1] / "pocket"))
sys.path.insert(0, str(Path(__file__).parent))
from deciding import decisions as rules
from drawing import draw

HERE = Path(__file__).parent
RULES = ("gap", "lag", "knee")
Accuracies = dict[str, float]  # of one job: per cent on the test pictures, by arm
Kept = dict[str, str]  # of one job: the arm that each rule chose


@dataclass(frozen=True)
class Contrast:
    """A paired comparison: what it says, and how a job's arms give it; None where the job says nothing of it."""

    said: str
    of: Callable[[Accuracies, Kept], float | None]


def between(one: str, other: str) -> Callable[[Accuracies, Kept], float | None]:
    """Give the difference of two arms, each the name of an arm or of a rule."""

    def difference(arms: Accuracies, kept: Kept) -> float | None:
        left, right = (arms.get(kept.get(name, name)) for name in (one, other))
        return None if left is None or right is None else left - right

    return difference


def against_subsets(rule: str) -> Callable[[Accuracies, Kept], float | None]:
    """Give a rule's arm less the mean of every subset of the same size; nothing where there is only one."""

    def difference(arms: Accuracies, kept: Kept) -> float | None:
        chosen = kept.get(rule, "")
        same = [value for arm, value in arms.items() if arm.startswith("ofa") and len(arm) == len(chosen)]
        enough = {4: 4, 5: 6, 6: 4}.get(len(chosen))  # subsets of one, two and three of four stages
        return arms[chosen] - float(np.mean(same)) if len(same) == enough else None

    return difference


CONTRASTS = (
    Contrast("KD − student alone", between("kd", "ce")),
    Contrast("OFA, logits only − student alone", between("ofa", "ce")),
    Contrast("OFA, all stages − student alone", between("ofa1234", "ce")),
    Contrast("OFA, logits only − KD", between("ofa", "kd")),
    Contrast("OFA, all stages − KD", between("ofa1234", "kd")),
    Contrast("OFA, all stages − logits only", between("ofa1234", "ofa")),
    Contrast("OFA, last stage − logits only", between("ofa4", "ofa")),
    Contrast("OFA, last stage − all stages", between("ofa4", "ofa1234")),
    *(Contrast(f"{rule} − mean of the subsets of its size", against_subsets(rule)) for rule in RULES),
    *(Contrast(f"{rule} − all stages", between(rule, "ofa1234")) for rule in RULES),
    *(Contrast(f"{rule} − logits only", between(rule, "ofa")) for rule in RULES),
    *(Contrast(f"{rule} − its opposite", between(rule, f"anti-{rule}")) for rule in RULES),
)


def gather(out: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read the rows of every finished job, and what the rules decided in it."""
    tau = tomllib.loads(Path(__file__).with_name("config.toml").read_text(encoding="utf-8"))["methods"]["tau"]
    files = sorted(out.glob("*-*.csv"))
    rows = pd.concat([pd.read_csv(file) for file in files], ignore_index=True)
    decisions = []
    for file in files:
        labels, rest = file.stem.split("-", 1)
        pair, seed = rest.rsplit("-", 1)
        seen = json.loads(file.with_suffix(".json").read_text())
        scores = np.column_stack([seen["cka"], seen["penultimate"]])
        intervals = np.array(seen["ci_low"]), np.array(seen["ci_high"])
        for one in rules(scores, *intervals, tau):
            decisions.append(
                {
                    "labels": int(labels), "pair": pair.replace("-", "→"), "seed": int(seed), "rule": one.rule,
                    "kept": arm_of(one.kept), "opposite": arm_of(one.anti), "sufficient": one.sufficient,
                    "cka": json.dumps(np.round(seen["cka"], 4).tolist()),
                    "penultimate": json.dumps(np.round(seen["penultimate"], 4).tolist()),
                }
            )  # fmt: skip
    order = ["labels", "pair", "seed"]
    return rows.sort_values(order, kind="stable"), pd.DataFrame(decisions).sort_values(order, kind="stable")


def arm_of(stages: Sequence[int]) -> str:
    """Name the arm of some stages: `ofa13`, and `ofa` where none is kept."""
    return "ofa" + "".join(map(str, stages))


def jobs(rows: pd.DataFrame, decisions: pd.DataFrame) -> dict[tuple[int, str, int], tuple[Accuracies, Kept]]:
    """Give each job's accuracies in per cent by arm, and the arms that rules and their opposites chose, if they did."""
    found = {}
    for key, own in rows.groupby(["labels", "pair", "seed"]):
        labels, pair, seed = key  # type: ignore[misc]
        told = decisions[(decisions.labels == labels) & (decisions.pair == pair) & (decisions.seed == seed)]
        told = told[told.sufficient]
        kept = dict(zip(told.rule, told.kept, strict=True))
        kept |= {f"anti-{rule}": arm for rule, arm in zip(told.rule, told.opposite, strict=True)}
        found[(labels, pair, seed)] = (dict(zip(own.arm, 100 * own.test, strict=True)), kept)
    return found


def summary(values: list[float]) -> str:
    """Write a mean with its interval over seeds, and how many there are."""
    if not values:
        return ""
    mean, count = float(np.mean(values)), len(values)
    if count < 2:
        return f"{mean:+.2f} (1)"
    half = float(stats.t.ppf(0.975, count - 1) * stats.sem(values))
    return f"{mean:+.2f} [{mean - half:+.2f}, {mean + half:+.2f}] ({count})"


def contrast_rows(
    found: dict[tuple[int, str, int], tuple[Accuracies, Kept]], labels: int, contrasts: Sequence[Contrast] = CONTRASTS
) -> list[list[str]]:
    """Lay out every contrast: one column a pair, and one of all pairs together."""
    pairs = list(dict.fromkeys(pair for of, pair, _ in found if of == labels))
    seeds = sorted({seed for of, _, seed in found if of == labels})
    table = []
    for contrast in contrasts:
        by_pair = {
            pair: {s: contrast.of(*found[(labels, pair, s)]) for s in seeds if (labels, pair, s) in found}
            for pair in pairs
        }
        kept = {pair: {s: v for s, v in own.items() if v is not None} for pair, own in by_pair.items()}
        pooled = [
            float(np.mean([own[s] for own in kept.values() if s in own]))
            for s in seeds
            if any(s in o for o in kept.values())
        ]
        if pooled:
            table.append([contrast.said, *(summary(list(own.values())) for own in kept.values()), summary(pooled)])
    return [["test accuracy, points", *pairs, "all pairs"], *table]


def arm_rows(rows: pd.DataFrame, labels: int) -> list[list[str]]:
    """Lay out the mean accuracy of each arm in each pair, with its standard deviation over seeds."""
    own = rows[rows.labels == labels]
    pairs = list(dict.fromkeys(own.pair))
    table = [["arm", *pairs]]
    for arm in dict.fromkeys(own.arm):
        cells = []
        for pair in pairs:
            values = 100 * own[(own.pair == pair) & (own.arm == arm)].test
            cells.append(f"{values.mean():.2f} ± {values.std(ddof=1):.2f} ({len(values)})" if len(values) > 1 else "")
        table.append([SAID.get(arm, f"OFA, stages {', '.join(arm[3:])}"), *cells])
    return table


SAID = {
    "ce": "student alone", "kd": "KD, T = 4", "ofa": "OFA, logits only", "ofa4": "OFA, last stage (4)",
    "ofa1234": "OFA, all stages",
}  # fmt: skip


def choice_rows(decisions: pd.DataFrame, labels: int) -> list[list[str]]:
    """Count what each rule kept over the seeds, and where it found the evidence insufficient."""
    own = decisions[decisions.labels == labels]
    table = [["rule", *dict.fromkeys(own.pair)]]
    for rule in RULES:
        cells = []
        for pair in dict.fromkeys(own.pair):
            mine = own[(own.pair == pair) & (own.rule == rule)]
            counts = mine.kept.str[3:].replace("", "none").where(mine.sufficient, "insufficient").value_counts()
            cells.append(", ".join(f"{kept} × {count}" for kept, count in counts.items()))
        table.append([rule, *cells])
    return table


def markdown(table: list[list[str]]) -> str:
    """Write a table."""
    lines = [f"| {' | '.join(row)} |" for row in table]
    return "\n".join([lines[0], "|---" * len(table[0]) + "|", *lines[1:]])


def main() -> None:
    """Gather what there is and write everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, help="where the jobs' rows are; default: the committed tables")
    options = parser.parse_args()
    if options.out:
        rows, decisions = gather(options.out)
        rows.to_csv(HERE / "results.csv", index=False)
        decisions.to_csv(HERE / "decisions.csv", index=False)
    rows, decisions = pd.read_csv(HERE / "results.csv"), pd.read_csv(HERE / "decisions.csv")
    found = jobs(rows, decisions)
    parts = []
    for labels in sorted(set(rows.labels)):
        parts += [
            f"## {labels} labels", markdown(contrast_rows(found, labels)),
            "### Every arm", markdown(arm_rows(rows, labels)),
            "### What the rules kept (stages × seeds)", markdown(choice_rows(decisions, labels)),
        ]  # fmt: skip
    (HERE / "table.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    draw(rows, decisions, HERE / "figure")


if __name__ == "__main__":
    main()
