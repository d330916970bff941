"""One metric of two sides: over all stimuli where it can be streamed, else over those whose pairs are taken."""

from dataclasses import replace

from repalign.align import prepare
from repalign.infer.large import infer_large
from repalign.infer.matrix import Plan, infer
from repalign.infer.over_subjects import Compared, OverSubjects, prepare_subjects
from repalign.memory import budget
from repalign.metrics import Metric
from repalign.metrics.cka import LinearCKA
from repalign.progress import Track, silent
from repalign.side import Side
from repalign.streaming import Streamed, stream
from repalign.together import ALONE, Together
from repalign.types import Alignment, Inference


def prepare_sides(
    left: Side, right: Side, metric: Metric, pairs: str = "between", memory: int | None = None
) -> Compared:
    """Take and embed every layer of both sides, and of every subject where a side has several.

    Warns and raises as `align` does.
    """
    several = left.subjects or right.subjects
    if several is None:
        found = prepare(left.activations, right.activations, metric, pairs, memory)
        return replace(found, notes=(*found.notes, *said_of_subset(left)))
    first = several is left.subjects
    return prepare_subjects(left.activations, right.activations, several, first, metric, pairs, memory)


def stream_sides(
    left: Side, right: Side, metric: Metric, pairs: str = "between", memory: int | None = None, *,
    together: Together = ALONE, interval: bool = True, track: Track = silent,
) -> Streamed | None:  # fmt: skip
    """Compute linear CKA over all stimuli where they are too many to take every pair of; else, and for others, None.

    Raises as `stream` does.
    """
    if not isinstance(metric, LinearCKA):
        return None
    if left.sums is not None:
        return left.sums.streamed(metric.debiased)
    if left.rows is None or right.rows is None:
        return None
    return stream(left.rows, right.rows, metric.debiased, budget(memory), together, interval, pairs, track)


def align_sides(
    left: Side, right: Side, metric: Metric, pairs: str = "between", memory: int | None = None
) -> Alignment:
    """Score every layer of both sides; warns and raises as `align` does."""
    streamed = stream_sides(left, right, metric, pairs, memory, interval=False)
    if streamed is None:
        return prepare_sides(left, right, metric, pairs, memory).alignment()
    layers = tuple(left.activations.layers), tuple(right.activations.layers)
    return Alignment(metric.name, metric.options, *layers, streamed.n, streamed.scores, streamed.undefined)


def infer_sides(
    compared: Compared, streamed: Streamed | None, plan: Plan | None = None, alignment: Alignment | None = None,
    track: Track = silent,
) -> Inference:  # fmt: skip
    """Say how sure each score is: of all stimuli where they were streamed."""
    if streamed is None or isinstance(compared, OverSubjects):
        return infer(compared, plan, alignment, track)
    found = infer_large(streamed, compared, plan or Plan(), track)
    if len(compared.a) < streamed.n:
        rest = f"stability, and what a second condition costs, are of {len(compared.a):,} of the {streamed.n:,} stimuli"
        found = replace(found, notes=(*found.notes, rest))
    return found


def said_of_subset(side: Side) -> tuple[str, ...]:
    """Say that pairs are taken of a part of the stimuli, where that is so."""
    held, there = len(side.activations), side.n
    return (f"of a seeded subset of {held:,} of {there:,} stimuli (--max-pairwise)",) if held < there else ()
