"""Training batches: the same pictures, augmented the same way, whoever prepares them and wherever a run goes on."""

import multiprocessing
import random
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from math import ceil
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from repalign.distill.augment import Augmentation
from repalign.distill.labelled import Labelled
from repalign.errors import InputError
from repalign.together import ALONE, Together

ORDER_STREAM, PICTURE_STREAM = 3, 4  # keep the draws of one seed apart
MOST_SEED = 2**32
Rows = tuple[int, tuple[int, ...]]  # an epoch, and the places of a batch's pictures in the training set
Batch = tuple[Tensor, Tensor, Tensor]  # pixels (b, 3, h, w) 8-bit, targets (b,), places in the training set (b,)


@final
class Shown(Dataset):
    """Augmented training pictures, a batch at a time; what chance does depends on seed, epoch and picture alone."""

    def __init__(self, data: Labelled, augment: Augmentation, seed: int) -> None:
        self.stimuli, self.targets = data.train, data.targets(data.train)
        self.augment, self.seed = augment, seed

    def __getitem__(self, rows: Rows) -> Batch:
        """Prepare a batch; the process's own random state is left as it was."""
        epoch, places = rows
        with kept_randomness():
            pixels = torch.stack([self._picture(epoch, i) for i in places])
        index = torch.tensor(places)
        return pixels, self.targets[index], index

    def _picture(self, epoch: int, i: int) -> Tensor:
        picture = self.stimuli.load(i)
        seed_randomness(self.seed, PICTURE_STREAM, epoch, i)
        return self.augment(picture)


@final
class Order(Sampler):
    """The order of pictures in an epoch, in batches of at most `size`, of which each process takes its part.

    All pictures are shown, in batches as equal as can be that processes and pairs can share: of a multiple of 4, for
    which up to three pictures are left out, others in every epoch, or of twice the number of processes. One and two
    processes take the same batches.
    """

    def __init__(self, n: int, size: int, seed: int, together: Together = ALONE) -> None:
        self.n, self.size = n, size
        self.seed, self.together, self.epoch = seed, together, 1
        world = together.world
        self.unit = next(u for u in (4, 2 * world, world) if not (u % world or size % u))

    def __len__(self) -> int:
        return ceil(self.n // self.unit * self.unit / self.size)

    def __iter__(self) -> Iterator[Rows]:
        shuffled = np.random.default_rng([self.seed, ORDER_STREAM, self.epoch]).permutation(self.n)
        ends = np.linspace(0, self.n // self.unit, len(self) + 1).astype(int) * self.unit
        for start, end in pairwise(ends.tolist()):
            share = (end - start) // self.together.world
            first = start + self.together.rank * share
            yield self.epoch, tuple(shuffled[first : first + share].tolist())


@final
class Feed:
    """The batches of each epoch; `workers` processes prepare them, 0 for none."""

    def __init__(self, shown: Shown, order: Order, workers: int, pin: bool = False) -> None:
        self.order = order
        able = "fork" in multiprocessing.get_all_start_methods()  # else pictures can't be handed to processes
        self.workers = workers if able else 0
        self.loader = DataLoader(
            shown, batch_size=None, sampler=order, num_workers=self.workers, collate_fn=_as_it_is, pin_memory=pin,
            multiprocessing_context="fork" if self.workers else None, persistent_workers=self.workers > 0,
            generator=torch.Generator().manual_seed(0),
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.order)

    def epoch(self, number: int) -> Iterator[Batch]:
        """Give the batches of an epoch, counted from 1."""
        self.order.epoch = number
        return iter(self.loader)


def fitting_batch(asked: int, n: int, mixes: bool, world: int = 1) -> int:
    """Give the batch size that `n` training pictures allow: the one asked for, or all of them.

    Raises InputError when processes can't share a batch, in pairs where pictures are mixed.
    """
    unit = world * (2 if mixes else 1)
    if asked % unit or n < unit:
        pairs = " in pairs, which mixup and cutmix need" if mixes else ""
        raise InputError(
            f"batches of {asked} from {n} training pictures can't be shared by {world} processes{pairs}; give a "
            f"batch_size that is a multiple of {unit}, and at least as many pictures"
        )
    return min(asked, n - n % unit)


@contextmanager
def kept_randomness() -> Iterator[None]:
    """Put the global generators of Python, NumPy and torch's CPU back as they were when the block ends."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002  timm draws from it
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])


def seed_randomness(*key: int) -> None:
    """Seed the global generators of Python, NumPy and torch's CPU by several numbers."""
    words: Int = np.random.SeedSequence(key).generate_state(4)
    random.seed(int(words[0]))
    np.random.seed(int(words[1]))  # noqa: NPY002  timm's transforms and mixup draw from it
    torch.default_generator.manual_seed(int(words[2]) * MOST_SEED + int(words[3]) >> 1)


def _as_it_is(batch: Any) -> Any:  # noqa: ANN401  a Batch already
    return batch
