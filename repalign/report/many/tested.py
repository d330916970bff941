"""What the tests of all encoders come to: per test a row an encoder, layers that pass and the largest statistic."""

import math
from dataclasses import dataclass

from repalign.report.many.looks import Look, looks_of
from repalign.report.many.saved import Condition, ManyStudy, SavedEncoder
from repalign.report.saved import Tested
from repalign.report.tested import TITLES
from repalign.report.wording import probability, significant

CANNOT_RANK = (
    "A Mantel p can't rank encoders here: original and copy show the same scenes, so independence is false from the "
    "start and p is as small as the number of permutations allows for every encoder. Read the scores and their "
    "intervals instead."
)


@dataclass(frozen=True)
class TestedRow:
    """One encoder under one condition: how many layers pass, the smallest p, the largest statistic and its place."""

    condition: str
    look: Look
    name: str
    passed: str
    p: str
    statistic: str
    chance: str
    where: str


@dataclass(frozen=True)
class TestedTable:
    """One test of all encoders; `warned` stands above it, `notes` below."""

    title: str
    warned: str
    rows: tuple[TestedRow, ...]
    notes: tuple[str, ...]


def tested_tables(study: ManyStudy) -> list[TestedTable]:
    """Lay out a table for each test, and for each measure that it tests."""
    found: dict[tuple[str, str], list[tuple[Condition, SavedEncoder, list[Tested]]]] = {}
    for condition in study.conditions:
        for encoder in study.encoders:
            own: dict[tuple[str, str], list[Tested]] = {}
            for row in study.tests.get((condition.id, encoder.id), ()):
                own.setdefault((row.test, row.metric), []).append(row)
            for key, rows in own.items():
                found.setdefault(key, []).append((condition, encoder, rows))
    return [_table(study, test, metric, some) for (test, metric), some in found.items()]


def _table(
    study: ManyStudy, test: str, metric: str, some: list[tuple[Condition, SavedEncoder, list[Tested]]]
) -> TestedTable:
    looks, labels = looks_of(study), {one.id: one.label for one in study.metrics}
    title = TITLES.get(test, test)
    return TestedTable(
        title=f"{title}: {labels.get(metric, metric)}" if metric else title,
        warned=CANNOT_RANK if test == "mantel" else "",
        rows=tuple(_row(study, condition, encoder, looks[encoder.id], rows) for condition, encoder, rows in some),
        notes=tuple(dict.fromkeys(row.note for *_, rows in some for row in rows if row.note)),
    )


def _row(study: ManyStudy, condition: Condition, encoder: SavedEncoder, look: Look, rows: list[Tested]) -> TestedRow:
    decisive = [p for row in rows if math.isfinite(p := row.p if math.isnan(row.p_adjusted) else row.p_adjusted)]
    known = [row for row in rows if math.isfinite(row.statistic)]
    top = max(known, key=lambda row: row.statistic, default=None)
    return TestedRow(
        condition=condition.label,
        look=look,
        name=encoder.described,
        passed=f"{sum(p < study.alpha for p in decisive)} of {len(decisive)}" if decisive else "no p",
        p=probability(min(decisive, default=math.nan)),
        statistic="undefined" if top is None else significant(top.statistic),
        chance="" if top is None or math.isnan(top.null_mean) else significant(top.null_mean),
        where="" if top is None else top.layer_a,
    )
