"""How sure the numbers are, in words: intervals, p-values, groups, and why one of them is missing."""

import numpy as np

from repalign.report.saved import Certainty, Metric, Study
from repalign.report.wording import counted, listed

INTERVALS = {"jackknife": "jackknife", "half": "half-sampling without replacement"}
CONVENTIONAL = 0.95
"""The level taken for a study that has intervals and does not say which."""


def how_sure(study: Study) -> list[str]:
    """Say in sentences where intervals and p-values come from, once for all measures that share it."""
    said: dict[str, list[str]] = {}
    for metric in study.metrics:
        said.setdefault(_sentence(study, metric), []).append(metric.label)
    lines = [text if len(said) == 1 else f"{listed(names)}: {text}" for text, names in said.items()]
    if study.has("ci_low"):
        lines.append("The pair most alike was picked for its score, so its own interval is a little optimistic.")
    return lines


def certainty_notes(study: Study) -> list[str]:
    """List what the study notes about its intervals and p-values, with the measures that a note is about."""
    said: dict[str, list[str]] = {}
    for metric in study.metrics:
        for note in study.certainty[metric.id].notes if metric.id in study.certainty else ():
            said.setdefault(note, []).append(metric.label)
    return [note if len(who) == len(study.metrics) else f"{listed(who)}: {note}" for note, who in said.items()]


def brief(study: Study, metric: Metric) -> str:
    """Say in a few words beside a figure what its intervals and p-values rest on; nothing without any."""
    known, parts = study.certainty.get(metric.id), []
    if _fills(study, metric, "ci_low"):
        parts.append(_level(known) + " intervals")
    if known is not None and known.n_permutations and _fills(study, metric, "p"):
        parts.append(counted(known.n_permutations, "permutation"))
    if known is not None and known.n_groups is not None:
        parts.append(counted(known.n_groups, "group"))
    return ", ".join(parts)


def certainty_rows(study: Study) -> list[tuple[str, str]]:
    """List per measure how its intervals and p-values were made, for "How this was made"."""
    rows = []
    for metric in study.metrics:
        known = study.certainty.get(metric.id)
        if known is not None:
            interval = f"{_level(known)} {known.interval}" if known.interval != "none" else "no interval"
            units = "each stimulus alone" if known.n_groups is None else counted(known.n_groups, "group")
            times = f"{counted(known.n_permutations, 'permutation')}, seed {known.seed}"
            rows.append((metric.label, f"{interval}; {units}; {times}"))
    return rows


def level(study: Study) -> float:
    """Give the level of the study's intervals."""
    return next((one.level for one in study.certainty.values()), CONVENTIONAL)


def _sentence(study: Study, metric: Metric) -> str:
    known = study.certainty.get(metric.id)
    intervals, tests = _fills(study, metric, "ci_low"), _fills(study, metric, "p")
    if known is None:
        if intervals:
            return "Scores stand with their intervals in brackets."
        return "This study holds point estimates without intervals."
    if not intervals and not tests:
        return "There are no intervals and no p-values, so nothing here tells a score from luck."
    first = _interval_words(study, known) if intervals else "There are no intervals"
    return f"{first}; {_test_words(study, known) if tests else 'there are no p-values'}."


def _interval_words(study: Study, known: Certainty) -> str:
    over = _units(study, known)
    way = INTERVALS.get(known.interval, known.interval)
    if known.interval == "jackknife":
        way = f"a delete-{'one' if known.n_groups is None else 'group'} jackknife"
    return f"Brackets hold {_level(known)} intervals from {way} over {over}"


def _test_words(study: Study, known: Certainty) -> str:
    moved = study.pictures if known.n_groups is None else "whole groups"
    pairs = counted(_tests(study), "pair of layers", "pairs of layers")
    how = f"p comes from {counted(known.n_permutations, 'permutation')} of {moved}"
    return f"{how}, adjusted for all {pairs} together (max-T)" if study.has("p_adjusted") else how


def _tests(study: Study) -> int:
    """Count the tests of one measure; of a side with itself two cells, above and below the diagonal, are one."""
    adjusted = study.matrix(study.metrics[0], "p_adjusted")
    known = np.isfinite(adjusted)
    itself = study.a.layers == study.b.layers and not known.diagonal().any()
    return int(np.triu(known).sum() if itself else known.sum())


def _units(study: Study, known: Certainty) -> str:
    return study.counted if known.n_groups is None else counted(known.n_groups, "group")


def _level(known: Certainty | None) -> str:
    return f"{100 * (known.level if known else CONVENTIONAL):g} %"


def _fills(study: Study, metric: Metric, column: str) -> bool:
    return bool(np.isfinite(study.matrix(metric, column)).any())
