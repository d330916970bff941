"""What the tests of streaming share: rows in blocks, plain definitions, and processes that are threads."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch

from repalign.align import prepare
from repalign.infer.jackknife import degrees_of_freedom, deleted_scores, standard_error
from repalign.infer.resample import members
from repalign.metrics.cka import LinearCKA
from repalign.together import Together
from repalign.types import Rows
from repalign.wrap import as_activations

PLENTY = 1 << 30


def rows_of(layers, block=7, groups=None, starts=None, reads=None):
    """Cut features into blocks, `starts` or every `block` stimuli; `reads` collects what is read."""
    n = len(next(iter(layers.values())))
    ends = [*(starts or range(0, n, block)), n]
    cuts = [slice(*pair) for pair in pairwise(ends)]
    held = {name: torch.as_tensor(x) for name, x in layers.items()}

    def read(k, names):
        if reads is not None:
            reads.append((k, tuple(names)))
        return {name: held[name][cuts[k]] for name in names}

    return Rows(
        tuple(tuple(f"s{i}" for i in range(n)[cut]) for cut in cuts),
        None if groups is None else tuple(tuple(groups[cut]) for cut in cuts),
        {name: x.shape[1] for name, x in held.items()},
        read,
    )


def part_of(rows, chosen):
    """Keep some blocks: what one of several processes holds."""
    return Rows(
        tuple(rows.ids[k] for k in chosen),
        None if rows.groups is None else tuple(rows.groups[k] for k in chosen),
        rows.widths,
        lambda k, names: rows.read(chosen[k], names),
    )


def make(rng, n, widths, name="l"):
    """Draw layers that share something with each other and with every other call of the same generator's state."""
    shared = np.random.default_rng(n).normal(size=(n, 4))
    return {f"{name}{k}": shared @ rng.normal(size=(4, d)) + 2 * rng.normal(size=(n, d)) for k, d in enumerate(widths)}


def embedded(a, b, debiased, groups=None, pairs="between"):
    """Give scores, standard errors, degrees and notes of the engine that holds all pairs."""
    first = as_activations("a", a)
    second = first if b is a else as_activations("b", b)
    if groups is not None:
        first = replace(first, groups=tuple(groups))
        second = first if b is a else replace(second, groups=tuple(groups))
    prepared = prepare(first, second, LinearCKA(debiased), pairs)
    deleted = deleted_scores(prepared, members(len(first), groups))
    scores = prepared.alignment().scores
    return scores, standard_error(deleted), degrees_of_freedom(deleted), prepared.notes


def definition(x, y, debiased, groups=None):
    """Score two layers by the definition, all pairs written out.

    Debiased: both kernels, over the pairs that count, less their best fit by a sum of a row's and a column's share.
    """
    n = len(x)
    kernels = [(z - z.mean(0)) @ (z - z.mean(0)).T for z in (x / np.abs(x).max(), y / np.abs(y).max())]
    if debiased:
        labels = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1]
        i, j = np.nonzero(labels[:, None] != labels)
        shares = np.zeros((len(i), n))
        shares[np.arange(len(i)), i] += 1
        shares[np.arange(len(i)), j] += 1
        values = [k[i, j] for k in kernels]
        left = [v - shares @ np.linalg.lstsq(shares, v, rcond=None)[0] for v in values]
    else:
        centre = np.eye(n) - 1 / n
        left = [(centre @ k @ centre).ravel() for k in kernels]
    return left[0] @ left[1] / np.sqrt((left[0] @ left[0]) * (left[1] @ left[1]))


def in_processes(world, work):
    """Run `work(together)` in as many threads as there are to be processes, and list what they give by rank."""
    barrier, table = threading.Barrier(world, timeout=60), [None] * world

    def exchange(rank, value):
        table[rank] = value
        barrier.wait()
        found = list(table)
        barrier.wait()
        return found

    def sum_of(rank):
        return lambda tensor: tensor.copy_(torch.stack(exchange(rank, tensor.clone())).sum(0))

    def gather_of(rank):
        return lambda value: exchange(rank, value) if rank == 0 else exchange(rank, value) and None

    def one(rank):
        try:
            return work(Together(rank, world, sum_of(rank), gather_of(rank)))
        except BaseException:
            barrier.abort()
            raise

    with ThreadPoolExecutor(world) as pool:
        return [future.result() for future in [pool.submit(one, rank) for rank in range(world)]]
