"""The tables of one encoder under two conditions: measures in short, controls, and every layer."""

import math
from dataclasses import dataclass

from repalign.report.conditions import condition_difference, condition_name, error_rate, strength, verdict
from repalign.report.saved import Metric, Study
from repalign.report.saved_conditions import Control, Summary
from repalign.report.scores import matched_curve
from repalign.report.wording import counted, interval, listed, number, probability, share, significant

TABLED = 2_500
"""Up to so many scores a page carries each layer's under every control."""

APART = {"below": "lower", "above": "higher", "level": "not told apart"}


@dataclass(frozen=True)
class SummaryRow:
    """One measure in short: mean over layers, honest and naive peak, the share of splits that agree, notes."""

    label: str
    direction: str
    mean: str
    mean_interval: str
    held: str
    held_interval: str
    held_layer: str
    peak: str
    peak_layer: str
    share: str
    note: str


@dataclass(frozen=True)
class Score:
    """A control's score under one measure, and the condition's less it, each with its interval; `apart` in a word."""

    value: str = ""
    interval: str = ""
    difference: str = ""
    difference_interval: str = ""
    p: str = ""
    apart: str = ""


@dataclass(frozen=True)
class ControlRow:
    """One control, or the condition itself: how much it changes the pictures, and its scores measure by measure."""

    label: str
    spec: str
    difference: str
    ratio: str
    flag: str
    clipped: str
    note: str
    scores: tuple[Score, ...]
    is_condition: bool = False


@dataclass(frozen=True)
class LayerScores:
    """Every layer under one measure: headings, and rows of a layer's name and pairs of score and small print."""

    label: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]


def summary_table(study: Study) -> list[SummaryRow]:
    """Sum up each measure between the two conditions, in the order of measures."""
    found = [(metric, study.conditions.summary(metric.id)) for metric in study.metrics]
    return [_summary_row(metric, one) for metric, one in found if one is not None]


def rests_on(study: Study) -> str:
    """Say what the summaries rest on, once where it is the same for all: layers, stimuli, groups."""
    said = []
    for one in study.conditions.summaries:
        groups = "" if math.isnan(one.n_groups) else f" in {counted(int(one.n_groups), 'group')}"
        said.append(f"{counted(int(one.layers), 'layer')}, {one.n:,.0f} {study.pictures}{groups}")
    return "; ".join(dict.fromkeys(said))


def ordered(study: Study, metric: Metric) -> list[Control]:
    """List controls from the score most alike to the least, those without a score last."""

    def rank(control: Control) -> float:
        found = study.conditions.effect(metric.id, control)
        value = math.nan if found is None else found.value
        return math.inf if math.isnan(value) else -(value if metric.higher_is_similar else -value)

    return sorted(study.conditions.controls, key=rank)


def control_table(study: Study) -> list[ControlRow]:
    """List the condition, then the controls in the order of the first measure's scores; nothing without controls."""
    if not study.conditions.controls:
        return []
    return [_condition_row(study), *(_control_row(study, one) for one in ordered(study, study.metrics[0]))]


def control_notes(study: Study) -> list[str]:
    """List what the study notes about the controls' scores, with the controls that a note is about."""
    labels = {one.spec: one.label for one in study.conditions.controls if one.spec}
    said: dict[str, list[str]] = {}
    for one in study.conditions.effects:
        if one.note and labels[one.control] not in said.setdefault(one.note, []):
            said[one.note].append(labels[one.control])
    return [note if len(who) == len(labels) else f"{listed(who)}: {note}" for note, who in said.items()]


def layer_scores(study: Study) -> list[LayerScores]:
    """Lay out every layer's score under the condition and each control, or nothing when there are too many."""
    controls = [one for one in study.conditions.controls if one.spec]
    cells = len(study.metrics) * len(study.a.layers) * (1 + len(controls))
    if not study.conditions.summaries or cells > TABLED:
        return []
    return [_layer_scores(study, metric, controls) for metric in study.metrics]


def _summary_row(metric: Metric, one: Summary) -> SummaryRow:
    return SummaryRow(
        label=metric.label,
        direction="" if metric.higher_is_similar else "lower is more alike",
        mean=number(one.mean),
        mean_interval=_interval(one.mean_low, one.mean_high),
        held="" if math.isnan(one.held) else number(one.held),
        held_interval=_interval(one.held_low, one.held_high),
        held_layer=one.held_layer,
        peak="" if math.isnan(one.peak) else number(one.peak),
        peak_layer=one.peak_layer,
        share=share(one.held_share),
        note=one.note,
    )


def _interval(low: float, high: float) -> str:
    return interval(low, high) if math.isfinite(low) and math.isfinite(high) else ""


def _condition_row(study: Study) -> ControlRow:
    found = study.conditions.filters.get("b")
    means = [study.conditions.summary(metric.id) for metric in study.metrics]
    changed = condition_difference(study)
    known = math.isfinite(changed)
    return ControlRow(
        label=condition_name(study),
        spec="" if found is None else found.spec,
        difference=significant(changed) if known else "",
        ratio="1" if known else "",
        flag="",
        clipped="" if found is None else share(found.clipped),
        note="",
        scores=tuple(
            Score() if one is None else Score(number(one.mean), _interval(one.mean_low, one.mean_high)) for one in means
        ),
        is_condition=True,
    )


def _control_row(study: Study, control: Control) -> ControlRow:
    return ControlRow(
        label=control.label if control.spec else control.name.replace("_", " "),
        spec=control.spec,
        difference="" if math.isnan(control.difference) else significant(control.difference),
        ratio="" if math.isnan(control.ratio) else number(control.ratio),
        flag=strength(control) if control.spec else "not matched",
        clipped=share(control.clipped),
        note=control.note,
        scores=tuple(_score(study, metric, control) for metric in study.metrics),
    )


def _score(study: Study, metric: Metric, control: Control) -> Score:
    found = study.conditions.effect(metric.id, control)
    if found is None:
        return Score()
    return Score(
        value=number(found.value),
        interval=_interval(found.ci_low, found.ci_high),
        difference="" if math.isnan(found.difference) else signed(found.difference),
        difference_interval=_interval(found.difference_low, found.difference_high),
        p=probability(found.p),
        apart=APART.get(verdict(found, error_rate(study)), ""),
    )


def signed(value: float) -> str:
    """Write a difference with its sign; 0 has none."""
    text = number(value)
    return text if text.startswith("−") or float(text) == 0 else f"+{text}"


def _layer_scores(study: Study, metric: Metric, controls: list[Control]) -> LayerScores:
    columns = [matched_curve(study, metric, c).tolist() for c in ("value", "ci_low", "ci_high")]
    rows = []
    for layer, value, low, high in zip(study.a.layers, *columns, strict=True):
        own = (number(value), _interval(low, high))
        rows.append((layer, (own, *(_at_layer(study, metric, one, layer) for one in controls))))
    heads = (condition_name(study), *(one.label for one in controls))
    return LayerScores(metric.label, heads, tuple(rows[::-1]))


def _at_layer(study: Study, metric: Metric, control: Control, layer: str) -> tuple[str, str]:
    """Write a control's score at a layer and, below, the condition's less it with its interval."""
    found = study.conditions.effect(metric.id, control, layer)
    if found is None:
        return "", ""
    if math.isnan(found.difference):
        return number(found.value), ""
    known = _interval(found.difference_low, found.difference_high)
    return number(found.value), " ".join(part for part in (signed(found.difference), known) if part)
