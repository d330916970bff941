"""Write the results down: `results.json`, `table.md` and `figure.png`."""

import json
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from summary import COVERAGE_AIM, LEVEL_AIM, Chunk, Coverage, Level, Share, as_rows, coverages, levels

mpl.use("agg")
COLOURS = {
    "cka_linear": "#1f4e79", "cka_rbf": "#5fa8d3", "rsa": "#d1495b", "rsa:rdm=euclidean,compare=pearson": "#edae49",
}  # fmt: skip
AIM = "#e4efdf"


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
    """Lay the results out as Markdown, the misses in bold."""
    head = "In percent; in brackets the 95 % Monte-Carlo interval. Bold: all of that lies outside the aim.\n"
    missed = [c for c in intervals if c.of_mean.misses(COVERAGE_AIM)]
    return "\n".join([
        head,
        f"## Intervals: coverage of the 95 % interval, aim {_aim(COVERAGE_AIM)}\n",
        f"{len(missed)} of {len(intervals)} designs miss it beyond Monte-Carlo doubt, which with few runs says little. "
        "Each cell: coverage of the score's expectation at this "
        "design; after the stroke, of the population's value. `SE` is the interval's standard error over the score's "
        "true deviation, `bias` expectation less population in those deviations; both for none / weak / strong.\n",
        "Pooled over the numbers of units, weak and strong alignment together; in brackets without alignment, where "
        "an interval is meant to be wide.\n",
        *_pooled_rows(intervals),
        "",
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


def _pooled_rows(found: Sequence[Coverage]) -> list[str]:
    processes = list(dict.fromkeys(c.process for c in found))
    lines = [f"| metric | interval | {' | '.join(processes)} |", "|---|---|" + "---:|" * len(processes)]
    for metric, interval in dict.fromkeys((c.metric, _interval(c)) for c in found):
        here = [c for c in found if (c.metric, _interval(c)) == (metric, interval)]
        cells = []
        for process in processes:
            parts = [[c for c in here if c.process == process and (c.strength == "none") == none] for none in (0, 1)]
            cells.append(f"{_pooled(parts[0])} ({_pooled(parts[1])})" if parts[0] else "")
        lines.append(f"| `{metric}` | {interval} | {' | '.join(cells)} |")
    return lines


def _pooled(found: Sequence[Coverage]) -> str:
    held, runs = sum(c.of_mean.value * c.repetitions for c in found), sum(c.repetitions for c in found)
    return f"{100 * held / runs:.1f}"


def _interval_rows(found: Sequence[Coverage]) -> list[str]:
    strengths = list(dict.fromkeys(c.strength for c in found))
    lines = [
        f"| metric | interval | stimuli | units | n | {' | '.join(strengths)} | SE | bias | runs |",
        "|---|---|---|---:|---:|" + "---:|" * (len(strengths) + 3),
    ]
    for about in dict.fromkeys((c.metric, _interval(c), c.process, c.units, c.n) for c in found):
        row = [c for c in found if (c.metric, _interval(c), c.process, c.units, c.n) == about]
        cells = [
            _percent(c.of_mean, COVERAGE_AIM) + (f" / {100 * c.of_population.value:.0f}" if c.of_population else "")
            for c in row
        ]
        ratios = " / ".join(f"{c.se_ratio:.2f}" for c in row)
        biases = " / ".join(f"{c.bias:+.1f}" for c in row) if row[0].of_population else ""
        parts = [f"`{about[0]}`", *map(str, about[1:]), *cells, ratios, biases, str(row[0].repetitions)]
        lines.append("| " + " | ".join(parts) + " |")
    return lines


def _interval(one: Coverage) -> str:
    return one.interval + (", all pairs" if one.pairs == "all" else "")


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
    """Draw coverage against the number of units, a panel a process and strength, above the rejections by test."""
    canvas = Figure(figsize=(15, 23), layout="constrained")
    parts = canvas.subfigures(2, 1, squeeze=False, height_ratios=(1, 2.1))
    _coverages(parts[0, 0], [c for c in intervals if _interval(c) == "jackknife" and c.metric in COLOURS])
    _levels(parts[1, 0].subplots(), [t for t in tests if not t.wrong])
    return canvas


def _coverages(canvas: SubFigure, found: Sequence[Coverage]) -> None:
    processes, strengths = (list(dict.fromkeys(getattr(c, k) for c in found)) for k in ("process", "strength"))
    panels = canvas.subplots(len(strengths), len(processes), sharey=True, sharex="col", squeeze=False)
    for (row, strength), (column, process) in product(enumerate(strengths), enumerate(processes)):
        axes = panels[row][column]
        for k, (metric, colour) in enumerate(COLOURS.items()):
            here = [c for c in found if (c.process, c.strength, c.metric) == (process, strength, metric)]
            x = [c.units * 1.03 ** (k - 1.5) for c in here]
            axes.plot(x, [100 * c.of_mean.value for c in here], "o-", color=colour, markersize=3, label=metric)
            axes.vlines(x, [100 * c.of_mean.low for c in here], [100 * c.of_mean.high for c in here], colour, alpha=0.4)
        axes.axhspan(*(100 * v for v in COVERAGE_AIM), color=AIM, zorder=0)
        axes.set(xscale="log", ylim=(74, 101))
        ticks = sorted({c.units for c in found if c.process == process})
        axes.set_xticks(ticks, list(map(str, ticks)), fontsize=8)
        axes.set_xticks([], minor=True)
        axes.spines[["top", "right"]].set_visible(False)
        if row == 0:
            axes.set_title(process, fontsize=10)
        if column == 0:
            axes.set_ylabel(f"{strength} alignment", fontsize=10)
    panels[0][0].legend(fontsize=7, loc="lower left")
    canvas.suptitle("95 % jackknife intervals that hold the score's expectation, %, by number of stimuli or groups")


def _levels(axes: Axes, found: Sequence[Level]) -> None:
    rows = list(dict.fromkeys(_row(one) for one in found))
    processes = list(dict.fromkeys(one.process for one in found))
    top, middles = 0.0, []
    for row in rows:
        here = [one for one in found if _row(one) == row]
        for k, one in enumerate(here):
            share, y, colour = one.rejected, top + k, f"C{processes.index(one.process)}"
            axes.plot([100 * share.low, 100 * share.high], [y, y], color=colour, linewidth=1, alpha=0.5)
            axes.plot([100 * share.value], [y], "o", color=colour, markersize=4)
        middles.append(top + (len(here) - 1) / 2)
        top += max(len(here) + 1, 3)  # room for the name
    for k, process in enumerate(processes):
        axes.plot([], [], "o", color=f"C{k}", label=process)
    axes.legend(fontsize=8, loc="lower right")
    axes.axvspan(*(100 * v for v in LEVEL_AIM), color=AIM, zorder=0)
    axes.set_yticks(middles, rows, fontsize=7)
    axes.set(xlim=(-0.3, 20), ylim=(top, -1))
    axes.set_title("True hypotheses rejected at 5 %, %; a dot a design, few units before many", fontsize=12)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", color="#dddddd", linewidth=0.5)


def _row(one: Level) -> str:
    kinds = {"p": "p", "max-T": "family-wise, max-T", "q": "false discoveries, q"}
    return f"{one.test}: {kinds.get(one.kind, one.kind)} {options_of(one)}"


def _percent(one: Share, aim: tuple[float, float]) -> str:
    text = f"{100 * one.value:.1f} [{100 * one.low:.0f}–{100 * one.high:.0f}]"
    return f"**{text}**" if one.misses(aim) else text


def _aim(aim: tuple[float, float]) -> str:
    return f"{100 * aim[0]:.0f}–{100 * aim[1]:.0f} %"


def _lines(rows: Iterable[object]) -> str:
    return ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
