"""The second pass without groups: what every pair of layers scores with each stimulus left out in turn.

Without stimulus q the mean moves by `−x̃_q / (n−1)`; with `f = n/(n−1)`, `g = 1/(n−1)` and all sums those of rows that
are centred over all n,

    C         C − f x_q y_qᵀ                    so  |C|² − 2f x_qᵀ C y_q + f² k_q l_q
    Σ k_i     Σ k_i − f k_q
    Σ k_i l_i   Σ k_i l_i − k_q l_q + 2g (y_q·Σ k_i y_i + x_q·Σ l_i x_i − 2 k_q l_q)
              + g² (l_q (Σ k_i − k_q) + k_q (Σ l_i − l_q)) + 4g² (x_qᵀ C y_q − k_q l_q) − 3g³ k_q l_q

which are the sums of n − 1 centred rows: the score follows from them as the full one does from its own.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from repalign.streaming.blocks import Side, layers_of
from repalign.streaming.panels import Panel
from repalign.streaming.products import Means, Own, Products, blocks, squared_lengths
from repalign.streaming.spread import Powers
from repalign.together import Together

LOST = 1e-9  # of a layer's squared length: what is left after a deletion has too few digits


@dataclass(frozen=True)
class Totals:
    """Sums over n centred rows of two layers: `square` |C|², `kl` Σkl, `k` Σk, `l` Σl; of one shape or broadcast."""

    square: Tensor
    kl: Tensor
    k: Tensor
    l: Tensor  # noqa: E741  as in the formula

    def inner(self, n: int | Tensor, debiased: bool) -> Tensor:
        """Give ⟨HKH, HLH⟩, or n(n−3) HSIC₁ (Song et al. 2012, eq. 5)."""
        if not debiased:
            return self.square
        return self.square - n / (n - 2) * self.kl + self.k * self.l / ((n - 1) * (n - 2))


@dataclass(frozen=True)
class Deleted:
    """What one stimulus contributes: `inner` xᵀCy, its `k` and `l`, `yk` y·Σky, `xl` x·Σlx; stimuli come first."""

    inner: Tensor
    k: Tensor
    l: Tensor  # noqa: E741  as in the formula
    yk: Tensor
    xl: Tensor

    def out_of(self, full: Totals, n: int) -> Totals:
        """Take each stimulus out of the sums of all n."""
        f, g, kl = n / (n - 1), 1 / (n - 1), self.k * self.l
        moved = self.l * (full.k - self.k) + self.k * (full.l - self.l) + 4 * (self.inner - kl)
        return Totals(
            full.square - 2 * f * self.inner + f**2 * kl,
            full.kl - kl + 2 * g * (self.yk + self.xl - 2 * kl) + g**2 * moved - 3 * g**3 * kl,
            full.k - f * self.k,
            full.l - f * self.l,
        )


@dataclass(frozen=True)
class Inners:
    """Inner products of two layers, `cross (…, la, lb)`, and of each with itself, `left (…, la)`, `right (…, lb)`."""

    cross: Tensor
    left: Tensor
    right: Tensor

    @staticmethod
    def of(parts: Iterable[Tensor], panel: Panel) -> "Inners":
        """Take the parts; where the sides are one, the diagonal of the first: a layer scores itself exactly 1."""
        cross, left, right = parts
        if panel.same:
            left = right = cross.diagonal(dim1=-2, dim2=-1)
        return Inners(cross, left, right)

    def scores(self) -> Float[Tensor, "*q la lb"]:
        """Divide by both lengths; NaN where a layer has none."""
        lengths = (self.left.clamp(min=0)[..., :, None] * self.right.clamp(min=0)[..., None, :]).sqrt()
        return torch.where(lengths > 0, self.cross / lengths, torch.nan)

    def without_the_lost(self, full: "Inners") -> "Inners":
        """Make NaN what a deletion has left too little of to know it."""
        left, right = (
            torch.where(some > LOST * whole, some, torch.nan)
            for some, whole in ((self.left, full.left), (self.right, full.right))
        )
        return Inners(self.cross, left, right)


def full_totals(found: Products) -> tuple[Totals, Totals, Totals]:
    """Collect the centred sums of all pairs of layers, and of each side's layers with themselves."""
    left, right = found.left, found.right
    cross = [_squares([found.block(i, j) for j in range(len(right.stack))]) for i in range(len(left.stack))]
    first, second = (Totals(_squares(own.products), own.kk, own.k, own.k) for own in (left, right))
    return Totals(torch.stack(cross), found.kl, left.k[:, None], right.k), first, second


