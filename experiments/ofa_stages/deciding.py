"""What the rules say of a student that learned from the labels alone, on pictures that no network was trained on."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pictures import normalise
from torch import Tensor, nn

import repalign as ra
from repalign.distill.networks import examine, frozen, run
from repalign.distill.rules import Choice, gap, knee, lag, proportional
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
    """Apply the three rules; also give the matrix of similarities and the intervals."""
    left = {name: x for name, x in student.items() if name != "penultimate"}
    sure = ra.infer_arrays(left, teacher, ["cka_linear"], plan=ra.Plan(n_permutations=0))["cka_linear"]
    matrix, last = sure.alignment.scores[:, :-1], sure.alignment.scores[:, -1]
    own = np.array([proportional(k + 1, *matrix.shape) - 1 for k in range(len(matrix))])
    rows = np.arange(len(matrix))
    to_stage = [x[rows, own] for x in (sure.alignment.scores, sure.ci_low, sure.ci_high)]
    to_last = [x[:, -1] for x in (sure.alignment.scores, sure.ci_low, sure.ci_high)]
    found = [
        _decision(gap(*to_stage, tau), order=np.argsort(-to_stage[0]), values=to_stage[0]),
        _decision(
            lag(matrix, sure.ci_low[:, :-1], sure.ci_high[:, :-1]),
            order=np.argsort(-_depth_of_match(matrix)),
            values=_depth_of_match(matrix),
        ),
        _decision(knee(*to_last), order=rows, values=last),
    ]
    numbers = {"cka": matrix.tolist(), "penultimate": last.tolist(), "ci_low": sure.ci_low.tolist()}
    return found, numbers | {"ci_high": sure.ci_high.tolist()}


def _decision(choice: Choice, order: np.ndarray, values: np.ndarray) -> Decision:
    """Add the opposite: as many stages, taken from the other end of what the rule ranks by."""
    anti = tuple(sorted(int(k) + 1 for k in order[: len(choice.kept)]))
    return Decision(choice.rule, choice.kept, anti, choice.sufficient, tuple(float(v) for v in values))


def _depth_of_match(matrix: np.ndarray) -> np.ndarray:
    """Say how far ahead of its proportional stage each stage's match lies."""
    from repalign.distill.rules import monotone_path

    return np.array([m - proportional(k + 1, *matrix.shape) for k, m in enumerate(monotone_path(matrix))])
