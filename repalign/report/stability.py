"""What `curves.csv` says: how scores hold when the stimuli are fewer, halved, or pooled otherwise."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from repalign.report.saved import Metric, Point, Study
from repalign.report.wording import counted, interval, number


@dataclass(frozen=True)
class Growth:
    """One measure's score against the number of stimuli; empty layers mean the average over matched layers."""

    metric: Metric
    layers: tuple[str, str]
    n: Float[np.ndarray, " k"]
    value: Float[np.ndarray, " k"]
    low: Float[np.ndarray, " k"]
    high: Float[np.ndarray, " k"]

    @property
    def rows(self) -> list[tuple[str, str, str, str]]:
        """Write number of stimuli, score and the range of the draws, from few stimuli to many."""
        ends = [["" if math.isnan(v) else number(v, 3) for v in values.tolist()] for values in (self.low, self.high)]
        first = [(f"{n:,.0f}", number(v, 3)) for n, v in zip(self.n.tolist(), self.value.tolist(), strict=True)]
        return [(n, v, low, high) for (n, v), low, high in zip(first, *ends, strict=True)]

    @property
    def settled(self) -> float:
        """Measure how far the score moves over the last doubling of stimuli, NaN when the curve is shorter."""
        known = np.isfinite(self.value)
        if not known.any() or 2 * self.n[known][0] > self.n[known][-1]:
            return math.nan
        half = np.interp(math.log(self.n[known][-1] / 2), np.log(self.n[known]), self.value[known])
        return float(self.value[known][-1] - half)


@dataclass(frozen=True)
class Choice:
    """One value of one measure with its range, NaN where unknown, under a name: a half, or a pooling."""

    metric: Metric
    name: str
    value: float
    low: float
    high: float
    n: float
    draws: float

    @property
    def written(self) -> str:
        """Write the value, and its range where there is one."""
        known = math.isfinite(self.low) and math.isfinite(self.high)
        return number(self.value) + (f" {interval(self.low, self.high)}" if known else "")


def growths(study: Study) -> list[Growth]:
    """Collect the curves over the number of stimuli: averages first, then single pairs, in the order of measures."""
    found: dict[tuple[bool, int, tuple[str, str]], list[Point]] = {}
    ids = [metric.id for metric in study.metrics]
    for point in study.points:
        if point.kind == "stimuli":
            layers = (point.layer_a, point.layer_b)
            found.setdefault((any(layers), ids.index(point.metric), layers), []).append(point)
    return [_growth(study.metrics[k], layers, points) for (_, k, layers), points in sorted(found.items(), key=_order)]


def halves(study: Study) -> list[Choice]:
    """Collect per measure how well two halves of the stimuli agree on which layers match."""
    return _choices(study, "split_half")


def pools(study: Study) -> list[Choice]:
    """Collect per measure what it says under each pooling, in the order of measures, then of `curves.csv`."""
    return _choices(study, "pool")


def said_of_growths(study: Study) -> str:
    """Say how far the averages move over the last doubling, or which option computes them."""
    settled = [g for g in growths(study) if not any(g.layers) and math.isfinite(g.settled)]
    if not settled:
        return ""
    worst = max(settled, key=lambda g: abs(g.settled))
    label = worst.metric.label
    moves = f"the average of {label} moves by " if len(settled) == 1 else f"averages move most for {label}, by "
    return (
        f"From {worst.n[-1] / 2:,.0f} to {worst.n[-1]:,.0f} {study.pictures} {moves}{number(worst.settled)}: where a "
        f"line has become flat, more {study.pictures} would change little. Ribbons hold 95 % of the subsets and close "
        "at the right by themselves, as there is only one subset with everything in it."
    )


def said_of_halves(study: Study) -> str:
    """Say how alike two halves of the stimuli order the layer pairs."""
    found = [one for one in halves(study) if math.isfinite(one.value)]
    if not found:
        return ""
    least = min(found, key=lambda one: one.value)
    splits = f" over {counted(int(least.draws), 'split')}" if math.isfinite(least.draws) else ""
    which = "" if len(found) == 1 else f" or more ({least.metric.label} least)"
    return (
        f"Two halves of {least.n:,.0f} {study.pictures} each agree on which layers match by {number(least.value)}"
        f"{which}{splits}. 1 means that other {study.pictures} would draw the same map; the further below, the less "
        "small differences between cells mean. Corrected to the full number by Spearman and Brown."
    )


def said_of_pools(study: Study) -> str:
    """Say which measure the choice of pooling moves most."""
    spans = []
    for metric in study.metrics:
        mine = [one for one in pools(study) if one.metric == metric and math.isfinite(one.value)]
        if len(mine) > 1:
            ranked = sorted(mine, key=lambda one: one.value)
            spans.append((ranked[-1].value - ranked[0].value, ranked[0], ranked[-1]))
    if not spans:
        return ""
    span, low, high = max(spans, key=lambda one: one[0])
    most = "" if len(spans) == 1 else ", more than any other measure"
    return (
        f"The choice of pooling moves {low.metric.label} by {number(span)}{most}: {number(high.value)} with "
        f"{high.name}, {number(low.value)} with {low.name}. A claim should hold under every pooling or name its own."
    )


def _order(item: tuple[tuple[bool, int, tuple[str, str]], list[Point]]) -> tuple[bool, int, tuple[str, str]]:
    return item[0]


def _growth(metric: Metric, layers: tuple[str, str], points: list[Point]) -> Growth:
    rows = sorted(((p.n, p.value, p.low, p.high) for p in points if p.n > 0), key=lambda row: row[0])
    n, value, low, high = np.array(rows, dtype=np.float64).reshape(-1, 4).T
    return Growth(metric, layers, n, value, low, high)


def _choices(study: Study, kind: str) -> list[Choice]:
    chosen = [(m, p) for m in study.metrics for p in study.points if p.metric == m.id and p.kind == kind]
    return [Choice(m, p.x, p.value, p.low, p.high, p.n, p.draws) for m, p in chosen]
