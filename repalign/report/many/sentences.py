"""The question of a study of many encoders and its answer, and what must be said beside every number."""

import math

from repalign.report.many.saved import Condition, Interval, ManyStudy, Ranked
from repalign.report.saved import Metric
from repalign.report.sentences import UNTRAINED
from repalign.report.wording import counted, interval, listed, number, said_of_skipped

NAMED = 4
"""At most so many encoders are named one by one in a sentence."""

NO_P = "no p: "
"""What a note in the ranking begins with that says why there is no p."""


PAPER_STYLE = (
    "paper-style, not a reproduction: what the paper leaves open is decided here, as listed under “How this was made”"
)

PICKED = (
    "The best one was picked for its score, so the differences to it lean a little away from zero; "
    "the honest peak is the layer picked on one half of the data and scored on the other"
)


def question(study: ManyStudy) -> str:
    """Ask what the study asked."""
    seen = study.seen
    names = [quoted(one) for one in study.conditions]
    under = names[0] if len(names) == 1 else counted(len(names), "condition")
    if len(study.encoders) == 1:
        return f"Does {study.encoders[0].described} keep its geometry when {seen} are set against {under}?"
    many = counted(len(study.encoders), "encoder")
    return f"Which of {many} keeps most of its geometry when {seen} are set against {under}?"


def answer(study: ManyStudy) -> str:
    """Answer by the first condition and the first measure: which is best, by how much, and how sure its lead is."""
    if not study.encoders:
        return "No encoder gave any numbers; the reasons stand below."
    condition, metric = study.conditions[0], study.metrics[0]
    rows = [row for row in study.ranking.get((condition.id, metric.id), ()) if math.isfinite(row.mean.value)]
    if not rows:
        return f"Under {quoted(condition)} no encoder has a defined score by {metric.label}; the notes say why."
    best = study.encoder(rows[0].encoder).described
    start = (
        f"Under {quoted(condition)}, {_label(metric)} averages {rows[0].mean.text} {_where(study, rows[0])} of {best}"
    )
    if len(rows) == 1:
        return f"{start}."
    most = "the most" if metric.higher_is_similar else "the least and so the most alike"
    return f"{start}, {most} of {counted(len(rows), 'encoder')}{_ahead(study, metric, rows)}."


def _ahead(study: ManyStudy, metric: Metric, rows: list[Ranked]) -> str:
    """Say by how much the best leads the next, and of which others its lead can be told from luck."""
    following = rows[1]
    gap = following.difference
    less = "less" if metric.higher_is_similar else "more"
    size = number(abs(gap.value))
    span = "" if not gap.span else f" {_behind(metric, gap)}"
    over = f" {study.over(following)}".rstrip()
    said = f"; {study.encoder(following.encoder).described} follows{over} with {size}{span} {less}"
    tested = [row for row in rows[1:] if math.isfinite(row.p_adjusted)]
    if not tested:
        reason = next((row.note.partition(NO_P)[2] for row in rows if NO_P in row.note), "")
        return (
            f"{said}, and no p-value says whether such differences are more than luck{f': {reason}' if reason else ''}"
        )
    open_ones = [study.encoder(row.encoder).described for row in tested if not row.behind(study.alpha)]
    if len(open_ones) == len(tested):
        return f"{said}, and no lead can be told from luck{_by(study, 'no interval leaves out 0 with an')}"
    others = f"{len(tested) - len(open_ones)} of {len(tested)} others" if open_ones else "every other"
    left = f", not that over {listed(open_ones)}" if 0 < len(open_ones) <= NAMED else ""
    return (
        f"{said}, and the lead over {others} is more than luck{_by(study, 'the interval leaves out 0, with an')}{left}"
    )


def _behind(metric: Metric, gap: Interval) -> str:
    """Write the interval of a difference turned so that a positive one is behind the best."""
    return interval(-gap.high, -gap.low) if metric.higher_is_similar else interval(gap.low, gap.high)


def _where(study: ManyStudy, row: Ranked) -> str:
    return study.over(row) or "over the layers"


def _by(study: ManyStudy, interval_with: str) -> str:
    return f" ({interval_with} adjusted p below {study.alpha:.2g})"


def _label(metric: Metric) -> str:
    return f"{metric.label}," if "," in metric.label else metric.label


def quoted(condition: Condition) -> str:
    """Name a condition so that its words stand out of a sentence."""
    return f"“{condition.label}”"


def caveats(study: ManyStudy) -> list[str]:
    """List what must be said beside every number: how near the paper, untrained, notes, warnings, what was left out."""
    said = [PAPER_STYLE[0].upper() + PAPER_STYLE[1:]] if study.paper_style else []
    raw = [one.name for one in study.encoders if one.untrained]
    if raw:
        said.append(f"{listed(raw)}: {UNTRAINED}")
    said += [str(note) for note in study.meta.get("notes") or ()]
    said += [f"{study.originals.name}: {note}" for note in study.stimuli.get("notes") or ()]
    said += said_of_skipped(study.originals.name, study.stimuli.get("skipped") or [])
    said += [f"{one.label}: {note}" for one in study.conditions for note in one.notes]
    said += _encoder_notes(study)
    said += [str(warning) for warning in study.meta.get("warnings") or ()]
    return list(dict.fromkeys(said))


def brief_caveats(study: ManyStudy) -> list[str]:
    """List in a few words what stands at every figure: how near the paper, untrained, and the stimuli's notes."""
    said = ["paper-style, not a reproduction"] if study.paper_style else []
    raw = [one.name for one in study.encoders if one.untrained]
    said += [f"untrained: {listed(raw)}"] if raw else []
    said += [f"failed, not shown: {listed([one.name for one in study.failed])}"] if study.failed else []
    return said + [str(note) for note in study.stimuli.get("notes") or ()]


def _encoder_notes(study: ManyStudy) -> list[str]:
    """Say each note once, with the encoders that it is about."""
    whose: dict[str, list[str]] = {}
    for one in study.encoders:
        for note in one.notes:
            whose.setdefault(note, []).append(one.name)
    return [
        f"{listed(names) if len(names) <= NAMED else counted(len(names), 'encoder')}: {note}"
        for note, names in whose.items()
    ]
