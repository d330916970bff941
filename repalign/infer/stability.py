"""How far scores depend on the choice of stimuli, on their number and on the pooling."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from torch import Tensor

from repalign.align import FEWEST_GROUPS, align, matched
from repalign.infer.jackknife import others, refit
from repalign.infer.over_subjects import Compared, averaged
from repalign.infer.resample import members, subsets
from repalign.types import Activations

COLUMNS = ("metric", "kind", "layer_a", "layer_b", "x", "n", "value", "low", "high", "draws")
SHARES = (1 / 8, 1 / 4, 1 / 2, 3 / 4)  # of the stimuli or groups
DRAWS = 20
FEWEST_UNITS = 3  # of a subset: fewer groups say nothing about all


def stability(
    prepared: Compared, pooled: Mapping[str, tuple[Activations, Activations]], seed: int = 0
) -> pd.DataFrame:  # fmt: skip
    """List the stability curves of one metric, tidy, with the columns `COLUMNS`.

    `kind` is "stimuli": the score of subsets of x stimuli (whole groups), mean and central 95 % over seeded draws
    without replacement, for the mean over depth-matched layers (layer names empty) and for the best pair;
    "split_half": the correlation over layer pairs of the score matrices of two halves, averaged over draws and stepped
    up to all stimuli by Spearman–Brown, 2r / (1 + r); "pool": the depth-matched mean under each pooling of `pooled`.
    Of a side with itself only pairs of different layers count.
    """
    full = _different(prepared, prepared.alignment().scores)
    if np.isnan(full).all():
        return pd.DataFrame(columns=list(COLUMNS))
    rows = [*_by_count(prepared, full, seed), *_split_half(prepared, seed), *_by_pool(prepared, full, pooled)]
    known = [{"metric": prepared.metric.spec} | row for row in rows if np.isfinite(float(str(row["value"])))]
    return pd.DataFrame(known, columns=list(COLUMNS))


def spearman_brown(r: float) -> float:
    """Step the correlation of two halves up to the reliability of the whole, `2r / (1 + r)`; r ≤ 0 stays as it is."""
    return 2 * r / (1 + r) if r > 0 else r


def _by_count(prepared: Compared, full: np.ndarray, seed: int) -> list[dict[str, object]]:
    n, groups = len(prepared.a), prepared.groups
    units = len(members(n, groups))
    pair, line = _best_pair(full, prepared), _matched(prepared.a, prepared.b)
    names = [("", ""), (tuple(prepared.a.layers)[pair[0]], tuple(prepared.b.layers)[pair[1]])]
    rows: list[dict[str, object]] = []
    for k, size in enumerate(sorted({round(share * units) for share in SHARES})):
        if size < _fewest(prepared):
            continue
        drawn = subsets(n, groups, size, DRAWS, seed + k)
        if min(len(index) for index in drawn) < max(prepared.metric.fewest, 4):
            continue
        values = np.stack([_pick(_refit(prepared, index), pair, line) for index in drawn])
        count = round(float(np.mean([len(index) for index in drawn])))
        rows += [_row("stimuli", name, count, count, v) for name, v in zip(names, values.T, strict=True)]
    ends = _pick(full, pair, line)[:, None]
    return rows + [_row("stimuli", name, n, n, v) for name, v in zip(names, ends, strict=True)]


def _split_half(prepared: Compared, seed: int) -> list[dict[str, object]]:
    n, groups = len(prepared.a), prepared.groups
    units = len(members(n, groups))
    if units // 2 < _fewest(prepared):
        return []
    firsts = subsets(n, groups, units // 2, DRAWS, seed)
    sizes = [min(len(first), n - len(first)) for first in firsts]
    if min(sizes) < prepared.metric.fewest:
        return []
    found = [_correlation(*(_refit(prepared, index) for index in (first, others(n, first)))) for first in firsts]
    row = _row("split_half", ("", ""), "", round(float(np.mean(sizes))), np.array(found))
    return [row | {key: spearman_brown(float(str(row[key]))) for key in ("value", "low", "high")}]


def _by_pool(
    prepared: Compared, full: np.ndarray, pooled: Mapping[str, tuple[Activations, Activations]]
) -> list[dict[str, object]]:
    if not pooled:
        return []
    n, metric = len(prepared.a), prepared.metric
    line, pairs = _matched(prepared.a, prepared.b), "between" if prepared.within_groups else "all"
    rows = [_row("pool", ("", ""), prepared.a.pool, n, np.array([_mean(full, line)]))]
    for name, (a, b) in pooled.items():
        found = align(a, b, metric, pairs, prepared.spare(), prepared.room.device)
        value = _mean(_different(prepared, found.scores), _matched(a, b))
        rows.append(_row("pool", ("", ""), name, n, np.array([value])))
    return rows


def _row(
    kind: str, names: tuple[str, str], x: object, n: int, values: Float[np.ndarray, " draws"]
) -> dict[str, object]:
    known = values[np.isfinite(values)]
    low, high = np.quantile(known, [0.025, 0.975]) if len(known) > 1 else (np.nan, np.nan)
    value = float(known.mean()) if len(known) else np.nan
    return {
        "kind": kind, "layer_a": names[0], "layer_b": names[1], "x": x, "n": n, "value": value,
        "low": low, "high": high, "draws": len(values),
    }  # fmt: skip


def _refit(prepared: Compared, index: Int[Tensor, " m"]) -> Float[np.ndarray, "la lb"]:
    return _different(prepared, averaged(prepared, lambda one: refit(one, index)))


def _different(prepared: Compared, scores: Float[np.ndarray, "la lb"]) -> Float[np.ndarray, "la lb"]:
    """Keep, of a side with itself, each pair of different layers once; the others become NaN."""
    if prepared.b is not prepared.a:
        return scores
    return np.where(np.triu(np.ones(scores.shape, dtype=bool), 1), scores, np.nan)


def _fewest(prepared: Compared) -> int:
    """Give the number of groups, or stimuli, below which a subset says nothing."""
    return FEWEST_GROUPS if prepared.within_groups else FEWEST_UNITS


def _correlation(x: Float[np.ndarray, "la lb"], y: Float[np.ndarray, "la lb"]) -> float:
    known = np.isfinite(x) & np.isfinite(y)
    if known.sum() < 3 or x[known].std() == 0 or y[known].std() == 0:
        return float("nan")
    return float(np.corrcoef(x[known], y[known])[0, 1])


def _pick(scores: Float[np.ndarray, "la lb"], pair: tuple[int, int], line: Int[np.ndarray, " la"]) -> np.ndarray:
    """Take what the curves show of a matrix: its depth-matched mean and its best pair."""
    return np.array([_mean(scores, line), scores[pair]])


def _mean(scores: Float[np.ndarray, "la lb"], line: Int[np.ndarray, " la"]) -> float:
    along = scores[np.arange(len(line)), line]
    return float(np.nanmean(along)) if np.isfinite(along).any() else float("nan")


def _matched(a: Activations, b: Activations) -> Int[np.ndarray, " la"]:
    depths = [np.array([side.depths[name] for name in side.layers]) for side in (a, b)]
    return matched(*depths, same=tuple(a.layers) == tuple(b.layers))


def _best_pair(scores: Float[np.ndarray, "la lb"], prepared: Compared) -> tuple[int, int]:
    """Find the layer pair most alike."""
    ranked = scores if prepared.metric.higher_is_similar else -scores
    row, column = divmod(int(np.nanargmax(ranked)), scores.shape[1])
    return row, column
