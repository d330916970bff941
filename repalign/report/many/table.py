"""The table that closes a study of many encoders in the terminal."""

import math

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from repalign.report.many.layout import signed
from repalign.report.many.saved import Condition, ManyStudy, Ranked, SavedEncoder
from repalign.report.many.sentences import PICKED, answer, caveats, question, quoted
from repalign.report.wording import number, probability


def ranking_table(study: ManyStudy) -> RenderableType:
    """Sum up a study: the ranking under every condition, who failed, caveats and where the report lies."""
    parts: list[RenderableType] = [Text(question(study), style="bold"), Text(answer(study))]
    for condition in study.conditions:
        if study.seen_under(condition):
            parts += [Text(""), Text(f"against {quoted(condition)}", style="bold"), _ranking(study, condition)]
    parts += [Text(""), Text(f"{PICKED}.", style="dim")]
    parts += [Text(f"! {one.name} failed: {one.error}", style="red") for one in study.failed]
    parts += [Text(f"! {caveat}", style="yellow") for caveat in caveats(study)]
    return Group(*parts, Text(f"report: {study.path / 'report.html'}", overflow="fold", no_wrap=False))


def _ranking(study: ManyStudy, condition: Condition) -> Table:
    """List encoders best first: by the first measure mean, difference to the best and its p if any, by others means."""
    first, *others = study.metrics
    seen = study.seen_under(condition)
    rows = [[study.ranked(condition, metric, one) for metric in study.metrics] for one in seen]
    tested = any(row[0] is not None and math.isfinite(row[0].p_adjusted) for row in rows)
    longest = max(len(row[0].mean.text) for row in rows if row[0] is not None)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("", justify="right")
    table.add_column("encoder", overflow="fold", min_width=12)
    table.add_column(Text(first.label), justify="right", min_width=longest)
    for heading in ("less best", "p adj.")[: 1 + tested]:
        table.add_column(heading, justify="right", no_wrap=True)
    for metric in others:
        named = [one.name for one in others].count(metric.name) == 1
        table.add_column(Text(metric.name if named else metric.label), justify="right")
    for encoder, row in zip(seen, rows, strict=True):
        cells = _first(row[0], _name(study, row[0], encoder))[: 4 + tested] + [_mean(one) for one in row[1:]]
        table.add_row(*map(Text, cells))
    return table


def _name(study: ManyStudy, row: Ranked | None, encoder: SavedEncoder) -> str:
    over = "" if row is None else study.over(row)
    return f"{encoder.described} ({over})" if over else encoder.described


def _first(row: Ranked | None, name: str) -> list[str]:
    if row is None:
        return ["", name, "undefined", "", ""]
    rank = "" if math.isnan(row.rank) else f"{row.rank:.0f}"
    gap = signed(row.difference.value) if row.difference.value else ""
    return [rank, name, row.mean.text, "" if gap == "undefined" else gap, probability(row.p_adjusted)]


def _mean(row: Ranked | None) -> str:
    return "undefined" if row is None else number(row.mean.value)
