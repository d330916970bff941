"""Square views of a photograph: several scales, spread out, none nearly a copy of another, none nearly blank."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# A window's side as a fraction of the photograph's shorter side → its share of the views: more small ones
# fit side by side, and fewer large ones would hardly show the whole scene.
SCALES = {1.0: 1, 0.7: 4, 0.5: 8, 0.35: 16}
CANDIDATES_PER_SIDE = 8  # candidates lie an eighth of a window apart
MOST_OVERLAP = 0.5  # intersection over union of two windows of one scale
LEAST_CONTRAST = 12.0  # standard deviation of grey, of 255: leaves out plain sky


@dataclass(frozen=True)
class Window:
    """A square cut-out: its scale, the corner at the top left and the side, in pixels."""

    scale: float
    x: int
    y: int
    side: int

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Give left, upper, right and lower, as Pillow crops."""
        return self.x, self.y, self.x + self.side, self.y + self.side

    def overlap(self, other: "Window") -> float:
        """Divide the area two windows share by the area they cover together.

        >>> Window(0.5, 0, 0, 100).overlap(Window(0.5, 50, 0, 100))  # 5000 / 15000
        0.3333333333333333
        """
        wide = min(self.x + self.side, other.x + other.side) - max(self.x, other.x)
        high = min(self.y + self.side, other.y + other.side) - max(self.y, other.y)
        shared = max(wide, 0) * max(high, 0)
        return shared / (self.side**2 + other.side**2 - shared)


def rank_windows(greys: Sequence[NDArray[np.uint8]]) -> list[Window]:
    """List the views of a scene, best first, so that its first m mix the scales by their shares for any m.

    `greys` are one or more pictures of the scene, `(h, w)` each; a window must have contrast in all of them.
    Nothing is drawn at random: the same pictures give the same list.
    """
    ranked: list[tuple[float, Window]] = []
    for scale, share in SCALES.items():
        candidates = [w for w in _candidates(greys[0].shape, scale) if _contrast(greys, w) >= LEAST_CONTRAST]
        ranked += [((rank + 0.5) / share, window) for rank, window in enumerate(_spread(candidates))]
    return [window for _, window in sorted(ranked, key=lambda item: item[0])]


def _candidates(shape: tuple[int, ...], scale: float) -> list[Window]:
    """Lay a regular grid of windows of one scale over a picture `(h, w)`, row by row."""
    height, width = shape
    side = round(scale * min(height, width))

    def starts(total: int) -> list[int]:
        steps = -(-(total - side) * CANDIDATES_PER_SIDE // side)
        return [round(i * (total - side) / max(steps, 1)) for i in range(steps + 1)]

    return [Window(scale, x, y, side) for y in starts(height) for x in starts(width)]


def _contrast(greys: Sequence[NDArray[np.uint8]], window: Window) -> float:
    """Give the smallest standard deviation of grey inside a window over the pictures of a scene."""
    left, upper, right, lower = window.box
    return min(float(grey[upper:lower, left:right].std()) for grey in greys)


def _spread(candidates: Sequence[Window]) -> list[Window]:
    """Order windows so that each next one overlaps least with all before it; drop what overlaps too much."""
    chosen: list[Window] = []
    worst = dict.fromkeys(candidates, 0.0)
    while worst:
        window = min(worst, key=lambda w: worst[w])
        if worst.pop(window) > MOST_OVERLAP:
            break
        chosen.append(window)
        worst = {w: max(so_far, w.overlap(window)) for w, so_far in worst.items()}
    return chosen
