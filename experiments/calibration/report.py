"""Write the results down: `results.json`, `table.md` and `figure.png`."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from summary import COVERAGE_AIM, LEVEL_AIM, Chunk, Coverage, Level, Share, as_rows, coverages, levels

mpl.use("agg")
COLOURS = {"none": "#9aa5b1", "weak": "#4c78a8", "strong": "#d1495b"}
DOTS = 4.5


def draw(chunks: Sequence[Chunk], folder: Path) -> None:
    """Write everything."""
    intervals, tests = coverages(chunks), levels(chunks)
    results = {
        "hours of one core": round(sum(float(str(c["seconds"])) for c in chunks) / 3600, 2),
        "intervals": as_rows(intervals),
        "tests": as_rows(tests),
    }
    rows = (f'"{name}": [\n{_lines(found)}\n]' if isinstance(found, list) else f'"{name}": {found}'
            for name, found in results.items())  # fmt: skip
    (folder / "results.json").write_text("{\n" + ",\n".join(rows) + "\n}\n")
    (folder / "table.md").write_text(table(intervals, tests))
    figure(intervals, tests).savefig(folder / "figure.png", dpi=110)


def table(intervals: Sequence[Coverage], tests: Sequence[Level]) -> str:
    """Lay the results out as Markdown: what misses its aim first, then everything."""
    head = "In percent; in brackets the 95 % Monte-Carlo interval. Bold: all of that lies outside the aim.\n"
    missed = [c for c in intervals if c.of_mean.misses(COVERAGE_AIM)]
    return "\n".join([
        head,
        f"## Intervals: coverage of the 95 % interval, aim {_aim(COVERAGE_AIM)}\n",
        f"{len(missed)} of {len(intervals)} designs miss it. Each cell: coverage of the score's expectation at this "
        "design; after the stroke, of the population's value. `SE` is the interval's standard error over the score's "
        "true deviation, `bias` expectation less population in those deviations; both for none / weak / strong.\n",
        *_interval_rows(intervals),
        "",
        f"## Tests: true hypotheses rejected at 5 %, aim {_aim(LEVEL_AIM)}\n",
        *_level_rows([t for t in tests if not t.wrong]),
        "",
        "## What to avoid\n",
        "Stimuli treated one by one although they come in groups; and, for `model_comparison`, an average over stimuli "
        "concluded from a test over subjects.\n",
        *_level_rows([t for t in tests if t.wrong]),
        "",
    ])  # fmt: skip


def _interval_rows(found: Sequence[Coverage]) -> list[str]:
    strengths = list(dict.fromkeys(c.strength for c in found))
    lines = [
        f"| metric | interval | stimuli | units | n | {' | '.join(strengths)} | SE | bias | runs |",
        "|---|---|---|---:|---:|" + "---:|" * (len(strengths) + 3),
    ]
    for about in dict.fromkeys((c.metric, c.interval, c.process, c.units, c.n) for c in found):
        row = [c for c in found if (c.metric, c.interval, c.process, c.units, c.n) == about]
        cells = [
            _percent(c.of_mean, COVERAGE_AIM) + (f" / {100 * c.of_population.value:.0f}" if c.of_population else "")
            for c in row
        ]
        ratios = " / ".join(f"{c.se_ratio:.2f}" for c in row)
        biases = " / ".join(f"{c.bias:+.1f}" for c in row) if row[0].of_population else ""
        parts = [f"`{about[0]}`", *map(str, about[1:]), *cells, ratios, biases, str(row[0].repetitions)]
        lines.append("| " + " | ".join(parts) + " |")
    return lines


def _level_rows(found: Sequence[Level]) -> list[str]:
    lines = [
        "| test | number | options | stimuli | units | n | rejected | runs |",
        "|---|---|---|---|---:|---:|---:|---:|",
    ]
    for one in found:
        parts = [one.test, one.kind, f"`{said}`" if (said := options_of(one)) else "", one.process, one.units, one.n]
        aim = (0.0, LEVEL_AIM[1]) if one.kind in ("max-T", "q") else LEVEL_AIM
        lines.append("| " + " | ".join(map(str, [*parts, _percent(one.rejected, aim), one.repetitions])) + " |")
    return lines


def options_of(one: Level) -> str:
    """Write the options of a test."""
    return ", ".join(f"{key}={value}" for key, value in one.options.items() if key != "permutations")


def figure(intervals: Sequence[Coverage], tests: Sequence[Level]) -> Figure:
    """Draw coverages on the left, a row a metric and process, and rejections on the right, a row a test."""
    shown = [c for c in intervals if c.interval == "jackknife"]
    rows = list(dict.fromkeys((c.metric, c.process) for c in shown))
    kept = [t for t in tests if not t.wrong]
    canvas = Figure(figsize=(15, 2 + 0.19 * max(len(kept), 2 * len(rows))), layout="constrained")
    left, right = canvas.subplots(1, 2)
    _coverages(left, shown, rows)
    _levels(right, kept)
    return canvas


def _coverages(axes: Axes, found: Sequence[Coverage], rows: Sequence[tuple[str, str]]) -> None:
    for place, row in enumerate(rows):
        here = [c for c in found if (c.metric, c.process) == row]
        sizes = sorted({c.units for c in here})
        for c in here:
            step = sizes.index(c.units) - (len(sizes) - 1) / 2
            y = place + 0.8 * step / max(1, len(sizes)) + 0.05 * (list(COLOURS).index(c.strength) - 1)
            _dot(axes, c.of_mean, y, COLOURS[c.strength])
    axes.set_yticks(range(len(rows)), [f"{metric}\n{process}" for metric, process in rows], fontsize=7)
    for name, colour in COLOURS.items():
        axes.plot([], [], "o", color=colour, markersize=DOTS, label=f"{name} alignment")
    axes.legend(loc="lower left", fontsize=8, title="few units above, many below", title_fontsize=8)
    _finish(axes, COVERAGE_AIM, "95 % jackknife intervals that hold the score's expectation, %", (70, 100.5))


def _levels(axes: Axes, found: Sequence[Level]) -> None:
    for place, one in enumerate(found):
        _dot(axes, one.rejected, place, "#4c78a8" if one.kind not in ("max-T", "q") else "#9aa5b1")
    names = [
        f"{t.test}{'' if t.kind == 'p' else ', ' + t.kind} {options_of(t)} · {t.process}, {t.units}" for t in found
    ]
    axes.set_yticks(range(len(found)), names, fontsize=6)
    _finish(axes, LEVEL_AIM, "true hypotheses rejected at 5 %, %", (-0.5, 20))


def _dot(axes: Axes, one: Share, y: float, colour: str) -> None:
    axes.plot([100 * one.low, 100 * one.high], [y, y], color=colour, linewidth=1, alpha=0.6)
    axes.plot([100 * one.value], [y], "o", color=colour, markersize=DOTS)


def _finish(axes: Axes, aim: tuple[float, float], label: str, limits: tuple[float, float]) -> None:
    axes.axvspan(100 * aim[0], 100 * aim[1], color="#e8f0e4", zorder=0)
    axes.set_xlim(*limits)
    axes.set_ylim(len(axes.get_yticks()), -1)
    axes.set_xlabel(label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", color="#dddddd", linewidth=0.5)


def _percent(one: Share, aim: tuple[float, float]) -> str:
    text = f"{100 * one.value:.1f} [{100 * one.low:.0f}–{100 * one.high:.0f}]"
    return f"**{text}**" if one.misses(aim) else text


def _aim(aim: tuple[float, float]) -> str:
    return f"{100 * aim[0]:.0f}–{100 * aim[1]:.0f} %"


def _lines(rows: Iterable[object]) -> str:
    return ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
