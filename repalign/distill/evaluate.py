"""How good a classifier is on labelled stimuli: accuracy, likelihood, calibration, and how often two disagree."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from math import sqrt

import torch
from jaxtyping import Float, Int
from PIL.Image import Image
from torch import Tensor, nn

from repalign.distill.networks import frozen, logits_of
from repalign.errors import InputError
from repalign.progress import Track, silent
from repalign.types import Stimuli

BINS = 15  # of confidence (Guo et al. 2017, arXiv 1706.04599)
THREADS = 2  # that decode, unless told otherwise
Preprocess = Callable[[Image], Tensor]
Classifier = tuple[nn.Module, Preprocess]


@dataclass(frozen=True)
class Scores:
    """How good logits are: accuracy 0..1 with its binomial standard error, NLL in nats, and ECE 0..1, from `n`."""

    accuracy: float
    accuracy_se: float
    nll: float
    ece: float
    n: int


@dataclass(frozen=True)
class Evaluation:
    """What a classifier says of each stimulus, `logits (n, c)` in float32, and how good that is where labels exist."""

    logits: Float[Tensor, "n c"]
    scores: Scores | None


def evaluate(
    module: nn.Module, preprocess: Preprocess, stimuli: Stimuli, labels: Int[Tensor, " n"] | None = None, *,
    batch_size: int = 128, device: torch.device | str = "cpu", threads: int = THREADS, track: Track = silent,
) -> Evaluation:  # fmt: skip
    """Run a classifier over stimuli with its own preprocessing and score it; see `evaluate_all`."""
    return evaluate_all(
        [(module, preprocess)], stimuli, labels, batch_size=batch_size, device=device, threads=threads, track=track
    )[0]


def evaluate_all(
    classifiers: Sequence[Classifier], stimuli: Stimuli, labels: Int[Tensor, " n"] | None = None, *,
    batch_size: int = 128, device: torch.device | str = "cpu", threads: int = THREADS, track: Track = silent,
) -> list[Evaluation]:  # fmt: skip
    """Run several classifiers over stimuli, each picture decoded once for all, and score each.

    Networks run in eval mode without gradients, on `device`, where they stay; their modes are as before afterwards.
    Raises InputError for labels that don't fit, and what decoding a picture raises.
    """
    found: list[list[Tensor]] = [[] for _ in classifiers]
    with ExitStack() as stack:
        for module, _ in classifiers:
            stack.enter_context(frozen(module.to(device)))
        advance = stack.enter_context(track(f"evaluating on {stimuli.name}", len(stimuli)))
        for batch in batches(stimuli, [preprocess for _, preprocess in classifiers], batch_size, threads):
            for (module, _), pixels, outputs in zip(classifiers, batch, found, strict=True):
                outputs.append(classify(module, pixels.to(device)))
            advance(len(batch[0]))
    return [judge(torch.cat(outputs), labels) for outputs in found]


def classify(module: nn.Module, pixels: Tensor) -> Float[Tensor, "b c"]:
    """Run a batch in the mode that the network is in, and give float32 logits on the CPU.

    Raises InputError when the network gives no logits.
    """
    logits = logits_of(module(pixels))
    if logits is None or logits.ndim != 2:
        raise InputError(f"{type(module).__name__} gives no logits (batch, classes); give a network with a classifier")
    return logits.float().cpu()


def batches(
    stimuli: Stimuli, preprocesses: Sequence[Preprocess], batch_size: int, threads: int = THREADS
) -> Iterator[list[Tensor]]:
    """Decode stimuli in order, once for all preprocessings: a batch `(b, 3, h, w)` for each of them at a time."""

    def shown(i: int) -> list[Tensor]:
        picture = stimuli.load(i)
        return [preprocess(picture) for preprocess in preprocesses]

    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(stimuli), batch_size):
            rows = list(pool.map(shown, range(start, min(start + batch_size, len(stimuli)))))
            yield [torch.stack(column) for column in zip(*rows, strict=True)]


def judge(logits: Float[Tensor, "n c"], labels: Int[Tensor, " m"] | None) -> Evaluation:
    """Keep logits with their scores, if there are labels."""
    return Evaluation(logits, None if labels is None else scores(logits, labels))


def scores(logits: Float[Tensor, "n c"], labels: Int[Tensor, " m"]) -> Scores:
    """Score logits in float64: top-1 accuracy, negative log-likelihood, and expected calibration error.

    ECE compares confidence, the largest probability, with accuracy within 15 bins of equal width, `(lo, hi]`, and
    averages the absolute differences weighted by the bins' counts (Guo et al. 2017, equation 3).

    Raises InputError for no pictures, and for labels that don't fit the logits.
    """
    n, classes = logits.shape
    if not n or len(labels) != n:
        raise InputError(f"{len(labels)} labels for {n} rows of logits; give one label for each, and at least one")
    if int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise InputError(f"labels run from {int(labels.min())} to {int(labels.max())} but there are {classes} classes")
    log_p = torch.log_softmax(logits.double(), dim=1)
    confidence, guess = log_p.exp().max(1)
    right = (guess == labels).double()
    accuracy = float(right.mean())
    nll = float(-log_p.gather(1, labels.long()[:, None]).mean())
    return Scores(accuracy, sqrt(accuracy * (1 - accuracy) / n), nll, calibration_error(confidence, right), n)


def calibration_error(confidence: Float[Tensor, " n"], right: Float[Tensor, " n"]) -> float:
    """Compute the expected calibration error from confidences and hits, both `(n,)` in 0..1."""
    place = (confidence * BINS).ceil().clamp(1, BINS).long() - 1
    gaps = torch.zeros(BINS, dtype=torch.float64).index_add_(0, place, right.double() - confidence.double())
    return float(gaps.abs().sum() / len(confidence))


def disagreement(logits_a: Float[Tensor, "n c"], logits_b: Float[Tensor, "m c"]) -> float:
    """Give the share of stimuli to which two classifiers give different classes.

    Raises InputError when they saw different numbers of stimuli.
    """
    if len(logits_a) != len(logits_b) or not len(logits_a):
        raise InputError(f"logits of {len(logits_a)} and {len(logits_b)} stimuli can't be compared; show both the same")
    return float((logits_a.argmax(1) != logits_b.argmax(1)).double().mean())
