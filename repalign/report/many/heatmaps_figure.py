"""The heatmaps of all encoders on one sheet of paper."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from repalign.report.colours import score_rgba, tail_end
from repalign.report.heatmap import INK, QUIET, draw_bar
from repalign.report.many.heatmaps import mapped
from repalign.report.many.looks import Look, looks_of
from repalign.report.many.paper import head, mark, say_below, under
from repalign.report.many.saved import Condition, ManyStudy, SavedEncoder
from repalign.report.saved import Metric
from repalign.report.wording import clip

MAP, ACROSS, DOWN = 1.35, 0.28, 0.5
"""Inches of a map, and between maps."""

AXES = "layers on the originals go upwards, under the condition to the right, from shallow to deep"

COLUMNS = 6
"""At most so many maps in a row."""


def heatmaps_figure(study: ManyStudy, condition: Condition, metric: Metric) -> Figure:
    """Draw a small heatmap for every encoder, best first, on the one scale of all heatmaps."""
    encoders, looks = mapped(study, condition, metric), looks_of(study)
    columns = min(COLUMNS, max(3, len(encoders)))
    rows = max(1, -(-len(encoders) // columns))
    width, height = columns * (MAP + ACROSS) + 0.6, rows * (MAP + DOWN)
    figure = Figure(figsize=(width, height))
    for k, encoder in enumerate(encoders):
        left, top = k % columns * (MAP + ACROSS), height - (k // columns) * (MAP + DOWN)
        axes = figure.add_axes((left / width, (top - MAP - 0.22) / height, MAP / width, MAP / height))
        _draw(axes, study.scores[condition.id, encoder.id, metric.id][0], encoder, looks[encoder.id])
    lowest = min((float(np.nanmin(m)) for m in _known(study, condition, metric)), default=0.0)
    bar = figure.add_axes(((width - 0.5) / width, (height - MAP - 0.22) / height, 0.12 / width, MAP / height))
    draw_bar(bar, metric, tail_end(lowest))
    said = f"{under(study, condition)}; in each map {AXES}"
    head(figure, f"{metric.label}, layer by layer", said)
    say_below(figure, study)
    return figure


def _known(study: ManyStudy, condition: Condition, metric: Metric) -> list[np.ndarray]:
    every = (study.scores[condition.id, one.id, metric.id][0] for one in mapped(study, condition, metric))
    return [scores for scores in every if np.isfinite(scores).any()]


def _draw(axes: Axes, scores: np.ndarray, encoder: SavedEncoder, look: Look) -> None:
    count = len(scores)
    if np.isnan(scores).any():
        axes.add_patch(
            Rectangle((-0.5, -0.5), count, count, facecolor="#eceef0", edgecolor="#8a929a", hatch="////", linewidth=0)
        )
    axes.imshow(score_rgba(scores), origin="lower", aspect="auto", interpolation="nearest", zorder=1)
    axes.set(xticks=[], yticks=[], xlim=(-0.5, count - 0.5), ylim=(-0.5, count - 0.5))
    axes.spines[:].set_color(QUIET)
    axes.plot([0.04], [1.09], transform=axes.transAxes, clip_on=False, **mark(look, 5.5))
    axes.text(
        0.11,
        1.09,
        f"{look.code}  {clip(encoder.described, 20)}",
        transform=axes.transAxes,
        va="center",
        fontsize=7,
        color=INK,
    )
