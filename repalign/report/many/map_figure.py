"""The map of encoders on paper: the plane beside the tree."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from repalign.report.heatmap import INK, QUIET
from repalign.report.many.encoder_map import EncoderMap, Tree
from repalign.report.many.layout import SIDES, beside
from repalign.report.many.looks import Look, looks_of
from repalign.report.many.map_chart import MARK, NAMED, made_of, placed
from repalign.report.many.paper import frame, head, mark, say_below
from repalign.report.many.saved import ManyStudy
from repalign.report.wording import clip, per_cent

WIDE, TREE, NAMES, ROW = 5.6, 2.6, 1.9, 0.22
"""Inches of the plane, of the tree, of the names beside it, and of a leaf."""

PIXELS = 96.0
"""Pixels in an inch, for which labels are placed."""

ACROSS = {1: "left", 0: "center", -1: "right"}
ALONG = {1: "top", 0: "center", -1: "bottom"}
"""How a label is aligned that stands so many steps to the right of its mark, and down."""


def map_figure(study: ManyStudy, found: EncoderMap) -> Figure | None:
    """Draw plane and tree with what they are made of; None for fewer than three encoders."""
    if found.scaled is None or found.tree is None:
        return None
    aspect, places = placed(found.scaled.points)
    plane_high = WIDE / aspect
    tree_high = max(plane_high, ROW * len(found.encoders))
    width, height = WIDE + 0.5 + TREE + NAMES, tree_high + 0.5
    figure = Figure(figsize=(width, height))
    looks = [looks_of(study)[one.id] for one in found.encoders]
    names = [one.described for one in found.encoders]
    axes = figure.add_axes((0.0, (height - plane_high) / height, WIDE / width, plane_high / height))
    _draw_plane(axes, places, aspect, looks, names)
    axes = figure.add_axes(((WIDE + 0.5) / width, (height - tree_high) / height, TREE / width, tree_high / height))
    _draw_tree(axes, found.tree, looks, names)
    share = per_cent(found.scaled.share)
    kept = f"; the plane keeps {share} of the squared distances" if share else ""
    left_out = "".join(f"; {one.described} left out, undefined" for one in found.left_out)
    how = "Classical scaling (Torgerson 1952) and average linkage"
    head(figure, "Which encoders are alike", f"{made_of(study, found)}. {how}{kept}{left_out}.", study)
    say_below(figure, study)
    return figure


def _draw_plane(axes: Axes, places: np.ndarray, aspect: float, looks: list[Look], names: list[str]) -> None:
    named = len(names) <= NAMED
    texts = [f"{look.code} {clip(n, 20)}" if named else look.code for look, n in zip(looks, names, strict=True)]
    size = (WIDE * PIXELS, WIDE * PIXELS / aspect)
    sides = beside(places * np.array(size), [len(text) for text in texts], size, MARK)
    for (x, y), look, text, side in zip(places, looks, texts, sides, strict=True):
        axes.plot([x], [1 - y], zorder=3, **mark(look, 8.0))
        right, down = SIDES[side]
        near = 5 if right and down else 8
        look_of: dict[str, Any] = {"ha": ACROSS[right], "va": ALONG[down], "fontsize": 7.5, "color": INK, "zorder": 4}
        axes.annotate(text, (x, 1 - y), (right * near, -down * near), "data", "offset points", **look_of)
    axes.set(xlim=(0, 1), ylim=(0, 1), xticks=[], yticks=[])
    axes.spines[:].set_color("#d5d9dd")


def _draw_tree(axes: Axes, tree: Tree, looks: list[Look], names: list[str]) -> None:
    count, longest = len(tree.leaves), float(tree.distances.max()) or 1.0
    for distances, places in zip(tree.distances, tree.places, strict=True):
        axes.plot(distances, count - 1 - places, color=QUIET, linewidth=1.1, solid_joinstyle="miter")
    for row, k in enumerate(tree.leaves):
        y = count - 1 - row
        axes.plot([0], [y], clip_on=False, zorder=3, **mark(looks[k], 6.0))
        text = f"{looks[k].code} {clip(names[k], 24)}"
        axes.annotate(text, (0, y), (8, 0), "data", "offset points", va="center", fontsize=7.5, color=INK)
    frame(axes, "x")
    axes.spines["left"].set_visible(False)
    axes.set(xlim=(longest * 1.03, 0), ylim=(-0.6, count - 0.4), yticks=[])
    axes.set_xlabel("mean dissimilarity where two groups join", color=QUIET, fontsize=8)
