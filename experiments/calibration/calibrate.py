"""Does every interval cover, and does every test keep its level? Simulations whose truth is known.

    python experiments/calibration/calibrate.py run --minutes 25
    python experiments/calibration/calibrate.py draw             # results.json, table.md and figure.png

`run` does a tenth of every cell's repetitions, then the next tenth: it can be stopped and started at any time. Each
tenth is a line of `runs/chunks.jsonl`, its seed follows from the cell's name and its number.
"""

import argparse
import json
import math
import time
from pathlib import Path

import torch
from intervals import IntervalCell, PopulationCell
from levels import LevelCell
from processes import GAUSSIAN, GROUPED, HEAVY, HEAVY_GROUPED, UNEVEN, WIDE, Process

HERE = Path(__file__).parent
CHUNKS = 10
Cell = IntervalCell | PopulationCell | LevelCell

MAIN = ("cka_linear", "cka_rbf", "rsa", "rsa:rdm=euclidean,compare=pearson")
MORE = ("cka_linear:debiased=false", "distance_correlation")
OTHERS = ("procrustes", "cca", "mutual_knn")
SLOW = ("linear_predictivity", "rsa:compare=kendall_b", "rsa:compare=corr_cov")
STATISTICS = ("mmd2", "energy", "wasserstein1", "sliced_wasserstein1")

# units (stimuli, or groups of 10 on average) and repetitions
STIMULI = {50: 500, 100: 400, 200: 400, 500: 200, 1000: 80}
GROUPS = {10: 500, 20: 400, 50: 200}
SMALL = {50: 300, 200: 200}


def interval_cells() -> list[Cell]:
    """List the designs for intervals."""
    designs = [
        (GAUSSIAN, STIMULI, MAIN + MORE), (GROUPED, GROUPS, MAIN + MORE), (HEAVY, STIMULI, MAIN),
        (HEAVY_GROUPED, GROUPS, MAIN), (UNEVEN, GROUPS, MAIN), (WIDE, {50: 400, 200: 200}, MAIN + MORE[:1]),
        (GAUSSIAN, SMALL, OTHERS), (GROUPED, {10: 300, 20: 300}, OTHERS),
        (GAUSSIAN, {50: 100}, SLOW), (GROUPED, {10: 100}, SLOW),
    ]  # fmt: skip
    cells: list[Cell] = [
        IntervalCell(process, units, metric, "jackknife", repetitions)
        for process, counts, metrics in designs for metric in metrics for units, repetitions in counts.items()
    ]  # fmt: skip
    cells += [IntervalCell(p, u, "cka_linear", "half", 200) for p, u in ((GAUSSIAN, 50), (GROUPED, 10), (GROUPED, 20))]
    cells += [IntervalCell(p, u, "cka_rbf", "half", 150) for p, u in ((GAUSSIAN, 50), (GROUPED, 10))]
    cells += [IntervalCell(GAUSSIAN, 50, metric, "half", 150) for metric in (MAIN[3], "procrustes", "cca")]
    cells += [IntervalCell(GROUPED, units, metric, "jackknife", 200, "all") for metric in MAIN for units in (10, 50)]
    return [*cells, IntervalCell(HEAVY, 200, "cka_linear", "half", 150)]


def population_cells() -> list[Cell]:
    """List the population values: pair metrics depend on n by definition and have none."""
    plans = ((GAUSSIAN, MAIN + MORE), (GROUPED, MAIN + MORE), (HEAVY, MAIN), (HEAVY_GROUPED, MAIN), (UNEVEN, MAIN))
    cells: list[Cell] = [PopulationCell(p, metric, 12) for p, metrics in plans for metric in metrics]
    return [*cells, *(PopulationCell(WIDE, metric, 8) for metric in MAIN + MORE[:1])]


def level_cells() -> list[Cell]:
    """List the designs for tests; the fast ones get 1,000 repetitions and more."""
    everyone = ((GAUSSIAN, 50), (HEAVY, 50), (WIDE, 50), (GROUPED, 10), (HEAVY_GROUPED, 10), (UNEVEN, 10))
    cells = [LevelCell("permutation", process, units, 600) for process, units in everyone]
    cells += [LevelCell("permutation", process, units, 600, {"aligned": 4}) for process, units in everyone[::3]]
    cells += [LevelCell("permutation", GAUSSIAN, 50, 300, {"metric": metric}) for metric in (*MAIN[1:], *MORE)]
    cells += [
        LevelCell("permutation", GROUPED, 50, 150, {"permutations": 19}),
        LevelCell("permutation", GAUSSIAN, 200, 400, {"permutations": 19}),
        LevelCell("permutation", GAUSSIAN, 1000, 30, {"permutations": 19}),
        LevelCell("permutation", GROUPED, 10, 100, {"grouped": False}, wrong=True),
    ]
    cells += [LevelCell("mantel", process, units, 1000) for process, units in everyone]
    cells += [
        LevelCell("mantel", GAUSSIAN, 200, 400, {"permutations": 19}),
        LevelCell("mantel", GROUPED, 10, 200, {"grouped": False}, wrong=True),
    ]
    cells += _difference_cells() + _two_sample_cells()
    cells += [
        LevelCell("model_comparison", GAUSSIAN, 30, 200),
        LevelCell("model_comparison", HEAVY, 30, 100),
        LevelCell("model_comparison", GAUSSIAN, 30, 100, {"mirrored": False}, wrong=True),
    ]
    return cells  # type: ignore[return-value]


