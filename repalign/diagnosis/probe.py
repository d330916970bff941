"""Linear probes: how well a linear layer reads the classes from the features of a stage."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from repalign.diagnosis.proportion import proportion
from repalign.diagnosis.splitting import Split, split

PENALTIES = (10.0, 1.0, 0.1, 0.01, 0.001, 0.0001)  # of half the squared weights beside the mean loss; strong ones first
STEPS = 200  # of L-BFGS; the strong penalties need a tenth of them
ROUNDING = 1e-12  # of a feature's size: what varies less does not vary
FEWEST = 20  # pictures: below, the parts of a probe say nothing
FEWEST_A_CLASS = 3  # to learn from, on average


@dataclass(frozen=True)
class Probe:
    """What a linear layer reads from one layer's features: accuracy on `n_test` pictures that it did not see.

    `penalty` is the one that the validation part chose.
    """

    layer: str
    accuracy: float
    se: float
    n_train: int
    n_test: int
    penalty: float


@dataclass(frozen=True)
class Linear:
    """A multinomial logistic regression of standardised features."""

    mean: Float[Tensor, " d"]
    scale: Float[Tensor, " d"]
    weight: Float[Tensor, "d c"]
    bias: Float[Tensor, " c"]

    def logits(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n c"]:
        """Score the classes."""
        return (features.double() - self.mean) / self.scale @ self.weight + self.bias


def probe_all(
    layers: Mapping[str, Float[Tensor, "n _"]], labels: Int[Tensor, " n"], classes: int, groups: Sequence[str] | None,
    seed: int,
) -> tuple[tuple[Probe, ...], str]:  # fmt: skip
    """Probe every layer's features on one split of the pictures; nothing, and a reason, where there are too few.

    Half of the pictures (of the groups, where there are any) are scored and serve for nothing else. Of the other half a
    quarter chooses the penalty, by its loss; then the regression is fitted to that whole half again.
    """
    parts = split(labels.tolist(), groups, seed)
    units = len(labels) if groups is None else len(set(groups))
    if len(labels) < FEWEST or min(map(len, (parts.fit, parts.validation, parts.test))) == 0:
        return (), f"no linear probes: {len(labels)} pictures in {units} groups are too few; at least {FEWEST} in 8"
    if len(parts.train) < FEWEST_A_CLASS * classes:
        return (), f"no linear probes: {len(parts.train)} pictures to learn {classes} classes from are too few"
    if len(labels[parts.fit].unique()) < 2:
        return (), "no linear probes: the pictures to learn from are all of one class"
    return tuple(_probe(name, x, labels, classes, parts, groups) for name, x in layers.items()), ""


def _probe(
    name: str, x: Float[Tensor, "n d"], labels: Int[Tensor, " n"], classes: int, parts: Split,
    groups: Sequence[str] | None,
) -> Probe:  # fmt: skip
    losses, start = {}, None
    for penalty in PENALTIES:
        start = fit(x[parts.fit], labels[parts.fit], classes, penalty, start)
        losses[penalty] = float(cross_entropy(start.logits(x[parts.validation]), labels[parts.validation]))
    chosen = min(losses, key=lambda penalty: losses[penalty])
    train = parts.train
    fitted = fit(x[train], labels[train], classes, chosen)
    correct = fitted.logits(x[parts.test]).argmax(1) == labels[parts.test]
    own = None if groups is None else [groups[int(i)] for i in parts.test]
    share = proportion(correct.numpy(), own)
    return Probe(name, share.value, share.se, len(train), len(parts.test), chosen)


def fit(
    x: Float[Tensor, "n d"], labels: Int[Tensor, " n"], classes: int, penalty: float, start: Linear | None = None
) -> Linear:
    """Minimise the mean cross-entropy + `penalty`/2 · |weights|² of standardised features, in float64 by L-BFGS.

    Features that do not vary weigh nothing. `start` is where the search begins.
    """
    wide = x.double()
    mean, spread = wide.mean(0), wide.std(0, correction=0)
    still = spread <= ROUNDING * wide.abs().amax(0)
    scale = torch.where(still, torch.inf, spread)
    given, wanted = (wide - mean) / scale, one_hot(labels, classes).double()
    shape = (x.shape[1], classes)
    first = torch.zeros(shape, dtype=torch.float64) if start is None else start.weight
    offset = torch.zeros(classes, dtype=torch.float64) if start is None else start.bias

    def loss(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weight, bias = torch.from_numpy(values).split([x.shape[1] * classes, classes])
        log_p = torch.log_softmax(torch.addmm(bias, given, weight.view(shape)), 1)
        away = (log_p.exp() - wanted) / len(given)
        slope = torch.cat([torch.addmm(penalty * weight.view(shape), given.T, away).flatten(), away.sum(0)])
        return float(penalty / 2 * weight.square().sum() - (wanted * log_p).sum() / len(given)), slope.numpy()

    found = minimize(
        loss, torch.cat([first.flatten(), offset]).numpy(), jac=True, method="L-BFGS-B",
        options={"maxiter": STEPS, "gtol": 1e-6, "ftol": 1e-12},
    ).x  # fmt: skip
    weight, bias = torch.from_numpy(found).split([x.shape[1] * classes, classes])
    return Linear(mean, scale, weight.view(shape), bias)
