"""What `tests.csv` says: one table a test, with a sentence that sums it up."""

import math
from dataclasses import dataclass

from repalign.report.certainty import level
from repalign.report.saved import Study, Tested
from repalign.report.wording import counted, probability, significant

TITLES = {
    "mmd2": "MMD², unbiased",
    "energy": "Energy distance",
    "wasserstein1": "1-Wasserstein distance, exact",
    "sliced_wasserstein1": "1-Wasserstein distance, sliced",
    "mantel": "Mantel's test",
    "more_aligned": "A aligns more than B",
}

WARNED = ("mantel",)
"""Tests whose p is small whatever the encoder, so that their notes must not be missed."""

COLUMNS = (
    ("statistic", "statistic"),
    ("by chance", "chance"),
    ("p", "p"),
    ("p, adjusted", "p_adjusted"),
    ("q", "q"),
    ("n", "n"),
    ("groups", "groups"),
    ("permutations", "permutations"),
)
COUNTS = {"n": "n = {}", "groups": "{} groups", "permutations": "{} permutations"}
"""Fields that are said once where every row has the same."""


@dataclass(frozen=True)
class ResultRow:
    """One layer's test in words, nothing where the study has no number."""

    layers: str
    statistic: str
    chance: str
    p: str
    p_adjusted: str
    q: str
    n: str
    groups: str
    permutations: str


@dataclass(frozen=True)
class ResultTable:
    """All rows of one test of one measure, what they come to, and their notes with the layers noted.

    `columns` are the headings and fields worth a column; what is the same in all rows is said in `rests_on`. Where
    the notes are `warned`, the numbers mislead without them.
    """

    title: str
    said: str
    rests_on: str
    columns: tuple[tuple[str, str], ...]
    rows: tuple[ResultRow, ...]
    notes: tuple[str, ...]
    warned: bool = False


def result_tables(study: Study) -> list[ResultTable]:
    """Lay out the study's tests, one table for each test and measure."""
    found: dict[tuple[str, str], list[Tested]] = {}
    for row in study.tests:
        found.setdefault((row.test, row.metric), []).append(row)
    return [_table(study, test, metric, rows) for (test, metric), rows in found.items()]


def _table(study: Study, test: str, metric: str, rows: list[Tested]) -> ResultTable:
    labels = {one.id: one.label for one in study.metrics}
    title = TITLES.get(test, test)
    shown = tuple(_row(one) for one in rows)
    same = {f for f in COUNTS if len({getattr(row, f) for row in shown}) == 1}
    filled = {f for _, f in COLUMNS if any(getattr(row, f) for row in shown)}
    return ResultTable(
        title=f"{title}: {labels.get(metric, metric)}" if metric else title,
        said=_sum(study, rows),
        rests_on=", ".join(COUNTS[f].format(getattr(shown[0], f)) for f in COUNTS if f in same & filled),
        columns=tuple((head, f) for head, f in COLUMNS if f in filled - same),
        rows=shown,
        notes=tuple(_notes(rows)),
        warned=test in WARNED,
    )


def _sum(study: Study, rows: list[Tested]) -> str:
    """Count the layers that pass and name the largest statistic."""
    alpha = round(1 - level(study), 12)
    tested = [one for one in rows if math.isfinite(_decisive(one))]
    known = [one for one in rows if math.isfinite(one.statistic)]
    parts = []
    if tested:
        passed = sum(_decisive(one) < alpha for one in tested)
        which = "an adjusted p" if any(math.isfinite(one.p_adjusted) for one in tested) else "a p"
        parts.append(f"{passed} of {counted(len(tested), 'layer')} {'has' if passed == 1 else 'have'} {which} below "
                     f"{alpha:.2g}")  # fmt: skip
    else:
        parts.append("No p could be given")
    if known:
        top = max(known, key=lambda one: one.statistic)
        chance = f" against {significant(top.null_mean)} by chance" if math.isfinite(top.null_mean) else ""
        parts.append(f"the statistic is largest at {_layers(top)}, {significant(top.statistic)}{chance}")
    return "; ".join(parts) + "."


def _decisive(row: Tested) -> float:
    return row.p if math.isnan(row.p_adjusted) else row.p_adjusted


def _layers(row: Tested) -> str:
    return row.layer_a if row.layer_a == row.layer_b or not row.layer_b else f"{row.layer_a} × {row.layer_b}"


def _row(row: Tested) -> ResultRow:
    def whole(value: float) -> str:
        return "" if math.isnan(value) else f"{int(value):,}"

    return ResultRow(
        layers=_layers(row),
        statistic=significant(row.statistic),
        chance="" if math.isnan(row.null_mean) else significant(row.null_mean),
        p=probability(row.p),
        p_adjusted=probability(row.p_adjusted),
        q=probability(row.q),
        n=whole(row.n),
        groups=whole(row.n_groups),
        permutations=whole(row.n_permutations),
    )


def _notes(rows: list[Tested]) -> list[str]:
    """Say each note once, with the layers it is about unless it is about all."""
    said: dict[str, list[str]] = {}
    for row in rows:
        if row.note:
            said.setdefault(row.note, []).append(_layers(row))
    return [note if len(who) == len(rows) else f"{', '.join(who)}: {note}" for note, who in said.items()]
