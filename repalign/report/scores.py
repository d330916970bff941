"""What a matrix of scores says: best matches, the depth-matched curve, its mean and its peak."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from repalign.report.study_folder import Metric, Side, Study


@dataclass(frozen=True)
class Pair:
    """Two layers and the score between them; the interval is NaN where the study has none."""

    layer_a: str
    layer_b: str
    value: float
    ci_low: float = float("nan")
    ci_high: float = float("nan")

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
    if a.layers == b.layers:
        return np.arange(len(a.layers))
    distance = np.abs(a.depths[:, None] - b.depths[None, :])
    return distance.argmin(axis=1)


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
    """Mark the cells whose interval includes the null's mean; none without intervals."""
    low, high = study.matrix(metric, "ci_low"), study.matrix(metric, "ci_high")
    null = study.matrix(metric, "null_mean")
    return (low <= null) & (null <= high)


def _pair(study: Study, metric: Metric, i: int, j: int) -> Pair:
    value, low, high = (float(study.matrix(metric, c)[i, j]) for c in ("value", "ci_low", "ci_high"))
    return Pair(study.a.layers[i], study.b.layers[j], value, low, high)
