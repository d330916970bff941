"""Simulate intervals, and count how often they hold the score's expectation and the population's value."""

import warnings
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from processes import STRENGTHS, Process, generator, linear_cka_limit

from repalign.align import prepare
from repalign.errors import RepalignWarning
from repalign.infer.matrix import Plan, infer
from repalign.metrics import CosineMetric, Metric, parse_metric
from repalign.wrap import as_activations

Record = dict[str, object]
LARGE = 1000  # stimuli of a draw that stands for the population
BATCH = 10  # data sets of at most so many stimuli that go through one call
SMALL = 200


@dataclass(frozen=True)
class IntervalCell:
    """One design: `units` stimuli or groups of a process, a metric and a kind of interval.

    `pairs="all"` counts the pairs of stimuli within groups too, for comparison.
    """

    process: Process
    units: int
    metric: str
    interval: str
    repetitions: int
    pairs: str = "between"

    @property
    def key(self) -> str:
        """Name the cell; its seed follows."""
        pairs = " | all pairs" if self.pairs == "all" else ""
        return f"interval | {self.process.name} | {self.units} | {self.metric} | {self.interval}{pairs}"

    def run(self, repetitions: int, chunk: int) -> Record:
        """Simulate; keep the score, its standard error and both ends of every repetition, `(repetitions, 3)`."""
        rng, metric = generator(f"{self.key} | {chunk}"), parse_metric(self.metric)
        at_once = BATCH if isinstance(metric, CosineMetric) and self.n <= SMALL else 1
        counts = np.bincount(np.arange(repetitions) // at_once)
        values = np.round(np.concatenate([self._batch(rng, metric, count) for count in counts]), 7)
        names = ("scores", "se", "low", "high")
        return {
            "process": self.process.name, "units": self.units, "n": self.n,
            "metric": self.metric, "interval": self.interval, "pairs": self.pairs,
            "strengths": list(STRENGTHS),
            **{name: values[:, k].tolist() for k, name in enumerate(names)},
        }  # fmt: skip

    @property
    def n(self) -> int:
        """Count the stimuli."""
        return len(self.process.of_row(self.units))

    def _batch(self, rng: np.random.Generator, metric: Metric, count: int) -> Float[np.ndarray, "r 4 s"]:
        """Simulate several data sets as so many layers of one call, of which only those drawn together are read."""
        drawn = [self.process.pair(rng, self.units) for _ in range(count)]
        left = as_activations("a", {str(r): a for r, (a, _) in enumerate(drawn)})
        right = as_activations("b", {f"{r} {k}": table for r, (_, b) in enumerate(drawn) for k, table in b.items()})
        prepared = prepare(replace(left, groups=self.process.groups(self.units)), right, metric, self.pairs)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RepalignWarning)
            got = infer(prepared, Plan(self.interval, n_permutations=0, seed=int(rng.integers(2**31))))
        columns = (got.alignment.scores, got.se, got.ci_low, got.ci_high)
        own = np.arange(count)
        return np.stack([c.reshape(count, count, len(STRENGTHS))[own, own] for c in columns], axis=1)


@dataclass(frozen=True)
class PopulationCell:
    """The score that infinitely many units would give; many groups tend to one stimulus a group.

    Linear CKA follows from the covariances. Any other metric: the mean of draws of 1,000 independent stimuli.
    """

    process: Process
    metric: str
    repetitions: int

    @property
    def key(self) -> str:
        """Name the cell; its seed follows."""
        return f"population | {self.process.name} | {self.metric}"

    def run(self, repetitions: int, chunk: int) -> Record:
        """Compute or simulate the value at each strength."""
        about: Record = {"process": self.process.name, "metric": self.metric, "strengths": list(STRENGTHS)}
        if self.metric.startswith("cka_linear"):
            exact = [linear_cka_limit(self.process, r) for r in STRENGTHS.values()]
            return {**about, "exact": True, "draws": [exact]}
        rng, metric = generator(f"{self.key} | {chunk}"), parse_metric(self.metric)
        draws = []
        for _ in range(repetitions):
            left, right = self.process.marginal().pair(rng, LARGE)
            draws.append(prepare(as_activations("a", {"a": left}), as_activations("b", right), metric).alignment())
        return {**about, "exact": False, "draws": [draw.scores[0].tolist() for draw in draws]}
