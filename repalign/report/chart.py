"""Curves for the page: geometry in per mille of a box, drawn as SVG that stretches with the page."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from repalign.report.scores import diagonal, matched_curve
from repalign.report.sentences import described
from repalign.report.study_folder import Study
from repalign.report.wording import number

FULL = 1000.0
"""Width and height of the box that holds a chart."""

DOTTED = 40
"""Up to so many points each one has its dot."""

ONE_DIRECTION = 2.0
"""A participation ratio below this says that one direction dominates the layer."""


@dataclass(frozen=True)
class Tick:
    """A label at a place in per cent of the axis."""

    at: float
    text: str


@dataclass(frozen=True)
class Series:
    """One line: paths of the line, of its dots and of its ribbon, the place of its peak, and what the legend says."""

    label: str
    line: str
    dots: str
    ribbon: str = ""
    peak: tuple[float, float] | None = None
    said: str = ""


@dataclass(frozen=True)
class Chart:
    """Lines on one pair of axes; `band` is shaded, its meaning is `band_label`."""

    name: str
    alt: str
    series: tuple[Series, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    x_label: str
    y_label: str
    band: str = ""
    band_label: str = ""


@dataclass(frozen=True)
class _Box:
    """Maps data to the box: x from 0 to 1, y between two ends, on a logarithmic scale if asked."""

    low: float
    high: float
    log: bool = False

    def x(self, z: float) -> float:
        return round(FULL * z, 1)

    def y(self, value: float) -> float:
        if self.log:
            value, low, high = (math.log(max(v, 1e-9)) for v in (value, self.low, self.high))
        else:
            low, high = self.low, self.high
        return round(FULL * (1 - (value - low) / (high - low)), 1)

    def line(self, xs: Float[np.ndarray, " l"], ys: Float[np.ndarray, " l"]) -> str:
        """Write a path that breaks where a value is missing."""
        path, pen = [], "M"
        for x, y in zip(xs, ys, strict=True):
            if not math.isfinite(y):
                pen = "M"
                continue
            path.append(f"{pen}{self.x(x)} {self.y(y)}")
            pen = "L"
        return "".join(path)

    def dots(self, xs: Float[np.ndarray, " l"], ys: Float[np.ndarray, " l"]) -> str:
        return "".join(f"M{self.x(x)} {self.y(y)}h.01" for x, y in zip(xs, ys, strict=True) if math.isfinite(y))

    def area(self, xs: Float[np.ndarray, " l"], low: Float[np.ndarray, " l"], high: Float[np.ndarray, " l"]) -> str:
        """Write a closed path between two curves over the places where both are known."""
        known = np.isfinite(low) & np.isfinite(high)
        if not known.any():
            return ""
        there = [f"{self.x(x)} {self.y(y)}" for x, y in zip(xs[known], low[known], strict=True)]
        back = [f"{self.x(x)} {self.y(y)}" for x, y in zip(xs[known][::-1], high[known][::-1], strict=True)]
        return "M" + "L".join(there + back) + "Z"


def curve_chart(study: Study) -> Chart:
    """Lay out the depth-matched curves of all measures on one axis, with ribbons and the null's mean if known."""
    xs = study.a.depths
    curves = [matched_curve(study, metric) for metric in study.metrics]
    known = np.concatenate([c[np.isfinite(c)] for c in curves] + [np.array([0.0, 1.0])])
    box = _Box(min(0.0, math.floor(known.min() * 10) / 10), max(1.0, math.ceil(known.max() * 10) / 10))
    nulls = np.stack([matched_curve(study, metric, "null_mean") for metric in study.metrics])
    blank = np.where(np.isnan(nulls), 0.0, nulls).sum(axis=0) * np.nan
    low = np.where(np.isnan(nulls).all(axis=0), blank, np.fmin.reduce(nulls, axis=0))
    high = np.where(np.isnan(nulls).all(axis=0), blank, np.fmax.reduce(nulls, axis=0))
    band = box.area(xs, low, high)
    return Chart(
        name="curve",
        alt="Scores of each layer with the layer of the other side nearest in depth: "
        + "; ".join(_along(study, k) for k in range(len(study.metrics))),
        series=tuple(_measure(study, k, box, xs, curves[k]) for k in range(len(study.metrics))),
        x_ticks=_depth_ticks(),
        y_ticks=tuple(Tick(box.y(v) / 10, number(v, 1)) for v in _tenths(box.low, box.high)),
        x_label=f"relative depth in {described(study.a)}",
        y_label="score",
        band=band,
        band_label="mean under the null" if band else "",
    )


def ratio_chart(study: Study) -> Chart | None:
    """Lay out the participation ratio of every layer over depth, or nothing when the study has none."""
    ratios = [study.a.ratios, study.b.ratios]
    known = np.concatenate([r[np.isfinite(r)] for r in ratios])
    if known.size == 0:
        return None
    box = _Box(1.0, max(10.0, float(known.max()) * 1.15), log=True)
    names = [described(study.a), described(study.b)]
    if names[0] == names[1]:
        names = [f"{names[0]} on {study.a.stimuli}", f"{names[1]} on {study.b.stimuli}"]
    series = []
    for side, ratio, name in zip((study.a, study.b), ratios, names, strict=True):
        series.append(
            Series(name, box.line(side.depths, ratio), box.dots(side.depths, ratio) if len(ratio) <= DOTTED else "")
        )
    ends = np.array([0.0, 1.0])
    marks = [float(v) for v in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000) if v <= box.high]
    return Chart(
        name="ratio",
        alt=f"Participation ratio of every layer over relative depth, between {known.min():.1f} and {known.max():.1f}",
        series=tuple(series),
        x_ticks=_depth_ticks(),
        y_ticks=tuple(Tick(box.y(float(v)) / 10, f"{v:,.0f}") for v in marks),
        x_label="relative depth",
        y_label="participation ratio",
        band=box.area(ends, np.array([1.0, 1.0]), np.array([ONE_DIRECTION, ONE_DIRECTION])),
        band_label="one direction dominates (below 2)",
    )


def _measure(study: Study, k: int, box: _Box, xs: Float[np.ndarray, " l"], curve: Float[np.ndarray, " l"]) -> Series:
    metric = study.metrics[k]
    along = diagonal(study, metric)
    low, high = matched_curve(study, metric, "ci_low"), matched_curve(study, metric, "ci_high")
    return Series(
        label=metric.label,
        line=box.line(xs, curve),
        dots=box.dots(xs, curve) if len(xs) <= DOTTED else "",
        ribbon=box.area(xs, low, high),
        peak=None if along is None else (box.x(along.peak_depth) / 10, box.y(along.peak.value) / 10),
        said=_along(study, k),
    )


def _along(study: Study, k: int) -> str:
    along = diagonal(study, study.metrics[k])
    if along is None:
        return "undefined"
    peak = along.peak
    return f"mean {number(along.mean)}, peak {number(peak.value)} at {peak.layer_a} × {peak.layer_b}"


def _depth_ticks() -> tuple[Tick, ...]:
    return tuple(Tick(100 * z, number(z, 2).rstrip("0").rstrip(".")) for z in (0.0, 0.25, 0.5, 0.75, 1.0))


def _tenths(low: float, high: float) -> list[float]:
    """Choose round marks: every 0.2, or wider when the axis is long, with 0 among them."""
    step = 0.2 if high - low <= 2 else 10 ** math.ceil(math.log10((high - low) / 8))
    return [float(k * step) for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
