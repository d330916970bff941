"""The ranking of encoders for the page: a row an encoder, its numbers by every measure, and a dot for the first."""

import math
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import quote

import numpy as np

from repalign.report.chart import Box, Tick
from repalign.report.many.layout import across, fitted_box, fitted_ticks, signed
from repalign.report.many.looks import Look, looks_of
from repalign.report.many.saved import Condition, ManyStudy, Ranked, SavedEncoder
from repalign.report.saved import Metric
from repalign.report.wording import big, counted, number, per_cent, probability


@dataclass(frozen=True)
class Cell:
    """What one measure says of one encoder, in words; nothing where the study has no number."""

    rank: str
    best: bool
    mean: str
    span: str
    difference: str
    difference_span: str
    p: str
    beaten: bool
    held: str
    held_where: str
    naive: str
    note: str


@dataclass(frozen=True)
class Row:
    """One encoder of the ranking; `at`, `low` and `width` place its mean by the first measure, in per cent."""

    encoder: SavedEncoder
    look: Look
    size: str
    link: str
    at: float | None
    low: float | None
    width: float
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class RankingTable:
    """The ranking under one condition, best first by the first measure, and its notes."""

    condition: Condition
    rests_on: str
    rows: tuple[Row, ...]
    ticks: tuple[Tick, ...]
    notes: tuple[str, ...]


def ranking_tables(study: ManyStudy) -> list[RankingTable]:
    """Lay out a ranking for each condition that has scores."""
    return [_table(study, one) for one in study.conditions if study.seen_under(one)]


def forest_box(study: ManyStudy, condition: Condition, metric: Metric, held: bool = False) -> Box:
    """Span the axis of all means with their intervals, and of the honest peaks too with `held`."""
    rows = study.ranking.get((condition.id, metric.id), ())
    shown = [row.mean for row in rows] + [row.held for row in rows if held]
    return fitted_box(np.array([v for one in shown for v in (one.value, one.low, one.high)]))


def _table(study: ManyStudy, condition: Condition) -> RankingTable:
    box, looks = forest_box(study, condition, study.metrics[0]), looks_of(study)
    rows = [_row(study, condition, one, looks[one.id], box) for one in study.seen_under(condition)]
    return RankingTable(
        condition, _rests_on(study, condition), tuple(rows), fitted_ticks(box), tuple(_notes(study, condition))
    )


def _row(study: ManyStudy, condition: Condition, encoder: SavedEncoder, look: Look, box: Box) -> Row:
    ranked = [study.ranked(condition, metric, encoder) for metric in study.metrics]
    first = ranked[0]
    at, low, high = (None, None, None)
    if first is not None:
        at, low, high = (across(box, v) for v in (first.mean.value, first.mean.low, first.mean.high))
    width = 0.0 if low is None or high is None else round(high - low, 2)
    parameters = "" if math.isnan(encoder.parameters) else f"{big(encoder.parameters)} parameters"
    size = ", ".join(part for part in (counted(len(encoder.layers), "layer"), parameters) if part)
    cells = tuple(_cell(study, row) for row in ranked)
    return Row(encoder, look, size, link(study, encoder, condition), at, low, width, cells)


def _cell(study: ManyStudy, row: Ranked | None) -> Cell:
    if row is None:
        return Cell("", False, "undefined", "", "", "", "", False, "", "", "", "")
    rows = study.ranking[row.condition, row.metric]
    first = row == rows[0]
    differs = math.isfinite(row.difference.value) and not first
    held = math.isfinite(row.held.value)
    agreed = f" ({per_cent(row.held_share)} of splits)" if math.isfinite(row.held_share) else ""
    return Cell(
        rank="" if math.isnan(row.rank) else f"{row.rank:.0f}",
        best=first and len(rows) > 1 and math.isfinite(row.mean.value),
        mean=number(row.mean.value),
        span=f"{row.mean.span} {study.over(row)}".strip(),
        difference=signed(row.difference.value) if differs else "",
        difference_span=row.difference.span if differs else "",
        p="" if first else probability(row.p_adjusted),
        beaten=not first and row.behind(study.alpha),
        held=row.held.text if held else "",
        held_where=f"at {row.held_layer}{agreed}" if held else "",
        naive=f"{number(row.peak)} at {row.peak_layer}" if math.isfinite(row.peak) else "",
        note=row.note,
    )


def link(study: ManyStudy, encoder: SavedEncoder, condition: Condition) -> str:
    """Give the address of an encoder's own report, relative to the page; nothing when it isn't in the folder."""
    named = encoder.report.get(condition.id, "")
    parts = PurePosixPath(named).parts
    if not named or ".." in parts or PurePosixPath(named).is_absolute() or not (study.path / named).is_file():
        return ""
    return quote(PurePosixPath(named).as_posix())


def _rests_on(study: ManyStudy, condition: Condition) -> str:
    """Say what intervals and p-values rest on."""
    rows = study.ranking[condition.id, study.metrics[0].id]
    parts = [f"{100 * study.level:g} % intervals"] if any(row.mean.span for row in rows) else ["no intervals"]
    groups = {row.n_groups for row in rows if math.isfinite(row.n_groups)}
    units = counted(int(max(groups)), "group") if groups else f"{int(rows[0].n):,} {study.pictures} one by one"
    parts.append(f"over {units}")
    if any(math.isfinite(row.p_adjusted) for row in rows):
        flips = int(study.meta.get("n_permutations") or 0)
        parts.append(f"p from {counted(flips, 'sign flip')} shared by all encoders, adjusted for all of them (max-T)")
    return ", ".join(parts)


def _notes(study: ManyStudy, condition: Condition) -> list[str]:
    """Say each note of the ranking once, with the encoders it is about unless it is about all."""
    said: dict[str, list[str]] = {}
    rows = [row for metric in study.metrics for row in study.ranking.get((condition.id, metric.id), ())]
    for row in rows:
        if row.note:
            name = study.encoder(row.encoder).described
            said.setdefault(row.note, [])
            if name not in said[row.note]:
                said[row.note].append(name)
    everyone = len({row.encoder for row in rows})
    return [note if len(who) == everyone else f"{', '.join(who)}: {note}" for note, who in said.items()]
