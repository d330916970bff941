"""A diagnosis as tables: stages, similarities, probes and heads, one tidy row each."""

from collections.abc import Iterator, Sequence
from itertools import product

import pandas as pd

from repalign.diagnosis.diagnosis import Diagnosis
from repalign.diagnosis.similarity import Scores, Similarity
from repalign.diagnosis.whole import PENULTIMATE, Part
from repalign.types import Layer

Row = dict[str, object]
COLUMNS = {
    "stages": ("side", "stage", "layer", "kind", "shape", "grid", "depth", "parameters"),
    "alignment": (
        "level", "metric", "layer_student", "layer_teacher", "stage_student", "stage_teacher", "n", "value", "se",
        "ci_low", "ci_high", "null_mean", "p", "untrained_value",
    ),
    "probe": ("stage", "layer", "accuracy", "se", "n_train", "n_test"),
    "heads": (
        "stage", "layer", "parameters", "flops", "share_of_student_parameters", "share_of_student_flops",
    ),
}  # fmt: skip


def tables(found: Diagnosis) -> dict[str, pd.DataFrame]:
    """Lay a diagnosis out as tables by the names of their files; those without rows are left out."""
    rows = {
        "stages": [*_stages("teacher", found.teacher), *_stages("student", found.student)],
        "alignment": list(_alignment(found)),
        "probe": list(_probes(found)),
        "heads": [vars(branch) for branch in found.branches],
    }
    return {name: pd.DataFrame(some, columns=list(COLUMNS[name])) for name, some in rows.items() if some}


def _stages(side: str, part: Part) -> Iterator[Row]:
    for stage in part.stages:
        layer = stage.layer
        yield {
            "side": side, "stage": stage.number, "layer": layer.name, "kind": layer.kind, "shape": _times(layer.shape),
            "grid": _times(layer.grid or ()), "depth": layer.depth, "parameters": layer.parameters,
        }  # fmt: skip


def _times(sizes: Sequence[int]) -> str:
    return "×".join(map(str, sizes))


def _alignment(found: Diagnosis) -> Iterator[Row]:
    student, teacher = found.student, found.teacher
    own, others = ([(s.number, s.layer.name) for s in part.stages] for part in (student, teacher))
    for one in found.similarities:
        yield from _rows("stage", one, own, others, found.n)
        yield from _rows("block", one, _unnumbered(student.blocks), _unnumbered(teacher.blocks), found.n)
        if one.knows(PENULTIMATE):
            yield from _rows("penultimate", one, own, [(PENULTIMATE, PENULTIMATE)], found.n)


def _unnumbered(blocks: Sequence[Layer]) -> list[tuple[str, str]]:
    return [("", layer.name) for layer in blocks]


def _rows(
    level: str, similarity: Similarity, student: Sequence[tuple[int | str, str]],
    teacher: Sequence[tuple[int | str, str]], n: int,
) -> Iterator[Row]:  # fmt: skip
    scores: Scores = similarity.between([name for _, name in student], [name for _, name in teacher])
    for (i, (number, layer)), (j, (other, layer_b)) in product(enumerate(student), enumerate(teacher)):
        values = {name: float(matrix[i, j]) for name, matrix in vars(scores).items()}
        values["untrained_value"] = values.pop("untrained")
        yield {
            "level": level, "metric": similarity.metric, "layer_student": layer, "layer_teacher": layer_b,
            "stage_student": number, "stage_teacher": other, "n": n, **values,
        }  # fmt: skip


def _probes(found: Diagnosis) -> Iterator[Row]:
    names = {str(s.number): s.layer.name for s in found.student.stages}
    for stage, probe in found.probes.items():
        yield {
            "stage": stage, "layer": names.get(stage, PENULTIMATE), "accuracy": probe.accuracy, "se": probe.se,
            "n_train": probe.n_train, "n_test": probe.n_test,
        }  # fmt: skip
