"""The first pass: sums over all stimuli, of which every score and every deletion is made.

Rows come shifted by a vector near their mean; `centre` turns the sums into those of exactly centred rows, with
`μ = Σ x_i / n`, `x̃ = x − μ`, `k̃ = |x̃|² = k − 2 μ·x + |μ|²`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from repalign.streaming.blocks import Extent, Side, Stack, highest, layers_of, load
from repalign.streaming.panels import Panel
from repalign.together import Together

Extents = tuple[Tensor, Tensor]  # of either side, (2, l): the largest magnitudes as read, and as shifted


@dataclass(frozen=True)
class Means:
    """What is still left of the mean after the shift, `(Σd,)` of either side."""

    left: Float[Tensor, " da"]
    right: Float[Tensor, " db"]


@dataclass(frozen=True)
class Block:
    """The rows of block k, `x (r, Σd_a)` and `y (r, Σd_b)`; `y is x` where the sides are one."""

    k: int
    x: Float[Tensor, "r da"]
    y: Float[Tensor, "r db"]
    extents: tuple[Extent, Extent]


@dataclass(frozen=True)
class Own:
    """Sums over the rows of one side: each layer with itself.

    `products`: XᵀX of each layer; `sums (Σd,)` Σx; `groups (g, Σd)` the same of each group; `k (l,)` Σk;
    `kk (l,)` Σk²; `kx (Σd,)` Σkx.
    """

    stack: Stack
    products: tuple[Float[Tensor, "_ _"], ...]
    sums: Float[Tensor, " d"]
    groups: Float[Tensor, "g d"]
    k: Float[Tensor, " l"]
    kk: Float[Tensor, " l"]
    kx: Float[Tensor, " d"]


@dataclass(frozen=True)
class Products:
    """The sums of one panel: `c (Σd_a, Σd_b)` is XᵀY, `kl (la, lb)` Σkl, `ky (la, Σd_b)` Σky, `lx (lb, Σd_a)` Σlx.

    Where the sides are one, c holds the layers above the diagonal and on it only, and `right is left`. `undefined_*`
    mark the layers that are the same for every stimulus. All sums are views of `flat`.
    """

    panel: Panel
    n: int
    flat: Float[Tensor, " m"]
    left: Own
    right: Own
    c: Float[Tensor, "da db"]
    kl: Float[Tensor, "la lb"]
    ky: Float[Tensor, "la db"]
    lx: Float[Tensor, "lb da"]

    def block(self, i: int, j: int) -> Float[Tensor, "_ _"]:
        """Take the part of c of layer i of the left and j of the right."""
        if self.panel.same and i > j:
            return self.block(j, i).T
        return self.c[self.left.stack.slices[i], self.right.stack.slices[j]]


def blocks(
    a: Side, b: Side, panel: Panel, advance: Callable[[int], None], means: Means | None = None
) -> Iterator[Block]:
    """Read every block once; its rows are valid until the next one is read."""
    longest = max(map(len, a.rows.ids), default=0)
    x = torch.empty(longest, panel.left.width, dtype=torch.float64)
    y = x if panel.same else torch.empty(longest, panel.right.width, dtype=torch.float64)
    for k, ids in enumerate(a.rows.ids):
        found = _read(a, b, panel, k)
        first, second = x[: len(ids)], y[: len(ids)]
        left = load(a, panel.left, found[0], k, first)
        right = left if panel.same else load(b, panel.right, found[1], k, second)
        if means is not None:
            first -= means.left
            if not panel.same:
                second -= means.right
        yield Block(k, first, first if panel.same else second, (left, right))
        advance(len(ids))


def multiply(
    a: Side, b: Side, panel: Panel, n: int, codes: tuple[Int[Tensor, "_"], ...] | None, groups: int,
    together: Together, advance: Callable[[int], None],
) -> tuple[Products, tuple[Tensor, Tensor]]:  # fmt: skip
    """Take the sums of a panel over all n stimuli of all processes, and mark each side's constant layers `(l,)`."""
    found, extents = empty(panel, n, groups), no_extents(panel)
    for block in blocks(a, b, panel, advance):
        add(found, block, None if codes is None else codes[block.k])
        widen(extents, block)
    together.sum_(found.flat)
    return found, constant_layers(extents, n, together)


def no_extents(panel: Panel) -> Extents:
    """Start with nothing seen."""
    left, right = (torch.zeros(2, len(stack), dtype=torch.float64) for stack in (panel.left, panel.right))
    return left, right


def widen(extents: Extents, block: Block) -> None:
    """Take a block's largest magnitudes into account, in place."""
    for largest, seen in zip(extents, block.extents, strict=True):
        torch.maximum(largest, torch.stack([seen.read, seen.shifted]), out=largest)


def constant_layers(extents: Extents, n: int, together: Together) -> tuple[Bool[Tensor, " la"], Bool[Tensor, " lb"]]:
    """Mark each side's layers that are the same for all n stimuli of all processes but for rounding."""
    eps = torch.finfo(torch.float64).eps
    (read_a, shifted_a), (read_b, shifted_b) = (highest(largest, together) for largest in extents)
    return shifted_a <= n * eps * read_a, shifted_b <= n * eps * read_b


def centre(found: Products) -> Means:
    """Turn the sums, in place, into those of rows whose mean is zero, and give that mean."""
    n, left, right = found.n, found.left, found.right
    means = Means(left.sums / n, right.sums / n)
    found.c.addr_(left.sums, right.sums, alpha=-1 / n)
    sides = ((left, means.left),) if found.panel.same else ((left, means.left), (right, means.right))
    if not found.panel.same:
        for own, mean in sides:
            for product, columns in zip(own.products, own.stack.slices, strict=True):
                product.addr_(mean[columns], mean[columns], alpha=-n)
    _centre_cross(found, means)
    for own, mean in sides:
        _centre_own(own, mean, n)
    return means


