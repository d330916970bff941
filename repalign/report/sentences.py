"""The question of a study and its answer, each one sentence, and what must be said beside every number."""

import math

import numpy as np

from repalign.report.conditions import answered, asked, is_paired
from repalign.report.saved import Metric, Side, Study
from repalign.report.scores import Pair, diagonal, least_pair, top_pairs
from repalign.report.wording import clip, counted, interval, listed, number, per_cent, probability, said_of_skipped

SHOWN_LOUD = 4

ONE_CHANNEL = 0.5
"""A channel with more than this part of a layer's variance outweighs all others together."""

FILTER_LETTERS = 48
"""Characters of a filter where sides are named; the question has all of them."""

UNTRAINED = "untrained, its scores show what the architecture alone gives"


def named(side: Side) -> str:
    """Name an encoder, and say when it is untrained."""
    return f"{side.name} (untrained)" if side.untrained else side.name


def described(side: Side) -> str:
    """Name an encoder, say when it is untrained, and what it looks through, in short where that is long."""
    name = named(side)
    return f"{name} through {clip(side.filter, FILTER_LETTERS)}" if side.filter else name


def sides(study: Study) -> tuple[str, str]:
    """Name both sides so that they can be told apart: two sets of stimuli are said when they differ."""
    a, b = described(study.a), described(study.b)
    if study.a.stimuli != study.b.stimuli:
        return f"{a} on {study.a.stimuli}", f"{b} on {study.b.stimuli}"
    return a, b


def seen(study: Study) -> str:
    """Say how many stimuli both sides saw, and of which set when it is one."""
    count = f"{study.n:,} {study.pictures}"
    return f"{count} of {study.a.stimuli}" if study.a.stimuli == study.b.stimuli else f"{count} each"


def is_self(study: Study) -> bool:
    """Tell whether both sides are one encoder under one condition, so that the diagonal is trivial."""
    a, b = study.a, study.b
    return (a.name, a.filter, a.stimuli, a.fingerprint, a.layers) == (
        b.name,
        b.filter,
        b.stimuli,
        b.fingerprint,
        b.layers,
    )


def question(study: Study) -> str:
    """Ask what the study asked."""
    if is_paired(study):
        return asked(study, named(study.a))
    a, b = sides(study)
    if study.a.stimuli != study.b.stimuli:
        return f"How alike are {a} and {b}, over {study.n:,} matched {study.pictures}?"
    if is_self(study):
        return f"How alike are the layers of {a} among themselves on {seen(study)}?"
    return f"How alike are {a} and {b} on {seen(study)}?"


def answer(study: Study) -> str:
    """Answer by the first measure: where most alike, where they part, what chance gives, and what is not known."""
    metric = study.metrics[0]
    return _answer(study, metric) + _unsure(study, metric)


def _answer(study: Study, metric: Metric) -> str:
    if is_paired(study):
        return answered(study, metric)
    label = f"{metric.label}," if "," in metric.label else metric.label
    chance = _chance(study, metric)
    if is_self(study):
        best, worst = top_pairs(study, metric, 1, skip_same=True), least_pair(study, metric)
        if not best or worst is None:
            return _nothing(metric)
        return (
            f"Two different layers are most alike at {_layers(best[0])}, where {label} gives "
            f"{_score(best[0])}{_against(best[0])}, and least at {_layers(worst)}, {_score(worst)}{chance}."
        )
    best, along = top_pairs(study, metric, 1), diagonal(study, metric)
    if not best or along is None:
        return _nothing(metric)
    if len(study.a.layers) == len(study.b.layers) == 1:
        return f"At {_place(study, best[0])} {label} gives {_score(best[0])}{_against(best[0])}{chance}."
    return (
        f"They are most alike at {_place(study, best[0])}, where {label} gives "
        f"{_score(best[0])}{_against(best[0])}; matched by depth they part most at {_layers(along.lowest)}, "
        f"{_score(along.lowest)}{_against(along.lowest, short=True)}{chance}."
    )


