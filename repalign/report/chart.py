"""Charts for the page: geometry in per mille of a box, drawn as SVG that stretches with the page."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from repalign.report.colours import LINES
from repalign.report.wording import number

FULL = 1000.0
"""Width and height of the box that holds a chart."""

COLOURS = len(LINES)

DOTTED = 40
"""Up to so many points each one has its dot."""


@dataclass(frozen=True)
class Tick:
    """A label at a place in per cent of the axis."""

    at: float
    text: str


@dataclass(frozen=True)
class Series:
    """One line: paths of line, dots and ribbon, the place of its peak, and what the legend says of it.

    `colour` counts in the page's list of lines, the same for one measure everywhere. `chance` is a thin dotted path
    and `ceiling` an outlined band, both in the line's colour.
    """

    label: str
    colour: int
    line: str
    dots: str
    ribbon: str = ""
    peak: tuple[float, float] | None = None
    said: str = ""
    chance: str = ""
    ceiling: str = ""


@dataclass(frozen=True)
class Chart:
    """Lines on one pair of axes; `band` is shaded, its meaning is `band_label`, as with chance and ceiling."""

    name: str
    alt: str
    series: tuple[Series, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    x_label: str
    y_label: str
    band: str = ""
    band_label: str = ""
    chance_label: str = ""
    ceiling_label: str = ""


@dataclass(frozen=True)
class Box:
    """Maps data to the box: x from 0 to 1, y between two ends, on a logarithmic scale if asked."""

    low: float
    high: float
    log: bool = False

    def x(self, z: float) -> float:
        """Place a number between 0 and 1."""
        return round(FULL * z, 1)

    def y(self, value: float) -> float:
        """Place a value, the larger the higher."""
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
        """Write a path of dots, nothing where there are too many to tell apart."""
        if len(xs) > DOTTED:
            return ""
        return "".join(f"M{self.x(x)} {self.y(y)}h.01" for x, y in zip(xs, ys, strict=True) if math.isfinite(y))

    def area(self, xs: Float[np.ndarray, " l"], low: Float[np.ndarray, " l"], high: Float[np.ndarray, " l"]) -> str:
        """Write a closed path between two curves over the places where both are known."""
        known = np.isfinite(low) & np.isfinite(high)
        if not known.any():
            return ""
        there = [f"{self.x(x)} {self.y(y)}" for x, y in zip(xs[known], low[known], strict=True)]
        back = [f"{self.x(x)} {self.y(y)}" for x, y in zip(xs[known][::-1], high[known][::-1], strict=True)]
        return "M" + "L".join(there + back) + "Z"


def score_box(values: Float[np.ndarray, " m"]) -> Box:
    """Span the axis of scores: 0 to 1, further where a value lies outside."""
    known = np.append(values[np.isfinite(values)], (0.0, 1.0))
    low, high = float(known.min()), float(known.max())
    return Box(min(0.0, math.floor(low * 10) / 10), max(1.0, math.ceil(high * 10) / 10))


def score_ticks(box: Box) -> tuple[Tick, ...]:
    """Choose round marks for an axis of scores: every 0.2, or wider when the axis is long, with 0 among them."""
    low, high = box.low, box.high
    step = 0.2 if high - low <= 2 else 10 ** math.ceil(math.log10((high - low) / 8))
    marks = [float(k * step) for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
    return tuple(Tick(box.y(v) / 10, number(v, 1)) for v in marks)
