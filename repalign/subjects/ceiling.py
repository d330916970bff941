"""How well could any model do? The similarity of subjects with the average subject bounds it on both sides."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from repalign.encoders.group import Subjects, mean_rdm
from repalign.errors import InputError
from repalign.metrics import Metric, make_metric
from repalign.metrics.base import UndefinedError
from repalign.subjects.representation import (
    Representation,
    averages,
    group_notes,
    has_average,
    represent_subjects,
    score,
)
from repalign.wrap import as_metric


@dataclass(frozen=True)
class NoiseCeiling:
    """Bounds on what a model of these subjects can score, each the mean over subjects of `per_subject_… (s,)`.

    `upper`: similarity with the average of all subjects, which no single geometry exceeds by much; `lower`: with the
    average of all other subjects. The ceiling speaks of the group as it is: more subjects narrow the gap.
    """

    metric: str
    options: Mapping[str, object]
    layer: str
    lower: float
    upper: float
    per_subject_lower: NDArray[np.float64]
    per_subject_upper: NDArray[np.float64]
    n_subjects: int
    notes: tuple[str, ...] = ()


def noise_ceiling(
    subjects: Subjects, metric: str | Metric = "rsa", layer: str | None = None, **options: object
) -> NoiseCeiling:
    """Bound the similarity that a true model would reach with subjects who differ (Nili et al. 2014).

    The average is the one that fits the comparison best: of unit embeddings for Pearson, cosine and kernels (CKA),
    of ranks for Spearman. For Kendall's τ the average of ranks is an approximation: the order that fits best is a
    search over all orders. Source: doi:10.1371/journal.pcbi.1003553, "noise ceiling". With few subjects the gap is
    wide, and the upper bound is fitted to noise: with two it is near 1 / √2 for unrelated ones.

    Pairs of stimuli within one of the subjects' groups are left out where the metric can, and `notes` say so.

    Raises InputError for fewer than two subjects, a subject with nothing to compare, and a metric whose geometries
    have no average.
    """
    check_subjects(subjects)
    chosen, name = as_metric(metric, options), subjects.choose(layer)
    require_two(subjects)
    if not has_average(chosen):
        raise InputError(
            f"{chosen.name} has no noise ceiling: it compares features, and those of several subjects have no average; "
            "use rsa or a CKA"
        )
    notes = group_notes(chosen, subjects.groups, len(subjects.ids))
    return ceiling_of(subjects, chosen, name, represent_subjects(subjects, name, chosen), notes)


def group_rdm(subjects: Subjects, layer: str | None = None, rdm: str = "correlation") -> Float[Tensor, "n n"]:
    """Average the subjects' RDMs, `(n, n)` float64, each scaled to a root mean square of 1 over the pairs it has.

    `rdm` is the distance for subjects given as features. A pair that a subject lacks is the mean over the others;
    NaN where nobody has it.

    Raises InputError for a subject without distances.
    """
    name = subjects.choose(layer)
    every_pair = replace(subjects, activations=tuple(replace(one, groups=None) for one in subjects.activations))
    found = represent_subjects(every_pair, name, make_metric("rsa", rdm=rdm))
    return mean_rdm({f"subject {s}": r.geometry for s, r in zip(subjects.names, found, strict=True)})


def ceiling_of(
    subjects: Subjects, metric: Metric, layer: str, members: list[Representation], said: tuple[str, ...] = ()
) -> NoiseCeiling:
    """Compute the ceiling of subjects whose geometries are there already; `said` is noted of it."""
    everyone, others = averages(members)
    try:
        lower = np.array([score(one, rest) for one, rest in zip(members, others, strict=True)])
        upper = np.array([score(one, everyone) for one in members])
    except UndefinedError as reason:
        raise InputError(f"the subjects' average has no noise ceiling: {reason}; use other subjects") from None
    compare = str(metric.options.get("compare", ""))
    notes = ("the ceiling of Kendall's τ uses averaged ranks, an approximation",) if "kendall" in compare else ()
    return NoiseCeiling(
        metric.name, metric.options, layer, float(lower.mean()), float(upper.mean()), lower, upper, len(members),
        (*subjects.notes, *missing_notes(subjects, layer), *said, *notes),
    )  # fmt: skip


def check_subjects(subjects: object) -> None:
    """Raise InputError unless these are subjects."""
    if not isinstance(subjects, Subjects):
        raise InputError(
            f"subjects must be what load_subjects or subjects_from_arrays gives, not {type(subjects).__name__}"
        )


def require_two(subjects: Subjects) -> None:
    """Raise InputError unless there are two subjects or more."""
    if len(subjects.names) < 2:
        raise InputError(
            f"there is 1 subject ({', '.join(subjects.names)}), and at least 2 are needed to see how they differ"
        )


def missing_notes(subjects: Subjects, layer: str) -> tuple[str, ...]:
    """Say how many pairs the subjects' RDMs lack (NaN), and that each comparison leaves them out of both sides."""
    if subjects.geometry != "rdm":
        return ()
    counts = [int(one.layers[layer].isnan().sum()) // 2 for one in subjects.activations]
    if not any(counts):
        return ()
    n = len(subjects.ids)
    listed = ", ".join(f"{s}: {c}" for s, c in list(zip(subjects.names, counts, strict=True))[:5] if c)
    more = " …" if sum(map(bool, counts[5:])) else ""
    return (
        f"of {n * (n - 1) // 2} pairs of stimuli some are missing (NaN) in {sum(map(bool, counts))} subjects "
        f"({listed}{more}); each subject is compared on the pairs it has",
    )
