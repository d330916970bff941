"""Scores under a condition beside those under its controls: how much of the loss is this condition's own."""

import math
from dataclasses import dataclass

from repalign.report.many.looks import Look, looks_of
from repalign.report.many.saved import Condition, Interval, ManyStudy, SavedEncoder
from repalign.report.many.sentences import quoted
from repalign.report.saved import Metric
from repalign.report.saved_conditions import Control, Effect
from repalign.report.wording import counted, listed, number, probability, share, significant

UNCHANGED = "changes nothing, so its score is what the measure gives pictures that are the same"


@dataclass(frozen=True)
class Contrast:
    """An encoder's mean score under the condition, under a control, and the first less the second with its p."""

    encoder: SavedEncoder
    look: Look
    condition: Interval
    control: Interval
    difference: Interval
    p: str
    note: str

    @property
    def told(self) -> int:
        """Tell the sign of the difference where its interval excludes 0, else 0."""
        low, high = self.difference.low, self.difference.high
        return 1 if low > 0 else -1 if high < 0 else 0


@dataclass(frozen=True)
class Contrasts:
    """All encoders against one control by one measure.

    `strength` says how much the control changes the pictures, `ratio` is that over the condition's.
    """

    spec: str
    label: str
    strength: str
    ratio: float
    matched: bool
    rows: tuple[Contrast, ...]
    said: str


@dataclass(frozen=True)
class Unmatched:
    """A control that could not be made, and why."""

    name: str
    note: str


def contrasts(study: ManyStudy, condition: Condition, metric: Metric) -> list[Contrasts]:
    """Set every encoder's score under a condition beside that under each control; nothing without controls."""
    looks, strengths = looks_of(study), {one.spec: one for one in condition.strengths if one.spec}
    found: dict[str, list[Contrast]] = {}
    for encoder in study.seen_under(condition):
        for effect in study.effects.get((condition.id, encoder.id), ()):
            if effect.metric == metric.id:
                row = _contrast(study, condition, metric, encoder, looks[encoder.id], effect)
                found.setdefault(effect.control, []).append(row)
    return [_contrasts(study, condition, metric, strengths.get(spec), spec, rows) for spec, rows in found.items()]


def unmatched(condition: Condition) -> list[Unmatched]:
    """List the controls that could not be matched to the condition, and why."""
    return [Unmatched(one.label or one.name, one.note) for one in condition.strengths if not one.spec]


def _contrast(
    study: ManyStudy, condition: Condition, metric: Metric, encoder: SavedEncoder, look: Look, effect: Effect
) -> Contrast:
    ranked = study.ranked(condition, metric, encoder)
    return Contrast(
        encoder=encoder,
        look=look,
        condition=ranked.mean if ranked else Interval(math.nan),
        control=Interval(effect.value, effect.ci_low, effect.ci_high),
        difference=Interval(effect.difference, effect.difference_low, effect.difference_high),
        p=probability(effect.p),
        note=effect.note,
    )


def _contrasts(
    study: ManyStudy, condition: Condition, metric: Metric, control: Control | None, spec: str, rows: list[Contrast]
) -> Contrasts:
    return Contrasts(
        spec=spec,
        label=control.label if control else spec,
        strength=strength(control),
        ratio=control.ratio if control else math.nan,
        matched=control is None or control.matched or not control.ratio > 0,
        rows=tuple(rows),
        said=_sum(study, condition, metric, rows),
    )


def strength(control: Control | None) -> str:
    """Say how much a control changes the pictures beside the condition; nothing where the study doesn't know."""
    if control is None:
        return ""
    if control.difference == 0:
        return UNCHANGED
    parts = []
    if math.isfinite(control.difference):
        parts.append(f"changes linear light by {significant(control.difference)} (RMS)")
    if math.isfinite(control.ratio):
        parts.append(f"{number(control.ratio)} times as much as the condition")
        parts += [] if control.matched else ["so its strength is not the condition’s"]
    if math.isfinite(control.clipped) and control.clipped > 0:
        parts.append(f"{share(control.clipped)} of pixels clipped")
    return "; ".join([", ".join(parts), control.note] if parts and control.note else [", ".join(parts) or control.note])


def _sum(study: ManyStudy, condition: Condition, metric: Metric, rows: list[Contrast]) -> str:
    """Count the encoders that keep more and less under the condition than under the control."""
    sign = 1 if metric.higher_is_similar else -1
    known = [row for row in rows if math.isfinite(row.difference.low) and math.isfinite(row.difference.high)]
    if not known:
        return "No difference has an interval, so none can be told from luck."
    less, more = (sum(row.told * sign == side for row in known) for side in (-1, 1))
    parts = [f"less in {less}"] if less else []
    parts += [f"more in {more}"] if more else []
    parts += [f"not told apart in {len(known) - less - more}"] if less + more < len(known) else []
    under = f"Under {quoted(condition)} geometry is kept"
    if less + more == 0:
        under = f"Under {quoted(condition)} as much geometry may be kept as under this control:"
    level = f"{100 * study.level:g} % intervals, each for itself"
    return f"{under} {listed(parts)} of {counted(len(known), 'encoder')} ({level})."