def full_inners(found: Products, debiased: bool) -> Inners:
    """Compute the inner products over all n stimuli."""
    return Inners.of((totals.inner(found.n, debiased) for totals in full_totals(found)), found.panel)


def leave_out_each(
    a: Side, b: Side, found: Products, means: Means, debiased: bool, together: Together,
    advance: Callable[[int], None],
) -> Powers:  # fmt: skip
    """Leave out every stimulus of all processes in turn, and sum the powers of how far the scores move."""
    n, totals = found.n, full_totals(found)
    full = full_inners(found, debiased)
    scores, powers = full.scores(), Powers.empty(full.cross.shape)
    for block in blocks(a, b, found.panel, advance, means):
        deleted = _deleted(found, block.x, block.y)
        rest = (q.out_of(t, n).inner(n - 1, debiased) for q, t in zip(deleted, totals, strict=True))
        left = Inners.of(rest, found.panel)
        powers.add(left.without_the_lost(full).scores() - scores)
    together.sum_(powers.sums)
    return powers


def products_of_rows(found: Products, x: Float[Tensor, "r da"], y: Float[Tensor, "r db"]) -> Inners:
    """Compute xᵀCy of every row of x and y and every pair of layers, and xᵀ(XᵀX)x of each layer with itself."""
    left, right, same = found.left, found.right, found.panel.same
    cross = x.new_empty(len(x), len(left.stack), len(right.stack))
    for i, (columns, layer) in enumerate(zip(left.stack.slices, layers_of(x, left.stack), strict=True)):
        start = i if same else 0
        offset = right.stack.slices[start].start
        product = layer @ found.c[columns, offset:]
        for j in range(start, len(right.stack)):
            q = right.stack.slices[j]
            cross[:, i, j] = torch.linalg.vecdot(product[:, q.start - offset : q.stop - offset], y[:, q])
            if same:
                cross[:, j, i] = cross[:, i, j]
    if same:
        return Inners.of((cross, cross, cross), found.panel)
    return Inners(cross, _own_products(left, x), _own_products(right, y))


def _own_products(own: Own, x: Tensor) -> Float[Tensor, "r l"]:
    pairs = zip(layers_of(x, own.stack), own.products, strict=True)
    return torch.stack([torch.linalg.vecdot(layer @ product, layer) for layer, product in pairs], dim=1)


def _deleted(found: Products, x: Tensor, y: Tensor) -> tuple[Deleted, Deleted, Deleted]:
    left, right, inner = found.left, found.right, products_of_rows(found, x, y)
    yk = torch.stack([y[:, q] @ found.ky[:, q].T for q in right.stack.slices], dim=2)
    first = _with_itself(left, x, inner.left)
    if found.panel.same:
        return Deleted(inner.cross, first.k[:, :, None], first.k[:, None, :], yk, yk.mT), first, first
    xl = torch.stack([x[:, p] @ found.lx[:, p].T for p in left.stack.slices], dim=1)
    second = _with_itself(right, y, inner.right)
    return Deleted(inner.cross, first.k[:, :, None], second.k[:, None, :], yk, xl), first, second


def _with_itself(own: Own, x: Tensor, inner: Tensor) -> Deleted:
    k = squared_lengths(x, own.stack)
    along = torch.stack([x[:, p] @ own.kx[p] for p in own.stack.slices], dim=1)
    return Deleted(inner, k, k, along, along)


def _squares(products: Sequence[Tensor]) -> Float[Tensor, " l"]:
    return torch.stack([torch.linalg.vector_norm(product).square() for product in products])
