"""Inner products without the pairs within groups, from row sums: what row and column shares take is subtracted.

With `r_i`, `r'_i` the sums of row i over the stimuli of other groups, and u the shares of r' (`metrics.gram.shares`),
`⟨A, B⟩ = Σ K_ij L_ij − 2 Σ_i r_i u_i`. A share is `u_i = (r'_i − V + V_g) / (n − n_g)`, where
`(n − 2 n_g) V_g + n_g V = R'_g`. So all that is needed of the stimuli is `Σ_{i∈g} r_i r'_i` over `n − n_g`, and of the
groups `R_g = Σ_{i∈g} r_i`, which for centred rows is `−s_g·s_g`, and `−s_g·(s_g + s_h)` without group h.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from repalign.streaming.blocks import layers_of
from repalign.streaming.products import Own, Products
from repalign.streaming.singles import Inners


@dataclass(frozen=True)
class Remaining:
    """The groups g that stay when each of some groups h is left out: `stays (h, g)`, and m, the stimuli that do."""

    stays: Bool[Tensor, "h g"]
    m: Float[Tensor, "h 1"]
    sizes: Float[Tensor, " g"]

    def share_sums(self, sums: Float[Tensor, "h g l"]) -> tuple[Float[Tensor, "h 1 l"], Float[Tensor, "h g l"]]:
        """Solve for V and every V_g; a group of half the stimuli leaves V_g out of its own equation."""
        factor, zero = (self.m - 2 * self.sizes)[..., None], torch.zeros((), dtype=sums.dtype)
        stays, sizes = self.stays[..., None], self.sizes[:, None]
        half, usual = stays & (factor == 0), stays & (factor != 0)
        divisor = torch.where(usual, factor, 1.0)
        total = torch.where(usual, sums / divisor, zero).sum(1, keepdim=True) / (
            1 + torch.where(usual, sizes / divisor, zero).sum(1, keepdim=True)
        )
        of_half = torch.where(half, sums / sizes.clamp(min=1), zero).sum(1, keepdim=True)
        total = torch.where(half.any(1, keepdim=True), of_half, total)
        each = torch.where(usual, (sums - sizes * total) / divisor, zero)
        return total, torch.where(half, total - each.sum(1, keepdim=True), each)


def inner_between(kept: Inners, rows: Inners, found: Products, sizes: Float[Tensor, " g"]) -> Inners:
    """Subtract from `kept`, Σ K_ij L_ij over pairs between groups, what shares take, `(g, …)`, one group out at a time.

    `rows` holds Σ_i r_i r'_i / (m − n_g); the last entry of `sizes` is 0: no group is left out.
    """
    taken = Inners(*(torch.zeros_like(part) for part in (rows.cross, rows.left, rows.right)))
    for h in some(len(sizes), (len(found.left.stack) + 1) * (len(found.right.stack) + 1) // 4):
        stays = (torch.arange(len(sizes)) != torch.arange(len(sizes))[h, None]) & (sizes > 0)
        remaining = Remaining(stays, found.n - sizes[h, None], sizes)
        weights = torch.where(stays, 1 / (remaining.m - sizes), 0.0)[..., None]
        sums_a, sums_b = (_sums_of_groups(own, h) * stays[..., None] for own in (found.left, found.right))
        shares = []
        for sums in (sums_a, sums_b):
            total, each = remaining.share_sums(sums)
            shares.append((total - each) * weights)
        taken.cross[h] = sums_a.mT @ shares[1]
        taken.left[h] = (sums_a * shares[0]).sum(1)
        taken.right[h] = (sums_b * shares[1]).sum(1)
    return Inners(
        kept.cross - 2 * (rows.cross - taken.cross),
        kept.left - 2 * (rows.left - taken.left),
        kept.right - 2 * (rows.right - taken.right),
    )


def _sums_of_groups(own: Own, h: slice) -> Float[Tensor, "h g l"]:
    """Give R_g of each layer without each of the groups h."""
    layers = list(layers_of(own.groups, own.stack))
    lengths = torch.stack([torch.linalg.vecdot(layer, layer) for layer in layers], dim=1)
    products = torch.stack([layer[h] @ layer.T for layer in layers], dim=2)
    return products.add_(lengths).neg_()


def some(count: int, step: int, first: int = 0) -> Iterator[slice]:
    """Take at most `step` of `count` things at a time, at least one."""
    step = max(1, step)
    return (slice(start, min(start + step, count)) for start in range(first, count, step))
