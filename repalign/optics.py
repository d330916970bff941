"""What an encoder's input can still carry of the optics that a stimulus filter models."""

import numpy as np
from PIL import Image

from repalign.filters import Filter, nyquist_transfer
from repalign.types import Encoder, Stimuli

RAMP = 512  # pixels of the picture with which an encoder's preprocessing is measured


def optics_left(filter_: Filter, encoder: Encoder, extent: float) -> list[dict[str, float]]:
    """Compute how much of the optics' transfer is left at the finest grating that an encoder's input can carry.

    One entry for each filter with a scene's width and optics. `extent` is the share of the scene's width that a picture
    shows, `seen` the share of a picture's width that the encoder's preprocessing keeps.
    """
    pixels, seen, found = encoder.input_size[1], width_seen(encoder), []
    for step in filter_.steps:
        fov, mtf50 = step.options.get("fov_deg"), step.options.get("mtf50")
        if isinstance(fov, int | float) and isinstance(mtf50, int | float):
            left = nyquist_transfer(fov * extent * seen, pixels, mtf50)
            found.append(
                {"fov_deg": float(fov), "pixels": pixels, "seen": seen, "extent": extent, "at_nyquist": round(left, 4)}
            )
    return found


def width_seen(encoder: Encoder) -> float:
    """Measure the share of a square picture's width that an encoder's preprocessing keeps, to two digits.

    A ramp from black to white passes the preprocessing; its slope, in units of what black and white become, is the
    share that a pixel of the input spans.
    """
    levels = np.linspace(0, 255, RAMP).round().astype(np.uint8)
    ramp = np.broadcast_to(levels[None, :, None], (RAMP, RAMP, 3)).copy()
    white, black, shown = (
        encoder.preprocess(Image.fromarray(np.ascontiguousarray(x), "RGB")).double().mean((0, 1))
        for x in (np.full_like(ramp, 255), np.zeros_like(ramp), ramp)
    )
    width, edge = len(shown), len(shown) // 8
    rise = float((shown[width - 1 - edge] - shown[edge]) / (white - black).mean())
    return round(min(1.0, max(0.01, rise * width / (width - 1 - 2 * edge))), 2)


def median_extent(stimuli: Stimuli | None) -> float:
    """Give the share of the scene's width that the median picture shows."""
    return float(np.median(stimuli.extent)) if stimuli and stimuli.extent else 1.0
