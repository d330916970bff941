"""The question of a diagnosis and its verdict in words, and what must be said beside every number."""

import math

from repalign.report.diagnosis.saved import Diagnosis, Grid, Network, Rule
from repalign.report.page_parts import Fact
from repalign.report.wording import big, counted, interval, number

METHODS = {
    "ofa": "Distil with OFA-KD.",
    "kd": "Distil the logits alone (KD).",
    "ce": "Train the student alone.",
    "insufficient": "Insufficient evidence to choose stages.",
}
"""What a verdict comes to, where the diagnosis does not put it in words."""

UNTRAINED = "untrained: similarities at initialisation mislead, for they show what the architecture alone gives"
RULES = {
    "gap": "keeps the stages that are surely unlike the teacher's stage at the same share of the way",
    "lag": "keeps the stages that match a shallower stage of the teacher than their own share of the way",
    "knee": "keeps the stages from the knee of the similarity to the teacher's penultimate layer up to the last",
    "all": "keeps every stage",
    "logits": "keeps none",
}


def question(found: Diagnosis) -> str:
    """Ask what a diagnosis asks."""
    teacher, student = found.teacher.described, found.student.described
    return f"Where do {teacher} and {student} part, and which stages deserve a branch?"


def verdict(found: Diagnosis) -> list[str]:
    """Put the verdict in words, in short first."""
    method = found.verdict.method
    return list(found.verdict.sentences) or [METHODS.get(method, f"Distil with {method}.")]


def caveats(found: Diagnosis) -> list[str]:
    """List what must be said beside every number: warnings, and networks that are not trained."""
    warned = " ".join(found.warnings)
    unsaid = [f"{one.name}: {UNTRAINED}" for one in found.networks if one.untrained and "untrained" not in warned]
    return list(dict.fromkeys([*found.warnings, *unsaid]))


def facts(found: Diagnosis) -> list[Fact]:
    """List what was compared."""
    data, used = found.meta["data"], found.meta.get("pictures") or {}
    classes, groups = data.get("classes"), data.get("groups")
    more = [f"of {data['name']}", counted(len(classes), "class", "classes") if classes else "no labels"]
    more += [counted(groups, "group")] if groups else []
    if used.get("probe_train"):
        more.append(f"probes: {used['probe_train']:,} to fit, {used['probe_test']:,} to test")
    return [*map(_network_fact, found.networks), Fact("pictures", f"{found.pictures:,}", tuple(more))]


def _network_fact(one: Network) -> Fact:
    parameters = "" if math.isnan(one.parameters) else f"{big(one.parameters)} parameters"
    classes = "" if math.isnan(one.classes) else f"{one.classes:.0f} classes"
    shape = " · ".join(part for part in (counted(len(one.stages), "stage"), parameters) if part)
    seen = " · ".join(part for part in (f"input {one.input_size}" if one.input_size else "", classes) if part)
    return Fact(one.side, one.name, tuple(part for part in (shape, seen) if part), "untrained" if one.untrained else "")


def explained(rule: Rule) -> str:
    """Say what a rule does."""
    return RULES.get(rule.name, "")


def how_sure(found: Diagnosis, grid: Grid) -> str:
    """Say in a few words what a measure's intervals and its chance rest on; nothing without any."""
    known = (found.meta.get("inference") or {}).get(grid.metric.name) or {}
    groups, times = known.get("n_groups"), known.get("n_permutations")
    units = f" over {counted(groups, 'group')}" if groups else ""
    parts = [f"95 % intervals{units}"] if grid.has("ci_low") else []
    if grid.has("null_mean"):
        parts.append(f"chance from {counted(times, 'permutation')}" if times else "chance from shuffled pictures")
    return ", ".join(parts)


def compared(found: Diagnosis) -> str:
    """Say which stages "gap" compares."""
    told = str((found.meta.get("settings") or {}).get("gap") or "")
    return told or "each student stage with the teacher's stage at the same share of the way"


def apart(value: float, low: float, high: float) -> str:
    """Write 1 − CKA with its interval, from a similarity and its interval."""
    if math.isnan(low) or math.isnan(high):
        return number(1 - value)
    return f"{number(1 - value)} {interval(1 - high, 1 - low)}"