def caveats(study: Study) -> list[str]:
    """List what must be said beside every number: untrained, notes, warnings, what was left out."""
    said = []
    for side in (study.a, study.b):
        notes = [UNTRAINED, *side.notes] if side.untrained else list(side.notes)
        if notes:
            said.append(f"{side.name}: {'; '.join(notes)}")
    said.extend(note for one in study.conditions.filters.values() for note in one.notes)
    for key in ("a", "b"):
        stimuli = study.meta["stimuli"].get(key)
        if stimuli:
            said.extend(f"{stimuli['name']}: {note}" for note in stimuli.get("notes") or ())
            said.extend(said_of_skipped(stimuli["name"], stimuli.get("skipped") or []))
    said.extend(str(warning) for warning in study.meta.get("warnings") or ())
    said.extend(text for side in (study.a, study.b) if (text := _one_channel(study, side)))
    return list(dict.fromkeys(said))


def _one_channel(study: Study, side: Side) -> str:
    """Name the layers whose variance is mostly that of one channel; nothing without any."""
    loud = [layer for layer in side.saved if layer.largest_share > ONE_CHANNEL]
    if not loud:
        return ""
    shown = [f"{per_cent(layer.largest_share)} of the variance of {layer.name}" for layer in loud[:SHOWN_LOUD]]
    if len(loud) > SHOWN_LOUD:
        shown.append(f"more than half of it in {counted(len(loud) - SHOWN_LOUD, 'more layer')}")
    linear = any(metric.name == "cka_linear" for metric in study.metrics)
    hears = "linear CKA hears" if linear else "distances and inner products hear"
    return f"{side.name}: one channel carries {listed(shown)}, and {hears} mostly that one"


def _place(study: Study, pair: Pair) -> str:
    a, b = described(study.a), described(study.b)
    return _layers(pair) if a == b else f"{pair.layer_a} of {a} and {pair.layer_b} of {b}"


def _layers(pair: Pair) -> str:
    return pair.layer_a if pair.layer_a == pair.layer_b else f"{pair.layer_a} and {pair.layer_b}"


def _score(pair: Pair) -> str:
    return f"{number(pair.value)} {interval(pair.ci_low, pair.ci_high)}" if pair.has_interval else number(pair.value)


def _unsure(study: Study, metric: Metric) -> str:
    """Say that a score has no interval or no p although the study looked for them, and what it says of the reason."""
    known = study.certainty.get(metric.id)
    columns = {"interval": "ci_low", "p-value": "p"}
    missing = [what for what, column in columns.items() if not np.isfinite(study.matrix(metric, column)).any()]
    if known is None or not missing:
        return ""
    reason = f": {'; '.join(known.notes)}" if known.notes else ""
    return f" These scores have no {listed(missing, 'and no')}{reason}."


def _against(pair: Pair, short: bool = False) -> str:
    """Set a score against chance, and say how seldom chance gives as much."""
    biased = math.isfinite(pair.independent)
    chance = pair.independent if biased else pair.null_mean
    if math.isnan(chance):
        return ""
    what = "" if short else " for independent features of the same n and d" if biased else " by chance"
    sure = "" if math.isnan(pair.p) else f" (adjusted p {_equals(pair.p)})"
    return f" against {number(chance)}{what}{sure}"


def _equals(p: float) -> str:
    text = probability(p)
    return f"< {text[1:]}" if text.startswith("<") else f"= {text}"


def _chance(study: Study, metric: Metric) -> str:
    """Say what chance gives in the measure's own words, where the study has no number for it."""
    known = any(np.isfinite(study.matrix(metric, column)).any() for column in ("null_mean", "independent"))
    return "" if known or not metric.chance else f"; chance gives {metric.chance}"


def _nothing(metric: Metric) -> str:
    return f"No pair of layers has a defined score by {metric.label}; the warnings say why."
