"""The question of a run, its answer, and what must be said beside every number."""

import math

from repalign.report.distillation.charts import per_cent
from repalign.report.distillation.saved import (
    BEFORE,
    BEST,
    FINISHED,
    LAST,
    RUNNING,
    TEACHER,
    Distillation,
    Learner,
    Outcome,
)
from repalign.report.page_parts import Fact
from repalign.report.wording import big, counted, listed

METHODS = {
    "ofa": "OFA-KD", "kd": "KD", "dkd": "DKD", "dist": "DIST", "fitnet": "FitNet", "rkd": "RKD", "crd": "CRD",
    "ce": "labels alone",
}  # fmt: skip
OPTIMISTIC = (
    "The best epoch was picked by its accuracy on the validation pictures, so that accuracy is optimistic; the last "
    "epoch was fixed beforehand, and its accuracy is not"
)
ONE_SEED = (
    "One run with one seed says nothing beyond itself: how far another seed would move these numbers is not known here"
)


def question(run: Distillation) -> str:
    """Ask what a run asks."""
    if run.teacher is None or run.method == "ce":
        return f"What did training {run.student.described} on labels alone change?"
    method = METHODS.get(run.method, run.method)
    where = f" and {_stages(run.stages)}" if run.stages else " on the logits alone" if run.method == "ofa" else ""
    return f"What did distilling {run.teacher.described} into {run.student.described} with {method}{where} change?"


def _stages(stages: tuple[int, ...]) -> str:
    named = listed([str(k) for k in stages])
    return f"a branch at stage {named}" if len(stages) == 1 else f"branches at stages {named}"


def answer(run: Distillation) -> str:
    """Say what the student came to after the last epoch, beside what it was and what its teacher is."""
    last, before, teacher = (run.outcome(name) for name in (LAST, BEFORE, TEACHER))
    if last is None or math.isnan(shown(run, last)):
        return _unjudged(run)
    what = "test" if run.has_test else "validation"
    after = f"After the last epoch, {last.epoch}," if last.epoch else "After training"
    text = f"{after} the student is right on {per_cent(shown(run, last))} of the {what} pictures"
    if before is not None and math.isfinite(shown(run, before)):
        change = 100 * (shown(run, last) - shown(run, before))
        text += f", {change:+.1f} points from {per_cent(shown(run, before))} before".replace("-", "−")
    if teacher is not None and math.isfinite(shown(run, teacher)):
        text += f"; its teacher on {per_cent(shown(run, teacher))}"
    return f"{text}."


def shown(run: Distillation, one: Outcome) -> float:
    """Give the accuracy that counts: on test pictures where there are some, else on validation pictures."""
    return one.test if run.has_test else one.validation


def _unjudged(run: Distillation) -> str:
    known = [epoch for epoch in run.epochs if math.isfinite(epoch.accuracy)]
    if not known:
        return "Nothing is known yet of how good the student is."
    last = known[-1]
    right = f"the student is right on {per_cent(last.accuracy)} of the validation pictures"
    return f"So far, after epoch {last.number}, {right}."


def caveats(run: Distillation) -> list[str]:
    """List what must be said beside every number, the state of a run that is not finished first."""
    said = [_state(run)] if run.state != FINISHED else []
    best = run.outcome(BEST)
    if best is not None and math.isfinite(best.validation):
        said.append(f"{OPTIMISTIC}.")
    if run.outcomes and not run.has_test:
        said.append("There are no test pictures: nothing here was judged on pictures that no choice has seen.")
    said.append(f"{ONE_SEED}.")
    return list(dict.fromkeys([*said, *run.notes]))


def brief(run: Distillation) -> list[str]:
    """List in short what must be said where something else than accuracies stands."""
    state = [_state(run)] if run.state != FINISHED else []
    return [*state, "one run, one seed", *run.notes]


def _state(run: Distillation) -> str:
    done = run.epochs[-1].number if run.epochs else 0
    how_far = f"{done} of {run.planned} epochs are done"
    if run.state == RUNNING:
        return f"This run is not finished ({how_far}): it still runs, or it was interrupted and goes on with --resume."
    return f"This run was {run.state.rstrip('.')} ({how_far})."


def facts(run: Distillation) -> list[Fact]:
    """List what taught, what learned, and on how many pictures."""
    both = [("teacher", run.teacher), ("student", run.student)]
    found = [_network_fact(what, one) for what, one in both if one is not None]
    added = run.meta.get("added_parameters") or 0
    more = [_stages(run.stages)] if run.stages else []
    more += [f"{big(added)} parameters beside the student's"] if added > 0 else []
    found.append(Fact("method", METHODS.get(run.method, run.method), (*more, counted(run.planned, "epoch"))))
    parts = (run.meta["data"].get("parts") or {}).items()
    counts = {name: f"{part['n']:,} {name}" for name, part in parts}
    classes = counted(len(run.meta["data"]["classes"]), "class", "classes")
    name, total = run.meta["configuration"].get("data", ""), sum(part["n"] for _, part in parts)
    return [*found, Fact("pictures", f"{total:,}", (f"of {name}", ", ".join(counts.values()), classes))]


def _network_fact(what: str, one: Learner) -> Fact:
    size = "" if math.isnan(one.parameters) else f"{big(one.parameters)} parameters"
    return Fact(what, one.name, (size,) if size else (), "untrained" if one.untrained else "")
