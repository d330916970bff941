"""repalign on the pair, from pictures to scores, as a ratio to the bare float32 forward pass of both networks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import definition
import numpy as np
from common import Result, Settings, Work, alternate, keeping, ratio, timed
from numpy.typing import NDArray
from pair import (
    BATCH,
    Network,
    as_encoder,
    as_stimuli,
    averaged,
    features,
    flat_without_class,
    forward,
    forward_bfloat16,
    pair,
    pictures,
)
from torch import Tensor

from repalign.align import prepare
from repalign.infer.matrix import Plan, infer
from repalign.metrics import DEFAULT_METRICS, parse_metric
from repalign.sides import Options, load_sides
from repalign.types import Activations, Encoder, Stimuli

CHECKED = 40  # stimuli with which standard errors are computed from the start; each costs a deletion
INTERVALS = Plan("jackknife", n_permutations=0)


@dataclass(frozen=True)
class Way:
    """One way to compare the pair: the aim as a ratio to the float32 floor, and the options that differ."""

    what: str
    at_most: float | None
    metrics: tuple[str, ...] = ("cka_linear",)
    pool: str = "mean"
    precision: str = "fp32"
    interval: bool = False


@dataclass(frozen=True)
class Compared:
    """What one comparison gave: scores by metric, their standard errors, both sides' features, how they were run."""

    scores: dict[str, NDArray[np.float64]]
    se: dict[str, NDArray[np.float64]]
    sides: tuple[Activations, Activations]
    precision: str


WAYS: dict[str, Way] = {
    "linear": Way("linear debiased CKA, mean pooling, float32 / bare forward", 1.05),
    "everything": Way(
        "linear and RBF CKA, RSA, jackknife intervals, float32 / bare forward", 1.15, DEFAULT_METRICS, interval=True
    ),
    "flatten": Way("linear debiased CKA, flattened, float32 / bare forward", 1.20, pool="flatten"),
    "auto": Way(
        "everything with --precision auto / bare float32 forward", 0.5, DEFAULT_METRICS, precision="auto",
        interval=True,
    ),
}  # fmt: skip


class Pair:
    """The networks, the pictures as tensors, and repalign's view of both."""

    def __init__(self, n: int) -> None:
        self.networks: tuple[Network, Network] = pair()
        self.pixels: Tensor = pictures(n)
        self.encoders: tuple[Encoder, ...] = tuple(as_encoder(one, self.pixels) for one in self.networks)
        self.stimuli: Stimuli = as_stimuli(n)

    def compare(self, way: Way, batch: int = BATCH) -> Compared:
        """Compare both networks as a user would: sides, geometries, scores, intervals. Nothing is cached."""
        first, second = (",".join(one.layers) for one in self.networks)
        options = Options(
            pool=way.pool, layers=first, layers_b=second, device="cpu", batch_size=batch, precision=way.precision
        )
        metrics = [parse_metric(name) for name in way.metrics]
        left, right = load_sides(self.encoders[0], self.encoders[1], self.stimuli, None, options, metrics=metrics)
        scores: dict[str, NDArray[np.float64]] = {}
        errors: dict[str, NDArray[np.float64]] = {}
        for metric in metrics:
            prepared = prepare(left.activations, right.activations, metric)
            scores[metric.name] = prepared.alignment().scores
            if way.interval:
                errors[metric.name] = infer(prepared, INTERVALS).se
        precision = f"{left.check.chosen}, {left.check.reason}" if left.check else way.precision
        return Compared(scores, errors, (left.activations, right.activations), precision)

    def plain(self, reduce: Callable[[Tensor], Tensor]) -> list[dict[str, Tensor]]:
        """Take both networks' features with plain hooks in float32."""
        return [features(one, self.pixels, reduce) for one in self.networks]


TRUTHS: dict[str, Callable[..., NDArray[np.float64]]] = {
    "cka_linear": definition.cka,
    "cka_rbf": lambda a, b: definition.cka(a, b, definition.rbf),
    "rsa": definition.rsa,
}


def measure(names: Sequence[str], settings: Settings) -> dict[str, list[Result]]:
    """Alternate the lines asked for with the bare forward pass, and check every score."""
    setting = Pair(settings.stimuli)
    kept: dict[str, Compared] = {}
    works: dict[str, Work] = {"floor": timed(lambda: forward(setting.networks, setting.pixels))}
    if "auto" in names:
        works["bfloat16"] = timed(lambda: forward_bfloat16(setting.networks, setting.pixels))
    for name in names:
        works[name] = keeping(lambda way=WAYS[name]: _light(setting.compare(way)), kept, name)
    forward(setting.networks, setting.pixels[:BATCH])  # the first pass of a process is slower
    taken = alternate(works, settings.repeats)
    worst, notes = _checked(setting, kept)
    found: dict[str, list[Result]] = {}
    for name in names:
        value, spread = ratio(taken[name], taken["floor"])
        found[name] = [Result(WAYS[name].what, value, "×", WAYS[name].at_most, None, spread, worst[name], notes[name])]
    if "auto" in names:
        value, spread = ratio(taken["bfloat16"], taken["floor"])
        found["auto"].append(Result("bare bfloat16 forward / bare float32 forward", value, spread=spread))
    return found


def _light(found: Compared) -> Compared:
    """Let go of flattened features, gigabytes that the next work of the round would have to do without."""
    if found.sides[0].pool != "flatten":
        return found
    small = tuple(Activations(s.encoder, s.stimuli, s.ids, {}, {}, s.pool, meta=s.meta) for s in found.sides)
    return replace(found, sides=(small[0], small[1]))


def _checked(setting: Pair, kept: dict[str, Compared]) -> tuple[dict[str, float], dict[str, str]]:
    """Compare scores with the definition on features from plain hooks, and on the very features they came from."""
    worst: dict[str, float] = {}
    notes: dict[str, str] = {}
    for reduce, pool in ((averaged, "mean"), (flat_without_class, "flatten")):
        of_pool = {name: one for name, one in kept.items() if WAYS[name].pool == pool}
        if not of_pool:
            continue
        plain = setting.plain(reduce)
        needed = {metric for one in of_pool.values() for metric in one.scores}
        truth = {metric: TRUTHS[metric](*plain) for metric in needed}
        for name, one in of_pool.items():
            worst[name] = max(definition.worst(v, truth[k]) for k, v in one.scores.items())
            notes[name] = f"{setting.pixels.shape[0]} stimuli; forward in {one.precision}" + _on_own(one)
    return worst, notes


def _on_own(one: Compared) -> str:
    """Say how far scores and errors are from the definition on the features that were measured."""
    left, right = (dict(side.layers) for side in one.sides)
    if not left:
        return ""
    apart = max(definition.worst(v, TRUTHS[k](left, right)) for k, v in one.scores.items())
    said = f"; on its own features the scores are within {apart:.0e}"
    if one.se:
        said += f", a standard error of {CHECKED} stimuli within {_error_apart(one.sides):.0e} (relative)"
    return said


def _error_apart(sides: tuple[Activations, Activations]) -> float:
    """Compare the jackknife of a few stimuli with deletions computed from the start, last layer with last layer."""
    few = [side.join(side.ids[:CHECKED]) for side in sides]
    left, right = (list(side.layers.values())[-1] for side in few)
    prepared = prepare(few[0], few[1], parse_metric("cka_linear"))
    found = float(infer(prepared, INTERVALS).se[-1, -1])
    truth = definition.jackknife(left, right)
    return abs(found - truth) / truth
