"""What one encoder under two conditions comes to, in sentences: question, answer, controls, and the filter."""

import math

from repalign.report.certainty import level
from repalign.report.saved import Metric, Side, Study
from repalign.report.saved_conditions import Control, Effect, Optics, SavedFilter, Summary
from repalign.report.wording import counted, interval, listed, number, share, significant

PLAIN, GONE = 0.9, 0.1
"""At a transfer above the first, optics hardly show; below the second, the finest details are gone."""

VERDICTS = {"below": "lower than with {}", "above": "higher than with {}", "level": "not told apart from {}"}


def is_paired(study: Study) -> bool:
    """Tell whether the study sums up one encoder under two conditions."""
    return bool(study.conditions.summaries)


def asked(study: Study, encoder: str) -> str:
    """Ask whether an encoder keeps its geometry from the first condition to the second."""
    a, b = study.a, study.b
    through = f" through {a.filter}" if a.filter else ""
    first = f"{study.n:,} {study.pictures} of {a.stimuli}{through}"
    if a.stimuli == b.stimuli:
        second = f"seen through {b.filter}" if b.filter else "seen as they are"
    else:
        second = f"shown as {b.stimuli}" + (f" through {b.filter}" if b.filter else "")
    return f"Does {encoder} keep its geometry when {first} are {second}?"


def answered(study: Study, metric: Metric) -> str:
    """Answer by one measure: mean over layers, the peak chosen and measured on different stimuli, and the controls."""
    found = study.conditions.summary(metric.id)
    if found is None or math.isnan(found.mean):
        return f"No layer has a defined score by {metric.label}; the warnings say why."
    label = f"{metric.label}," if "," in metric.label else metric.label
    lower = "" if metric.higher_is_similar else " (lower is more alike)"
    mean = f"{label} is {scored(found.mean, found.mean_low, found.mean_high)}{lower}"
    if found.layers == 1:
        return f"At its one layer {mean}.{_against_controls(study, metric)}"
    return (
        f"Averaged over its {found.layers:,.0f} layers {mean}{_peak(study, found)}.{_against_controls(study, metric)}"
    )


def condition_name(study: Study) -> str:
    """Name in short what the second condition is: the filter, or the other pictures."""
    a, b = study.a, study.b
    other = b.stimuli if b.stimuli != a.stimuli else ""
    return " through ".join(part for part in (other, b.filter) if part) or "as they are"


def scored(value: float, low: float, high: float) -> str:
    """Write a score with its interval where it has one."""
    known = math.isfinite(low) and math.isfinite(high)
    return f"{number(value)} {interval(low, high)}" if known else number(value)


def condition_difference(study: Study) -> float:
    """Give the RMS difference in linear light between the two conditions, NaN where the study doesn't know it."""
    found = study.conditions.filters.get("b")
    if found is not None and math.isfinite(found.difference):
        return found.difference
    ratios = (c.difference / c.ratio for c in study.conditions.controls if c.ratio > 0)
    return next((value for value in ratios if math.isfinite(value)), math.nan)


def error_rate(study: Study) -> float:
    """Give the p below which two scores are told apart: what the intervals leave out."""
    return round(1 - level(study), 12)


def verdict(effect: Effect, alpha: float) -> str:
    """Tell whether the condition scores `above` or `below` a control or `level`: "" when nothing says how sure.

    Apart means that the interval of the difference leaves out 0 and, where there is a p, that it lies below `alpha`.
    """
    if not (math.isfinite(effect.difference_low) and math.isfinite(effect.difference_high)):
        return ""
    sure = math.isnan(effect.p) or effect.p < alpha
    if sure and effect.difference_low > 0:
        return "above"
    return "below" if sure and effect.difference_high < 0 else "level"


def strength(control: Control) -> str:
    """Say how strong a control is beside the condition, unless it is as strong."""
    if control.difference == 0:
        return "changes nothing"
    if control.matched:
        return ""
    return "strength unknown" if math.isnan(control.ratio) else f"{significant(control.ratio, 2)} × as strong"


def units(study: Study) -> str:
    """Name what is left out or halved: groups, or the pictures themselves."""
    return study.pictures if all(math.isnan(one.n_groups) for one in study.conditions.summaries) else "groups"


