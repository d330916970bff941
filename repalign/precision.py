"""The choice of precision: bfloat16 where it moves no score by more than a tenth of its standard error.

A sample of m of the n stimuli runs in both precisions. What bfloat16 does to a score, d, has a systematic part, the
same for any number of stimuli, and a random part that shrinks with it. The jackknife of d on the sample says how large
the random part is there, s, so that `d² − s²` estimates the systematic part's square and `d² − s² + s² m/n` that of the
whole change of a score of n stimuli. (The largest of many such estimates is still too large by chance, which errs
towards float32.) Of the pocket encoders most of the change is systematic: the largest of a pair is 0.0004 to 0.0012 on
1,024 stimuli as on 128, and passes a tenth of its standard error from about a thousand stimuli on.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import inf, sqrt
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from repalign.align import Prepared, prepare
from repalign.errors import InputError, RepalignWarning
from repalign.infer.jackknife import deleted_scores, standard_error
from repalign.infer.matrix import deletions_for
from repalign.metrics import Metric
from repalign.types import Activations

TOLERANCE = 0.1  # of a score's standard error: what is added to it in squares is then 1 % at most
FEWEST = 512  # stimuli below which the check would cost about as much as bfloat16 saves
SHARE = 32  # one stimulus in so many is run in both precisions
SMALLEST, LARGEST = 64, 2048  # see sample_size
CPU_UNITS = ("avx512_bf16", "amx_bf16")
CPU_FLAGS = Path("/proc/cpuinfo")

Sample = Callable[[str], tuple[Activations, Activations]]


@dataclass(frozen=True)
class Deviation:
    """What bfloat16 does to the scores of one metric.

    `change` is the largest change of any score that n stimuli are expected to have, `se` that score's standard error
    for n, and `ratio` the largest change of any score in units of its own standard error; NaN where nothing was scored.
    """

    metric: str
    change: float
    se: float
    ratio: float


@dataclass(frozen=True)
class PrecisionCheck:
    """The precision that was `chosen`, `fp32` or `bf16`, and why; `deviations` on `sample` of n stimuli, if any ran."""

    chosen: str
    reason: str
    n: int
    sample: int = 0
    deviations: tuple[Deviation, ...] = ()

    def describe(self) -> dict[str, object]:
        """Give plain values for study.json."""
        return asdict(self) | {"deviations": [asdict(d) for d in self.deviations], "tolerance": TOLERANCE}


def bf16_pays(device: torch.device) -> bool:
    """Tell whether a device computes bfloat16 products faster than float32 ones: by units of its own.

    A CPU is asked through Linux; elsewhere the answer is no.
    """
    if device.type == "cuda":
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or not CPU_FLAGS.is_file() or not torch.backends.mkldnn.is_available():
        return False
    return not set(CPU_UNITS).isdisjoint(CPU_FLAGS.read_text(encoding="utf-8").split())


def sample_size(n: int) -> int:
    """Choose how many of n stimuli run in both precisions: 1 in 32, at least 64, and at most 2,048.

    A fixed share costs a fixed share of a float32 pass (3 %) and keeps the check as strict for any n. Measured for
    n = 1,024 on four pairs of pocket encoders, worst ratios of 0.10, 0.12, 0.17 and 0.10 on all of them were found as
    0.13, 0.15, 0.15 and 0.15 on 32, and as 0.09, 0.11, 0.19 and 0.12 on 64 (medians of 3 samples).
    """
    return min(max(n // SHARE, SMALLEST), LARGEST, n)


def without_check(device: torch.device, n: int) -> PrecisionCheck | None:
    """Choose float32 where trying bfloat16 can't pay, or give None where it may."""
    if not bf16_pays(device):
        return PrecisionCheck("fp32", f"{device} has no bfloat16 units", n)
    if n < FEWEST:
        return PrecisionCheck("fp32", f"a check costs more than bfloat16 saves for fewer than {FEWEST} stimuli", n)
    return None


