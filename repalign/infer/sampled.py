"""Standard errors of scores over stimuli that came by once, from a sample of them that was kept."""

from dataclasses import replace
from math import sqrt

from repalign.align import Prepared
from repalign.infer.jackknife import degrees_of_freedom, deleted_scores, standard_error
from repalign.infer.resample import members
from repalign.streaming import Streamed


def with_sampled_errors(streamed: Streamed, prepared: Prepared) -> Streamed:
    """Give the jackknife's standard errors of the m stimuli of `prepared`, times √(m/n), with the sample's degrees.

    The variance of a score of n stimuli is that of one stimulus' influence over n, so errors of a random sample carry
    over: within some per cent, as far as m stimuli tell. What they say too little of is a layer pair whose score is
    near that of no alignment, where influences vanish and errors fall as 1/n rather than 1/√n: there they are too wide.

    Source: Efron & Stein 1981, The jackknife estimate of variance, Annals of Statistics 9.
    """
    m, n = len(prepared.a), streamed.n
    deleted = deleted_scores(prepared, members(m, prepared.groups))
    notes = (f"standard errors are those of a sample of {m:,} stimuli, scaled by √(m/n)",) if m < n else ()
    errors = sqrt(m / n) * standard_error(deleted)
    return replace(streamed, se=errors, degrees=degrees_of_freedom(deleted), notes=(*streamed.notes, *notes))
