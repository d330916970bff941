"""Scores over the depth of many encoders: which curves share a panel, and where each is named."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from repalign.report.chart import Box, score_box
from repalign.report.many.looks import Look, looks_of, members
from repalign.report.many.saved import Condition, ManyStudy, SavedEncoder
from repalign.report.saved import Metric
from repalign.report.wording import number

TOGETHER = 12
"""Up to so many encoders share one panel; more are drawn a panel a family, the others grey behind them."""

RIBBONS = 4
"""Up to so many encoders in a panel have their intervals drawn."""

ROOM = 0.2
"""How far an interval may widen the axis of scores; a longer ribbon is cut off there."""


@dataclass(frozen=True)
class Curve:
    """An encoder's scores over relative depth with both ends of their intervals, and where its line ends."""

    encoder: SavedEncoder
    look: Look
    depths: Float[np.ndarray, " l"]
    values: Float[np.ndarray, " l"]
    low: Float[np.ndarray, " l"]
    high: Float[np.ndarray, " l"]

    @property
    def end(self) -> tuple[float, float]:
        """Give depth and score of the deepest layer that has one."""
        last = int(np.flatnonzero(np.isfinite(self.values))[-1])
        return float(self.depths[last]), float(self.values[last])


@dataclass(frozen=True)
class Panel:
    """Curves on one pair of axes; `others` are grey behind them, `title` is empty when all share one panel."""

    title: str
    curves: tuple[Curve, ...]
    others: tuple[Curve, ...]
    ribbons: bool


@dataclass(frozen=True)
class DepthCurves:
    """The curves of all encoders under one condition by one measure; `undefined` have no score at any layer."""

    condition: Condition
    metric: Metric
    panels: tuple[Panel, ...]
    box: Box
    undefined: tuple[SavedEncoder, ...]

    @property
    def spoken(self) -> str:
        """Say in words what the curves show."""
        shown = [
            f"{c.encoder.described} from {number(float(np.nanmin(c.values)))} to {number(float(np.nanmax(c.values)))}"
            for panel in self.panels
            for c in panel.curves
        ]
        return f"{self.metric.label} of each layer with itself over relative depth: " + "; ".join(shown)


def depth_curves(study: ManyStudy, condition: Condition, metric: Metric) -> DepthCurves:
    """Collect the curves of all encoders that have scores under a condition, in panels."""
    looks = looks_of(study)
    every = [
        Curve(one, looks[one.id], one.depths, *study.curve(condition, one, metric))
        for one in study.encoders
        if (condition.id, one.id, metric.id) in study.scores
    ]
    known = [curve for curve in every if np.isfinite(curve.values).any()]
    undefined = tuple(curve.encoder for curve in every if not np.isfinite(curve.values).any())
    return DepthCurves(condition, metric, tuple(_panels(study, known)), _box(known), undefined)


def _panels(study: ManyStudy, known: list[Curve]) -> list[Panel]:
    if len(known) <= TOGETHER:
        return [Panel("", tuple(known), (), len(known) <= RIBBONS)] if known else []
    panels = []
    for family in study.families:
        own = {one.id for one in members(study, family)}
        inside = tuple(c for c in known if c.encoder.id in own)
        if inside:
            others = tuple(c for c in known if c.encoder.id not in own)
            panels.append(Panel(family, inside, others, len(inside) <= RIBBONS))
    return panels


def _box(known: list[Curve]) -> Box:
    """Span the axis that all panels share; an interval may widen it by `ROOM` at most."""
    if not known:
        return score_box(np.array([]))
    box = score_box(np.concatenate([c.values for c in known]))
    ends = np.concatenate([end for c in known for end in (c.low, c.high)])
    values = [*(c.values for c in known), np.clip(ends, box.low - ROOM, box.high + ROOM)]
    return score_box(np.concatenate(values)) if len(known) <= RIBBONS else box
