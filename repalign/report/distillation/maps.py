"""Maps of a run: all pairs of stages before training, at the end, and their difference, on one colour scale."""

from typing import Any

import numpy as np
from jaxtyping import Float

from repalign.report.distillation.saved import Alignment, Distillation
from repalign.report.maps import Map, lay_map
from repalign.report.page_base import card_scores
from repalign.report.saved import Metric
from repalign.report.wording import number

Named = tuple[str, str, Float[np.ndarray, "ks kt"]]


def shown_maps(found: Alignment) -> list[Named]:
    """List title, what stands under it, and scores: the first epoch, the last, and the last less the first."""
    first = ("before training" if found.epochs[0] == 0 else f"after epoch {found.epochs[0]}", "", found.values[0])
    if len(found.epochs) == 1:
        return [first]
    last = (f"after epoch {found.epochs[-1]}", "", found.values[-1])
    change = ("the change", "the second less the first, on the same scale: dark is none", last[2] - first[2])
    return [first, last, change]


def stage_names(found: Alignment) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Name the stages of student and teacher by number and layer."""
    return _numbered(found.student), _numbered(found.teacher)


def _numbered(layers: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{k} {name}" for k, name in enumerate(layers, 1))


def alignment_maps(run: Distillation) -> list[Map]:
    """Lay out the maps for the page; frames mark the pairs whose lines are drawn. Nothing without an alignment."""
    found = run.alignment
    if found is None:
        return []
    return [_map(found, k, *one) for k, one in enumerate(shown_maps(found))]


def _map(found: Alignment, index: int, title: str, under: str, scores: Float[np.ndarray, "ks kt"]) -> Map:
    known = scores[np.isfinite(scores)]
    span = f"from {number(float(known.min()))} to {number(float(known.max()))}" if known.size else "all undefined"
    size = f"{len(found.student)} stages of the student upwards by {len(found.teacher)} of the teacher to the right"
    return lay_map(
        Metric(title, title, title[:1].upper() + title[1:]),
        index,
        scores,
        np.zeros(scores.shape, dtype=bool),
        stage_names(found),
        best=[-1] * len(scores),
        marked=list(found.pairs),
        alt=f"Heatmap of linear CKA {title}: {size}; {span}.",
        rests_on=under,
    )


def card_data(run: Distillation) -> list[dict[str, Any]]:
    """Collect what the cards show; nothing without an alignment."""
    found = run.alignment
    if found is None:
        return []
    names = (run.student.described, run.teacher.described if run.teacher else "teacher")
    sides = [
        {"name": name, "layers": layers, "depths": [round(float(z), 4) for z in np.linspace(0, 1, len(layers))]}
        for name, layers in zip(names, (found.student, found.teacher), strict=True)
    ]
    metrics = [{"label": title, "higher": True, "value": card_scores(scores)} for title, _, scores in shown_maps(found)]
    return [{"a": sides[0], "b": sides[1], "matched": [j for _, j in found.pairs], "metrics": metrics}]
