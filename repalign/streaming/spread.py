"""The jackknife's standard error from running sums of powers, so that no deletion's score is kept."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Powers:
    """`sums (4, la, lb)`: Σe, Σe², Σe³, Σe⁴ of what each deletion changes of a score, `e_j = θ₋ⱼ − θ`.

    Taken of the change, not of the score: it is of the order of 1/n, and its mean of 1/n², so no digits are lost.
    """

    sums: Float[Tensor, "4 la lb"]

    @staticmethod
    def empty(shape: Sequence[int]) -> "Powers":
        """Start with no deletion."""
        return Powers(torch.zeros(4, *shape, dtype=torch.float64))

    def add(self, change: Float[Tensor, "r la lb"]) -> None:
        """Add some deletions; NaN makes the sums of that pair of layers NaN."""
        power = change
        for total in self.sums:
            total.add_(power.sum(0))
            power = power * change

    def standard_error(self, count: int) -> Float[Tensor, "la lb"]:
        """Compute `√((g − 1)/g Σ (θ₋ⱼ − θ̄)²)` of g = `count` deletions, as `infer.jackknife` does."""
        return ((count - 1) / count * self._second(count)).sqrt()

    def degrees_of_freedom(self, count: int) -> Float[Tensor, "la lb"]:
        """Estimate `2 g e / (g − e)`, e = (Σv)² / Σv², v_j = (θ₋ⱼ − θ̄)², at most g − 1, as `infer.jackknife` does."""
        one, two, three, four = self.sums
        mean = one / count
        fourth = four - 4 * mean * three + 6 * mean**2 * two - 4 * mean**3 * one + count * mean**4
        effective = self._second(count).square() / fourth
        found = 2 * count * effective / (count - effective).clamp(min=0)  # equal shares: no limit but for g − 1
        most = torch.full_like(found, count - 1)
        usual = torch.where(torch.isnan(found), most, found.minimum(most))
        return torch.where(torch.isnan(two), torch.nan, usual)

    def _second(self, count: int) -> Tensor:
        one, two = self.sums[0], self.sums[1]
        return (two - one.square() / count).clamp(min=0)
