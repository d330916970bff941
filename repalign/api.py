"""The Python API: similarities of arrays, alignments of arrays and of encoders."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from numpy.typing import ArrayLike
from torch import Tensor

from repalign.align import align, align_all, prepare
from repalign.errors import InputError
from repalign.infer.matrix import Plan, infer
from repalign.measuring import align_sides, infer_sides, prepare_sides, stream_sides
from repalign.metrics import DEFAULT_METRICS, Metric
from repalign.side import Options, Side
from repalign.sides import Source, load_several, load_sides
from repalign.storage import storage
from repalign.types import Alignment, Inference, Stimuli
from repalign.wrap import as_activations, as_metric, check_groups

Metrics = str | Metric | Sequence[str | Metric]  # one, or several


def similarity(
    x: ArrayLike | Tensor, y: ArrayLike | Tensor, metric: str | Metric = "cka_linear", **options: object
) -> float:
    """Score two feature arrays `(n, dx)` and `(n, dy)`, row i of each being the same stimulus.

    `metric` is a name, whose options are further keywords, or holds its options: "cka_linear:debiased=false", a Metric.

    Raises InputError (a ValueError) for wrong shapes, NaN or infinite values, too few stimuli, an unknown metric
    or option, and options beside a metric that holds its own.

    >>> x = [[0.0, 1.0], [1.0, 0.0], [2.0, 2.0], [3.0, 1.0]]
    >>> round(similarity(x, x, "cka_linear", debiased=False), 12)
    1.0
    """
    chosen = as_metric(metric, options)
    return float(align(as_activations("x", {"x": x}), as_activations("y", {"y": y}), chosen).scores[0, 0])


def compare_arrays(
    a: Mapping[str, ArrayLike | Tensor],
    b: Mapping[str, ArrayLike | Tensor],
    metrics: Metrics = DEFAULT_METRICS,
) -> dict[str, Alignment]:
    """Align two sets of feature arrays, `{"layer": (n, d)}`, row i of each being the same stimulus.

    Returns one Alignment a metric, by the metric as given. Raises InputError as `similarity` does.

    >>> import numpy as np
    >>> x = np.arange(12.0).reshape(6, 2) ** 2
    >>> compare_arrays({"l1": x, "l2": x[:, :1]}, {"m1": x}, ["cka_linear"])["cka_linear"].scores.shape
    (2, 1)
    """
    left, right = as_activations("a", a), as_activations("b", b)
    return {name: align(left, right, metric) for name, metric in _named(metrics).items()}


def infer_arrays(
    a: Mapping[str, ArrayLike | Tensor],
    b: Mapping[str, ArrayLike | Tensor],
    metrics: Metrics = DEFAULT_METRICS,
    *,
    groups: Iterable[object] | None = None,
    pairs: str = "between",
    plan: Plan | None = None,
) -> dict[str, Inference]:
    """Align two sets of feature arrays and say how sure each score is.

    `groups (n,)` are left out and permuted as wholes (frames of one video, views of one photograph), and pairs of
    stimuli within one do not count unless `pairs="all"` (see `align`). `plan` chooses interval, number of
    permutations and seed, or gives the permutations. Returns one Inference a metric, by the metric as given. Raises
    InputError as `similarity` does.

    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(30, 4))
    >>> sure = infer_arrays({"x": x}, {"y": x[:, :2]}, ["cka_linear"], plan=Plan(n_permutations=99))["cka_linear"]
    >>> bool(sure.ci_low[0, 0] < sure.alignment.scores[0, 0] < sure.ci_high[0, 0]), float(sure.p_values[0, 0])
    (True, 0.01)
    """
    left, right = as_activations("a", a), as_activations("b", b)
    left = replace(left, groups=check_groups(groups, len(left)))
    return {name: infer(prepare(left, right, metric, pairs), plan) for name, metric in _named(metrics).items()}


def compare(
    a: Source,
    b: Source | None = None,
    stimuli: str | Stimuli | None = None,
    metrics: Metrics = DEFAULT_METRICS,
    *,
    stimuli_b: str | Stimuli | None = None,
    pairs: str = "between",
    options: Options | None = None,
    **changes: object,
) -> dict[str, Alignment]:
    """Align two encoders layer by layer on paired stimuli; without `b`, `a` is compared with itself.

    `stimuli_b` shows the second side its own version of each stimulus, joined by id; `pairs="all"` also compares
    stimuli of one group with each other (see `align`). Further keywords are the
    fields of `Options`. Where one side is several subjects (`rdm:subjects/*.npz`, `features:` likewise, or what
    `load_subjects` gives), scores are means over them. Returns one Alignment a metric, by the metric as given.

    Raises InputError for anything that can't be used as asked.
    """
    named = _named(metrics)
    asked = replace(options or Options(), **changes)  # type: ignore[arg-type]
    with _loaded(a, b, stimuli, stimuli_b, asked, named, pairs) as (left, right):
        return {name: align_sides(left, right, metric, pairs, asked.bytes) for name, metric in named.items()}


def infer_encoders(
    a: Source,
    b: Source | None = None,
    stimuli: str | Stimuli | None = None,
    metrics: Metrics = DEFAULT_METRICS,
    *,
    stimuli_b: str | Stimuli | None = None,
    pairs: str = "between",
    plan: Plan | None = None,
    options: Options | None = None,
    **changes: object,
) -> dict[str, Inference]:
    """Align two encoders as `compare` does, and say how sure each score is.

    `plan` chooses interval, number of permutations and seed. Returns one Inference a metric, by the metric as given.
    Raises InputError for anything that can't be used as asked.
    """
    named = _named(metrics)
    asked = replace(options or Options(), **changes)  # type: ignore[arg-type]
    with _loaded(a, b, stimuli, stimuli_b, asked, named, pairs) as (left, right):
        return {name: _inference(left, right, metric, pairs, plan, asked.bytes) for name, metric in named.items()}


def _inference(left: Side, right: Side, metric: Metric, pairs: str, plan: Plan | None, memory: int | None) -> Inference:
    sure = plan is None or plan.interval != "none"
    streamed = stream_sides(left, right, metric, pairs, memory, interval=sure)
    return infer_sides(prepare_sides(left, right, metric, pairs, memory), streamed, plan)


def compare_all(
    encoders: Sequence[Source],
    stimuli: str | Stimuli,
    metric: str | Metric = "cka_linear",
    *,
    pairs: str = "between",
    options: Options | None = None,
    **changes: object,
) -> dict[tuple[str, str], Alignment]:
    """Align every two of several encoders: each runs once, each picture is decoded once, each layer embedded once.

    Returns an Alignment for each pair of names, in the order given. Further keywords are the fields of `Options`; of
    more than `max_pairwise` stimuli a seeded subset serves. Raises InputError as `compare` does, and for encoders of
    one name.
    """
    asked = replace(options or Options(), **changes)  # type: ignore[arg-type]
    with storage(asked.cache) as stored:
        sides = [side.activations for side in load_several(encoders, stimuli, asked, stored)]
    names = [side.encoder for side in sides]
    if len(set(names)) < len(names):
        raise InputError(f"encoders must have names of their own, and {', '.join(names)} are given")
    found = align_all(sides, as_metric(metric, {}), pairs, asked.bytes)
    return {(names[i], names[j]): one for (i, j), one in found.items()}


@contextmanager
def _loaded(
    a: Source, b: Source | None, stimuli: str | Stimuli | None, stimuli_b: str | Stimuli | None, options: Options,
    metrics: Mapping[str, Metric], pairs: str,
) -> Iterator[tuple[Side, Side]]:  # fmt: skip
    """Load both sides, for as long as their features may be read."""
    with storage(options.cache) as stored:
        yield load_sides(a, b, stimuli, stimuli_b, options, metrics=list(metrics.values()), pairs=pairs, storage=stored)


def _named(metrics: Metrics) -> dict[str, Metric]:
    """Give the metrics by name as given, or by spec."""
    if not isinstance(metrics, str | Metric | Sequence):
        raise InputError(f"metrics must list names or Metrics, such as ['cka_linear'], not {metrics!r}")
    several = [metrics] if isinstance(metrics, str | Metric) else metrics
    chosen = [(m, as_metric(m, {})) for m in several]
    return {m if isinstance(m, str) else metric.spec: metric for m, metric in chosen}
