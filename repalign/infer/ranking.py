"""Which of several encoders is most alike in two conditions? Their ranks, and each one's difference to the best.

Symbols: `k` encoders compared with the best, `u` units that are left out in turn, `m` patterns of signs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from repalign.errors import InputError
from repalign.infer.checks import check_count, check_level, check_seed
from repalign.infer.difference import Jackknifed, check_comparable, flipped, jackknifed, unit_kind
from repalign.infer.matched import MatchedScores
from repalign.infer.pvalues import TIE, max_t, p_values


@dataclass(frozen=True)
class Ranked:
    """An encoder's place, its score with interval, and its difference to the best: own less best.

    `p` is two-sided and of this difference alone, `p_adjusted` for all encoders that are compared with the best. The
    best itself has difference 0 and no p (NaN). Equal scores share a place. `note` says what is missing and why.
    """

    name: str
    rank: int
    value: float
    se: float
    ci_low: float
    ci_high: float
    difference: float = np.nan
    difference_low: float = np.nan
    difference_high: float = np.nan
    p: float = np.nan
    p_adjusted: float = np.nan
    note: str = ""


def rank(
    scores: Mapping[str, MatchedScores], higher_is_similar: bool, n_permutations: int = 9999, level: float = 0.95,
    seed: int = 0,
) -> tuple[Ranked, ...]:  # fmt: skip
    """Rank encoders by their mean scores, the most alike first, and test each against the best.

    Hypothesis of each test: every unit (group, stimulus) contributes to this encoder and to the best alike, so the sign
    of its contribution to the difference may flip. All encoders share the flips, and `p_adjusted` is the step-down
    max-T over them of the absolute mean contribution over its root mean square, which under flips is Student's t in
    another scale: noisy encoders weigh like quiet ones.

    The best was picked for its score, luck included, so differences to it lean away from zero, and intervals and `p`
    with them. Five equal encoders (400 simulations, 20 groups): some `p` was at most 0.05 in 16 to 19 %, and in 41 %
    with ten encoders, where one pair named beforehand gives 3 to 4 %. `p_adjusted` allows for the number of encoders,
    not for the choice of the best, which the test's caution with few groups makes up for: some was at most 0.05 in 4 to
    5 %, with ten encoders in 5 %, with five and 60 groups in 6 to 7 %.

    An encoder without a score comes last, with a note and no p.

    Raises InputError when an encoder has scores of more than one layer, and when metrics or units differ.
    """
    check_count("n_permutations", n_permutations)
    check_seed(seed)
    check_level(level)
    rows = [_alone(name, one, level) for name, one in scores.items()]
    ranks = _ranks(np.array([row.value for row in rows]), higher_is_similar)
    rows = [replace(row, rank=place) for row, place in zip(rows, ranks, strict=True)]
    rows.sort(key=lambda row: row.rank)  # equal ones stay in the order given
    scored = [row for row in rows if np.isfinite(row.value)]
    without = [_with_note(row, "no score, so it comes last") for row in rows if not np.isfinite(row.value)]
    if not scored:
        return tuple(without)
    best = replace(scored[0], difference=0.0, difference_low=0.0, difference_high=0.0)
    compared = _compared(scored[1:], best.name, scores, n_permutations, level, seed)
    return (best, *compared, *without)


def _alone(name: str, scores: MatchedScores, level: float) -> Ranked:
    if len(scores.layers) != 1:
        raise InputError(
            f"{name} has scores of {len(scores.layers)} layers; an encoder is ranked by one number, so give "
            "MatchedScores.mean()"
        )
    own = scores.estimate(level)
    numbers = (float(part[0]) for part in (own.value, own.se, own.ci_low, own.ci_high))
    return Ranked(name, 0, *numbers, note="; ".join(dict.fromkeys(scores.notes)))


def _ranks(values: Float[np.ndarray, " k"], higher_is_similar: bool) -> list[int]:
    """Count, from 1, those that are better by more than rounding; all NaN come after the last."""
    known = np.isfinite(values)
    signed = np.where(known, values if higher_is_similar else -values, -np.inf)
    scale = np.abs(values[known]).max(initial=0.0)
    return [1 + int((signed > value + TIE * scale).sum()) for value in signed]


def _compared(
    rows: Sequence[Ranked], best: str, scores: Mapping[str, MatchedScores], count: int, level: float, seed: int
) -> list[Ranked]:
    """Add the difference to the best and its tests."""
    if not rows:
        return []
    for row in rows:
        check_comparable(scores[row.name], scores[best], row.name, best)
    one = _less_best([scores[row.name] for row in rows], scores[best], level)
    tested = flipped(_of_size_one(one.contributions), count, seed, unit_kind(scores[best]))
    p, adjusted = p_values(tested.observed, tested.null), max_t(tested.observed, tested.null)
    missing = "no p: this encoder has no score with some of the stimuli left out" if len(tested.null) else tested.note
    found = []
    for k, row in enumerate(rows):
        filled = replace(
            row, difference=float(one.difference[k]), difference_low=float(one.ci_low[k]),
            difference_high=float(one.ci_high[k]), p=float(p[k]), p_adjusted=float(adjusted[k]),
        )  # fmt: skip
        found.append(_with_note(filled, missing) if np.isnan(filled.p) else filled)
    return found


def _less_best(others: Sequence[MatchedScores], best: MatchedScores, level: float) -> Jackknifed:
    """Take the jackknife of each encoder's score less that of the best."""
    own = np.concatenate([one.scores for one in others]), np.concatenate([one.deleted for one in others], axis=1)
    of_best = np.broadcast_to(best.scores, own[0].shape), np.broadcast_to(best.deleted, own[1].shape)
    return jackknifed(np.stack([own[0], of_best[0]]), np.stack([own[1], of_best[1]], axis=1), level)


def _of_size_one(contributions: Float[np.ndarray, "u k"]) -> NDArray[np.float64]:
    """Divide each column by its root mean square, which flipped signs leave as it is; zeros stay."""
    size = np.sqrt((contributions**2).mean(0))
    return contributions / np.where(size == 0, 1.0, size)


def _with_note(row: Ranked, note: str) -> Ranked:
    return replace(row, note="; ".join(filter(None, (row.note, note))))
