"""One encoder under two conditions, made up: filters, controls, and what both cost."""

import csv
import json
import math

from fake_extras import TEST_COLUMNS, everything
from fake_study import edit_meta, fake_study

SUMMARY_COLUMNS = (
    "metric", "n", "n_groups", "layers", "mean", "mean_se", "mean_low", "mean_high", "peak_layer", "peak", "held_layer",
    "held", "held_se", "held_low", "held_high", "held_share", "note",
)  # fmt: skip
EFFECT_COLUMNS = (
    "control", "metric", "layer", "value", "se", "ci_low", "ci_high", "difference", "difference_se", "difference_low",
    "difference_high", "p", "note",
)  # fmt: skip
CAT = {
    "spec": "cat:fov_deg=60",
    "label": "cat, scene 60° wide",
    "reference": "Ringo et al. 1977, Science 198:753; Bonds, Enroth-Cugell & Pinto 1972, J Physiol 220:383–401",
    "notes": ["cat: no tapetum was asked for"],
    "clipped": 0.0213,
    "difference": 0.0817,
    "transfer": [{"fov_deg": 60.0, "pixels": 224, "seen": 0.875, "at_nyquist": 0.5856}],
}
CONTROLS = (
    ("identity", "identity", "unchanged", 0.0, 0.0, 0.0, "", 1.0),
    ("grey:amount=0.941", "grey", "0.941 of the way to grey", 0.0802, 0.982, 0.0, "", 0.91),
    ("blur:cpd=0.41,fov_deg=60", "blur", "blur, half contrast at 0.41 cycles/°, scene 60° wide", 0.0819, 1.002, 0.0,
     "", 0.62),
    ("protan", "protan", "human protanope", 0.0332, 0.406, 0.011, "", 0.88),
    ("jpeg:q=3", "jpeg", "JPEG, quality 3", 0.0801, 0.98, 0.0, "", 0.71),
    ("noise:sd=0.0873", "noise", "noise, SD 0.0873 of white", 0.0815, 0.998, 0.22, "", 0.55),
    ("", "red_removal", "red_removal", None, None, None,
     "red_removal comes no nearer to cat:fov_deg=60 than red_removal: it changes linear light by 0.061 RMS, "
     "cat:fov_deg=60 by 0.0817; use another control or reference", None),
)  # fmt: skip
MANTEL_NOTE = "both views show the same scenes, so p cannot rank encoders"


def fake_conditions(folder, la=10, *, second_set=False, controls=CONTROLS, intervals=True, groups=8, filter_=CAT, **kw):
    """Write a study of one encoder under two conditions: through a filter, or with a second set of pictures."""
    kw = {"names": ("pocket:dino", "pocket:dino"), "same": True, "intervals": intervals, "paired": second_set} | kw
    fake_study(folder, la, **kw)
    everything(folder, biased=False)
    meta = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    metrics, layers = _raise_diagonal(folder, second_set)
    meta["encoders"]["b"] = meta["encoders"]["a"]
    for k, one in enumerate(meta["thumbs"]):
        one["file_b"] = meta["thumbs"][-1 - k]["file"]
    keys = ("spec", "name", "label", "difference", "ratio", "clipped", "note")
    edit_meta(
        folder,
        encoders=meta["encoders"],
        thumbs=meta["thumbs"],
        command="repalign compare --a pocket:dino --data bundled:photos --filter cat:fov_deg=60 --out study",
        filters={"a": None, "b": None if second_set else filter_},
        controls=[dict(zip(keys, one, strict=False)) for one in controls],
    )
    _write_summary(folder, metrics, layers, intervals, groups)
    if controls:
        _write_effects(folder, metrics, layers, controls, intervals)
    _add_mantel(folder, layers)
    return folder


def own_mean(k):
    return 0.81 - 0.09 * k


def own_layer(k, depth):
    """Score a layer: a hump early, and the mean over layers near `own_mean`."""
    return min(0.99, own_mean(k) + 0.11 - 0.24 * depth + 0.03 * math.sin(9 * depth))


def edit_rows(file, change):
    """Write a table again with `change` applied to each row by name; rows for which it gives None go."""
    with file.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    kept = [row for row in (change(row) for row in rows) if row is not None]
    write(file, list(rows[0]), [list(row.values()) for row in kept])


def write(file, head, rows):
    with file.open("w", newline="", encoding="utf-8") as stream:
        out = csv.writer(stream)
        out.writerow(head)
        out.writerows(rows)


def _raise_diagonal(folder, second_set):
    with (folder / "alignment.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    layers = list(dict.fromkeys(row["layer_a"] for row in rows))

    def change(row):
        i, j = layers.index(row["layer_a"]), layers.index(row["layer_b"])
        last = max(1, len(layers) - 1)
        value = own_layer(metrics.index(row["metric"]), (i + j) / 2 / last) * math.exp(-((3 * (i - j) / last) ** 2))
        row["filter_b"] = "" if second_set else "cat:fov_deg=60"
        row["value"] = repr(value)
        if row["ci_low"]:
            row["ci_low"], row["ci_high"] = repr(value - 0.05), repr(min(1.0, value + 0.04))
        return row

    edit_rows(folder / "alignment.csv", change)
    return metrics, layers


def _write_summary(folder, metrics, layers, intervals, groups):
    rows, best = [], layers[min(1, len(layers) - 1)]
    for k, metric in enumerate(metrics):
        mean, held = own_mean(k), own_layer(k, 1 / max(1, len(layers) - 1)) - 0.02
        ends = [0.02, mean - 0.05, mean + 0.04] if intervals else ["", "", ""]
        held_ends = [0.03, held - 0.07, min(1, held + 0.06)] if intervals else ["", "", ""]
        note = "ranks stay as they are when groups are left out" if k == 2 else ""
        rows.append([metric, 260, groups, len(layers), mean, *ends, best, held + 0.02, best, held, *held_ends,
                     0.85 - 0.2 * k, note])  # fmt: skip
    write(folder / "summary.csv", SUMMARY_COLUMNS, rows)


def _write_effects(folder, metrics, layers, controls, intervals):
    rows = []
    for spec, *_, top in controls:
        for k, metric in enumerate(metrics):
            if not spec:
                continue
            last = max(1, len(layers) - 1)
            places = [("", top, own_mean(k))]
            places += [(name, top * (1 - 0.1 * i / last), own_layer(k, i / last)) for i, name in enumerate(layers)]
            for layer, value, own in places:
                value = 1.0 if spec == "identity" else value - 0.07 * k
                half = 0.0 if spec == "identity" else 0.05
                ends = [half / 2, value - half, min(1.0, value + half)] if intervals else [""] * 3
                gap = own - value
                gaps = [0.03, gap - 0.06, gap + 0.06] if intervals else [""] * 3
                p = 0.008 if abs(gap) > 0.06 else 0.4
                rows.append([spec, metric, layer, value, *ends, gap, *gaps, p if intervals else "", ""])
    write(folder / "controls.csv", EFFECT_COLUMNS, rows)


def _add_mantel(folder, layers):
    with (folder / "tests.csv").open(newline="", encoding="utf-8") as stream:
        rows = [list(row.values()) for row in csv.DictReader(stream)]
    mantel = [
        ["mantel", name, name, "rsa", 0.8 - 0.02 * k, 0.0, 0.001, 0.001, 0.001, 260, 8, 999, MANTEL_NOTE]
        for k, name in enumerate(layers)
    ]
    write(folder / "tests.csv", TEST_COLUMNS, [*mantel, *rows])
