"""Inference where there are too many stimuli for all pairs: intervals over all of them, tests over a subset."""

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from repalign.align import Prepared
from repalign.infer.jackknife import interval
from repalign.infer.matrix import FEWEST_UNITS, Plan, infer_pairs
from repalign.infer.sampled import with_sampled_errors
from repalign.progress import Track, silent
from repalign.streaming import Streamed
from repalign.types import Inference


def infer_large(streamed: Streamed, prepared: Prepared, plan: Plan | None = None, track: Track = silent) -> Inference:
    """Give scores and intervals over all stimuli, and p, adjusted p, q and the null's mean over the subset `prepared`.

    A test needs all pairs of its stimuli: it asks of the subset, with the subset's own scores, whether it matters which
    stimulus of B stands with which of A. Its power is the subset's, so a p above the level can go with an interval far
    from 0. For a biased measure the null's mean is the subset's too, and lies above that of all stimuli; `independent`
    is of all. Halves of all stimuli are not drawn: the jackknife takes their place, and a note says so.

    Raises what `infer` raises.
    """
    plan = plan or Plan()
    if streamed.once and plan.interval != "none" and streamed.n >= FEWEST_UNITS:
        streamed = with_sampled_errors(streamed, prepared)
    tested = infer_pairs(prepared, replace(plan, interval="none"), track=track)
    nothing = np.full(streamed.scores.shape, np.nan)
    what = "scores" if streamed.once else "scores and intervals"
    of_all = f"{what} are of all {streamed.n:,} stimuli (streamed)"
    if plan.n_permutations or plan.permutations is not None:
        of_all += f"; p and the null are of a seeded subset of {len(prepared.a):,} of them"
    notes = (*streamed.notes, of_all, *(note for note in tested.notes if note not in prepared.notes))
    found = replace(
        tested, alignment=streamed.alignment(), se=nothing, ci_low=nothing, ci_high=nothing, interval="none",
        independent=independent_features(streamed, prepared), n_groups=streamed.n_groups, notes=notes,
    )  # fmt: skip
    return _with_interval(found, streamed, prepared, plan)


def independent_features(streamed: Streamed, prepared: Prepared) -> Float[np.ndarray, "la lb"]:
    """Give what independent Gaussian features of the same n and d score: `√(d d' / ((n + d)(n + d')))`, biased.

    The ratio of the expectations of |XᵀY|², `(n−1) d d'`, and of |XᵀX|², `(n−1) d (n + d)` (second moment of a Wishart
    matrix of n − 1 degrees of freedom; Muirhead 1982, Aspects of Multivariate Statistical Theory, section 3.3). NaN for
    the debiased form, whose chance is 0, and with groups, whose alikeness Gaussian features don't have.
    """
    if streamed.debiased or streamed.n_groups is not None:
        return np.full(streamed.scores.shape, np.nan)
    left, right = (
        np.sqrt([x.shape[1] / (streamed.n + x.shape[1]) for x in side.layers.values()])
        for side in (prepared.a, prepared.b)
    )
    return np.outer(left, right)


def _with_interval(found: Inference, streamed: Streamed, prepared: Prepared, plan: Plan) -> Inference:
    if plan.interval == "none":
        return found
    units, what = (streamed.n, "stimuli") if streamed.n_groups is None else (streamed.n_groups, "groups")
    if units < FEWEST_UNITS:
        reason = f"{units} {what} are too few; at least {FEWEST_UNITS} are needed"
        return replace(found, notes=(*found.notes, f"no interval: {reason}"))
    notes = []
    if plan.interval == "half":
        notes.append("halves are not drawn of all stimuli: the interval is the jackknife's")
    low, high = interval(streamed.scores, streamed.se, streamed.degrees, plan.level, prepared.metric.bounds)
    lost = int((np.isfinite(streamed.scores) & np.isnan(streamed.se)).sum())
    if lost:
        notes.append(
            f"no interval for {lost} of {streamed.scores.size} layer pairs, undefined with some {what} left out"
        )
    return replace(found, se=streamed.se, ci_low=low, ci_high=high, interval="jackknife", notes=(*found.notes, *notes))
