"""What the figures of many encoders on paper share: marks, frames, titles, and what must be said below."""

import textwrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.path import Path

from repalign.report.colours import DASHES
from repalign.report.heatmap import INK, QUIET, WARN
from repalign.report.many.looks import SHAPES, Look, family_looks
from repalign.report.many.saved import Condition, ManyStudy
from repalign.report.many.sentences import brief_caveats, quoted
from repalign.report.wording import counted

FAINT = "#e3e5e8"

LETTERS_AN_INCH = 14.5
"""Letters of small print that fit in an inch."""


def mark(look: Look, size: float = 6.5, filled: bool = True) -> dict[str, Any]:
    """Give what draws a family's shape in its colour, in matplotlib's words."""
    corners = SHAPES[look.shape]
    # matplotlib scales a marker to its largest coordinate, which would make shapes of one area differ
    return {
        "marker": Path(np.concatenate([corners, corners[:1]]), closed=True),
        "markersize": size * float(np.abs(corners).max()), "color": "none", "linestyle": "none",
        "markerfacecolor": look.hue if filled else "white", "markeredgecolor": "white" if filled else look.hue,
        "markeredgewidth": 0.6 if filled else 1.2,
    }  # fmt: skip


def dashes(look: Look) -> dict[str, Any]:
    """Give an encoder's dashes in matplotlib's words."""
    return {"dashes": DASHES[look.dash]} if DASHES[look.dash] else {}


def frame(axes: Axes, grid: str = "y") -> None:
    """Leave two thin spines and a faint grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[:].set_color(QUIET)
    axes.grid(axis=grid, color=FAINT, linewidth=0.6, zorder=0)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
    axes.tick_params(length=2.5, color=QUIET, labelcolor=INK)


def under(study: ManyStudy, condition: Condition) -> str:
    """Say beside a title what was seen, and under which condition."""
    return f"{study.seen}, originals against {quoted(condition)}"


def head(figure: Figure, title: str, said: str, families: ManyStudy | None = None) -> None:
    """Write title and subtitle above a figure, and the families' shapes in a row below them."""
    width, height = figure.get_size_inches()
    lines = textwrap.wrap(said, int(width * LETTERS_AN_INCH * 0.9))
    top = height + 0.16 * len(lines) + (0.34 if families else 0.08)
    look: dict[str, Any] = {"va": "bottom", "ha": "left"}
    figure.text(0, (top + 0.06) / height, title, fontsize=12, fontweight="bold", color=INK, **look)
    figure.text(0, (top - 0.16 * len(lines)) / height, "\n".join(lines), fontsize=8.5, color=QUIET, **look)
    if families:
        keys = [Line2D([], [], label=f"{one.code} {name}", **mark(one)) for name, one in family_looks(families)]
        figure.legend(
            handles=keys, loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=len(keys) if len(keys) < 7 else 6,
            frameon=False, fontsize=8.5, labelcolor=INK, handletextpad=0.1, columnspacing=1.4, borderaxespad=0,
        )  # fmt: skip


def say_below(figure: Figure, study: ManyStudy, below: float = 0.1) -> None:
    """Write what must be said of every number of a study, `below` inches under the figure's box."""
    warn_below(figure, brief_caveats(study), below)


def warn_below(figure: Figure, texts: list[str], below: float) -> None:
    """Write warnings `below` inches under the figure's box."""
    width, height = figure.get_size_inches()
    said = [line for text in texts for line in textwrap.wrap(f"⚠ {text}", int(width * LETTERS_AN_INCH))]
    if said:
        figure.text(0, -below / height, "\n".join(said), va="top", ha="left", fontsize=7.5, color=WARN)


def left_out(names: list[str]) -> str:
    """Say that encoders without a score are not drawn; nothing without any."""
    return f"; {counted(len(names), 'encoder')} without a defined score not drawn ({', '.join(names)})" if names else ""
