"""The second pass with groups: what every pair of layers scores with each group left out in turn.

Of centred rows, with `s_h` the sum of group h's rows, `C_h = X_hᵀY_h`, `z_ih = x_i·s_h` and m the stimuli that stay,

    t_h = Σ_{q∈h} x_qᵀ C y_q        w_h = |C_h|² = Σ_{q,r∈h} K_qr L_qr

Where all pairs count, the rows that stay have the mean `−s_h / m`, so that, centred anew,

    |C|² − 2 t_h + w_h − 2/m (s_hᵀ C s'_h − s_hᵀ C_h s'_h) + |s_h|² |s'_h|² / m²
    k_i + 2 z_ih / m + |s_h|² / m²

take the places of |C|² and k_i. Where pairs within groups are left out, the row sums of what stays are
`−(z_ig + z_ih)`, g the group of i, and `between` goes on from there. Products of every stimulus with every group are
taken a few groups at a time.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from repalign.streaming.between import inner_between, some
from repalign.streaming.blocks import Side, Stack, layers_of
from repalign.streaming.grouping import Gathered, Grouping, Waiting
from repalign.streaming.products import Block, Means, Own, Products, blocks, laid_out, squared_lengths
from repalign.streaming.singles import Inners, Totals, full_totals, products_of_rows
from repalign.streaming.spread import Powers
from repalign.together import Together


@dataclass(frozen=True)
class Ask:
    """What is left out: `between` leaves out pairs within groups, `interval` every group in turn.

    `held` is how many bytes of rows may wait for the rest of their group.
    """

    between: bool
    debiased: bool
    interval: bool
    held: int


@dataclass(frozen=True)
class GroupSums:
    """Sums of each group and, last, of none: `touched` t_h, `within` w_h, `own` s_hᵀC_h s'_h, all by pairs of layers.

    `rows` holds Σ_i a_i b_i over the stimuli that stay, of row sums over m − n_g, or of squared lengths; `k (g, la)`
    and `l (g, lb)` the sums of the lengths. All are views of `flat`.
    """

    flat: Tensor
    touched: Inners
    within: Inners
    own: Inners
    rows: Inners
    k: Float[Tensor, "g la"]
    l: Float[Tensor, "g lb"]  # noqa: E741  as in the formula

    @staticmethod
    def empty(count: int, la: int, lb: int) -> "GroupSums":
        """Start with no stimulus."""
        flat, parts = laid_out([*[(count, la, lb), (count, la), (count, lb)] * 4, (count, la), (count, lb)])
        touched, within, own, rows = (Inners(*parts[k : k + 3]) for k in range(0, 12, 3))
        return GroupSums(flat, touched, within, own, rows, parts[12], parts[13])


@dataclass(frozen=True)
class Deletions:
    """Inner products without each group, one after the other, and of all, last, `(g + 1, …)`."""

    inners: Inners

    @property
    def full(self) -> Inners:
        """Take those of all stimuli."""
        return Inners(*(part[-1] for part in _parts(self.inners)))

    def powers(self) -> Powers:
        """Sum the powers of how far each deletion moves the scores."""
        deleted = Inners(*(part[:-1] for part in _parts(self.inners)))
        found = Powers.empty(self.full.cross.shape)
        found.add(deleted.without_the_lost(self.full).scores() - self.full.scores())
        return found


def leave_out_groups(
    a: Side, b: Side, found: Products, means: Means, groups: Grouping, ask: Ask, together: Together,
    advance: Callable[[int], None],
) -> Deletions:  # fmt: skip
    """Leave out every group of all processes in turn, or none when no interval is asked for."""
    sizes = torch.cat([groups.sizes, groups.sizes.new_zeros(1)]).to(torch.float64)
    for own, mean in ((found.left, means.left), (found.right, means.right))[: 1 if found.panel.same else 2]:
        own.groups.addr_(sizes, mean, alpha=-1)
    sums = GroupSums.empty(len(sizes), len(found.left.stack), len(found.right.stack))
    waiting, at_once = Waiting(groups, ask.held), found.panel.at_once(max(map(len, groups.codes), default=0))
    for block in blocks(a, b, found.panel, advance, means):
        codes = groups.codes[block.k]
        _add_rows(sums, found, block, codes, sizes, ask, at_once)
        for gathered in waiting.take(codes, block.x, block.y):
            _add_within(sums.within, found, gathered, at_once)
    together.sum_(sums.flat)
    inners = _between(sums, found, sizes) if ask.between else _all_pairs(sums, found, sizes, ask.debiased)
    inners = Inners.of(_parts(inners), found.panel)
    return Deletions(inners if ask.interval else Inners(*(part[-1:] for part in _parts(inners))))


def _add_rows(
    sums: GroupSums, found: Products, block: Block, codes: Int[Tensor, " r"], sizes: Float[Tensor, " g"], ask: Ask,
    at_once: int,
) -> None:  # fmt: skip
    """Add the rows of one block to the sums of every group."""
    left, right = found.left, found.right
    sides = ((left, block.x),) if found.panel.same else ((left, block.x), (right, block.y))
    mine = [_with_own_group(own, x, codes) for own, x in sides]
    if ask.interval:
        _add_to(sums.touched, codes, products_of_rows(found, block.x, block.y))
        _add_to(sums.own, codes, _crossed(mine[0], mine[-1]))
    if not ask.between:
        mine = [squared_lengths(x, own.stack) for own, x in sides]
    if not (ask.between or ask.debiased):
        return
    each = len(codes) * (len(left.stack) + len(right.stack))
    for h in some(len(sizes), at_once // each, first=0 if ask.interval else len(sizes) - 1):
        stays = codes != torch.arange(len(sizes))[h, None]
        m = found.n - sizes[h, None]
        moved = [_moved(own, x, rows, h, m, ask.between) for (own, x), rows in zip(sides, mine, strict=True)]
        p, q = moved[0], moved[-1]
        weights = torch.where(stays, 1 / (m - sizes[codes]), 0.0) if ask.between else stays.to(p.dtype)
        weighted = p * weights[..., None]
        sums.rows.cross[h] += weighted.mT @ q
        sums.rows.left[h] += (weighted * p).sum(1)
        sums.rows.right[h] += (q.square() * weights[..., None]).sum(1)
        sums.k[h] += weighted.sum(1)
        sums.l[h] += (q * weights[..., None]).sum(1)


def _moved(
    own: Own, x: Float[Tensor, "r d"], mine: Float[Tensor, "r l"], h: slice, m: Float[Tensor, "h 1"], between: bool
) -> Float[Tensor, "h r l"]:
    """Give each stimulus' row sum, but for its sign, or squared length, as it is without each of the groups h."""
    sums = own.groups[h]
    parts = zip(layers_of(x, own.stack), layers_of(sums, own.stack), strict=True)
    z = torch.stack([of_groups @ layer.T for layer, of_groups in parts], dim=2)
    if between:
        return z.add_(mine)
    lengths = squared_lengths(sums, own.stack) / m**2
    return z.mul_(2 / m[..., None]).add_(mine).add_(lengths[:, None, :])


