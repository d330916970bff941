"""Layers embedded once each, and all pairs of them scored at once.

A cosine metric turns each layer into one symmetric matrix that lists what the layer says about every pair of
stimuli, and the similarity of two layers is the cosine of their matrices, `⟨A, B⟩ / (‖A‖ ‖B‖)`. With the unit
matrices of all layers laid out as rows, `E_a (la, n²)` and `E_b (lb, n²)`, the whole matrix of scores is
`E_a E_bᵀ`: one product, each layer embedded once, not once a pair. A pair metric is a plain loop.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from repalign.errors import InputError
from repalign.metrics.base import CosineMetric, Metric, PairMetric, UndefinedError
from repalign.stack import BYTES, Room, Stack, panels

KEPT = 1 << 23  # bytes of a geometry; the first copy of a larger one costs a fifth of taking it (n = 2,000)


@final
class Stacked(Mapping[int, Tensor]):
    """Geometries (n, n) by row: those of `kept`, or taken again all at once when somebody asks for one.

    `make` gives the stack that then keeps them.
    """

    def __init__(
        self, rows: Sequence[int], kept: Stack | None, geometry: Callable[[int], Tensor], make: Callable[[int], Stack]
    ) -> None:
        self._places = {row: place for place, row in enumerate(rows)}
        self._kept, self._geometry, self._make = kept, geometry, make

    @cached_property
    def _stack(self) -> Stack:
        if self._kept is not None:
            return self._kept
        stack = self._make(len(self._places))
        for row, place in self._places.items():
            stack.write(place, self._geometry(row))
        return stack

    def __getitem__(self, row: int) -> Tensor:
        return self._stack.matrix(self._places[row])

    def __contains__(self, row: object) -> bool:
        return row in self._places

    def __iter__(self) -> Iterator[int]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


@final
@dataclass(frozen=True, eq=False)
class Taken(Mapping[int, Tensor]):
    """Geometries of some of the stimuli by row, each restricted when it is asked for."""

    layers: Any  # a mapping, of which a check at run time would read an item
    metric: Metric
    index: Tensor

    def __getitem__(self, row: int) -> Tensor:
        return self.metric.take(self.layers[row], self.index)

    def __iter__(self) -> Iterator[int]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)


@dataclass(frozen=True)
class Geometries:
    """The geometry of every layer that has one, by its row in the matrix of scores, and why the others have none.

    `n` counts the stimuli of which they were taken, whose matrices are read for any subset.
    """

    names: tuple[str, ...]
    layers: Any  # Mapping[int, Tensor], of which a check at run time would read an item, and so take all again
    undefined: dict[str, str]
    room: Room
    n: int

    def take(self, metric: Metric, index: Tensor) -> "Geometries":
        """Restrict every layer to the stimuli at `index`."""
        return replace(self, layers=Taken(self.layers, metric, index))

    def only(self, rows: set[int]) -> "Geometries":
        """Keep the layers in `rows`; the others get no score."""
        kept = [row for row in self.layers if row in rows]
        return self if len(kept) == len(self.layers) else replace(self, layers=_Only(self.layers, kept))


@final
@dataclass(frozen=True, eq=False)
class _Only(Mapping[int, Tensor]):
    """Some of the layers, read where they are."""

    layers: Any
    rows: list[int]

    def __getitem__(self, row: int) -> Tensor:
        return self.layers[row]

    def __iter__(self) -> Iterator[int]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class Embedded:
    """The embedded layers by row: a stack of unit matrices (n, n) for a cosine metric, else a list."""

    count: int
    rows: tuple[int, ...]
    values: Any
    undefined: dict[str, str]


@dataclass(frozen=True)
class Scored:
    """The scores of all layer pairs, and why a pair whose layers both have a geometry is NaN, by its place."""

    values: Float[np.ndarray, "la lb"]
    undefined: dict[tuple[int, int], str]


@dataclass(frozen=True)
class Side:
    """The layers of one side by name, and how to take the geometry (n, n) of each afresh.

    `geometry(row)` raises UndefinedError for a layer that has none. `among` counts these layers and those of the sides
    that are embedded after this one and held beside it.
    """

    names: tuple[str, ...]
    n: int
    geometry: Callable[[int], Tensor]
    among: int


def embed_side(side: Side, metric: Metric, where: Room, keep: bool = True) -> tuple[Geometries, Embedded]:
    """Take and embed every layer in turn.

    Small geometries of pairs of stimuli are kept where there is room for them all, unless `keep` is false; others are
    let go, and taken again when somebody asks.
    """
    held: dict[int, Tensor] = {}
    rows: list[int] = []
    lacking: dict[str, str] = {}
    kept = _kept_stack(side, metric, where) if keep and metric.pairwise else None
    embedding = _Embedding(side.names, metric, where, side.n, side.among)
    for row, name in enumerate(side.names):
        try:
            geometry = side.geometry(row)
        except UndefinedError as reason:
            lacking[name] = str(reason)
            continue
        if kept is not None:
            kept.write(len(rows), geometry)
        rows.append(row)
        if not metric.pairwise:
            held[row] = geometry
        embedding.add(row, geometry, fresh=metric.pairwise)
    stacked = Stacked(rows, kept, side.geometry, lambda count: where.stack(count, side.n, side.among, metric.work))
    return Geometries(side.names, stacked if metric.pairwise else held, lacking, where, side.n), embedding.finish(
        lacking
    )


def _kept_stack(side: Side, metric: Metric, where: Room) -> Stack | None:
    """Make room for the geometries of a side where they are small and fit in memory with all that is embedded."""
    if BYTES * side.n**2 > KEPT or where.home(2 * side.among, side.n, metric.work) is None:
        return None
    return where.stack(len(side.names), side.n, work=metric.work)


def embed(side: Geometries, metric: Metric) -> Embedded:
    """Embed every layer of some geometries."""
    layers = side.layers
    embedding = None
    for row in layers:
        geometry = layers[row]
        embedding = embedding or _Embedding(
            side.names, metric, side.room, len(geometry), len(layers), metric.work * (side.n / len(geometry)) ** 2
        )
        embedding.add(row, geometry, fresh=isinstance(layers, Taken))
    return embedding.finish(side.undefined) if embedding else Embedded(len(side.names), (), [], dict(side.undefined))


class _Embedding:
    """The embedded layers of a side as they come; matrices of a cosine metric are scaled to length one.

    A `refit` of a subset says how many of its own matrices the work takes, which reads those of all stimuli.
    """

    def __init__(
        self, names: tuple[str, ...], metric: Metric, where: Room, n: int, among: int, refit: float | None = None
    ) -> None:
        self.names, self.metric, self.where, self.n, self.among = names, metric, where, n, among
        self.refit, self.work = refit is not None, refit or metric.work
        self.rows: list[int] = []
        self.listed: list[Any] = []
        self.undefined: dict[str, str] = {}

    @cached_property
    def stack(self) -> Stack:
        return self.where.stack(len(self.names), self.n, self.among, self.work)

    def add(self, row: int, geometry: Tensor, fresh: bool) -> None:
        """Embed one layer; a `fresh` geometry is nobody else's and may be overwritten."""
        try:
            if isinstance(self.metric, CosineMetric):
                value = self.metric.embed_in_place(geometry) if fresh else self.metric.embed(geometry)
                self.stack.write(len(self.rows), value, over=float(torch.linalg.vector_norm(value)))
            else:
                self._list(self.metric.embed(geometry))
        except UndefinedError as reason:
            self.undefined[self.names[row]] = str(reason)
        else:
            self.rows.append(row)

    def finish(self, lacking: Mapping[str, str]) -> Embedded:
        """Give what was embedded; `lacking` says which layers had no geometry."""
        values: Any = self.listed
        if isinstance(self.metric, CosineMetric) and self.rows:
            values = self.stack.pick(range(len(self.rows)))
        return Embedded(len(self.names), tuple(self.rows), values, dict(lacking) | self.undefined)

    def _list(self, value: Any) -> None:  # noqa: ANN401  what the metric compares
        """Keep what a pair metric compares; raises InputError when that of all layers to come won't fit in memory.

        What is held already is not counted against a refit, which is short-lived and must not fail a long run.
        """
        self.listed.append(value)
        if not isinstance(value, Tensor):
            return
        self.where.hold(value)
        work = int(self.work * BYTES * self.n * self.n) if self.metric.pairwise else 0
        if value.nbytes * (self.among - len(self.listed)) + work > (
            self.where.memory if self.refit else self.where.left()
        ):
            raise InputError(
                f"{self.metric.name} holds {self.n:,} stimuli × {len(self.names)} layers in memory, which takes more "
                f"than {self.where.memory / 1e9:.1f} GB; raise --memory, lower --max-pairwise or take fewer --layers"
            )


