"""What a matrix of scores says: best matches, the depth-matched curve, its mean and its peak."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from repalign.align import matched
from repalign.report.saved import Metric, Side, Study

TOGETHER = 0.05
"""Means under the null that differ by no more are drawn as one band."""

COLUMNS = ("value", "ci_low", "ci_high", "null_mean", "p_adjusted", "independent")


@dataclass(frozen=True)
class Pair:
    """Two layers and the score between them; what the study does not know of it is NaN.

    `p` is adjusted for all pairs of layers; `independent` is what features that share nothing score.
    """

    layer_a: str
    layer_b: str
    value: float
    ci_low: float = float("nan")
    ci_high: float = float("nan")
    null_mean: float = float("nan")
    p: float = float("nan")
    independent: float = float("nan")

    @property
    def has_interval(self) -> bool:
        """Tell whether both ends of the interval are there."""
        return bool(np.isfinite([self.ci_low, self.ci_high]).all())


@dataclass(frozen=True)
class Diagonal:
    """The depth-matched scores in short: their mean, where they peak (depth in 0..1) and where they are lowest."""

    mean: float
    peak: Pair
    peak_depth: float
    lowest: Pair


def matched_layers(a: Side, b: Side) -> Int[np.ndarray, " la"]:
    """Find for each layer of A the layer of B nearest in depth, the shallower of two equally near.

    Two sides with the same layers match one to one: the diagonal.
    """
    return matched(a.depths, b.depths, same=a.layers == b.layers)


def matched_curve(study: Study, metric: Metric, column: str = "value") -> Float[np.ndarray, " la"]:
    """Take from one column the entries of each layer of A with the layer of B nearest in depth."""
    index = matched_layers(study.a, study.b)
    return study.matrix(metric, column)[np.arange(len(index)), index]


def similarity(metric: Metric, values: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Turn scores so that more is more alike."""
    return values if metric.higher_is_similar else -values


def best_matches(study: Study, metric: Metric) -> Int[np.ndarray, " la"]:
    """Find for each layer of A the layer of B most like it; −1 where the whole row is undefined."""
    scores = similarity(metric, study.matrix(metric))
    best = np.where(np.isnan(scores), -np.inf, scores).argmax(axis=1)
    return np.where(np.isnan(scores).all(axis=1), -1, best)


def top_pairs(study: Study, metric: Metric, count: int = 3, skip_same: bool = False) -> list[Pair]:
    """List the layer pairs most alike, best first; `skip_same` leaves out each layer with itself."""
    ranked = similarity(metric, study.matrix(metric)).copy()
    if skip_same:
        np.fill_diagonal(ranked, np.nan)
    flat = np.argsort(-ranked, axis=None, kind="stable")[: int(np.isfinite(ranked).sum())][:count]
    return [_pair(study, metric, *divmod(int(k), ranked.shape[1])) for k in flat]


def least_pair(study: Study, metric: Metric) -> Pair | None:
    """Find the layer pair least alike, or None when no pair has a score."""
    ranked = similarity(metric, study.matrix(metric))
    if not np.isfinite(ranked).any():
        return None
    return _pair(study, metric, *divmod(int(np.nanargmin(ranked)), ranked.shape[1]))


def diagonal(study: Study, metric: Metric) -> Diagonal | None:
    """Sum up the depth-matched curve, or return None when no matched pair has a score."""
    curve = matched_curve(study, metric)
    turned = similarity(metric, curve)
    if not np.isfinite(turned).any():
        return None
    index = matched_layers(study.a, study.b)
    top, low = int(np.nanargmax(turned)), int(np.nanargmin(turned))
    return Diagonal(
        mean=float(np.nanmean(curve)),
        peak=_pair(study, metric, top, int(index[top])),
        peak_depth=float(study.a.depths[top]),
        lowest=_pair(study, metric, low, int(index[low])),
    )


def at_chance(study: Study, metric: Metric) -> Bool[np.ndarray, "la lb"]:
    """Mark the cells whose interval includes what chance gives; none without intervals."""
    low, high = study.matrix(metric, "ci_low"), study.matrix(metric, "ci_high")
    chance = chance_level(study, metric)
    return (low <= chance) & (chance <= high)


def chance_level(study: Study, metric: Metric) -> Float[np.ndarray, "la lb"]:
    """Give what each cell scores by chance: the null's mean, else what independent features score, else NaN."""
    null = study.matrix(metric, "null_mean")
    return np.where(np.isnan(null), study.matrix(metric, "independent"), null)


def null_bands(study: Study) -> list[Float[np.ndarray, "2 la"]]:
    """Give the lowest and highest mean under the null along the depth, one band for the measures that agree on it.

    Biased measures have a null far above 0; one band over all of them would cover the chart and say nothing.
    """
    curves = [matched_curve(study, metric, "null_mean") for metric in study.metrics]
    curves = sorted((c for c in curves if np.isfinite(c).any()), key=lambda c: float(np.nanmean(c)))
    clusters: list[list[np.ndarray]] = []
    for curve in curves:
        if clusters and np.nanmean(curve) - np.nanmean(clusters[-1][-1]) <= TOGETHER:
            clusters[-1].append(curve)
        else:
            clusters.append([curve])
    return [np.stack([np.fmin.reduce(c), np.fmax.reduce(c)]) for c in clusters]


def _pair(study: Study, metric: Metric, i: int, j: int) -> Pair:
    return Pair(study.a.layers[i], study.b.layers[j], *(float(study.matrix(metric, c)[i, j]) for c in COLUMNS))