def _between(sums: GroupSums, found: Products, sizes: Float[Tensor, " g"]) -> Inners:
    """Put the inner products together where pairs within groups are left out."""
    squares = (totals.square for totals in full_totals(found))
    pairs = zip(squares, _parts(sums.touched), _parts(sums.within), strict=True)
    kept = Inners(*(square - w.sum(0) - 2 * (t - w) for square, t, w in pairs))
    return inner_between(kept, sums.rows, found, sizes)


def _all_pairs(sums: GroupSums, found: Products, sizes: Float[Tensor, " g"], debiased: bool) -> Inners:
    """Put the inner products together where all pairs count."""
    left, right = found.left, found.right
    moved = products_of_rows(found, left.groups, right.groups)
    lengths = [squared_lengths(own.groups, own.stack) for own in (left, right)]
    crossed = _crossed(lengths[0], lengths[1])
    k, l = sums.k, sums.l  # noqa: E741
    totals = (k[:, :, None], l[:, None, :]), (k, k), (l, l)
    inners = []
    for full, total, t, w, a, o, s, kl in zip(
        full_totals(found), totals, _parts(sums.touched), _parts(sums.within), _parts(moved), _parts(sums.own),
        _parts(crossed), _parts(sums.rows), strict=True,
    ):  # fmt: skip
        m = (found.n - sizes).reshape(-1, *(1,) * (t.ndim - 1))
        square = full.square - 2 * t + w - 2 / m * (a - o) + s / m**2
        inners.append(Totals(square, kl, *total).inner(m, debiased))
    return Inners(*inners)


def _add_within(within: Inners, found: Products, gathered: Gathered, at_once: int) -> None:
    """Add w_h of a group whose rows have all come, some rows of its Grams at a time."""
    stacks = ((found.left.stack, gathered.x), (found.right.stack, gathered.y))
    each = len(gathered.x) * (len(found.left.stack) + len(found.right.stack))
    for rows in some(len(gathered.x), at_once // each):
        p, q = (_gram_rows(stack, x, rows) for stack, x in stacks)
        within.cross[gathered.code] += p @ q.T
        within.left[gathered.code] += torch.linalg.vecdot(p, p)
        within.right[gathered.code] += torch.linalg.vecdot(q, q)


def _gram_rows(stack: Stack, x: Tensor, rows: slice) -> Float[Tensor, "l m"]:
    return torch.stack([(layer[rows] @ layer.T).flatten() for layer in layers_of(x, stack)])


def _with_own_group(own: Own, x: Tensor, codes: Tensor) -> Float[Tensor, "r l"]:
    parts = zip(layers_of(x, own.stack), layers_of(own.groups[codes], own.stack), strict=True)
    return torch.stack([torch.linalg.vecdot(layer, of_group) for layer, of_group in parts], dim=1)


def _crossed(a: Float[Tensor, "r la"], b: Float[Tensor, "r lb"]) -> Inners:
    """Multiply the values of every two layers, and of each with itself."""
    return Inners(a[:, :, None] * b[:, None, :], a.square(), b.square())


def _add_to(total: Inners, codes: Tensor, rows: Inners) -> None:
    for whole, part in zip(_parts(total), _parts(rows), strict=True):
        whole.index_add_(0, codes, part.contiguous())


def _parts(inners: Inners) -> tuple[Tensor, Tensor, Tensor]:
    return inners.cross, inners.left, inners.right