def scores(a: Embedded, b: Embedded, metric: Metric) -> NDArray[np.float64]:
    """Score all embedded layers of `a` with all of `b`, `(la, lb)`; NaN where there is nothing to compare."""
    return scored(a, b, metric).values


def scored(a: Embedded, b: Embedded, metric: Metric) -> Scored:
    """Score all embedded layers of `a` with all of `b`, and say why two that have a geometry have no score."""
    if isinstance(metric, PairMetric):
        return _one_by_one(a, b, metric)
    matrix = np.full((a.count, b.count), np.nan)
    if a.rows and b.rows:
        matrix[np.ix_(a.rows, b.rows)] = products(a.values, b.values).cpu().numpy()
    return Scored(matrix, {})


def products(a: Stack, b: Stack) -> Float[Tensor, "la lb"]:
    """Multiply every matrix of one stack with every matrix of another, entry by entry, panel by panel."""
    found = torch.zeros(len(a), len(b), dtype=torch.float64, device=a.device)
    for _, x, y in panels(a, b):
        found.addmm_(x.flatten(1), y.flatten(1).T)
    return found


def all_scores(sides: Sequence[Embedded]) -> Float[np.ndarray, "l l"]:
    """Score all layers of all sides of a cosine metric with each other, side after side: each is read once."""
    ends = np.cumsum([0, *(side.count for side in sides)])
    found = np.full((ends[-1], ends[-1]), np.nan)
    there = [side for side in sides if side.rows]
    places = np.concatenate([np.array(s.rows) + start for s, start in zip(sides, ends, strict=False) if s.rows] or [[]])
    if not there:
        return found
    total = torch.zeros(len(places), len(places), dtype=torch.float64, device=there[0].values.device)
    for _, *read in panels(*(side.values for side in there), copied=True):
        laid = torch.cat([x.flatten(1) for x in read])
        total.addmm_(laid, laid.T)
    found[np.ix_(places, places)] = total.cpu().numpy()
    return found


def _one_by_one(a: Embedded, b: Embedded, metric: PairMetric) -> Scored:
    """Score pair after pair; of a side with itself only one of both orders when they are the same."""
    found = Scored(np.full((a.count, b.count), np.nan), {})
    mirrored = a is b and metric.symmetric
    for i, x in zip(a.rows, a.values, strict=True):
        for j, y in zip(b.rows, b.values, strict=True):
            if mirrored and j > i:
                continue
            try:
                found.values[i, j] = metric.score(x, y)
            except UndefinedError as reason:
                found.undefined[i, j] = str(reason)
            if mirrored:
                found.values[j, i] = found.values[i, j]
    return found
