"""Minibatch CKA: linear CKA from the pairs of stimuli that share a batch."""

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from repalign.errors import InputError
from repalign.metrics.base import PairMetric, UndefinedError
from repalign.metrics.gram import EPSILON, linear_gram, u_centred

SMALLEST = 4  # stimuli of which HSIC₁ is defined


@final
@dataclass(frozen=True)
class MinibatchCKA(PairMetric):
    """Compare linear Grams batch by batch: `Σ_b HSIC₁(K_b, L_b) / √(Σ_b HSIC₁(K_b, K_b) · Σ_b HSIC₁(L_b, L_b))`.

    HSIC₁ is unbiased in every batch, so the numerator is too and so is each term of the denominator; the ratio still
    depends a little on the batch size and on who meets whom. −1..1, unchanged by shift, isotropic scale and rotation.

    The partition is a function of the number of stimuli, `batch` and `seed` alone: both sides and all layers share
    it, and stimuli in another order meet in other batches. A last batch of fewer than 4 joins the one before; with
    n < `batch` + 4 there is one batch, and the score is debiased linear CKA. A subset keeps the batches of all
    stimuli, less those left with fewer than 4.

    It is a pair metric because batches belong to places: under a permutation of one side other pairs of its stimuli
    share a batch, so its Gram must be embedded again. It is here to be compared with published minibatch values: all
    of the Gram is computed, which saves no memory, and `cka_linear` uses more pairs and varies less.
    """

    batch: int = 256
    seed: int = 0

    name: ClassVar[str] = "cka_minibatch"
    reference: ClassVar[str] = (
        "Nguyen, Raghu & Kornblith 2021, Do Wide and Deep Networks Learn the Same Things?, arXiv:2010.15327, eq. 2–3"
    )
    fewest: ClassVar[int] = SMALLEST

    def __post_init__(self) -> None:
        if self.batch < SMALLEST:
            raise InputError(
                f"cka_minibatch: batch must be at least {SMALLEST} stimuli, for which unbiased HSIC is defined, "
                f"not {self.batch}"
            )
        if self.seed < 0:
            raise InputError(f"cka_minibatch: seed must be 0 or more, not {self.seed}")

    @property
    def label(self) -> str:
        """Name the metric and its options for a person."""
        return f"Linear CKA, minibatches of {self.batch}" + (f", seed {self.seed}" if self.seed else "")

    @property
    def bounds(self) -> tuple[float, float]:
        """Give −1..1."""
        return -1.0, 1.0

    @property
    def chance(self) -> str:
        """Say what independent features give."""
        return "0 on average"

    @property
    def unbiased(self) -> bool:
        """Tell whether independent features give 0 on average: yes, up to the bias of the ratio."""
        return True

    @property
    def invariances(self) -> frozenset[str]:
        """List shift, isotropic scale and rotation."""
        return frozenset({"shift", "scale", "orthogonal"})

    def geometry(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
        """Compute the linear Gram of features centred over all stimuli; its diagonal holds each one's batch number.

        HSIC₁ reads no diagonal, and there the batch of a stimulus goes where the stimulus goes.
        """
        gram = linear_gram(x)
        gram.diagonal().copy_(batch_numbers(len(x), self.batch, self.seed))
        return gram

    def take(self, geometry: Float[Tensor, "n n"], index: Int[Tensor, " m"]) -> Float[Tensor, "m m"]:
        """Restrict a geometry to the stimuli at `index`, each in its batch.

        All stimuli in another order take the batches of their new places, as when one side is permuted.
        """
        taken = geometry[index][:, index]
        if len(index) == len(geometry):
            taken.diagonal().copy_(geometry.diagonal())
        return taken

    def embed(self, geometry: Float[Tensor, "n n"]) -> Float[Tensor, " k"]:
        """List the U-centred Grams of the batches, each over `√(m(m−3))` of its m stimuli, scaled to length one.

        Raises UndefinedError when nothing is left after centring, or when no batch holds 4 stimuli.
        """
        numbers = geometry.diagonal()
        members = [(numbers == k).nonzero().flatten() for k in numbers.unique()]
        members = [rows for rows in members if len(rows) >= SMALLEST]
        if not members:
            raise UndefinedError(f"no batch holds {SMALLEST} stimuli")
        blocks = [u_centred(geometry[rows][:, rows]) for rows in members]
        size = float((geometry - torch.diag(numbers)).norm())
        if max(float(b.norm()) for b in blocks) <= len(geometry) * EPSILON * size:
            raise UndefinedError("its centred Gram is zero in every batch")
        listed = torch.cat([b.flatten() / (len(b) * (len(b) - 3)) ** 0.5 for b in blocks])
        return listed / listed.norm()

    def score(self, a: Float[Tensor, " k"], b: Float[Tensor, " k"]) -> float:
        """Compute the cosine of two lists of the same batches."""
        return float(a @ b)


def batch_numbers(n: int, batch: int, seed: int) -> Int[Tensor, " n"]:
    """Deal n stimuli into seeded random batches numbered from 0; fewer than 4 left over join the last one.

    >>> batch_numbers(11, 4, 0).bincount().tolist()
    [4, 7]
    """
    numbers = np.arange(n) // batch
    left_over = n % batch
    if left_over < SMALLEST and n > batch:
        numbers[n - left_over :] = n // batch - 1
    dealt = np.empty_like(numbers)
    dealt[np.random.default_rng(seed).permutation(n)] = numbers
    return torch.from_numpy(dealt)
