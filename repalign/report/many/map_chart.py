"""The map of encoders for the page: points in the plane, the tree, and the table behind both."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from repalign.report.chart import FULL, Tick
from repalign.report.many.encoder_map import EncoderMap, encoder_map
from repalign.report.many.layout import beside
from repalign.report.many.looks import Look, looks_of
from repalign.report.many.saved import ManyStudy
from repalign.report.wording import counted, listed, number, per_cent, significant

NOMINAL = 560.0
"""Pixels of the plane's width for which labels are placed."""

MARGIN = 0.09
"""Part of the plane's width left free around the outermost points."""

NAMED = 16
"""Up to so many points are named, more carry their codes alone."""

MARK = 7.0
"""Radius of a mark in pixels."""

TREE_ROW, CLOSE_ROW = 26, 19
"""Pixels of a leaf of the tree, and of one where there are more than can be named in the plane."""


@dataclass(frozen=True)
class Point:
    """An encoder in the plane, in per cent from left and top; its label stands on one `side`."""

    look: Look
    name: str
    left: float
    top: float
    side: str


@dataclass(frozen=True)
class Plane:
    """The plane: its width over its height, the points, and what it keeps."""

    aspect: float
    points: tuple[Point, ...]
    named: bool
    share: str
    alt: str


@dataclass(frozen=True)
class TreeChart:
    """The tree as one SVG path, root left, with the leaves' names from top to bottom and the axis of dissimilarity."""

    path: str
    height: int
    leaves: tuple[tuple[Look, str], ...]
    ticks: tuple[Tick, ...]
    alt: str


@dataclass(frozen=True)
class MapPart:
    """What the page shows of one measure: plane and tree where there are three encoders or more, and the numbers."""

    made_of: str
    plane: Plane | None
    tree: TreeChart | None
    heads: tuple[tuple[Look, str], ...]
    rows: tuple[tuple[Look, str, tuple[str, ...]], ...]
    left_out: str


def map_part(study: ManyStudy) -> MapPart | None:
    """Lay out the map by the first measure that the study has similarities of, None when there are none."""
    found = first_map(study)
    if found is None or len(found.encoders) < 2:
        return None
    looks = looks_of(study)
    heads = tuple((looks[one.id], one.described) for one in found.encoders)
    rows = tuple(
        (*head, tuple(number(float(v)) for v in row)) for head, row in zip(heads, found.similarity, strict=True)
    )
    names = [one.described for one in found.left_out]
    left_out = f"{listed(names)} left out: similarity to some other encoder is undefined" if names else ""
    return MapPart(made_of(study, found), _plane(found, heads), _tree(found, heads), heads, rows, left_out)


def first_map(study: ManyStudy) -> EncoderMap | None:
    """Map the encoders by the first measure that the study has similarities of."""
    return next((found for m in study.metrics if (found := encoder_map(study, m)) is not None), None)


def made_of(study: ManyStudy, found: EncoderMap) -> str:
    """Say what lies near what: of which scores, on which pictures."""
    turned = "1\u00a0−\u00a0similarity" if found.metric.higher_is_similar else "the measure itself, a dissimilarity"
    count = study.meta.get("mapped")
    some = f"{int(count):,} of the {study.originals.count:,} originals" if count else "the originals"
    return (
        f"Similarity of two encoders: {found.metric.label}, the mean over layers matched by depth, on {some}. "
        f"Near means alike: distances are {turned}"
    )


def _plane(found: EncoderMap, heads: tuple[tuple[Look, str], ...]) -> Plane | None:
    if found.scaled is None:
        return None
    aspect, places = placed(found.scaled.points)
    size = (NOMINAL, NOMINAL / aspect)
    named = len(heads) <= NAMED
    letters = [len(name) + 4 if named else len(look.code) for look, name in heads]
    sides = beside(places * np.array(size), letters, size, MARK)
    points = tuple(
        Point(look, name, round(100 * float(x), 2), round(100 * float(y), 2), side)
        for (look, name), (x, y), side in zip(heads, places, sides, strict=True)
    )
    share = per_cent(found.scaled.share)
    kept = f"the plane keeps {share} of the squared distances" if share else "all encoders lie at one point"
    return Plane(aspect, points, named, kept, f"Map of {counted(len(points), 'encoder')}; {kept}")


def placed(points: Float[np.ndarray, "e 2"]) -> tuple[float, Float[np.ndarray, "e 2"]]:
    """Fit points into a box, one scale for both axes: its width over its height, and places in 0..1, y downwards."""
    low, high = points.min(axis=0), points.max(axis=0)
    width, height = np.maximum(high - low, 1e-12 + 0.3 * (high - low).max())
    free = MARGIN * 2
    aspect = float(np.clip(width / height, 1.2, 2.2))
    unit = max(width / (1 - free), height * aspect / (1 - free * aspect))
    middle = (points - (low + high) / 2) / unit
    return aspect, np.stack([0.5 + middle[:, 0], 0.5 - middle[:, 1] * aspect], axis=1)


def _tree(found: EncoderMap, heads: tuple[tuple[Look, str], ...]) -> TreeChart | None:
    tree = found.tree
    if tree is None:
        return None
    count, longest = len(tree.leaves), float(tree.distances.max()) or 1.0
    xs = FULL * (1 - tree.distances / longest)
    ys = FULL * (tree.places + 0.5) / count
    links = (zip(x.tolist(), y.tolist(), strict=True) for x, y in zip(xs, ys, strict=True))
    leaves = tuple(heads[k] for k in tree.leaves)
    return TreeChart(
        path="".join("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in link) for link in links),
        height=(TREE_ROW if count <= NAMED else CLOSE_ROW) * count,
        leaves=leaves,
        ticks=tuple(Tick(round(100 * (1 - z), 2), significant(z * longest, 2)) for z in (1.0, 0.5, 0.0)),
        alt=f"Tree of encoders by average linkage, from top to bottom {', '.join(name for _, name in leaves)}",
    )
