"""Heatmaps of a diagnosis: stages and blocks of the student upwards, of the teacher to the right."""

from typing import Any

import numpy as np
from jaxtyping import Float

from repalign.align import matched
from repalign.report.diagnosis.saved import Diagnosis, Grid
from repalign.report.diagnosis.sentences import how_sure
from repalign.report.maps import Map, lay_map
from repalign.report.page_base import card_chances, card_scores
from repalign.report.saved import Metric
from repalign.report.wording import number

CORNER = 0.17
"""How far from a cell's upper left corner a match is marked, clear of its number."""

SCORES, CHANCES = ("value", "ci_low", "ci_high", "null_mean"), ("p",)
TABLED = 2_500
"""Up to so many layer pairs a page carries every score as a table."""


def with_untrained(found: Diagnosis) -> list[Grid]:
    """List the stage by stage similarities by every measure, last those of an untrained student where it is another."""
    shown = list(found.level("stage"))
    for grid in found.level("stage")[:1]:
        if grid.has("untrained_value") and not found.student.untrained:
            empty = np.full(grid.matrix().shape, np.nan)
            laid = dict.fromkeys(grid.laid, empty) | {"value": grid.matrix("untrained_value")}
            metric = Metric("untrained", "untrained", f"{grid.metric.label}, untrained student")
            shown.append(Grid("stage", metric, grid.rows, grid.columns, laid))
    return shown


def stage_maps(found: Diagnosis) -> list[Map]:
    """Lay out the stage by stage maps; the first carries the pairs of `gap` in frames and the way of `lag`."""
    grids = with_untrained(found)
    names = tuple(tuple(stage.named for stage in one.stages) for one in (found.student, found.teacher))
    first = _map(found, grids[0], 0, names, list(found.pairs), _way(found.ways, grids[0].matrix().shape))
    return [first, *(_map(found, grid, k, names) for k, grid in enumerate(grids) if k)]


def block_maps(found: Diagnosis) -> list[Map]:
    """Lay out the block by block maps; frames mark the best match of each row."""
    return [
        _map(found, grid, k, (grid.rows, grid.columns), [(i, j) for i, j in enumerate(best_of(grid)) if j >= 0])
        for k, grid in enumerate(found.level("block"))
    ]


def _map(
    found: Diagnosis,
    grid: Grid,
    index: int,
    names: tuple[tuple[str, ...], ...],
    marked: list[tuple[int, int]] | None = None,
    way: tuple[str, str] = ("", ""),
) -> Map:
    untrained = "before training: what the architectures alone give" if grid.metric.id == "untrained" else ""
    known = grid.matrix()[np.isfinite(grid.matrix())]
    span = f"from {number(float(known.min()))} to {number(float(known.max()))}" if known.size else "all undefined"
    what = f"{len(grid.rows)} {grid.level}s of {found.student.described} upwards by {len(grid.columns)} of"
    return lay_map(
        grid.metric,
        index,
        grid.matrix(),
        grid.muted,
        (names[0], names[1]),
        best=best_of(grid),
        marked=marked or [],
        alt=f"Heatmap of {grid.metric.label}: {what} {found.teacher.described} to the right; scores {span}.",
        rests_on=untrained or how_sure(found, grid),
        way=way,
    )


def best_of(grid: Grid) -> list[int]:
    """Find for each row the column most alike; −1 where a whole row is undefined or there is one column."""
    scores = grid.matrix() if grid.metric.higher_is_similar else -grid.matrix()
    if scores.shape[1] < 2:
        return [-1] * len(scores)
    best = np.where(np.isnan(scores), -np.inf, scores).argmax(axis=1)
    return np.where(np.isnan(scores).all(axis=1), -1, best).tolist()


def way_points(ways: tuple[tuple[int, int], ...]) -> Float[np.ndarray, "k 2"]:
    """Give the corners of the way in cells, x to the right and y up: along the cells' borders, past the numbers."""
    points: list[tuple[float, float]] = []
    for k, j in ways:
        x, y = j - 1 + CORNER, k - CORNER
        if points:
            points += [(points[-1][0], k - 1.0), (x, k - 1.0)]
        points.append((x, y))
    return np.array(points).reshape(-1, 2)


def _way(ways: tuple[tuple[int, int], ...], shape: tuple[int, ...]) -> tuple[str, str]:
    """Write the way as a path over a map, and a dot at each match."""
    points = way_points(ways).tolist()
    at = [f"{1000 * x / shape[1]:.1f} {1000 * (1 - y / shape[0]):.1f}" for x, y in points]
    return ("M" + "L".join(at), "".join(f"M{one}h.01" for one in at[::3])) if at else ("", "")


def card_data(found: Diagnosis) -> list[dict[str, Any]]:
    """Collect what the cards show: one group of maps over stages, one over blocks if there are any."""
    depths = [[stage.depth for stage in one.stages] for one in (found.student, found.teacher)]
    groups = [_group(found, with_untrained(found), depths, [j for _, j in found.pairs])]
    blocks = list(found.level("block"))
    if blocks:
        even = [np.linspace(0, 1, len(layers)) for layers in (blocks[0].rows, blocks[0].columns)]
        near = matched(even[0], even[1], same=blocks[0].rows == blocks[0].columns)
        groups.append(_group(found, blocks, [some.tolist() for some in even], near.tolist()))
    return groups


def _group(found: Diagnosis, grids: list[Grid], depths: list[list[float]], near: list[int]) -> dict[str, Any]:
    sides = zip((found.student, found.teacher), (grids[0].rows, grids[0].columns), depths, strict=True)
    a, b = (
        {"name": one.described, "layers": layers, "depths": [round(z, 4) if np.isfinite(z) else 0.0 for z in places]}
        for one, layers, places in sides
    )
    return {
        "a": a,
        "b": b,
        "matched": near,
        "metrics": [
            {
                "label": grid.metric.label,
                "higher": grid.metric.higher_is_similar,
                **{column: card_scores(grid.matrix(column)) for column in SCORES},
                **{column: card_chances(grid.matrix(column)) for column in CHANCES},
            }
            for grid in grids
        ],
    }


def score_tables(found: Diagnosis) -> list[dict[str, Any]]:
    """Lay out every score as text, deep layers first, small enough grids alone."""
    tables = []
    for grid in [*with_untrained(found), *found.level("block")]:
        if grid.matrix().size <= TABLED:
            rows = [(name, [_cell(grid, i, j) for j in range(len(grid.columns))]) for i, name in enumerate(grid.rows)]
            title = f"{grid.metric.label}, {grid.level} by {grid.level}"
            tables.append({"title": title, "columns": grid.columns, "rows": rows[::-1]})
    return tables


def _cell(grid: Grid, i: int, j: int) -> str:
    value, low, high = (float(grid.matrix(column)[i, j]) for column in ("value", "ci_low", "ci_high"))
    sure = f" [{number(low)}, {number(high)}]" if np.isfinite([low, high]).all() else ""
    return number(value, 3) + sure
