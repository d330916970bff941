"""Simulate tests of true hypotheses, and count how often p ≤ 0.05.

Every function draws one data set and returns rejections by name: 0 or 1, or the share among several cells.
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from intervals import Record
from processes import LATENT, NOISE, Process, blend, generator, mixture

from repalign.align import prepare
from repalign.encoders.group import Subjects
from repalign.errors import RepalignWarning
from repalign.infer.difference import difference
from repalign.infer.mantel import mantel
from repalign.infer.matrix import Plan, infer
from repalign.infer.two_sample import two_sample
from repalign.metrics import parse_metric
from repalign.subjects.comparison import model_comparison
from repalign.wrap import as_activations

LEVEL = 0.05
FAMILY = 8  # layers of b, against two of a
ALIGNED = 0.5  # correlation of latent variables where the hypothesis is false
PAIRED = 0.95  # of the deviation of two conditions' features is common to a pair
SUBJECTS = 8
Outcome = dict[str, float]


def matrix(process: Process, units: int, rng: np.random.Generator, metric: str = "cka_linear",
           aligned: int = 0, grouped: bool = True, permutations: int = 99) -> Outcome:  # fmt: skip
    """Test 2 × 8 layer pairs, the layers of a side sharing latent variables; the first `aligned` layers of b do align.

    Returns the share of true hypotheses with p ≤ 0.05, whether any has an adjusted p ≤ 0.05 (family-wise error), and
    the share of true ones among those with q ≤ 0.05 (its mean is the false discovery rate).
    """
    z, other = process.variables(rng, units, LATENT), process.variables(rng, units, LATENT)
    mixed = blend(z, other, ALIGNED)
    left = {f"a{j}": process.table(rng, z, units, f"a{j}") for j in range(2)}
    right = {f"b{j}": process.table(rng, mixed if j < aligned else other, units, f"b{j}") for j in range(FAMILY)}
    groups = process.groups(units) if grouped else None
    sides = replace(as_activations("a", left), groups=groups), as_activations("b", right)
    plan = Plan("none", n_permutations=permutations, seed=_seed(rng))
    got = infer(prepare(*sides, parse_metric(metric)), plan)
    true = np.arange(FAMILY) >= aligned
    found = got.q_values <= LEVEL
    return {
        "p": float((got.p_values[:, true] <= LEVEL).mean()),
        "max-T": float((got.p_adjusted[:, true] <= LEVEL).any()),
        "q": float(found[:, true].sum() / max(1, found.sum())),
    }


def mantel_test(process: Process, units: int, rng: np.random.Generator, grouped: bool = True,
                permutations: int = 99, **options: str) -> Outcome:  # fmt: skip
    """Test the distances of two unrelated sides."""
    left, right = process.pair(rng, units)
    groups = process.groups(units) if grouped else None
    got = mantel(left, right["none"], groups=groups, n_permutations=permutations, seed=_seed(rng), **options)
    return {"p": float(got.p_value <= LEVEL)}


def difference_test(process: Process, units: int, rng: np.random.Generator, metric: str = "cka_linear",
                    test: str = "jackknife", unlike: bool = False, permutations: int = 999) -> Outcome:  # fmt: skip
    """Compare two sides that align equally well with a reference.

    They are exchangeable; or, `unlike`, the second has four times the noise variance and t5 variables, and shares as
    much more with the reference as makes the linear CKA of infinitely many stimuli equal.
    """
    z = process.variables(rng, units, LATENT)
    reference = process.table(rng, z, units, "reference")
    strengths = equal_strengths(process.width) if unlike else (0.7, 0.7)
    a = _sharing(process, units, rng, z, strengths[0], NOISE)
    second = replace(process, tails=5) if unlike else process
    b = _sharing(second, units, rng, z, strengths[1], 2 * NOISE if unlike else NOISE)
    groups = process.groups(units)
    got = difference(
        a, b, reference, parse_metric(metric), test=test, groups=groups, n_permutations=permutations, seed=_seed(rng)
    )
    return {"p": float(got.p_value <= LEVEL), "interval without 0": float(not got.ci_low <= 0 <= got.ci_high)}


def equal_strengths(width: int) -> tuple[float, float]:
    """Find correlations of latent variables at which a side with little and one with more noise align equally well."""
    w = mixture("a", width)
    sizes = [np.linalg.norm(w.T @ w + (k * NOISE) ** 2 * np.eye(width)) for k in (1, 2)]
    return float(0.9 * np.sqrt(sizes[0] / sizes[1])), 0.9


def paired(process: Process, units: int, rng: np.random.Generator, statistic: str = "mmd2",
           grouped: bool = True, permutations: int = 99) -> Outcome:  # fmt: skip
    """Test two conditions of the same stimuli that differ only by what is as likely one way as the other."""
    common = process.variables(rng, units, process.width)
    x, y = (blend(common, process.variables(rng, units, process.width), PAIRED) for _ in range(2))
    groups = process.groups(units) if grouped else None
    got = two_sample(x, y, statistic, groups=groups, n_permutations=permutations, seed=_seed(rng))
    return {"p": float(got.p_value <= LEVEL)}


def unpaired(process: Process, units: int, rng: np.random.Generator, statistic: str = "mmd2",
             grouped: bool = True, permutations: int = 99) -> Outcome:  # fmt: skip
    """Test two samples of one distribution."""
    x, y = (process.variables(rng, units, process.width) for _ in range(2))
    names = process.groups(units, "x"), process.groups(units, "y")
    groups = names if grouped and names[0] is not None else None
    got = two_sample(x, y, statistic, paired=False, groups=groups, n_permutations=permutations, seed=_seed(rng))
    return {"p": float(got.p_value <= LEVEL)}


def models(process: Process, units: int, rng: np.random.Generator, mirrored: bool = True,
           permutations: int = 99) -> Outcome:  # fmt: skip
    """Compare two models with the RDMs of eight subjects who favour neither.

    `mirrored`: on these very stimuli neither is favoured: exchanging stimulus i with i + n/2 leaves the subjects'
    distribution as it is and turns one model into the other. Otherwise neither is favoured over all stimuli, but by
    chance one is on those that were drawn, which the sign flips over subjects rightly find.
    """
    half = process.variables(rng, units // 2, LATENT)
    base = np.concatenate([half, half]) if mirrored else process.variables(rng, units, LATENT)
    first = process.table(rng, base, units, "a")
    second = np.roll(first, units // 2, axis=0) if mirrored else process.table(rng, base, units, "a")
    ids = tuple(map(str, range(units)))
    names = tuple(f"s{s}" for s in range(SUBJECTS))
    brains = tuple(as_activations(s, {"all": process.table(rng, base, units, "b")}) for s in names)
    got = model_comparison(
        Subjects(names, ids, brains), {"first": first, "second": second}, "rsa", ids=ids, rdm="euclidean",
        compare="pearson", n_permutations=permutations, seed=_seed(rng),
    ).between  # fmt: skip
    low, high = float(got.estimates.ci_low[0]), float(got.estimates.ci_high[0])
    return {"p": float(got.p_values[0] <= LEVEL), "interval without 0": float(not low <= 0 <= high)}


TESTS: dict[str, Callable[..., Outcome]] = {
    "permutation": matrix,
    "mantel": mantel_test,
    "difference": difference_test,
    "two_sample paired": paired,
    "two_sample unpaired": unpaired,
    "model_comparison": models,
}


@dataclass(frozen=True)
class LevelCell:
    """One design: a test with its options on `units` stimuli or groups of a process; `wrong` shows what to avoid."""

    test: str
    process: Process
    units: int
    repetitions: int
    options: Mapping[str, object] = field(default_factory=dict)
    wrong: bool = False

    @property
    def key(self) -> str:
        """Name the cell; its seed follows."""
        options = ",".join(f"{k}={v}" for k, v in self.options.items())
        return f"test | {self.test} | {self.process.name} | {self.units} | {options}"

    def run(self, repetitions: int, chunk: int) -> Record:
        """Simulate; keep every repetition's rejections."""
        rng, found = generator(f"{self.key} | {chunk}"), []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RepalignWarning)  # unequal groups are cut, as the notes say
            for _ in range(repetitions):
                found.append(TESTS[self.test](self.process, self.units, rng, **self.options))
        return {
            "test": self.test, "process": self.process.name, "units": self.units,
            "n": len(self.process.of_row(self.units)), "options": self.options, "wrong": self.wrong,
            "rejections": {name: [round(one[name], 6) for one in found] for name in found[0]},
        }  # fmt: skip


def _sharing(process: Process, units: int, rng: np.random.Generator, z: np.ndarray, strength: float,
             noise: float) -> np.ndarray:  # fmt: skip
    mixed = blend(z, process.variables(rng, units, LATENT), strength)
    return mixed @ mixture("a", process.width) + noise * process.variables(rng, units, process.width)


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31))
