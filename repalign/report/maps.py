"""Heatmaps for the page: a picture of the cells, with names, marks and numbers to lay over it."""

import base64
import io
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.colors import to_rgba
from PIL import Image

from repalign.report.certainty import brief
from repalign.report.chart import Tick
from repalign.report.colours import CLEAR, STRIKE, hatched, is_light, score_rgba
from repalign.report.saved import Metric, Study
from repalign.report.scores import at_chance, best_matches, top_pairs
from repalign.report.sentences import sides
from repalign.report.wording import number, shorten, ticks

PICTURE, CELL = 1200, (3, 160)
"""Pixels of a picture's longer side, about, and of a cell, which is more than any screen shows: no viewer blurs it."""

GAP_FROM = 16
"""Cells of so many pixels and more are kept apart by a gap."""

ANNOTATED = 12
"""Up to so many layers each cell carries its number."""

FRAMED = 36
"""Up to so many layers the best match is framed, above it is dotted."""


@dataclass(frozen=True)
class Names:
    """The names on one axis and the letters of the longest."""

    names: tuple[Tick, ...]
    longest: int


@dataclass(frozen=True)
class Cell:
    """A place in a map in per cent, with text and the ink that reads on it, for numbers and marks."""

    left: float
    top: float
    text: str = ""
    ink: str = ""


@dataclass(frozen=True)
class Map:
    """One heatmap: `wide` and `narrow` are names for two widths of page, rows first.

    `rests_on` says in a few words where intervals and p-values come from; `path` is a line along the cells' borders
    and `stops` dots on it, in per mille of the map.
    """

    metric: Metric
    index: int
    rows: int
    columns: int
    picture: str
    alt: str
    aspect: float
    framed: bool
    wide: tuple[Names, Names]
    narrow: tuple[Names, Names]
    best: tuple[Cell, ...]
    best_columns: str
    numbers: tuple[Cell, ...]
    has_muted: bool
    has_undefined: bool
    rests_on: str
    path: str = ""
    stops: str = ""


def make_map(study: Study, index: int) -> Map:
    """Prepare the heatmap of the study's metric number `index`."""
    metric = study.metrics[index]
    scores = study.matrix(metric)
    best = best_matches(study, metric) if scores.shape[1] > 1 else np.full(len(scores), -1)
    return lay_map(
        metric,
        index,
        scores,
        at_chance(study, metric),
        (study.a.layers, study.b.layers),
        best=best.tolist(),
        marked=[(i, j) for i, j in enumerate(best.tolist()) if j >= 0],
        alt=_alt(study, metric, scores),
        rests_on=brief(study, metric),
    )


def lay_map(
    metric: Metric, index: int, scores: Float[np.ndarray, "la lb"], muted: Bool[np.ndarray, "la lb"],
    layers: tuple[tuple[str, ...], tuple[str, ...]], *, best: list[int], marked: list[tuple[int, int]], alt: str,
    rests_on: str = "", way: tuple[str, str] = ("", ""),
) -> Map:  # fmt: skip
    """Lay out a heatmap: `best` is the column most alike of each row, −1 for none, `marked` the cells in a frame."""
    rows, columns = scores.shape
    small = max(rows, columns) <= ANNOTATED
    return Map(
        metric=metric,
        index=index,
        rows=rows,
        columns=columns,
        picture=png_uri(paint(scores, muted)),
        alt=alt,
        aspect=float(np.clip(columns / rows, 0.7, 1.6)),
        framed=max(rows, columns) <= FRAMED,
        wide=(_names(layers[0], 24, 22, up=True), _names(layers[1], 20, 22)),
        narrow=(_names(layers[0], 13, 13, up=True), _names(layers[1], 14, 13)),
        best=tuple(_cell(i, j, rows, columns) for i, j in marked),
        best_columns=" ".join(map(str, best)),
        numbers=_numbers(scores, muted) if small else (),
        has_muted=bool(muted.any()),
        has_undefined=bool(np.isnan(scores).any()),
        rests_on=rests_on,
        path=way[0],
        stops=way[1],
    )


def paint(scores: Float[np.ndarray, "la lb"], muted: Bool[np.ndarray, "la lb"]) -> Image.Image:
    """Paint cells of whole pixels: muted ones struck through, undefined ones hatched; gaps let the page through."""
    la, lb = scores.shape
    size = int(np.clip(PICTURE // max(la, lb), *CELL))
    painted = _enlarge(np.round(255 * score_rgba(scores, muted)).astype(np.uint8), size)
    y, x = np.indices(painted.shape[:2]) % size
    struck = (abs(x - y) <= size // 36) & (abs(x - size / 2) > CLEAR * size)
    painted[_enlarge(muted, size) & struck] = np.round(255 * np.array(to_rgba(STRIKE)))
    undefined = _enlarge(np.isnan(scores), size)
    painted[undefined] = hatched(undefined.shape, max(6, size // 5))[undefined]
    if size >= GAP_FROM:
        gap = max(1, size // 40)
        inside = (np.arange(size) >= gap) & (np.arange(size) < size - gap)
        painted[~(np.tile(inside, la)[:, None] & np.tile(inside, lb)[None, :]), 3] = 0
    return Image.fromarray(painted)


def _enlarge(cells: np.ndarray, size: int) -> np.ndarray:
    """Make every cell a square of pixels, deep layers up."""
    return cells[::-1].repeat(size, axis=0).repeat(size, axis=1)


def png_uri(picture: Image.Image) -> str:
    """Write a picture as a data URI."""
    data = io.BytesIO()
    picture.save(data, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode("ascii")


def _names(layers: tuple[str, ...], most: int, letters: int, up: bool = False) -> Names:
    """Choose at most `most` layers and shorten their names; `up` counts from the bottom."""
    n = len(layers)
    kept = ticks(n, most)
    places = [100 * (n - k - 0.5 if up else k + 0.5) / n for k in kept]
    texts = [shorten(layers[k], letters) for k in kept]
    return Names(tuple(Tick(round(z, 3), t) for z, t in zip(places, texts, strict=True)), max(map(len, texts)))


def _cell(i: int, j: int, rows: int, columns: int, text: str = "", ink: str = "") -> Cell:
    return Cell(round(100 * j / columns, 3), round(100 * (rows - 1 - i) / rows, 3), text, ink)


def _numbers(scores: Float[np.ndarray, "la lb"], muted: Bool[np.ndarray, "la lb"]) -> tuple[Cell, ...]:
    light = is_light(score_rgba(scores, muted))
    rows, columns = scores.shape
    cells = []
    for (i, j), value in np.ndenumerate(scores):
        if not np.isnan(value):
            ink = "dark" if light[i, j] else "light"
            cells.append(_cell(i, j, rows, columns, number(value), ink))
    return tuple(cells)


def _alt(study: Study, metric: Metric, scores: Float[np.ndarray, "la lb"]) -> str:
    a, b = sides(study)
    la, lb = scores.shape
    start = f"Heatmap of {metric.label}: {la} layers of {a} upwards by {lb} layers of {b} to the right"
    best = top_pairs(study, metric, 1)
    if not best:
        return f"{start}; every score is undefined."
    low, high = number(float(np.nanmin(scores))), number(float(np.nanmax(scores)))
    return f"{start}; scores from {low} to {high}, most alike at {best[0].layer_a} and {best[0].layer_b}."