def _difference_cells() -> list[LevelCell]:
    cells = []
    for unlike in (False, True):
        options: dict[str, object] = {"unlike": True} if unlike else {}
        for process, counts in ((GAUSSIAN, {50: 1000, 200: 600}), (HEAVY, {50: 1000, 200: 600}), (WIDE, {50: 400})):
            cells += [LevelCell("difference", process, units, r, options) for units, r in counts.items()]
        for process in (GROUPED, HEAVY_GROUPED, UNEVEN):
            cells += [LevelCell("difference", process, u, r, options) for u, r in {10: 1000, 20: 1000, 50: 300}.items()]
    cells += [LevelCell("difference", GAUSSIAN, 1000, 100)]
    cells += [LevelCell("difference", GAUSSIAN, 50, 500, {"metric": metric}) for metric in MAIN[1:]]
    cells += [LevelCell("difference", GROUPED, 10, 500, {"metric": metric}) for metric in MAIN[1:]]
    cells += [LevelCell("difference", p, 10, 1000, {"test": "within"}) for p in (GROUPED, HEAVY_GROUPED)]
    return [*cells, LevelCell("difference", GROUPED, 50, 300, {"test": "within"})]


def _two_sample_cells() -> list[LevelCell]:
    cells = []
    for statistic in STATISTICS:
        slow, options = statistic == "wasserstein1", {"statistic": statistic}
        share = 0.4 if slow else 1.0
        plans: list[tuple[str, Process, int, int]] = [
            ("two_sample paired", GAUSSIAN, 50, 1000), ("two_sample paired", HEAVY, 50, 1000),
            ("two_sample paired", GROUPED, 10, 1000), ("two_sample unpaired", GAUSSIAN, 50, 1000),
            ("two_sample unpaired", GROUPED, 10, 1000),
        ]  # fmt: skip
        cells += [LevelCell(test, process, u, int(r * share), options) for test, process, u, r in plans]
        if statistic == "mmd2":
            for test in ("two_sample paired", "two_sample unpaired"):
                cells.append(LevelCell(test, UNEVEN, 10, 600, options))
                cells.append(LevelCell(test, GROUPED, 10, 200, {**options, "grouped": False}, wrong=True))
            cells.append(LevelCell("two_sample paired", GAUSSIAN, 500, 200, {**options, "permutations": 99}))
    return cells


def all_cells() -> list[Cell]:
    """List every cell."""
    return [*population_cells(), *interval_cells(), *level_cells()]


def read(path: Path) -> list[dict]:
    """Read the finished chunks."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def run(path: Path, minutes: float, only: str) -> None:
    """Run the chunks that are missing: the first of every cell, then the second, and so on until time is up."""
    done = {(record["key"], record["chunk"]) for record in read(path)}
    path.parent.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60 * minutes
    for chunk in range(CHUNKS):
        for cell in all_cells():
            if (cell.key, chunk) in done or only not in cell.key:
                continue
            if time.monotonic() > end:
                return
            start = time.monotonic()
            record = {"key": cell.key, "chunk": chunk, **cell.run(math.ceil(cell.repetitions / CHUNKS), chunk)}
            with path.open("a") as stream:
                stream.write(json.dumps({**record, "seconds": round(time.monotonic() - start, 2)}) + "\n")
            print(f"{time.monotonic() - start:6.1f} s  {chunk}  {cell.key}", flush=True)


def main() -> None:
    """Run the simulations, or draw what they found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=("run", "draw"))
    parser.add_argument("--minutes", type=float, default=math.inf, help="start no chunk after so many")
    parser.add_argument("--only", default="", help="cells whose key holds this text")
    parser.add_argument("--out", type=Path, default=HERE / "runs" / "chunks.jsonl")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.what == "run":
        run(options.out, options.minutes, options.only)
    else:
        from report import draw

        draw(read(options.out), HERE)


if __name__ == "__main__":
    main()
