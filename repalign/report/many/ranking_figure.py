"""The ranking on paper: each encoder's mean with its interval, a panel a measure."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from repalign.report.heatmap import INK, QUIET
from repalign.report.many.looks import looks_of
from repalign.report.many.paper import frame, head, mark, say_below, under
from repalign.report.many.ranking import forest_box
from repalign.report.many.saved import Condition, ManyStudy
from repalign.report.saved import Metric
from repalign.report.wording import clip, number

NAMES, PLOT, ROW, GAP = 1.9, 2.3, 0.23, 0.3
"""Inches of the names, of a panel's width, of a row, and between panels."""

HELD = 0.28
"""Rows by which the honest peak lies below the mean."""


EDGE = 0.012
"""Score beyond the axis, room for half a mark."""


def ranking_figure(study: ManyStudy, condition: Condition) -> Figure:
    """Draw means as filled marks with intervals, honest peaks as rings, best encoder on top by the first measure."""
    count = len(study.seen_under(condition))
    width, height = NAMES + len(study.metrics) * (PLOT + GAP), ROW * count + 0.6
    figure = Figure(figsize=(width, height))
    for k, metric in enumerate(study.metrics):
        left = NAMES + k * (PLOT + GAP)
        axes = figure.add_axes((left / width, 0.45 / height, PLOT / width, ROW * count / height))
        _draw(axes, study, condition, metric)
        labels = [_name(study, one.id) for one in reversed(study.seen_under(condition))] if k == 0 else [""] * count
        axes.set_yticks(range(count), labels, fontsize=8)
    level = f"{100 * study.level:g} % intervals"
    said = f"{under(study, condition)}; filled: mean over layers, open: honest peak, {level}"
    head(figure, "How much of its geometry each encoder keeps", said, study)
    say_below(figure, study)
    return figure


def _name(study: ManyStudy, slug: str) -> str:
    return f"{clip(study.encoder(slug).described, 24)}  {looks_of(study)[slug].code}"


def _draw(axes: Axes, study: ManyStudy, condition: Condition, metric: Metric) -> None:
    encoders, looks = study.seen_under(condition), looks_of(study)
    box = forest_box(study, condition, metric, held=True)
    for k, one in enumerate(encoders):
        y, look, row = len(encoders) - 1 - k, looks[one.id], study.ranked(condition, metric, one)
        if row is None or math.isnan(row.mean.value):
            axes.plot([box.low], [y], ">", markersize=4, markerfacecolor="white", markeredgecolor=QUIET, clip_on=False)
            continue
        for what, at, line in ((row.held, y - HELD, 0.8), (row.mean, y, 1.6)):
            axes.plot(
                np.clip([what.low, what.high], box.low, box.high), [at, at], color=look.hue, linewidth=line, zorder=2
            )
        axes.plot([row.held.value], [y - HELD], zorder=3, **mark(look, 3.6, filled=False))
        axes.plot([row.mean.value], [y], zorder=4, **mark(look, 7.0))
    frame(axes, "both")
    if box.low < 0:
        axes.axvline(0.0, color=QUIET, linewidth=0.6, zorder=1)
    axes.set(xlim=(box.low - EDGE, box.high + EDGE), ylim=(-0.8, len(encoders) - 0.4))
    axes.tick_params(axis="y", length=0)
    direction = "" if metric.higher_is_similar else "\n(lower is more alike)"
    axes.set_xlabel(f"{metric.label}{direction}", color=INK, fontsize=8.5)
    axes.set_xticks([v for v in axes.get_xticks() if box.low - 1e-9 <= v <= box.high + 1e-9])
    axes.set_xticklabels([number(v, 1) for v in axes.get_xticks()], fontsize=8)
