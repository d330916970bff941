"""Random projection of long feature vectors: d numbers become k, and inner products stay what they were on average.

A count sketch (Charikar, Chen & Farach-Colton 2002, doi:10.1007/3-540-45465-9_59) gives feature i a random sign and
one of k places, and adds up what falls on each place. No d × k matrix exists, and it costs one pass over the features,
where a subsampled randomised Hadamard transform (Ailon & Chazelle 2006, doi:10.1145/1132516.1132597) costs log₂ d.
Measured for 32 rows of d = 802,816 and k = 4,096 on two cores: 0.01 s against 2.5 s, where a ResNet-18's forward pass
takes 0.7 s.
"""

from functools import lru_cache
from typing import final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

PANEL = 16_384  # features that become float64 at once


@final
class CountSketch:
    """Project rows `(n, d)` to `(n, k)`: `E⟨Sx, Sy⟩ = ⟨x, y⟩`, with variance at most `(‖x‖²‖y‖² + ⟨x, y⟩²) / k`.

    The features are cut into blocks of k, and each block is turned by its own random number of places and added with
    random signs. So features of one block never meet and two others meet with probability 1/k, which is what the mean
    and the variance of Weinberger et al. 2009 (doi:10.1145/1553374.1553516, lemma 2) rest on; unlike with one random
    place a feature, memory is read in order. The same seed, d and k give the same projection in every process.

    The error is noise with 1/√k of the size of the Gram's diagonal. It does not cancel in a norm: debiased linear CKA
    is drawn towards 0 by about `1 / √(1 + p/k)` for each side, p = (Σλ)²/Σλ² the participation ratio of its features,
    so k should be many times p; `gram_error` says how good it was.
    """

    def __init__(self, d: int, k: int, seed: int = 0) -> None:
        self.d, self.k = d, k
        self._signs, self._turns = _draw(d, k, seed)

    def __call__(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        """Project float rows of any width of float to float32; rows with d ≤ k are copied as they are."""
        if self.d <= self.k:
            return x.to(torch.float32, copy=True)
        self._signs = self._signs.to(x.device)
        rows = torch.zeros(len(x), self.k, device=x.device)
        for turn, start in zip(self._turns, range(0, self.d, self.k), strict=True):
            end = min(start + self.k, self.d)
            turned = min(start + self.k - turn, end)  # what comes after it would stand beyond the last place
            self._add(rows[:, turn : turn + turned - start], x, start, turned)
            self._add(rows[:, : end - turned], x, turned, end)
        return rows

    def _add(self, places: Tensor, x: Tensor, start: int, end: int) -> None:
        places.addcmul_(x[:, start:end].float(), self._signs[start:end])


@lru_cache(maxsize=64)
def _draw(d: int, k: int, seed: int) -> tuple[Float[Tensor, " d"], tuple[int, ...]]:
    """Draw the sign of every feature and the number of places by which every block turns."""
    if d <= k:
        return torch.ones(0), ()
    rng = np.random.default_rng([seed, d, k])
    signs = torch.from_numpy(2.0 * rng.integers(0, 2, d, dtype=np.int8) - 1.0).float()
    return signs, tuple(rng.integers(0, k, -(-d // k)).tolist())


def gram_error(exact: Float[Tensor, "n d"], projected: Float[Tensor, "n k"]) -> float:
    """Compute the relative error `‖K̂ − K‖ / ‖K‖` (Frobenius) of the centred Gram of projected features.

    NaN for features that are the same for every stimulus, whose Gram is zero.
    """
    size = float(exact.abs().max()) or 1.0
    gram = _centred_gram(exact, size)
    norm = float(gram.norm())
    return float((_centred_gram(projected, size) - gram).norm()) / norm if norm > 0 else float("nan")


def _centred_gram(x: Tensor, size: float) -> Float[Tensor, "n n"]:
    gram = torch.zeros(len(x), len(x), dtype=torch.float64, device=x.device)
    for panel in x.split(PANEL, dim=1):
        centred = panel.double() / size
        centred = centred - centred.mean(0)
        gram.addmm_(centred, centred.T)
    return gram