def _centre_cross(found: Products, means: Means) -> None:
    """Turn Σkl into Σk̃l̃, Σky into Σk̃ỹ and Σlx into Σl̃x̃, of each pair of layers; c is centred already."""
    n, k, l = found.n, found.left.k, found.right.k  # noqa: E741  as in the formulas
    for i, p in enumerate(found.left.stack.slices):
        for j, q in enumerate(found.right.stack.slices):
            if found.panel.same and i > j:
                found.kl[i, j] = found.kl[j, i]
                continue
            c, mu, nu = found.block(i, j), means.left[p], means.right[q]
            ky, lx, c_mu, c_nu = found.ky[i, q], found.lx[j, p], mu @ c, c @ nu
            found.kl[i, j] += (
                4 * (mu @ c_nu) - 2 * (nu @ ky + mu @ lx) + (nu @ nu) * k[i] + (mu @ mu) * l[j]
                + n * (mu @ mu) * (nu @ nu)
            )  # fmt: skip
            ky -= 2 * c_mu + nu * k[i]
            if i != j or not found.panel.same:  # there they are the same numbers
                lx -= 2 * c_nu + mu * l[j]


def _centre_own(own: Own, mean: Tensor, n: int) -> None:
    for i, (product, columns) in enumerate(zip(own.products, own.stack.slices, strict=True)):
        mu, kx = mean[columns], own.kx[columns]
        c_mu, square = product @ mu, mean[columns] @ mean[columns]
        own.kk[i] += 4 * (mu @ c_mu) - 4 * (mu @ kx) + 2 * square * own.k[i] + n * square**2
        kx -= 2 * c_mu + mu * own.k[i]
        own.k[i] -= n * square


def _read(a: Side, b: Side, panel: Panel, k: int) -> tuple:
    """Read the layers of both sides, in one go where both are of one encoder."""
    if a is not b:
        return a.rows.read(k, panel.left.names), b.rows.read(k, panel.right.names)
    names = panel.left.names if panel.same else (*panel.left.names, *panel.right.names)
    found = a.rows.read(k, names)
    return found, found


def add(found: Products, block: Block, codes: Tensor | None) -> None:
    """Add a block's rows to the sums; `codes` are their groups."""
    k = _add_own(found.left, block.x, codes, found.panel.same)
    l = k if found.panel.same else _add_own(found.right, block.y, codes, False)  # noqa: E741
    found.kl.addmm_(k.T, l)
    found.ky.addmm_(k.T, block.y)
    if not found.panel.same:
        found.lx.addmm_(l.T, block.x)
        found.c.addmm_(block.x.T, block.y)
        return
    for columns in found.left.stack.slices:  # the layers up to this one: the others are its transpose
        found.c[: columns.stop, columns].addmm_(block.x[:, : columns.stop].T, block.x[:, columns])


def _add_own(own: Own, x: Tensor, codes: Tensor | None, products_are_in_c: bool) -> Float[Tensor, "r l"]:
    k = squared_lengths(x, own.stack)
    own.sums.add_(x.sum(0))
    own.k.add_(k.sum(0))
    own.kk.add_(k.square().sum(0))
    for i, (layer, columns) in enumerate(zip(layers_of(x, own.stack), own.stack.slices, strict=True)):
        own.kx[columns].add_(k[:, i] @ layer)
        if not products_are_in_c:
            own.products[i].addmm_(layer.T, layer)
    if codes is not None:
        own.groups.index_add_(0, codes, x)
    return k


def squared_lengths(x: Float[Tensor, "r d"], stack: Stack) -> Float[Tensor, "r l"]:
    """Sum the squares of each layer's features, of each stimulus."""
    return torch.stack([torch.linalg.vecdot(layer, layer) for layer in layers_of(x, stack)], dim=1)


def empty(panel: Panel, n: int, groups: int) -> Products:
    """Lay all sums out in one tensor, which several processes add at once."""
    left, right = panel.left, panel.right
    sides = (left,) if panel.same else (left, right)
    shapes: list[tuple[int, ...]] = [(left.width, right.width), (len(left), len(right)), (len(left), right.width)]
    if not panel.same:
        shapes.append((len(right), left.width))
    for side in sides:
        shapes += [(side.width,), (groups, side.width), (len(side),), (len(side),), (side.width,)]
        shapes += [] if panel.same else [(d, d) for d in side.widths]
    flat, views = laid_out(shapes)
    parts = iter(views)
    c, kl, ky = next(parts), next(parts), next(parts)
    lx = ky if panel.same else next(parts)
    owns = []
    for side in sides:
        sums, sums_of_groups, k, kk, kx = (next(parts) for _ in range(5))
        products = [c[q, q] for q in side.slices] if panel.same else [next(parts) for _ in side.widths]
        owns.append(Own(side, tuple(products), sums, sums_of_groups, k, kk, kx))
    return Products(panel, n, flat, owns[0], owns[-1], c, kl, ky, lx)


def laid_out(shapes: list[tuple[int, ...]]) -> tuple[Tensor, list[Tensor]]:
    """Give one flat tensor of zeros and its parts in the given shapes."""
    sizes = [torch.Size(shape).numel() for shape in shapes]
    flat = torch.zeros(sum(sizes), dtype=torch.float64)
    return flat, [part.view(shape) for part, shape in zip(flat.split(sizes), shapes, strict=True)]
