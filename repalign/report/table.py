"""The table that closes a run in the terminal."""

import math
import textwrap
from itertools import zip_longest

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from repalign.report.certainty import certainty_notes, how_sure
from repalign.report.condition_tables import ordered
from repalign.report.conditions import is_paired, scored, strength
from repalign.report.saved import Metric, Study
from repalign.report.scores import Pair, diagonal, top_pairs
from repalign.report.sentences import answer, caveats, described, question
from repalign.report.wording import interval, number, probability

BEST = 3
"""How many best-matching layer pairs a measure shows."""

NAME_WIDTH = 20
"""Characters after which a measure's name goes on in the next row."""


def _computed(study: Study) -> list[str]:
    """Say in which precision the encoders ran, where that was decided by a check."""
    return [str(study.meta["computed"])] if study.meta.get("precision_check") else []


def closing_table(study: Study) -> RenderableType:
    """Sum up a study: best-matching layers, mean and peak by depth, how sure, caveats and where the report lies."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("measure", no_wrap=True)
    table.add_column(Text(f"most alike: {described(study.a)} × {described(study.b)}"), overflow="fold")
    table.add_column("score", justify="right", no_wrap=True)
    if study.has("p_adjusted"):
        table.add_column("p adj.", justify="right", no_wrap=True)
    table.add_column("by depth", justify="right", no_wrap=True)
    for metric in study.metrics:
        _add_metric(table, study, metric)
    said = [Text(f"! {caveat}", style="yellow") for caveat in caveats(study)]
    return Group(
        Text(question(study), style="bold"),
        Text(answer(study)),
        Text(""),
        table,
        Text(""),
        *([_conditions(study), Text("")] if is_paired(study) else []),
        *(Text(line, style="dim") for line in [*how_sure(study), *certainty_notes(study), *_computed(study)]),
        *said,
        Text(f"report: {study.path / 'report.html'}", overflow="fold", no_wrap=False),
    )


def _add_metric(table: Table, study: Study, metric: Metric) -> None:
    """Add a few rows: the measure's name, its best pairs, and on the right mean, peak and the peak's depth.

    The adjusted p has a column where the study has one.
    """
    best, along = top_pairs(study, metric, BEST), diagonal(study, metric)
    name = textwrap.wrap(metric.label, NAME_WIDTH) or [metric.id]
    pairs = [f"{pair.layer_a} × {pair.layer_b}" for pair in best] or ["undefined"]
    scores = [_score(pair) for pair in best]
    depth = []
    if along is not None:
        depth = [f"mean {number(along.mean)}", f"peak {number(along.peak.value)}", f"at {number(along.peak_depth)}"]
    sure = [[probability(pair.p) for pair in best]] if study.has("p_adjusted") else []
    for cells in zip_longest(name, pairs, scores, *sure, depth, fillvalue=""):
        table.add_row(*(Text(cell) for cell in cells))
    table.add_section()


def _conditions(study: Study) -> Table:
    """Sum up two conditions: mean over layers, the honest peak, and the controls that cost least and most."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("measure", no_wrap=True)
    table.add_column("over layers, peak on another half", overflow="fold")
    ends = {metric.id: _extremes(study, metric) for metric in study.metrics}
    if any(ends.values()):
        table.add_column("controls that cost least and most", overflow="fold")
    for metric in study.metrics:
        found = study.conditions.summary(metric.id)
        if found is not None:
            held = f"peak {scored(found.held, found.held_low, found.held_high)} {found.held_layer}"
            if math.isnan(found.held):
                held = f"peak on the same {study.pictures} {number(found.peak)} {found.peak_layer}"
            over = [f"mean {scored(found.mean, found.mean_low, found.mean_high)}", held]
            cells = [textwrap.wrap(metric.label, NAME_WIDTH) or [metric.id], over]
            cells += [ends[metric.id]] if any(ends.values()) else []
            table.add_row(*(Text("\n".join(lines)) for lines in cells))
            table.add_section()
    return table


def _extremes(study: Study, metric: Metric) -> list[str]:
    """Name the controls that leave the scores most and least alike; those that change nothing are no comparison."""
    found = [(c, study.conditions.effect(metric.id, c)) for c in ordered(study, metric) if c.difference != 0]
    scores = [(c, e) for c, e in found if e is not None and not math.isnan(e.value)]
    said = [(c, e, f", {strength(c)}" if strength(c) else "") for c, e in scores[:1] + scores[1:][-1:]]
    return [f"{scored(e.value, e.ci_low, e.ci_high)} {c.name.replace('_', ' ')}{aside}" for c, e, aside in said]


def _score(pair: Pair) -> str:
    return f"{number(pair.value)} {interval(pair.ci_low, pair.ci_high)}" if pair.has_interval else number(pair.value)
