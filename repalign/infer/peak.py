"""Which layer is most alike in two conditions, chosen on some stimuli and measured on others."""

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from repalign.align import FEWEST_GROUPS, Prepared, prepare
from repalign.errors import InputError, RepalignWarning
from repalign.infer.checks import check_level, check_seed
from repalign.infer.matched import MatchedScores, check_layers, matched_scores, refit_matched, score_matched
from repalign.infer.matrix import FEWEST_UNITS
from repalign.infer.pvalues import TIE
from repalign.infer.resample import members
from repalign.types import Activations

SPLITS = 20  # seeded halves, over which the choice of a layer is counted


@dataclass(frozen=True)
class Peak:
    """The layer most alike in two conditions: `layer` and its `value` on all stimuli, and an honest measurement.

    `held_layer` is the best on one half of the groups (stimuli), `held_value` its score on the other half, with the
    standard error and interval of the jackknife there; `share` of the halves that are drawn choose that layer. `note`
    says why something is missing (NaN).
    """

    layer: str
    value: float
    held_layer: str = ""
    held_value: float = np.nan
    held_se: float = np.nan
    held_low: float = np.nan
    held_high: float = np.nan
    share: float = np.nan
    note: str = ""


@dataclass(frozen=True)
class Halves:
    """The stimuli on which a layer is chosen, and the others, on which it is measured."""

    choosing: Int[Tensor, " c"]
    measuring: Int[Tensor, " m"]


def peak(prepared: Prepared, level: float = 0.95, seed: int = 0) -> Peak:
    """Find the layer of a most alike to the same layer of b, and measure a layer on stimuli that didn't choose it.

    The highest of many scores is optimistic: the layer is picked for its luck too. Of twelve unrelated layers (debiased
    linear CKA, 20 groups of 6, 300 simulations) the highest scored 0.047 on average, though each one's expectation is
    0; chosen on one half and measured on the other, 0.001 ± 0.003. The price is twice the variance, so read
    `held_value` with its interval. Ties go to the first layer.

    Twenty seeded halves of the groups choose a layer each; the first one's choice is measured, on geometries computed
    from its other half alone, with pairs within groups left out if `prepared` leaves them out. The choosing half keeps
    what a subset keeps, such as the RBF bandwidth of all stimuli.

    Raises InputError when the two sides have different layers. Halves too small for the metric, or of fewer than four
    groups where only pairs between groups count, give NaN and a note that says how many are needed.
    """
    check_level(level)
    check_seed(seed)
    check_layers(prepared.a, prepared.b)
    layers, metric = tuple(prepared.a.layers), prepared.metric
    scores = score_matched(*prepared.embedded, metric).values
    best = best_layer(scores, metric.higher_is_similar)
    if best is None:
        return Peak("", np.nan, note="no layer has a score")
    found = Peak(layers[best], float(scores[best]))
    few = _too_few(prepared)
    if few:
        return replace(found, note=f"no layer measured on other stimuli: {few}")
    drawn = list(halves(len(prepared.a), prepared.groups, SPLITS, seed))
    try:
        chosen = [best_layer(refit_matched(prepared, one.choosing), metric.higher_is_similar) for one in drawn]
        if chosen[0] is None:
            return replace(found, note="no layer measured on other stimuli: none has a score on half of them")
        layer = layers[chosen[0]]
        measured = matched_scores(_on(prepared, layer, drawn[0].measuring), seed)
    except InputError as reason:  # a half on which the metric can't be computed
        return replace(found, note=f"no layer measured on other stimuli: with half of them, {reason}")
    held = measured.estimate(level)
    return replace(
        found, held_layer=layer, held_value=float(held.value[0]), held_se=float(held.se[0]),
        held_low=float(held.ci_low[0]), held_high=float(held.ci_high[0]), share=chosen.count(chosen[0]) / SPLITS,
        note=_what_is_missing(prepared, measured),
    )  # fmt: skip


def best_layer(scores: Float[np.ndarray, " l"], higher_is_similar: bool) -> int | None:
    """Find the place of the best score, the first of those equal but for rounding; None when all are NaN."""
    known = np.isfinite(scores)
    if not known.any():
        return None
    signed = np.where(known, scores if higher_is_similar else -scores, -np.inf)
    return int((signed >= signed.max() - TIE * np.abs(scores[known]).max()).argmax())


def halves(n: int, groups: tuple[str, ...] | None, count: int, seed: int) -> Iterator[Halves]:
    """Draw `count` divisions of the groups, or stimuli, in two; of an odd number the measuring half gets one more."""
    rng, units = np.random.default_rng(seed), members(n, groups)
    for _ in range(count):
        order, middle = rng.permutation(len(units)), len(units) // 2
        parts = (torch.cat([units[i] for i in part]).sort().values for part in (order[:middle], order[middle:]))
        yield Halves(*parts)


def _too_few(prepared: Prepared) -> str:
    """Say why halves are too small, and how many groups or stimuli would do; nothing when they are not."""
    sizes = sorted(map(len, members(len(prepared.a), prepared.groups)))
    units, fewest = FEWEST_GROUPS if prepared.within_groups else 1, prepared.metric.fewest
    smaller = len(sizes) // 2
    if smaller >= units and sum(sizes[:smaller]) >= fewest:
        return ""
    needed = 2 * max(units, math.ceil(fewest / sizes[0]))
    return _half_too_few(prepared, f"for {prepared.metric.name}", needed)


def _half_too_few(prepared: Prepared, purpose: str, needed: int) -> str:
    count = len(members(len(prepared.a), prepared.groups))
    what = "groups" if prepared.groups else "stimuli"
    return f"half of {count} {what} is too few {purpose}; at least {needed} {what} are needed"


def _on(prepared: Prepared, layer: str, rows: Int[Tensor, " m"]) -> Prepared:
    """Compare one layer on the stimuli at `rows`, as if there were no others."""
    ids = [prepared.a.ids[i] for i in rows.tolist()]

    def only(side: Activations) -> Activations:
        return replace(side, layers={layer: side.layers[layer]}).join(ids)

    first = only(prepared.a)
    second = first if prepared.b is prepared.a else only(prepared.b)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RepalignWarning)  # a note says what is missing here
        pairs, where = "between" if prepared.within_groups else "all", prepared.room
        return prepare(first, second, prepared.metric, pairs, where.memory, where.device)


def _what_is_missing(prepared: Prepared, measured: MatchedScores) -> str:
    if len(measured.units) < FEWEST_UNITS:
        return _half_too_few(prepared, "for an interval", 2 * FEWEST_UNITS - 1)
    said = [note for note in measured.notes if note.startswith(("layer ", "no interval"))]
    return "; ".join(f"on the other half, {note}" for note in said)
