"""The verdict: from what the rules chose, and what stands against them, to a method and the words for it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from repalign.diagnosis.branches import Branch
from repalign.diagnosis.choices import BY_SIMILARITY
from repalign.distill.kd import TEMPERATURE as KD_TEMPERATURE
from repalign.distill.rules import Choice

DEFAULT_RULE = FALLBACK_RULE = "logits"  # what experiments/ofa_stages shows
WHY_DEFAULT = (
    "Why no branch: on CIFAR-10 with 500 and 2,000 labels branches added 0.1 to 0.2 points to OFA's logits alone, no "
    "choice of stages clearly more, and KD gave 0.9 to 1.5 points more than OFA with or without them "
    "(experiments/ofa_stages); --rule gap, lag, knee or all takes stages"
)
GAMMA, TEMPERATURE = 1.0, 1.0  # of OFA-KD, as published for CIFAR
WEIGHTS: dict[str, dict[str, float]] = {
    "ofa": {"ground_truth": 1.0, "logits": 1.0, "branches": 1.0},
    "kd": {"ground_truth": 1.0, "logits": 3.0},  # what experiments/ofa_stages shows
    "ce": {"ground_truth": 1.0},
}
ABOUT_OPTIONS = {
    "ofa": f"Options: γ = {GAMMA:g} for every branch and the logits, T = {TEMPERATURE:g}, weights 1, 1, 1 for ground "
    "truth, logits and each branch, as published for CIFAR; in experiments/ofa_stages a heavier teacher did better, "
    'for which variant = "code" leaves room.',
    "kd": f"Options: T = {KD_TEMPERATURE:g}, in experiments/ofa_stages 0.3 points better than 1; weights "
    f"{WEIGHTS['kd']['ground_truth']:g} and {WEIGHTS['kd']['logits']:g} for ground truth and logits, there 0.4 to 1.6 "
    "points better than 1 and 1.",
}
ABOUT_UNKNOWN = (
    "Unknown: which of these pictures either network was trained on; on such pictures accuracy and similarity flatter"
)

Run = Literal["ofa", "kd", "ce"]
Method = Literal["ofa", "kd", "ce", "insufficient"]


@dataclass(frozen=True)
class Verdict:
    """What to do: a method, the numbers of the stages with a branch beside the logits, by which rule, and the words.

    "insufficient": the evidence carries no choice, and `stages` hold the fallback. `gamma` has one value a branch and a
    last one for the logits. `run` is the method that `distill.toml` asks for.
    """

    method: Method
    run: Run
    stages: tuple[int, ...]
    rule: str
    gamma: tuple[float, ...]
    temperature: float
    weights: Mapping[str, float]
    sentences: tuple[str, ...]


def decide(
    choices: Mapping[str, Choice], rule: str, tau: float, obstacles: Sequence[str], doubts: Sequence[str],
    facts: Sequence[str] = (), branches: Sequence[Branch] = (),
) -> Verdict:  # fmt: skip
    """Turn the choice of `rule` into a verdict: no distillation where there are obstacles, the fallback under doubt.

    `facts`, and what the chosen `branches` cost, are said beside it.
    """
    known = (*map(_sentence, facts), _sentence(ABOUT_UNKNOWN))
    if obstacles:
        said = [
            "Don't distil this teacher's logits; distill.toml trains the student alone.",
            *map(_sentence, obstacles),
        ]
        return _verdict("ce", (), rule, said, known)
    choice, fallback = choices[rule], choices[FALLBACK_RULE].kept
    why = [*(doubts if rule in BY_SIMILARITY else ()), *(() if choice.sufficient else (choice.why,))]
    if why:
        instead = f"distill.toml holds the fallback: distil {_in_words(fallback)}, whatever the similarities say."
        said = [f"Insufficient evidence to choose stages by the rule {rule}.", *map(_sentence, why), instead]
        return _verdict("insufficient", fallback, rule, [*said, *_cost(fallback, branches)], known)
    reasons = [WHY_DEFAULT] if rule == DEFAULT_RULE else choice.reasons
    said = [f"Distil {_in_words(choice.kept)}: by the rule {_named(rule, tau)}.", *map(_sentence, reasons)]
    return _verdict("ofa" if choice.kept else "kd", choice.kept, rule, [*said, *_cost(choice.kept, branches)], known)


def _verdict(
    method: Method, stages: tuple[int, ...], rule: str, said: Sequence[str], known: Sequence[str]
) -> Verdict:  # fmt: skip
    run: Run = "ce" if method == "ce" else "ofa" if stages else "kd"
    about = (ABOUT_OPTIONS[run],) if run in ABOUT_OPTIONS else ()
    gamma = (GAMMA,) * (len(stages) + 1) if run == "ofa" else ()
    temperature = KD_TEMPERATURE if run == "kd" else TEMPERATURE
    return Verdict(method, run, stages, rule, gamma, temperature, WEIGHTS[run], (*said, *about, *known))


def _cost(stages: Sequence[int], branches: Sequence[Branch]) -> tuple[str, ...]:
    """Say what the heads of the chosen stages cost beside the student, in training alone."""
    chosen = [branch for branch in branches if branch.stage in stages]
    if not chosen:
        return ()
    parameters = sum(branch.parameters for branch in chosen)
    shares = [sum(getattr(branch, f"share_of_student_{what}") for branch in chosen) for what in ("parameters", "flops")]
    return (
        f"In training, and only there, the heads add {parameters:,} parameters ({shares[0]:.0%} of the student's) and "
        f"{shares[1]:.0%} of its operations.",
    )


def _in_words(stages: Sequence[int]) -> str:
    if not stages:
        return "by KD, the logits alone"
    listed = ", ".join(map(str, stages[:-1])) + (" and " if len(stages) > 1 else "") + str(stages[-1])
    return f"by OFA-KD, with branches at student stage{'s' if len(stages) > 1 else ''} {listed} beside the logits"


def _named(rule: str, tau: float) -> str:
    return f"{rule} (τ = {tau:g})" if rule == "gap" else rule


def _sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text[:1].upper()}{text[1:]}."
