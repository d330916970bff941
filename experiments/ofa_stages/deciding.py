"""What the rules say of a student that learned from the labels alone, on pictures that no network was trained on."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pictures import normalise
from torch import Tensor, nn

import repalign as ra
from repalign.distill.networks import examine, frozen, run
from repalign.distill.rules import Choice, gap, knee, lag, monotone_path, proportional
from repalign.distill.stages import find_stages
from repalign.hooks import Reducer
from repalign.pooling import parse_pool, reducer


@dataclass(frozen=True)
class Decision:
    """A rule's choice and its opposite of the same size, with the numbers they rest on."""

    rule: str
    kept: tuple[int, ...]
    anti: tuple[int, ...]
    sufficient: bool
    similarity: tuple[float, ...]


def features(network: nn.Module, pixels: Tensor, cut: int = 500) -> dict[str, Tensor]:
    """Give the mean-pooled features `(n, d)` of each stage, and what the classifier is given, by name."""
    seen = examine("a network", network, normalise(pixels[:2]))
    stages = find_stages(network, seen.layers)
    pools: dict[str, Reducer] = {s.layer.name: reducer(s.layer, parse_pool("mean")) for s in stages}
    parts: dict[str, list[Tensor]] = {name: [] for name in (*pools, "penultimate")}
    with frozen(network):
        for part in pixels.split(cut):
            _, outputs, penultimate = run(network, normalise(part), tuple(pools), seen.classifier)
            assert penultimate is not None
            parts["penultimate"].append(penultimate)
            for name, reduce in pools.items():
                parts[name].append(reduce(outputs[name]))
    return {name: torch.cat(several) for name, several in parts.items()}


def decide(student: dict[str, Tensor], teacher: dict[str, Tensor], tau: float) -> tuple[list[Decision], dict[str, Any]]:
    """Apply the three rules; also give the similarities `(stages, teacher's stages and penultimate)` and intervals."""
    left = {name: x for name, x in student.items() if name != "penultimate"}
    sure = ra.infer_arrays(left, teacher, ["cka_linear"], plan=ra.Plan(n_permutations=0))["cka_linear"]
    scores, low, high = sure.alignment.scores, sure.ci_low, sure.ci_high
    numbers = {"cka": scores[:, :-1].tolist(), "penultimate": scores[:, -1].tolist(), "ci_low": low.tolist()}
    return decisions(scores, low, high, tau), numbers | {"ci_high": high.tolist()}


def decisions(scores: np.ndarray, low: np.ndarray, high: np.ndarray, tau: float) -> list[Decision]:
    """Apply the rules to similarities with their intervals; the last column is the teacher's penultimate layer."""
    three = (scores, low, high)
    rows, count = np.arange(len(scores)), scores.shape[1] - 1
    own = np.array([proportional(k + 1, len(scores), count) - 1 for k in range(len(scores))])
    own_stage, to_last = [x[rows, own] for x in three], [x[:, -1] for x in three]
    stages = [x[:, :-1] for x in three]
    ahead = _depth_of_match(stages[0])
    return [
        _decision(gap(*own_stage, tau), order=np.argsort(-own_stage[0], kind="stable"), values=own_stage[0]),
        _decision(lag(*stages), order=np.argsort(-ahead, kind="stable"), values=ahead),
        _decision(knee(*to_last), order=rows, values=to_last[0]),
    ]


def _decision(choice: Choice, order: np.ndarray, values: np.ndarray) -> Decision:
    """Add the opposite: as many stages, taken from the other end of what the rule ranks by."""
    anti = tuple(sorted(int(k) + 1 for k in order[: len(choice.kept)]))
    return Decision(choice.rule, choice.kept, anti, choice.sufficient, tuple(float(v) for v in values))


def _depth_of_match(matrix: np.ndarray) -> np.ndarray:
    """Say how far ahead of its proportional stage each stage's match lies."""
    return np.array([m - proportional(k + 1, *matrix.shape) for k, m in enumerate(monotone_path(matrix))])
