"""One colour for one score, the same in every measure, figure and page.

From 0 to 1 the map is seaborn's mako without its blackest part: perceptually uniform, dark to light, blue to green.
Below 0 a tail of its own goes from the same dark to copper, as fast in lightness, so that −0.01 looks like 0 and
−0.3 like nothing else. Blue against copper stays apart without red or without green cones (a test simulates both).
"""

from functools import lru_cache

import numpy as np
import seaborn as sns
from jaxtyping import Bool, Float, UInt8
from matplotlib.colors import LinearSegmentedColormap, ListedColormap, to_hex

DARKEST = 0.12
"""Where mako is cut off: lightness 12 of 100, still told from a black page."""

TAIL = (
    (0.0, "#291a31"),
    (0.1, "#48232c"),
    (0.2, "#642c27"),
    (0.4, "#954425"),
    (0.6, "#be642c"),
    (0.8, "#e0893f"),
    (1.0, "#fdb160"),
)
"""The tail by the size of the negative score: steps of equal CIELAB lightness, from mako's cut to copper."""

LINES = ("#2a78b8", "#c8580a", "#0b8a68", "#a8558c", "#7a6a00", "#5b5bd6")
"""Lines of curves on white, after Okabe and Ito (2008), darkened to a contrast of 3 and more."""

LINES_ON_DARK = ("#63aee6", "#f0914a", "#3ec79d", "#dc93c2", "#d2bf4a", "#a3a3ff")
"""The same lines on a dark page."""

DASHES = ((), (5, 2), (1.5, 1.5), (7, 2, 1.5, 2), (3, 3), (9, 3))
"""Dashes in line widths, so that lines differ in print without colour."""

VEIL, VEILED = (0.62, 0.65, 0.68), 0.72
"""The grey that lies over a cell whose interval includes chance, and how much of the cell it hides."""

STRIKE, CLEAR = "#d3d8dd", 0.2
"""The line through such a cell, for without green cones the grey alone looks like a score of 0.55, and the part of
the cell to either side of its centre that the line leaves to a number."""

STEPS = 256


@lru_cache(maxsize=1)
def score_map() -> ListedColormap:
    """Build the map over −1..1 with 0 in its middle."""
    mako = sns.color_palette("mako", as_cmap=True)
    above = mako(np.linspace(DARKEST, 1.0, STEPS))
    below = LinearSegmentedColormap.from_list("tail", list(TAIL))(np.linspace(1.0, 0.0, STEPS))
    return ListedColormap(np.concatenate([below, above]), name="score")


def score_rgba(
    scores: Float[np.ndarray, "la lb"], muted: Bool[np.ndarray, "la lb"] | None = None
) -> Float[np.ndarray, "la lb 4"]:
    """Colour scores: values beyond −1..1 take the end's colour, muted cells go grey, NaN is transparent."""
    rgba = score_map()((np.clip(scores, -1.0, 1.0) + 1.0) / 2.0)
    if muted is not None:
        rgba[muted, :3] = (1 - VEILED) * rgba[muted, :3] + VEILED * np.array(VEIL)
    rgba[np.isnan(scores)] = 0.0
    return rgba


def is_light(rgba: Float[np.ndarray, "*shape 4"]) -> Bool[np.ndarray, "*shape"]:
    """Tell which colours need dark text: relative luminance above 0.2, where both inks read equally well."""
    linear = np.where(rgba[..., :3] > 0.04045, ((rgba[..., :3] + 0.055) / 1.055) ** 2.4, rgba[..., :3] / 12.92)
    return linear @ np.array([0.2126, 0.7152, 0.0722]) > 0.2


def gradient(low: float, steps: int = 32) -> str:
    """Write the map from `low` to 1 as stops of a CSS linear gradient."""
    values = np.linspace(low, 1.0, steps)
    colours = score_rgba(values[None, :])[0]
    return ", ".join(f"{to_hex(c)} {100 * k / (steps - 1):.1f}%" for k, c in enumerate(colours))


def tail_end(lowest: float) -> float:
    """Choose where a colour bar starts: 0 without negative scores, else the tenth below the lowest, −1 at most."""
    if not lowest < 0:
        return 0.0
    return max(-1.0, min(-0.1, float(np.floor(lowest * 10) / 10)))


def hatched(shape: tuple[int, int], width: int) -> UInt8[np.ndarray, "h w 4"]:
    """Paint diagonal grey stripes, half transparent so that they show on white and on black: an undefined score."""
    y, x = np.indices(shape)
    stripe = ((x + y) // width) % 2 == 0
    painted = np.empty((*shape, 4), dtype=np.uint8)
    painted[...] = (128, 136, 144, 50)
    painted[stripe] = (128, 136, 144, 190)
    return painted
