"""Several processes that share one run, as `torchrun` starts them: who takes what, and what they add up."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from torch import Tensor

from repalign.errors import RepalignError

LONGEST_WAIT = timedelta(days=2)  # process 0 may load, diagnose and evaluate for hours while the others wait


@dataclass(frozen=True)
class Together:
    """Process `rank` of `world` that work on one run.

    `sum_(tensor)` adds a tensor over all processes, in place, with one all-reduce; `gather(value)` brings a picklable
    value of each to rank 0, in the order of ranks, and gives None elsewhere. Every process must make the same calls.
    """

    rank: int
    world: int
    sum_: Callable[[Tensor], Tensor]
    gather: Callable[[Any], list[Any] | None]

    @property
    def first(self) -> bool:
        """Tell whether this process is the one that writes."""
        return self.rank == 0


ALONE = Together(0, 1, lambda tensor: tensor, lambda value: [value])


def processes() -> int:
    """Count the processes that torchrun started for this run."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def together(device: str = "auto") -> Iterator[Together]:
    """Join the processes that torchrun started, over NCCL with a GPU each, else gloo; without torchrun, be alone.

    `device` is what the work shall run on: with anything but "auto" and "cuda" no GPU is touched.

    When one of them fails, the others must not wait for it: torchrun ends them all and shows the cause.
    """
    if processes() == 1:
        yield ALONE
        return
    import torch
    from torch import distributed

    on_gpu = device in ("auto", "cuda") and torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    distributed.init_process_group("nccl" if on_gpu else "gloo", timeout=LONGEST_WAIT)
    try:
        yield Together(distributed.get_rank(), distributed.get_world_size(), _sum, _gather)
    finally:
        distributed.destroy_process_group()


def _sum(tensor: Tensor) -> Tensor:
    from torch import distributed

    with _alive():
        moved = tensor.to(_device())
        distributed.all_reduce(moved)
        return tensor if moved is tensor else tensor.copy_(moved)


def _gather(value: Any) -> list[Any] | None:  # noqa: ANN401  anything that can be pickled
    from torch import distributed

    with _alive():
        found: list[Any] | None = [None] * distributed.get_world_size() if distributed.get_rank() == 0 else None
        distributed.gather_object(value, found)
        return found


def _device() -> str:
    """Say where tensors must be to be sent: NCCL sends from GPUs only."""
    from torch import distributed

    return "cuda" if distributed.get_backend() == "nccl" else "cpu"


@contextmanager
def _alive() -> Iterator[None]:
    """Say that another process has ended in place of what its end looks like from here."""
    try:
        yield
    except RuntimeError as error:
        seen = str(error).splitlines()[0][:200]
        raise RepalignError(f"another process of this run has ended; its own message says why ({seen})") from error
