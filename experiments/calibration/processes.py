"""How the simulated features arise: latent variables seen through fixed mixtures, with noise, tails and groups.

Every feature table is `z W + noise`, z the latent variables `(n, k)`. Two tables align as far as they share z. Symbols:
`u` units (stimuli, or groups of them), `n` stimuli, `d` features, `k` latent variables.
"""

import hashlib
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

Features = Float[np.ndarray, "n d"]

LATENT = 4
STRENGTHS = {"none": 0.0, "weak": 0.5, "strong": 0.95}  # correlation of the two sides' latent variables
NOISE = 0.7  # deviation of the noise, that of what the latent variables explain being 1
SHARED = 0.8  # of the variance of every variable is common to a group
SIDES = ("reference", "a", "b")


@dataclass(frozen=True)
class Process:
    """Stimuli that are independent, or come in groups of `sizes` (repeated in turn), with Gaussian or t variables.

    `tails`: degrees of freedom of t, scaled to variance 1; infinity for Gaussian. With groups, each variable is
    `√0.8 · group + √0.2 · stimulus`, both parts with these tails. `width`: features of either side.
    """

    name: str
    tails: float = float("inf")
    width: int = 8
    sizes: tuple[int, ...] = (1,)
    shared: float = 0.0

    def of_row(self, units: int) -> Int[np.ndarray, " n"]:
        """Tell the unit of every stimulus."""
        return np.repeat(np.arange(units), np.resize(self.sizes, units))

    def groups(self, units: int, prefix: str = "") -> tuple[str, ...] | None:
        """Name the group of every stimulus; None when stimuli are independent."""
        return tuple(f"{prefix}{u}" for u in self.of_row(units)) if max(self.sizes) > 1 else None

    def marginal(self) -> "Process":
        """Give the process of one stimulus a group: what many groups tend to, since pairs within groups get rare."""
        return replace(self, sizes=(1,))

    def variables(self, rng: np.random.Generator, units: int, count: int) -> Float[np.ndarray, "n k"]:
        """Draw independent variables of variance 1, alike within a unit as far as `shared`."""
        row = self.of_row(units)
        own = self._independent(rng, len(row), count)
        if not self.shared:
            return own
        common = self._independent(rng, units, count)[row]
        return np.sqrt(self.shared) * common + np.sqrt(1 - self.shared) * own

    def table(self, rng: np.random.Generator, z: Float[np.ndarray, "n k"], units: int, side: str) -> Features:
        """Show latent variables through the fixed mixture of a side, with noise of its own."""
        return z @ mixture(side, self.width) + NOISE * self.variables(rng, units, self.width)

    def pair(self, rng: np.random.Generator, units: int) -> tuple[Features, dict[str, Features]]:
        """Draw one side, and the other as unrelated, weakly and strongly aligned with it; all have fixed marginals."""
        z, other = self.variables(rng, units, LATENT), self.variables(rng, units, LATENT)
        blended = {name: blend(z, other, r) for name, r in STRENGTHS.items()}
        return self.table(rng, z, units, "a"), {k: self.table(rng, v, units, "b") for k, v in blended.items()}

    def _independent(self, rng: np.random.Generator, rows: int, count: int) -> Float[np.ndarray, "n k"]:
        if np.isinf(self.tails):
            return rng.normal(size=(rows, count))
        return rng.standard_t(self.tails, size=(rows, count)) / np.sqrt(self.tails / (self.tails - 2))


def blend(z: Float[np.ndarray, "n k"], other: Float[np.ndarray, "n k"], correlation: float) -> Float[np.ndarray, "n k"]:
    """Mix two independent sets of variables so that the result correlates with the first as asked."""
    return correlation * z + np.sqrt(1 - correlation**2) * other


def mixture(side: str, width: int) -> Float[np.ndarray, "k d"]:
    """Draw the fixed mixture of a side, each feature of variance 1 on average."""
    return generator(f"mixture {side} {width}").normal(size=(LATENT, width)) / np.sqrt(LATENT)


def linear_cka_limit(process: Process, correlation: float) -> float:
    """Compute linear CKA of infinitely many stimuli, `‖Σ_ab‖² / (‖Σ_a‖ ‖Σ_b‖)`, from the covariances."""
    a, b = mixture("a", process.width), mixture("b", process.width)
    own = [np.linalg.norm(w.T @ w + NOISE**2 * np.eye(process.width)) for w in (a, b)]
    return float(np.linalg.norm(correlation * a.T @ b) ** 2 / (own[0] * own[1]))


def generator(key: str) -> np.random.Generator:
    """Make the random generator that belongs to a name."""
    return np.random.default_rng(int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "little"))


UNEQUAL = (2, 4, 8, 12, 24)
GAUSSIAN = Process("Gaussian")
HEAVY = Process("t3", tails=3)
WIDE = Process("Gaussian, d = 512", width=512)
GROUPED = Process("groups of 10", sizes=(10,), shared=SHARED)
HEAVY_GROUPED = Process("t3, groups of 10", tails=3, sizes=(10,), shared=SHARED)
UNEVEN = Process("groups of 2 to 24", sizes=UNEQUAL, shared=SHARED)
