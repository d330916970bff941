"""Linear CKA of stimuli that come by once and are not kept: the first pass alone, block by block as they come.

There is no second pass, so standard errors have to come from elsewhere; and no second reading, so the sums of all
layer pairs are taken together, and must fit into memory at once.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from repalign.errors import InputError
from repalign.metrics.cka import LinearCKA
from repalign.progress import quiet
from repalign.streaming.blocks import Side, Stack, survey
from repalign.streaming.panels import Panel
from repalign.streaming.products import Products, add, blocks, centre, constant_layers, empty, no_extents, widen
from repalign.streaming.run import Streamed, judged, warn_of
from repalign.streaming.singles import full_inners
from repalign.together import ALONE, Together
from repalign.types import Rows

Widths = Mapping[str, int]
Features = Mapping[str, Tensor]


@dataclass(frozen=True)
class Sums:
    """The sums over all n centred stimuli of all processes, and which of each side's layers are `constant`."""

    found: Products
    constant: tuple[Bool[Tensor, " la"], Bool[Tensor, " lb"]]

    def streamed(self, debiased: bool) -> Streamed:
        """Score every pair of layers, with NaN for the errors; warns of layers without a score."""
        found = self.found
        inners = full_inners(found, debiased)
        nothing = torch.full_like(inners.cross, math.nan)
        judgement = judged(found, self.constant, inners, (inners.scores(), nothing, nothing))
        scores, se, degrees = (value.numpy() for value in judgement.values)
        undefined = judgement.undefined[0] | judgement.undefined[1]
        warn_of(undefined)
        names = found.panel.left.names, found.panel.right.names
        return Streamed(debiased, *names, found.n, scores, se, degrees, undefined, once=True)


@final
class Once:
    """Takes the sums of two sides' rows while they come by, as `stream` takes them.

    `widths` count each side's features by layer; without `widths_b` the sides are one. `block` is the most stimuli
    that come together; `memory` is in bytes and bounds sums and blocks. The first block of the first process that has
    any says by what rows are shifted and scaled.

    Raises InputError when the sums need more than `memory`.
    """

    def __init__(
        self, widths: Widths, widths_b: Widths | None, block: int, memory: int, together: Together = ALONE
    ) -> None:
        left = _stack(widths)
        self.panel = Panel(left, left if widths_b is None else _stack(widths_b), widths_b is None)
        _check_room(self.panel, block, memory)
        self.together = together
        self.n = 0
        self.found = empty(self.panel, 0, 0)
        self.extents = no_extents(self.panel)
        self.sides: tuple[Side, Side] | None = None

    def add(self, ids: Sequence[str], a: Features, b: Features) -> None:
        """Take a block's rows `(r, d)` of every layer into the sums; the first one waits for the other processes.

        Raises InputError for values that are not finite.
        """
        left = _rows(ids, self.panel.left, a)
        right = left if self.panel.same else _rows(ids, self.panel.right, b)
        if self.sides is None:
            self.sides = self._scaled(left, right)
        first = replace(self.sides[0], rows=left)
        second = first if self.panel.same else replace(self.sides[1], rows=right)
        for block in blocks(first, second, self.panel, quiet):
            add(self.found, block, None)
            widen(self.extents, block)
        self.n += len(ids)

    def finish(self) -> Sums:
        """Add the sums of all processes; the rows are over, also for a process that had none.

        Raises InputError for fewer than four stimuli.
        """
        if self.sides is None:
            left = _rows((), self.panel.left, {})
            self._scaled(left, left if self.panel.same else _rows((), self.panel.right, {}))
        n = int(self.together.sum_(torch.tensor(float(self.n), dtype=torch.float64)))
        if n < LinearCKA.fewest:
            raise InputError(f"cka_linear needs at least {LinearCKA.fewest} stimuli, not {n}")
        self.together.sum_(self.found.flat)
        constant = constant_layers(self.extents, n, self.together)
        found = replace(self.found, n=n)
        centre(found)
        return Sums(found, constant)

    def _scaled(self, left: Rows, right: Rows) -> tuple[Side, Side]:
        """Agree with the other processes on shifts and scales."""
        here = torch.zeros(self.together.world, dtype=torch.float64)
        here[self.together.rank] = len(left.ids)
        present = np.flatnonzero(self.together.sum_(here).numpy())
        first = int(present[0]) if len(present) else 0
        if not len(present):  # nobody has a stimulus, which `finish` says
            left = right = Rows((), None, {}, left.read)
        one = Side(left, survey(left, self.together, first))
        return one, one if self.panel.same else Side(right, survey(right, self.together, first))


def _stack(widths: Widths) -> Stack:
    return Stack(tuple(widths), tuple(widths.values()))


def _rows(ids: Sequence[str], stack: Stack, features: Features) -> Rows:
    """Give one block of rows as all that there are."""
    found = (tuple(ids),) if ids else ()
    return Rows(found, None, dict(zip(stack.names, stack.widths, strict=True)), lambda _, __: features)


def _check_room(panel: Panel, block: int, memory: int) -> None:
    need = panel.bytes(block, 0)
    if need > memory:
        raise InputError(
            f"sums over all pictures for {len(panel.left)} × {len(panel.right)} layers need {need / 1e6:,.1f} MB, and "
            f"memory is {memory / 1e6:,.1f} MB; a stream is read once, so all are taken together: take fewer --layers "
            "(--layers stages), give more --memory, or compare a local copy, which is read several times"
        )
