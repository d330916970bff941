"""From simulated chunks to one row a number, each with its Monte-Carlo interval."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.stats import norm

COVERAGE_AIM = (0.92, 0.98)
LEVEL_AIM = (0.03, 0.07)
Chunk = Mapping[str, Any]  # a line of chunks.jsonl


@dataclass(frozen=True)
class Share:
    """A share of repetitions with its 95 % Monte-Carlo interval (Wilson)."""

    value: float
    low: float
    high: float

    def misses(self, aim: tuple[float, float]) -> bool:
        """Tell whether the whole Monte-Carlo interval lies outside the aim."""
        return self.high < aim[0] or self.low > aim[1]


@dataclass(frozen=True)
class Coverage:
    """How often the 95 % intervals of one design hold `mean`, the score's expectation, and the population's value.

    `bias` is `mean` less the population's value, in standard deviations of the score (NaN where there is none);
    `se_ratio` the root mean square of the standard errors over the score's standard deviation; `beyond` the share of
    intervals that lie above the expectation, and below it.
    """

    process: str
    units: int
    n: int
    metric: str
    interval: str
    pairs: str
    strength: str
    repetitions: int
    mean: float
    population: float
    bias: float
    sd: float
    se_ratio: float
    beyond: tuple[float, float]
    of_mean: Share
    of_population: Share | None


@dataclass(frozen=True)
class Level:
    """How often one test of true hypotheses gives p ≤ 0.05; `wrong` designs show what to avoid."""

    test: str
    kind: str
    process: str
    units: int
    n: int
    options: Mapping[str, object]
    wrong: bool
    repetitions: int
    rejected: Share


def share(values: Float[np.ndarray, " r"]) -> Share:
    """Average repetitions that are 0, 1 or a share in between; Wilson's interval at the effective number of them.

    That number is the one at which a share of zeros and ones would have the variance that was seen.
    """
    p, count = float(values.mean()), len(values)
    variance = float(values.var())
    effective = count * p * (1 - p) / variance if variance > 0 else count
    z = float(norm.ppf(0.975))
    centre = (p + z**2 / (2 * effective)) / (1 + z**2 / effective)
    half = z / (1 + z**2 / effective) * np.sqrt(p * (1 - p) / effective + z**2 / (4 * effective**2))
    return Share(p, max(0.0, centre - half), min(1.0, centre + half))


def levels(chunks: Sequence[Chunk]) -> list[Level]:
    """Merge the chunks of every test."""
    found = []
    for parts in _by_key(chunks, "test"):
        first = parts[0]
        for kind in first["rejections"]:
            values = np.concatenate([part["rejections"][kind] for part in parts])
            about = (first["test"], kind, first["process"], first["units"], first["n"], first["options"])
            found.append(Level(*about, first["wrong"], len(values), share(values)))
    return found


def coverages(chunks: Sequence[Chunk]) -> list[Coverage]:
    """Merge the chunks of every interval, one row a strength of alignment."""
    population = {
        (parts[0]["process"], parts[0]["metric"]): np.concatenate([part["draws"] for part in parts]).mean(0)
        for parts in _by_key(chunks, "population")
    }
    found = []
    for parts in _by_key(chunks, "interval"):
        first = parts[0]
        columns = {name: np.concatenate([part[name] for part in parts]) for name in ("scores", "se", "low", "high")}
        about = (first["process"], first["units"], first["n"], first["metric"], first["interval"], first["pairs"])
        truth = population.get((first["process"], first["metric"]))
        for k, strength in enumerate(first["strengths"]):
            column = {name: values[:, k] for name, values in columns.items()}
            found.append(_coverage(about, strength, column, None if truth is None else float(truth[k])))
    return found


def as_rows(found: Sequence[Coverage | Level]) -> list[dict[str, object]]:
    """Give plain rows, numbers rounded."""
    return [{name: _rounded(value) for name, value in asdict(one).items()} for one in found]


def _coverage(
    about: tuple[str, int, int, str, str, str], strength: str, of: Mapping[str, np.ndarray], truth: float | None
) -> Coverage:
    scores, low, high = of["scores"], of["low"], of["high"]
    mean, sd = float(scores.mean()), float(scores.std(ddof=1))
    ratio = float(np.sqrt((of["se"] ** 2).mean())) / sd
    beyond = float((low > mean).mean()), float((high < mean).mean())
    held = None if truth is None else share(((low <= truth) & (truth <= high)).astype(float))
    population = float("nan") if truth is None else truth
    of_mean = share(((low <= mean) & (mean <= high)).astype(float))
    return Coverage(
        *about, strength, len(scores), mean, population, (mean - population) / sd, sd, ratio, beyond, of_mean, held
    )


def _by_key(chunks: Sequence[Chunk], kind: str) -> list[list[Chunk]]:
    found: dict[object, list[Chunk]] = defaultdict(list)
    for chunk in chunks:
        if str(chunk["key"]).startswith(kind + " |"):
            found[chunk["key"]].append(chunk)
    return list(found.values())


def _rounded(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, tuple | list):
        return [_rounded(inner) for inner in value]
    if isinstance(value, float):
        return None if np.isnan(value) else round(value, 5)
    return value
