"""Print the results page's tables from two finished studies of experiments/purrturbed_pocket.toml.

repalign study experiments/purrturbed_pocket.toml --out photos
repalign study experiments/purrturbed_pocket.toml --data cats --out cats
python experiments/purrturbed_pocket/table.py photos cats
"""

import json
import sys
from pathlib import Path

from repalign.design import Design, read_design
from repalign.gather import Part, mean_scores
from repalign.infer.difference import Differences, score_differences
from repalign.metrics import parse_metric
from repalign.report.many.folder import read_many
from repalign.report.many.saved import Interval
from repalign.report.wording import interval, number, probability

DESIGN = Path(__file__).parent.with_suffix(".toml")
PAIR = ("pocket-dino", "pocket-vit")  # one architecture; the first never saw a label


def print_tables(folders: list[Path]) -> None:
    """Print one ranking a study and condition, then the self-supervised encoder against its supervised twin."""
    design = read_design(DESIGN)
    for folder in folders:
        print_ranking(folder)
    print("\n### Self-supervised less supervised, one architecture (`pocket:dino` less `pocket:vit`)\n")
    print("| pictures | condition | measure | difference of the means | p |")
    print("|---|---|---|---|---|")
    for folder in folders:
        print_pair(folder, design)


def print_ranking(folder: Path) -> None:
    """Print the mean over layers of every encoder, with intervals and the held-out peak."""
    study = read_many(folder)
    for condition in study.conditions:
        print(f"\n### {study.originals.name}, {study.originals.count} pictures, `{condition.spec}`\n")
        print(
            f"Changes linear light by {condition.difference:.3f} RMS; {100 * condition.clipped:.1f} % of pixels cut.\n"
        )
        print("| encoder | family | " + " | ".join(m.label for m in study.metrics) + " | honest peak (first measure) |")
        print("|---|---|" + "---|" * (len(study.metrics) + 1))
        first = study.ranking[condition.id, study.metrics[0].id]
        for row in first:
            cells = [
                written(one.mean)
                for m in study.metrics
                for one in study.ranking[condition.id, m.id]
                if one.encoder == row.encoder
            ]
            held = f"{row.held_layer} {written(row.held)}" if row.held_layer else "–"
            family = next(e.family for e in study.encoders if e.id == row.encoder)
            print(f"| {row.encoder} | {family} | " + " | ".join(cells) + f" | {held} |")


def written(found: Interval) -> str:
    """Write a number with its interval."""
    return f"{number(found.value)} {interval(found.low, found.high)}"


def print_pair(folder: Path, design: Design) -> None:
    """Print the difference of two encoders under every condition and measure."""
    name = json.loads((folder / "study.json").read_text(encoding="utf-8"))["stimuli"]["a"]["name"]
    entries = {entry.slug: entry for entry in design.encoders}
    for condition in design.conditions:
        for spec in design.metrics:
            metric = parse_metric(spec)
            a, b = (
                mean_scores(Part(entries[slug], condition, folder / "parts" / slug / condition.id), metric)
                for slug in PAIR
            )
            found: Differences = score_differences(a, b)
            low, high = float(found.ci_low[0]), float(found.ci_high[0])
            value = f"{found.difference[0]:+.2f}".replace("-", "−")
            print(f"| {name} | {condition.id} | {metric.label} | {value} {interval(low, high)} | "
                  f"{probability(float(found.p_value[0])) or 'too few groups'} |")  # fmt: skip


if __name__ == "__main__":
    print_tables([Path(one) for one in sys.argv[1:]])