def check_precision(sample: Sample, metrics: Sequence[Metric], n: int, pairs: str = "between") -> PrecisionCheck:
    """Compare what every metric gives in both precisions on a sample of the n stimuli, and choose one.

    `sample(precision)` gives both sides' activations of the same stimuli, `sample_size(n)` of them, from different
    groups as far as there are enough. bfloat16 is chosen when no finite score of any metric changes by more than a
    tenth of its standard error, both as n stimuli would have them: errors are the jackknife's on the sample, times
    √(m/n). (Where there are groups that is less than what n stimuli will have, which is cautious.) A layer paired with
    itself, whose score is known, is left out. A score that is undefined in bfloat16 alone, or has no standard error, or
    one of 0, decides for float32.
    """
    exact, fast = sample("fp32"), sample("bf16")
    m = len(exact[0])
    found: list[Deviation] = []
    for metric in metrics:
        try:
            found.append(_deviation(metric, exact, fast, sqrt(m / n), pairs))
        except InputError as reason:
            return PrecisionCheck("fp32", f"no check of {metric.label} on {m} stimuli: {reason}", n, m, tuple(found))
    deviations = tuple(found)
    chosen, reason = _choose(deviations, m)
    return PrecisionCheck(chosen, reason, n, m, deviations)


def _choose(deviations: Sequence[Deviation], m: int) -> tuple[str, str]:
    unknown = [d.metric for d in deviations if np.isnan(d.ratio)]
    if unknown or not deviations:
        return "fp32", f"{', '.join(unknown) or 'no metric'} scored nothing on {m} stimuli that could be checked"
    worst = max(deviations, key=lambda d: d.ratio)
    where = f"on {m} stimuli bfloat16 moves a score of {worst.metric} by {worst.ratio:.2g} of its standard error"
    if worst.ratio <= TOLERANCE:
        return "bf16", f"{where} at most, within {TOLERANCE}"
    return "fp32", f"{where}, more than {TOLERANCE}"


def _deviation(
    metric: Metric, exact: tuple[Activations, Activations], fast: tuple[Activations, Activations], scale: float,
    pairs: str,
) -> Deviation:  # fmt: skip
    """Measure one metric; `scale` brings a standard error on the sample to all stimuli."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RepalignWarning)  # all stimuli will say so again
        before, after = _prepare(exact, metric, pairs), _prepare(fast, metric, pairs)
        deleted = _deleted(before)
        se, noise = scale * standard_error(deleted), standard_error(_deleted(after) - deleted)
    scores, moved = before.alignment().scores, after.alignment().scores
    counts = np.isfinite(scores) & ~_itself(*exact)
    change = np.where(np.isfinite(moved), _expected(moved - scores, noise, scale), inf)[counts]
    se = se[counts]
    if not len(change):
        return Deviation(metric.label, np.nan, np.nan, np.nan)
    largest = int(change.argmax())
    return Deviation(metric.label, float(change[largest]), float(se[largest]), float(_ratios(change, se).max()))


def _prepare(sides: tuple[Activations, Activations], metric: Metric, pairs: str) -> Prepared:
    return prepare(*sides, metric, pairs)


def _deleted(prepared: Prepared) -> NDArray[np.float64]:
    return deleted_scores(prepared, deletions_for(prepared.metric, len(prepared.a), prepared.groups, seed=0))


def _expected(
    change: Float[np.ndarray, "..."], noise: Float[np.ndarray, "..."], scale: float
) -> Float[np.ndarray, "..."]:
    """Bring a change on the sample, whose random part has a standard error, to all stimuli; as it is without one."""
    known = np.nan_to_num(noise)
    return np.sqrt(np.maximum(change**2 - known**2, 0.0) + (scale * known) ** 2)


def _ratios(change: Float[np.ndarray, " k"], se: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    """Divide changes by standard errors; without one, anything but no change is too much."""
    known = se > 0
    return np.where(known, change / np.where(known, se, 1.0), np.where(change == 0, 0.0, inf))


def _itself(a: Activations, b: Activations) -> Bool[np.ndarray, "la lb"]:
    """Mark the pairs of one layer with itself: of one name and the same features."""
    return np.array(
        [[i == j and (b is a or torch.equal(a.layers[i], b.layers[j])) for j in b.layers] for i in a.layers]
    )
