"""What a study knows of its own certainty, made up: inference, stability, tests, subjects."""

import csv
import json

import numpy as np

CURVE_COLUMNS = ("metric", "kind", "layer_a", "layer_b", "x", "n", "value", "low", "high", "draws")
TEST_COLUMNS = (
    "test", "layer_a", "layer_b", "metric", "statistic", "null_mean", "p", "p_adjusted", "q", "n", "n_groups",
    "n_permutations", "note",
)  # fmt: skip
NO_P = "3 groups have 6 arrangements, which can't give a p below 0.17; at least 4 are needed for a p"


def add_inference(folder, metrics, *, n_groups=8, interval="jackknife", n_permutations=999, notes=()):
    """Say how the numbers were made; `notes` of the first metric only."""
    meta = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    meta["inference"] = {
        m: {
            "interval": interval, "level": 0.95, "n_groups": n_groups, "n_permutations": n_permutations, "seed": 0,
            "notes": list(notes) if k == 0 else [],
        }
        for k, m in enumerate(metrics)
    }  # fmt: skip
    (folder / "study.json").write_text(json.dumps(meta), encoding="utf-8")


def add_columns(folder, columns):
    """Append columns to `alignment.csv`: a function of each row's cells, by name."""
    with (folder / "alignment.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        row.update({name: make(row) for name, make in columns.items()})
    _write(folder / "alignment.csv", list(rows[0]), [list(row.values()) for row in rows])


def add_stability(folder, metrics, pair, *, n=260, kinds=("stimuli", "split_half", "pool")):
    rows, sizes = [], [16, 32, 64, 128, 256, n]
    for k, metric in enumerate(metrics):
        for layers, top in ((("", ""), 0.6), (pair, 0.82)):
            for size in sizes:
                value = top - 0.1 * k - 1.2 / size
                half = 0.9 * (1 / size - 1 / n) ** 0.5
                rows.append([metric, "stimuli", *layers, size, size, value, value - half, value + half, 50])
        rows.append([metric, "split_half", "", "", "", n // 2, 0.97 - 0.04 * k, 0.94 - 0.05 * k, 0.985 - 0.03 * k, 50])
        ends = [["", ""], [0.5 - 0.1 * k, 0.56 - 0.1 * k], ["", ""]]
        for pool, low_high, value in zip(("mean", "max", "cls"), ends, (0.6, 0.53, 0.44 - 0.02 * k), strict=True):
            rows.append([metric, "pool", "", "", pool, n, value - 0.1 * k, *low_high, ""])
    _write(folder / "curves.csv", CURVE_COLUMNS, [row for row in rows if row[1] in kinds])


def add_tests(folder, layers, tests=("mmd2", "energy", "wasserstein1"), note=""):
    rows = []
    for t, test in enumerate(tests):
        for k, layer in enumerate(layers):
            statistic = (0.002 + 0.03 * k) * 10**t
            p = max(0.001, 0.2 / (1 + k) ** 2)
            padj = min(1.0, 2 * p)
            rows.append([test, layer, layer, "", statistic, 0.001 * 10**t, p, padj, padj, 260, 8, 999, note])
    _write(folder / "tests.csv", TEST_COLUMNS, rows)


def add_shares(folder, loud=()):
    """Fill `largest_share`: `loud` layers have 0.83, others little."""
    with (folder / "layers.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    for k, row in enumerate(rows):
        row["largest_share"] = "0.83" if row["layer"] in loud else f"{0.06 + 0.2 * abs(np.sin(k)):.3f}"
    _write(folder / "layers.csv", list(rows[0]), [list(row.values()) for row in rows])


def add_subjects(folder, side, metric, layers, n=12, band=(0.41, 0.55)):
    meta = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    ceiling = {layer: list(band) for layer in layers}
    meta["encoders"][side]["subjects"] = {"n": n, "ceiling": {metric: ceiling}}
    (folder / "study.json").write_text(json.dumps(meta), encoding="utf-8")


def everything(folder, *, biased=True):
    """Fill whatever a study of intervals (`fake_study(…, intervals=True)`) can know."""
    meta = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    metrics = [one["id"] for one in meta["metrics"]]
    add_columns(
        folder,
        {
            "p_adjusted": lambda row: row["p"] and repr(min(1.0, 3 * float(row["p"]))),
            "independent": lambda row: "0.31" if biased and row["metric"] == metrics[-1] and row["value"] else "",
            "null_mean": lambda row: (
                "0.30" if biased and row["metric"] == metrics[-1] and row["value"] else row["null_mean"]
            ),
        },
    )
    with (folder / "alignment.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    layers = list(dict.fromkeys(row["layer_a"] for row in rows))
    best = max(rows, key=lambda row: float(row["value"] or -9))
    add_inference(folder, metrics, notes=("RBF and Spearman keep bandwidth and ranks fixed when groups are left out",))
    add_stability(folder, metrics, (best["layer_a"], best["layer_b"]))
    add_tests(folder, layers)
    add_shares(folder, loud=layers[1:2])
    return folder


def _write(file, head, rows):
    with file.open("w", newline="", encoding="utf-8") as stream:
        out = csv.writer(stream)
        out.writerow(head)
        out.writerows(rows)
