"""The jackknife of a whole matrix of scores: what every layer pair scores when stimuli or groups are left out.

For a cosine metric no score is computed again. With `A`, `B` the embedded matrices of two layers, `G` the stimuli
left out, `S` the m that stay, and the three sums

    inner = Σ_{i,j ∈ S} A_ij B_ij = ⟨A, B⟩ − 2 Σ_{q ∈ G} Σ_i A_qi B_qi + Σ_{q,r ∈ G} A_qr B_qr
    rows  = Σ_{i ∈ S} a_i b_i      with a_i = Σ_{q ∈ G} A_qi
    total = Σ_{i,j ∈ S} A_ij

the inner product of the embeddings of the subset is, by the way the metric centres,

    u       inner − 2 rows / (m − 2) + total_A total_B / ((m − 1)(m − 2))
    double  inner − 2 rows / m + total_A total_B / m²
    mean    inner − total_A total_B / (pairs that stay, each counted twice)
    none    inner

Where `u` leaves out the pairs within groups, its last two terms are −2 Σ_{i ∈ S} a_i u_i, u the row shares of the
subset (`gram.shares`), of which they are the special case. All this holds because the full embedding differs from the
geometry only by row, column and constant terms, which centring the subset takes out again; rows and columns of `u` and
`double` sum to zero, so the row sums of the subset are −a_i. It is exact for linear CKA, distance correlation,
Pearson and cosine RSA; Spearman's ranks and the RBF bandwidth stay those of all stimuli, an approximation. Other
metrics index the geometry and embed again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from scipy.stats import t as student
from torch import Tensor

from repalign.align import Prepared, group_codes
from repalign.embedding import embed, scores
from repalign.metrics.base import Centring, CosineMetric
from repalign.metrics.gram import shares
from repalign.stack import BYTES, Stack, panels

PANEL = 32  # rows of all layers that are multiplied at once
LOST = 1e-6  # of a squared length: half of float64's digits are gone
Product = Callable[[Tensor, Tensor], Tensor]
Kinds = Sequence[tuple[int, int, Product]]  # which of two stacks is multiplied with which, and how


def deleted_scores(prepared: Prepared, deleted: Sequence[Int[Tensor, "_"]]) -> Float[np.ndarray, "g la lb"]:
    """Score all layer pairs with each set of `deleted` stimuli left out in turn."""
    metric, n, (left, right) = prepared.metric, len(prepared.a), prepared.embedded
    if not isinstance(metric, CosineMetric) or metric.centring is None:
        return np.stack([refit(prepared, others(n, rows)) for rows in deleted])
    result = np.full((len(deleted), left.count, right.count), np.nan)
    if left.rows and right.rows:
        found = from_row_sums(prepared, deleted, metric.centring, left.values, right.values, all_pairs)
        result[np.ix_(range(len(deleted)), left.rows, right.rows)] = found.scores
        for k in found.lost:
            result[k] = refit(prepared, others(n, deleted[k]))
    return result


def refit(prepared: Prepared, index: Int[Tensor, " m"]) -> Float[np.ndarray, "la lb"]:
    """Score all layer pairs on the stimuli at `index` alone: the geometries indexed and embedded again."""
    left, right = prepared.geometries
    first = embed(left.take(prepared.metric, index), prepared.metric)
    second = first if right is left else embed(right.take(prepared.metric, index), prepared.metric)
    return scores(first, second, prepared.metric)


@dataclass(frozen=True)
class FromRowSums:
    """Scores without each set of stimuli left out, `(g, la, lb)`, or `(g, l)` of layers at the same place.

    `lost` lists the sets to compute afresh: they take nearly all of a layer's unit length with them, and a difference
    of row sums has lost its digits.
    """

    scores: NDArray[np.float64]
    lost: list[int]


def from_row_sums(
    prepared: Prepared, deleted: Sequence[Int[Tensor, "_"]], centring: Centring,
    a: Stack, b: Stack, product: Product,
) -> FromRowSums:  # fmt: skip
    """Score the unit matrices that `product` (`all_pairs` or `each_own`) brings together, without each of `deleted`."""
    codes = group_codes(prepared.groups, len(prepared.a)) if prepared.within_groups else None
    left_over = _Leftover(deleted, centring, prepared.left_out, codes, len(prepared.a))
    found = left_over.sums(a, b, product)
    total_a = left_over.totals(a, found.crossing_a)
    total_b = total_a if b is a else left_over.totals(b, found.crossing_b)
    cross = left_over.inner_products(found.of[0], total_a, total_b, product)
    own_a = left_over.inner_products(found.of[1], total_a, total_a, each_own)
    own_b = own_a if b is a else left_over.inner_products(found.of[2], total_b, total_b, each_own)
    lengths = product(own_a.clamp(min=0).sqrt()[..., None], own_b.clamp(min=0).sqrt()[..., None])
    values = torch.where(lengths > 0, cross / lengths, torch.nan)
    lost = (torch.cat([own_a, own_b], dim=1).amin(1) <= LOST).nonzero().flatten()
    return FromRowSums(values.cpu().numpy(), lost.tolist())


def standard_error(deleted: Float[np.ndarray, "g ..."]) -> NDArray[np.float64]:
    """Compute the jackknife standard error from the scores without each of g units: `√((g − 1)/g Σ (θ₋ⱼ − θ̄)²)`.

    Groups count alike whatever their size. For the mean of clustered stimuli that is right on average, where weighting
    by size (Busing, Meijer & van der Leeden 1999) is not: true variance 0.117 for 12 groups of 2 to 11, 0.117 so and
    0.097 weighted.
    """
    count = len(deleted)
    return np.asarray(np.sqrt((count - 1) / count * ((deleted - deleted.mean(0)) ** 2).sum(0)))


def degrees_of_freedom(deleted: Float[np.ndarray, "g ..."]) -> NDArray[np.float64]:
    """Estimate how many degrees of freedom the standard error has, at most g − 1.

    With v_j = (θ₋ⱼ − θ̄)² and e = (Σv)² / Σv², the number of units that carry the variance: `2 g e / (g − e)`, from
    matching the mean and variance of Σv to a χ² (Satterthwaite 1946); Gaussian units have e = g/3 and g degrees. Few
    where a few stimuli decide the score, which heavy tails bring about.
    """
    count = len(deleted)
    shares = (deleted - deleted.mean(0)) ** 2
    with np.errstate(invalid="ignore", divide="ignore"):
        effective = shares.sum(0) ** 2 / (shares**2).sum(0)
        found = 2 * count * effective / (count - effective)
    return np.asarray(np.fmin(np.where(np.isnan(found), np.inf, found), count - 1))


def interval(
    full: Float[np.ndarray, "..."], se: NDArray[np.float64], degrees: int | float | NDArray[np.float64], level: float,
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:  # fmt: skip
    """Give the ends of `full ± t se`, t with `degrees` of freedom, cut to the measure's bounds."""
    half = student.ppf(0.5 + level / 2, degrees) * se
    return np.asarray(np.clip(full - half, *bounds)), np.asarray(np.clip(full + half, *bounds))


