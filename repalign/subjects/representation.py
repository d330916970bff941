"""One subject, model or group under one metric, and the average of a group that fits the metric."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from repalign.align import geometry_of, group_codes, said_of_pairs_left_out, too_few_groups, within_groups
from repalign.encoders.group import Subjects
from repalign.errors import InputError
from repalign.metrics.base import CosineMetric, Metric, UndefinedError
from repalign.metrics.gram import from_pairs, pairs
from repalign.metrics.ranks import midranks
from repalign.types import Activations

RANKED = ("spearman", "kendall_a", "kendall_b")
CENTRED = ("pearson", "corr_cov")


@dataclass(frozen=True, eq=False)
class Representation:
    """The geometry of one subject, model or group, embedded when it is first compared."""

    metric: Metric
    geometry: Tensor

    @cached_property
    def missing(self) -> Bool[Tensor, "n n"] | None:
        """Find the pairs of stimuli that are NaN, None when all are there."""
        found = self.geometry.isnan()
        return found if found.any() else None

    @cached_property
    def embedded(self) -> Any:  # noqa: ANN401  whatever the metric compares
        """Embed the geometry; raises UndefinedError when nothing is left of it."""
        return self.metric.embed(self.geometry)

    @cached_property
    def unit(self) -> Float[Tensor, "n n"]:
        """Scale the embedding to length one."""
        return self.embedded / self.embedded.norm()

    def take(self, index: Tensor) -> "Representation":
        """Restrict to the stimuli at `index`."""
        return Representation(self.metric, self.metric.take(self.geometry, index))

    def without(self, missing: Bool[Tensor, "n n"]) -> "Representation":
        """Mark `missing`, all that are missing here among them, as missing."""
        if self.missing is not None and torch.equal(self.missing, missing):
            return self  # and keep what is embedded
        return Representation(self.metric, self.geometry.masked_fill(missing, torch.nan))


def score(a: Representation, b: Representation) -> float:
    """Score two representations of the same stimuli; pairs that either lacks are left out of both.

    Raises UndefinedError when one has nothing left to compare.
    """
    gaps = [r.missing for r in (a, b) if r.missing is not None]
    if gaps:
        either = gaps[0] | gaps[-1]
        a, b = a.without(either), b.without(either)
    if isinstance(a.metric, CosineMetric):
        return float((a.unit * b.unit).sum())
    return a.metric.score(a.embedded, b.embedded)  # type: ignore[attr-defined]  a PairMetric


def represent(activations: Activations, layer: str, metric: Metric) -> Representation:
    """Take the geometry of a layer, whatever it holds; pairs within a group are left out where the metric can.

    Raises UndefinedError when it has none, InputError naming the owner when the metric can't use it.
    """
    codes = group_codes(activations.groups, len(activations))
    geometry, within = geometry_of(activations, layer, metric, codes), within_groups(metric, codes)
    return Representation(metric, geometry if within is None else geometry.masked_fill(within, torch.nan))


def group_notes(metric: Metric, groups: tuple[str, ...] | None, n: int) -> tuple[str, ...]:
    """Say whether pairs of stimuli within a group count: frames of one video are alike, whatever one compares."""
    codes = group_codes(groups, n)
    count, within = len(codes.unique()), within_groups(metric, codes)
    if count == n or metric.splits_by_group:
        return ()
    if within is not None:
        return (said_of_pairs_left_out(within),)
    why = too_few_groups(count) if metric.leaves_pairs_out else f"{metric.name} can't leave out pairs"
    return (f"{why}, so pairs within a group count too, which lifts all scores: compare models, not a score with 0",)


def represent_subjects(subjects: Subjects, layer: str, metric: Metric) -> list[Representation]:
    """Take and embed every subject's layer.

    Raises InputError naming the subject that has nothing to compare, and when there are too few stimuli.
    """
    if len(subjects.ids) < metric.fewest:
        raise InputError(f"{metric.name} needs at least {metric.fewest} stimuli, not {len(subjects.ids)}")
    found = []
    for name, activations in zip(subjects.names, subjects.activations, strict=True):
        try:
            one = represent(activations, layer, metric)
            _ = one.embedded
        except UndefinedError as reason:
            raise InputError(f"subject {name}, layer {layer!r}: {reason}; leave the subject out") from None
        found.append(one)
    return found


def has_average(metric: Metric) -> bool:
    """Tell whether the geometries of several subjects can be averaged: all RSA, and every cosine of kernels."""
    return isinstance(metric, CosineMetric) or _compares(metric) in RANKED


def averages(members: Sequence[Representation]) -> tuple[Representation, list[Representation]]:
    """Average all members, and all but each one, so that the mean similarity to those averaged is the largest.

    Each geometry is scaled to an embedding of length one first, since the mean of unit vectors has the largest mean
    cosine with them (Nili et al. 2014, doi:10.1371/journal.pcbi.1003553). The length is that of the embedding, so of
    whitened distances for corr_cov and cosine_cov. Ranks are averaged for Spearman, and for Kendall too, where that
    is an approximation. A pair that someone lacks is the mean over the others.
    """
    metric = members[0].metric
    ready = torch.stack([_comparable(m) for m in members])
    there = ready.isfinite().long()
    ready = torch.where(there > 0, ready, 0.0)
    total, count = ready.sum(0), there.sum(0)
    everyone = Representation(metric, total / count)  # 0 / 0 is NaN: nobody has the pair
    others = [Representation(metric, (total - x) / (count - t)) for x, t in zip(ready, there, strict=True)]
    return everyone, others


def _comparable(one: Representation) -> Tensor:
    """Bring a geometry to the scale on which it is averaged."""
    compare, geometry = _compares(one.metric), one.geometry
    values = pairs(geometry)
    present = values.isfinite()
    count = int(present.sum())
    if compare == "spearman":  # embedded as centred ranks already, missing pairs 0
        ranks = one.embedded / (count + 1)
        return ranks if one.missing is None else ranks.masked_fill(one.missing, torch.nan)
    if compare in RANKED:
        values[present] = midranks(values[present]) / (count + 1)
        return from_pairs(values, len(geometry))
    if compare in CENTRED:
        geometry = geometry - values.nanmean()
    # times the root of the number of pairs: someone who lacks half of them weighs as much on each of the others
    return geometry * (math.sqrt(count) / one.embedded.norm())


def _compares(metric: Metric) -> str:
    return str(metric.options.get("compare", ""))
