"""How alike student and teacher are, layer by layer: two measures, their certainty, and what nothing would give."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray

from repalign.align import Prepared, against, prepare
from repalign.diagnosis.whole import PENULTIMATE, Seen
from repalign.infer.matrix import Plan, infer
from repalign.metrics import make_metric
from repalign.progress import Track, silent
from repalign.types import Activations, Inference

METRICS = ("cka_linear", "rsa")  # debiased linear CKA decides, RSA is the second opinion
DECIDING = METRICS[0]


@dataclass(frozen=True)
class Scores:
    """Scores `(ks, kt)` of some student layers with some teacher layers; NaN where there is no answer.

    `ci_low` and `ci_high` hold 95 %; `null_mean` and `p` come from shuffled stimuli, `untrained` from an untrained
    student of the same architecture.
    """

    value: Float[np.ndarray, "ks kt"]
    se: Float[np.ndarray, "ks kt"]
    ci_low: Float[np.ndarray, "ks kt"]
    ci_high: Float[np.ndarray, "ks kt"]
    null_mean: Float[np.ndarray, "ks kt"]
    p: Float[np.ndarray, "ks kt"]
    untrained: Float[np.ndarray, "ks kt"]

    def at(self, teacher: Sequence[int]) -> "Scores":
        """Take one teacher layer for each student layer: everything becomes `(ks, 1)`."""
        rows, columns = np.arange(len(teacher)), np.array(teacher, dtype=int)
        return Scores(*(x[rows, columns][:, None] for x in vars(self).values()))


@dataclass(frozen=True)
class Similarity:
    """One measure of every layer of the teacher, its penultimate representation last, with every layer of the student.

    `untrained (lt, ls)` has the same scores with an untrained student in the student's place, NaN where there is none.
    `stands_for` gives the layer that was measured for one with the same features, as a stage's last block.
    """

    metric: str
    inference: Inference
    untrained: NDArray[np.float64]
    stands_for: tuple[Mapping[str, str], Mapping[str, str]]

    def between(self, student: Sequence[str], teacher: Sequence[str]) -> Scores:
        """Take the scores of some student layers `(ks)` with some teacher layers `(kt)`, by name."""
        found = self.inference
        own, others = (found.alignment.layers_a, self.stands_for[0]), (found.alignment.layers_b, self.stands_for[1])
        rows = [own[0].index(own[1].get(name, name)) for name in teacher]
        columns = [others[0].index(others[1].get(name, name)) for name in student]
        matrices = (
            found.alignment.scores, found.se, found.ci_low, found.ci_high, found.null_mean, found.p_values,
            self.untrained,
        )  # fmt: skip
        return Scores(*(x[np.ix_(rows, columns)].T for x in matrices))

    def knows(self, teacher: str) -> bool:
        """Tell whether a layer of the teacher was measured."""
        return teacher in self.inference.alignment.layers_a or teacher in self.stands_for[0]

    def why_undefined(self, student: str) -> str:
        """Say why a layer of the student has no score."""
        name = self.stands_for[1].get(student, student)
        return self.inference.alignment.undefined.get(name, "no similarity can be computed")


def measure_similarity(
    teacher: Seen, student: Seen, untrained: Seen | None, permutations: int, seed: int, track: Track = silent
) -> tuple[Similarity, ...]:
    """Score every layer of the student with every layer of the teacher under both measures.

    Intervals leave out one stimulus, or one group, at a time; the shuffled null moves whole groups. Warns of layers
    without a score, and raises as `align` does.
    """
    plan = Plan(n_permutations=permutations, seed=seed)
    whole = _with_penultimate(teacher)
    same = _same([whole]), _same([student.features] + ([untrained.features] if untrained else []))
    side, other = _without(whole, same[0]), _without(student.features, same[1])
    twin = None if untrained is None else _without(untrained.features, same[1])
    found = []
    for name in METRICS:
        prepared = prepare(side, other, make_metric(name))
        inference = infer(prepared, plan, track=track)
        nothing = prepared.alignment().scores if student.part.encoder.untrained else _untrained(prepared, twin)
        found.append(Similarity(name, inference, nothing, same))
    return tuple(found)


def _untrained(prepared: Prepared, twin: Activations | None) -> NDArray[np.float64]:
    """Score the untrained twin in the student's place."""
    if twin is None:
        return np.full((len(prepared.a.layers), len(prepared.b.layers)), np.nan)
    return against(prepared, twin).alignment().scores


def _same(sides: Sequence[Activations]) -> dict[str, str]:
    """Find layers whose features another one before them has too, on all sides that share their layers' names."""
    found: dict[str, str] = {}
    names = list(sides[0].layers)
    for k, name in enumerate(names):
        for first in names[:k]:
            if first not in found and all(torch.equal(one.layers[first], one.layers[name]) for one in sides):
                found[name] = first
                break
    return found


def _without(side: Activations, same: Mapping[str, str]) -> Activations:
    return replace(side, layers={name: x for name, x in side.layers.items() if name not in same})


def _with_penultimate(teacher: Seen) -> Activations:
    features = teacher.features
    if teacher.penultimate is None:
        return features
    layers = {**features.layers, PENULTIMATE: teacher.penultimate.layers[PENULTIMATE]}
    return replace(features, layers=layers, depths={**features.depths, PENULTIMATE: 1.0})