@dataclass(frozen=True)
class _Sums:
    """What stands with each set left out: A_qi B_qi over its rows and within it, and a_i b_i over what stays."""

    touched: Tensor
    among: Tensor
    rows: Tensor


@dataclass(frozen=True)
class _Found:
    """The sums of each product, and those of A and of B where the rows and columns left out cross."""

    of: list[_Sums]
    crossing_a: Float[Tensor, "g la"]
    crossing_b: Float[Tensor, "g lb"]


@dataclass(frozen=True)
class _OneGroup:
    """`_Found` of one group, by side."""

    of: list[_Sums]
    crossing: tuple[Tensor, Tensor]


@dataclass(frozen=True)
class _GroupRows:
    """Of some rows of one group: products of all of them and within the group, their sum, and that within the group."""

    products: list[tuple[Tensor, Tensor]]
    sums: list[Tensor]
    crossing: list[Tensor]


@dataclass(frozen=True)
class _Leftover:
    """What stays of n stimuli when each of `deleted`, which together are all stimuli once, is left out in turn."""

    deleted: Sequence[Int[Tensor, "_"]]
    centring: Centring
    missing: Bool[Tensor, "n n"] | None
    codes: Int[Tensor, " n"] | None
    n: int

    def inner_products(
        self, sums: _Sums, total_a: Float[Tensor, "g la"], total_b: Float[Tensor, "g lb"], product: Product
    ) -> Tensor:
        """Compute `⟨A_S, B_S⟩` for every subset, `(g, la, lb)`, or `(g, l)` of layers at the same place."""
        inner = sums.touched.sum(0) - 2 * sums.touched + sums.among
        if self.centring == "u" and self.codes is not None:
            return inner - 2 * sums.rows
        totals = product(total_a[..., None], total_b[..., None])
        stay = self.n - torch.tensor([len(g) for g in self.deleted], dtype=inner.dtype, device=inner.device)
        stay = stay.reshape(-1, *(1,) * (inner.ndim - 1))
        match self.centring:
            case "u":
                return inner - 2 * sums.rows / (stay - 2) + totals / ((stay - 1) * (stay - 2))
            case "double":
                return inner - 2 * sums.rows / stay + totals / stay**2
            case "mean":
                return inner - totals / self._pairs(inner).reshape(stay.shape)
            case "none":
                return inner

    def sums(self, a: Stack, b: Stack, product: Product) -> "_Found":
        """Sum the products of a with b, of a with itself and of b with itself; each stack is read once."""
        kinds = ((0, 1, product), (0, 0, each_own)) if b is a else ((0, 1, product), (0, 0, each_own), (1, 1, each_own))
        return (self._single_sums if self._singles else self._group_sums)(a, b, kinds)

    def _group_sums(self, a: Stack, b: Stack, kinds: Kinds) -> "_Found":
        each = [self._one_group(a, b, g, kinds) for g in self.deleted]
        of = [
            _Sums(*(torch.stack(those) for those in zip(*((s.touched, s.among, s.rows) for s in kind), strict=True)))
            for kind in zip(*(one.of for one in each), strict=True)
        ]
        return _Found(of, *(torch.stack([one.crossing[side] for one in each]) for side in (0, 1)))

    def _one_group(self, a: Stack, b: Stack, g: Int[Tensor, "_"], kinds: Kinds) -> "_OneGroup":
        """Sum over the rows of one group, read as many at a time as memory allows."""
        height = max(1, a.where.most(self.n) // (BYTES * self.n * (len(a) + len(b))))
        parts = [self._rows_of_group(a, b, g, rows, kinds) for rows in g.split(height)]
        sums = [torch.stack([part.sums[side] for part in parts]).sum(0) for side in (0, 1)]
        sums = sums[0], sums[0] if b is a else sums[1]
        of = []
        for k, (i, j, product) in enumerate(kinds):
            touched, among = (torch.stack([part.products[k][m] for part in parts]).sum(0) for m in (0, 1))
            of.append(_Sums(touched, among, product(*self._staying(sums[i], sums[j], g))))
        crossing = [torch.stack([part.crossing[side] for part in parts]).sum(0) for side in (0, 1)]
        return _OneGroup(of, (crossing[0], crossing[1]))

    def _rows_of_group(
        self, a: Stack, b: Stack, g: Int[Tensor, "_"], rows: Int[Tensor, "_"], kinds: Kinds
    ) -> "_GroupRows":
        x = a.rows(rows)
        whole = x, x if b is a else b.rows(rows)
        inside = [side[:, :, g].flatten(1) for side in whole[: 1 if b is a else 2]]
        inside = inside[0], inside[-1]
        products = [
            (product(whole[i].flatten(1), whole[j].flatten(1)), product(inside[i], inside[j]))
            for i, j, product in kinds
        ]
        return _GroupRows(products, [side.sum(1) for side in whole], [side.sum(1) for side in inside])

    def _staying(self, x: Tensor, y: Tensor, g: Int[Tensor, "_"]) -> tuple[Tensor, Tensor]:
        """Bring the sums over the rows left out to what is multiplied: those of the stimuli that stay."""
        if self.centring == "u" and self.codes is not None:
            stay = others(self.n, g)
            return x[:, stay], shares(y[:, stay], self.codes[stay].unique(return_inverse=True)[1].to(y.device))
        x[:, g] = 0.0  # of both, or of one of them twice
        y[:, g] = 0.0
        return x, y

    def _single_sums(self, a: Stack, b: Stack, kinds: Kinds) -> "_Found":
        """Do the same for one stimulus at a time: row sums of the elementwise products, in panels of rows."""
        touched = [[] for _ in kinds]
        diagonals = [[], []]
        for rows, *read in panels(a, b):
            for start in range(0, rows.stop - rows.start, PANEL):
                part = [x[:, start : start + PANEL].transpose(0, 1) for x in read]
                for listed, (i, j, product) in zip(touched, kinds, strict=True):
                    listed.append(product(part[i], part[j]))
            for listed, x in zip(diagonals, read, strict=True):
                listed.append(x.diagonal(rows.start, 1, 2).clone())  # a view would keep the panel
        order, of = torch.cat(list(self.deleted)), []
        own = [torch.cat(listed, 1).T[order] for listed in diagonals]
        for listed, (i, j, product) in zip(touched, kinds, strict=True):
            whole, among = torch.cat(listed)[order], product(own[i][..., None], own[j][..., None])
            of.append(_Sums(whole, among, whole - among))
        return _Found(of, *own)

    def totals(self, a: Stack, crossing: Float[Tensor, "g l"]) -> Float[Tensor, "g l"]:
        """Sum A over each subset: everything, less the rows and columns left out, plus where those cross.

        The rows of `u` and `double` sum to zero, which leaves the crossing.
        """
        return crossing if self.centring in ("u", "double") else self._total(a.sums(), crossing)

    def _total(self, sums: Float[Tensor, "l n"], crossing: Float[Tensor, "g l"]) -> Float[Tensor, "g l"]:
        if self._singles:
            rows = sums[:, torch.cat(list(self.deleted))].T
        else:
            rows = torch.stack([sums[:, g].sum(1) for g in self.deleted])
        return sums.sum(1) - 2 * rows + crossing

    @property
    def _singles(self) -> bool:
        return all(len(g) == 1 for g in self.deleted)

    def _pairs(self, like: Tensor) -> Float[Tensor, "g 1"]:
        """Count the pairs of different stimuli of each subset that are not missing, each twice."""
        sizes = like.new_tensor([len(g) for g in self.deleted])[:, None]
        if self.missing is None:
            return (self.n - sizes) * (self.n - sizes - 1)
        present = ~self.missing
        present.fill_diagonal_(False)
        crossing = like.new_tensor([int(present[g][:, g].sum()) for g in self.deleted])[:, None]
        return self._total(present.sum(1).to(like)[None], crossing)


def all_pairs(a: Float[Tensor, "*g la k"], b: Float[Tensor, "*g lb k"]) -> Float[Tensor, "*g la lb"]:
    """Multiply every layer of a with every layer of b."""
    return a @ b.mT


def each_own(a: Float[Tensor, "*g l k"], b: Float[Tensor, "*g l k"]) -> Float[Tensor, "*g l"]:
    """Multiply each layer of a with the layer of b at its place."""
    if a.data_ptr() == b.data_ptr():  # four times as fast
        return torch.linalg.vector_norm(a, dim=-1).square()
    return torch.linalg.vecdot(a, b)


def others(n: int, rows: Int[Tensor, " k"]) -> Int[Tensor, " m"]:
    """List the stimuli that stay."""
    stay = torch.ones(n, dtype=torch.bool)
    stay[rows] = False
    return stay.nonzero().flatten()
