"""A small heatmap for every encoder: all layers of the originals by all layers under a condition."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from PIL import Image

from repalign.report.colours import hatched, score_rgba
from repalign.report.many.looks import Look, looks_of
from repalign.report.many.saved import Condition, ManyStudy, SavedEncoder
from repalign.report.maps import png_uri
from repalign.report.saved import Metric
from repalign.report.wording import number

PICTURE, CELL = 420, (2, 60)
"""Pixels of a picture's side, about, and of a cell."""

GAP_FROM = 40
"""Cells of so many pixels and more are kept apart by a gap."""


@dataclass(frozen=True)
class SmallMap:
    """One encoder's heatmap on the page."""

    encoder: SavedEncoder
    look: Look
    picture: str
    alt: str
    layers: str


def mapped(study: ManyStudy, condition: Condition, metric: Metric) -> list[SavedEncoder]:
    """List the encoders that have a heatmap, best first by the first measure."""
    return [one for one in study.seen_under(condition) if (condition.id, one.id, metric.id) in study.scores]


def small_maps(study: ManyStudy, condition: Condition, metric: Metric) -> list[SmallMap]:
    """Paint the heatmaps of one measure under one condition."""
    looks = looks_of(study)
    return [
        _small(study.scores[condition.id, one.id, metric.id][0], one, looks[one.id], metric)
        for one in mapped(study, condition, metric)
    ]


def _small(scores: Float[np.ndarray, "l l"], encoder: SavedEncoder, look: Look, metric: Metric) -> SmallMap:
    known = scores[np.isfinite(scores)]
    span = f"from {number(float(known.min()))} to {number(float(known.max()))}" if known.size else "all undefined"
    return SmallMap(
        encoder=encoder,
        look=look,
        picture=png_uri(paint_small(scores)),
        alt=f"{metric.label} of all layers of {encoder.described}, originals upwards, condition to the right: {span}",
        layers=f"{encoder.layers[0].name} to {encoder.layers[-1].name}",
    )


def paint_small(scores: Float[np.ndarray, "l l"]) -> Image.Image:
    """Paint cells of whole pixels, deep layers up; undefined ones are hatched, gaps let the page through."""
    size = int(np.clip(PICTURE // len(scores), *CELL))
    cells = np.round(255 * score_rgba(scores)).astype(np.uint8)[::-1]
    painted = cells.repeat(size, axis=0).repeat(size, axis=1)
    undefined = np.isnan(scores)[::-1].repeat(size, axis=0).repeat(size, axis=1)
    painted[undefined] = hatched(undefined.shape, max(4, size // 5))[undefined]
    if size >= GAP_FROM:
        edge = np.arange(len(painted)) % size == 0
        painted[edge, :, 3] = 0
        painted[:, edge, 3] = 0
    return Image.fromarray(painted)
