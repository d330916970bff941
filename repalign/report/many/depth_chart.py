"""The depth curves for the page: SVG that stretches, and names in a column beside it."""

from dataclasses import dataclass

import numpy as np

from repalign.report.chart import Tick, score_ticks
from repalign.report.colours import DASHES
from repalign.report.many.depth import Curve, DepthCurves, Panel
from repalign.report.many.layout import spread
from repalign.report.many.looks import Look
from repalign.report.wording import number

LABEL = 17.0
"""Pixels a name beside the curves takes."""

LOWEST, ROOM = 300.0, 30.0
"""Pixels of the lowest chart, and room beyond the names."""

STROKE = 1.8
"""Pixels of a line, as in `study.css`; dashes are counted in line widths."""


@dataclass(frozen=True)
class EndLabel:
    """A curve on the page: paths in per mille of the box, and its name, `at` per cent from the top."""

    look: Look
    name: str
    line: str
    ribbon: str
    dashes: str
    end: tuple[float, float]
    at: float
    leader: str


@dataclass(frozen=True)
class DepthChart:
    """One panel of curves, so many pixels high; `context` are the other families' lines."""

    title: str
    height: int
    alt: str
    labels: tuple[EndLabel, ...]
    context: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]


def depth_charts(found: DepthCurves) -> list[DepthChart]:
    """Lay out the panels, all as high as the one with most names needs."""
    most = max((len(panel.curves) for panel in found.panels), default=0)
    height = max(LOWEST, most * LABEL + ROOM)
    return [_chart(found, panel, height) for panel in found.panels]


def _chart(found: DepthCurves, panel: Panel, height: float) -> DepthChart:
    box = found.box
    ends = np.array([box.y(curve.end[1]) / 10 for curve in panel.curves])
    half = 50 * LABEL / height
    places = spread(ends, 100 * LABEL / height, half, 100 - half)
    labels = [_label(found, panel, curve, float(at)) for curve, at in zip(panel.curves, places, strict=True)]
    return DepthChart(
        title=panel.title,
        height=round(height),
        alt=found.spoken if len(found.panels) == 1 else f"{panel.title}: {_names(panel)}",
        labels=tuple(labels),
        context="".join(box.line(c.depths, c.values) for c in panel.others),
        x_ticks=tuple(Tick(100 * z, number(z, 2).rstrip("0").rstrip(".")) for z in (0.0, 0.25, 0.5, 0.75, 1.0)),
        y_ticks=score_ticks(box),
    )


def _label(found: DepthCurves, panel: Panel, curve: Curve, at: float) -> EndLabel:
    box, (x, y) = found.box, curve.end
    low, high = (np.clip(end, box.low, box.high) for end in (curve.low, curve.high))
    return EndLabel(
        look=curve.look,
        name=curve.encoder.described,
        line=box.line(curve.depths, curve.values),
        ribbon=box.area(curve.depths, low, high) if panel.ribbons else "",
        dashes=" ".join(f"{STROKE * part:g}" for part in DASHES[curve.look.dash]) or "none",
        end=(box.x(x) / 10, box.y(y) / 10),
        at=round(at, 2),
        leader=f"M0 {box.y(y)}L10 {10 * at:.1f}",
    )


def _names(panel: Panel) -> str:
    return ", ".join(curve.encoder.described for curve in panel.curves)