def condition_facts(study: Study) -> list[tuple[str, str, tuple[str, ...]]]:
    """List what changed between the two conditions, and beside what: a heading, a value, small print."""
    if not is_paired(study):
        return []
    found = study.conditions.filters.get("b")
    more = []
    if math.isfinite(condition_difference(study)):
        more.append(f"RMS difference {significant(condition_difference(study))} of white")
    if found is not None and math.isfinite(found.clipped):
        more.append(f"{share(found.clipped)} of pixels cut")
    facts = [("shown as" if study.a.stimuli != study.b.stimuli else "seen through", condition_name(study), tuple(more))]
    controls = [one for one in study.conditions.controls if one.spec]
    if controls:
        unlike = sum(not one.matched for one in controls if one.difference != 0)
        facts.append(("controls", f"{len(controls)}", (f"{unlike} of another strength",) if unlike else ()))
    return facts


def filter_rows(study: Study) -> list[tuple[str, str]]:
    """List the specification of every filter and control, for "How this was made"."""
    rows = [(f"side {key.upper()}: {one.label}", one.spec) for key, one in study.conditions.filters.items()]
    return rows + [(f"control: {one.label}", one.spec or "not matched") for one in study.conditions.controls]


def said_of_filters(study: Study) -> list[str]:
    """Describe the filter of each side that has one: what it changes, what it cuts, what its optics leave."""
    told = []
    for side in (study.a, study.b):
        found = study.conditions.filters.get(side.key)
        if found is not None:
            told.append(" ".join([_changed(study, side, found), *map(said_of_optics, found.transfer)]))
    return told


def said_of_optics(optics: Optics) -> str:
    """Say what the optics leave of the finest grating that the encoder's input can carry, and what follows."""
    if math.isnan(optics.at_nyquist):
        return ""
    whole = math.isclose(optics.shown_deg, optics.fov_deg)
    scene = "" if whole else f" (what it is shown of {optics.fov_deg:.3g}°)"
    left = optics.at_nyquist
    follows = "so in what this encoder can see the optics hardly show and colour is nearly all that changes"
    if left < GONE:
        follows = "so the finest details that this encoder could see are gone"
    elif left < PLAIN:
        follows = "and more of every coarser one; at 1 the optics would hide nothing, and colour alone would change"
    return (
        f"At the finest grating that {optics.pixels:,} pixels across {optics.shown_deg:.3g}° can carry"
        f"{scene}, the optics leave {number(left)} of the contrast, {follows}."
    )


def _changed(study: Study, side: Side, found: SavedFilter) -> str:
    start = f"{side.name} sees each of the {study.pictures} through {found.label}"
    parts = []
    if math.isfinite(found.difference):
        parts.append(f"changes linear light by {significant(found.difference)} RMS (white is 1)")
    if math.isfinite(found.clipped):
        parts.append(f"leaves {share(found.clipped)} of the pixels outside sRGB, where they are cut")
    return f"{start}. It {listed(parts)}." if parts else f"{start}."


def _peak(study: Study, found: Summary) -> str:
    """Say where the score is best: where layer and score come from different halves, if that is known."""
    if math.isfinite(found.held):
        held = scored(found.held, found.held_low, found.held_high)
        return (
            f"; at {found.held_layer}, the best layer on one half of the {units(study)}, it is {held} on the other half"
        )
    if math.isfinite(found.peak):
        return (
            f"; its best layer, {found.peak_layer}, reaches {number(found.peak)}, picked and measured on the same "
            f"{study.pictures}"
        )
    return ""


def _against_controls(study: Study, metric: Metric) -> str:
    """Compare the mean with each control's in one sentence; those without an interval are left out."""
    alpha = error_rate(study)
    named: dict[str, list[str]] = {}
    matched = []
    for control in study.conditions.controls:
        effect = study.conditions.effect(metric.id, control)
        # a control that changes nothing checks the arithmetic; it is nothing to compare with
        if effect is not None and control.difference != 0 and (found := verdict(effect, alpha)):
            aside = ", ".join(part for part in (number(effect.value), strength(control)) if part)
            named.setdefault(found, []).append(f"{control.name.replace('_', ' ')} ({aside})")
            matched.append(control.matched)
    parts = [VERDICTS[found].format(listed(named[found])) for found in VERDICTS if found in named]
    if not parts:
        return ""
    equally = f"{counted(len(matched), 'control')} of the same strength"
    return (
        f" Beside {equally if all(matched) else 'controls, of the same strength unless said,'} that is {listed(parts)}."
    )
