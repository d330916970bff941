"""The forward pass: one encoder over batches, once for all layers and pools that are wanted of it."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from repalign.arithmetic import full_float32
from repalign.errors import InputError, RepalignError, RepalignWarning, unknown
from repalign.hooks import Recordings, Reducer, record_all
from repalign.pooling import Pool, reducer
from repalign.types import Encoder, Layer

PRECISIONS = ("fp32", "bf16")
OUT_OF_MEMORY = ("out of memory", "allocate memory", "alloc_failed")  # CUDA, the CPU, cuBLAS

Wanted = Sequence[tuple[tuple[Layer, ...], Pool]]
Outputs = list[dict[str, Tensor]]


class DoesNotFitError(RepalignError):
    """Raised when the device has no memory for a single picture."""


@contextmanager
def runner(
    encoder: Encoder, wanted: Wanted, device: torch.device, precision: str = "fp32",
    compiled: bool = False, seed: int = 0,
) -> "Iterator[Runner]":  # fmt: skip
    """Make an encoder ready to run: on the device, in the memory format that suits it, with its hooks in place.

    `bf16` computes products and convolutions in bfloat16 (autocast: the weights stay as they are, and what is sensitive
    stays float32). `compiled` has torch compile the network, which takes half a minute; a ResNet-18 gained 9 % by it
    on a CPU in float32 and ran four times as long in bfloat16. `seed` draws
    the projections of `flatten:k`. The hooks are removed when the block ends; the network stays on the device and in
    its memory format, in which the last bits of its outputs may differ.

    Raises InputError for an unknown precision or a projection to be compiled, LayerError for a layer that can't be
    recorded or pooled so.
    """
    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)
    if compiled and any(pool.features for _, pool in wanted):  # its hundreds of blocks would be unrolled
        raise InputError(f"{encoder.name}: --pool flatten:k can't be compiled; leave out --compile, or use flatten")
    module = encoder.module.to(device).eval()
    memory = torch.channels_last if _convolves(module) else torch.contiguous_format
    module.to(memory_format=memory)  # pyright: ignore[reportCallIssue]  torch's stubs leave this form out
    cast = precision == "bf16"
    reducers = [{x.name: _uncast(reducer(x, pool, seed), device, cast) for x in layers} for layers, pool in wanted]
    stop = not compiled and _can_stop(module) and all(x.calls == 1 for layers, _ in wanted for x in layers)
    with record_all(module, reducers, stop) as recordings:
        pools = " and ".join(dict.fromkeys(str(pool) for _, pool in wanted))
        yield Runner(
            encoder.name, pools, module, recordings, device, memory, cast,
            torch.compile(module, dynamic=False) if compiled else None,
            torch.cuda.Stream(device) if device.type == "cuda" else None,
        )  # fmt: skip


@final
@dataclass
class Runner:
    """One encoder at work.

    Pixels come to a GPU over the stream `copying`. At most `most` pictures fit into the device's memory at once, None
    while all did; the `compiled` network takes batches of `size`.
    """

    name: str
    pools: str
    module: nn.Module
    recordings: Recordings
    device: torch.device
    memory: torch.memory_format
    cast: bool
    compiled: Callable[[Tensor], object] | None
    copying: torch.cuda.Stream | None
    most: int | None = None
    size: int | None = None

    def run(self, pixels: Float[Tensor, "b 3 h w"]) -> Outputs:
        """Run one batch: for each set of layers that is wanted, float32 rows `(b, d)` on the CPU by layer name.

        A batch that doesn't fit into memory is halved, with a warning, and so are all that follow.

        Raises DoesNotFitError when a single picture doesn't fit, LayerError when a layer gives no single output, and
        InputError when the network can't be compiled.
        """
        return self.begin(pixels).rows()

    def begin(self, pixels: Float[Tensor, "b 3 h w"]) -> "Begun":
        """Start a batch and leave its rows to be asked for later: on a GPU, while the next one is computed.

        Raises as `run` does.
        """
        parts: list[Outputs] = []
        start = 0
        while start < len(pixels):
            part = pixels[start : start + (self.most or len(pixels))]
            outputs = self._try(part)
            if outputs is None:  # outside of `except`, which would keep the failed pass's memory
                self._halve(len(part))
            else:
                parts.append(outputs)
                start += len(part)
        return Begun(parts, _mark(self.device))

    def _try(self, pixels: Tensor) -> Outputs | None:
        """Run one batch, or give None when it doesn't fit."""
        try:
            return self._pass(pixels)
        except RuntimeError as error:
            if not _out_of_memory(error):
                raise
            return None

    def _pass(self, pixels: Tensor) -> Outputs:
        with torch.inference_mode(), self._arithmetic():
            moved = self._moved(pixels).contiguous(memory_format=self.memory)
            found = self.recordings.of(lambda: self._forward(moved))
            later = self.copying is not None  # the rows are pinned, and there once the batch's event is
            return [{name: rows.to("cpu", non_blocking=later) for name, rows in one.items()} for one in found]

    def _moved(self, pixels: Tensor) -> Tensor:
        """Bring pixels to the device, to a GPU while it computes the batch before."""
        if self.copying is None:
            return pixels.to(self.device)
        computing = torch.cuda.current_stream(self.device)
        with torch.cuda.stream(self.copying):
            moved = pixels.pin_memory().to(self.device, non_blocking=True)
        computing.wait_stream(self.copying)
        moved.record_stream(computing)  # or its memory would be given away while it is still read
        return moved

    def _forward(self, pixels: Tensor) -> object:
        """Run the compiled network on batches of the first one's size, the network itself on others.

        Each size costs a compilation, which one last batch does not repay.
        """
        self.size = self.size or len(pixels)
        if self.compiled is None or len(pixels) != self.size:
            return self.module(pixels)
        from torch._dynamo.exc import TorchDynamoException

        try:
            return self.compiled(pixels)
        except TorchDynamoException as error:
            reason = " ".join(str(error).strip().split("\n\n")[0].split())
            raise InputError(
                f"{self.name} can't be compiled here ({reason}); leave out --compile, or give torch what it compiles "
                "with: a C++ compiler (gcc or clang) on a CPU, triton on a GPU"
            ) from error

    def _arithmetic(self) -> AbstractContextManager[object]:
        return torch.autocast(self.device.type, torch.bfloat16) if self.cast else full_float32()

    def _halve(self, size: int) -> None:
        """Go on with half of `size`, for good."""
        if size == 1:
            raise DoesNotFitError(
                f"{self.name}: not even one picture pooled by {self.pools} fits into the memory of {self.device}; "
                f"use --pool mean, fewer --layers or {'--device cpu' if self.copying else 'a machine with more'}"
            )
        if self.copying:
            torch.cuda.empty_cache()
        self.most, self.size = size // 2, None
        warnings.warn(
            f"{self.name}: batch {size} does not fit into the memory of {self.device}; going on with {self.most}",
            RepalignWarning, stacklevel=2,
        )  # fmt: skip


@dataclass(frozen=True)
class Begun:
    """A batch under way, in parts as they fitted; on a GPU its rows are there once `ready` is."""

    parts: list[Outputs]
    ready: torch.cuda.Event | None

    def rows(self) -> Outputs:
        """Give the batch's rows, as `run` does."""
        if self.ready is not None:
            self.ready.synchronize()
        if len(self.parts) == 1:
            return self.parts[0]
        sets = zip(*self.parts, strict=True)
        return [{name: torch.cat([part[name] for part in one]) for name in one[0]} for one in sets]


def _mark(device: torch.device) -> torch.cuda.Event | None:
    """Mark the place in a GPU's work at which all rows of a batch have arrived."""
    if device.type != "cuda":
        return None
    event = torch.cuda.Event()
    event.record(torch.cuda.current_stream(device))
    return event


def _out_of_memory(error: RuntimeError) -> bool:
    """Tell whether memory ran out; older versions of torch and the CPU say so by the message alone."""
    return isinstance(error, torch.OutOfMemoryError) or any(x in str(error).lower() for x in OUT_OF_MEMORY)


def _convolves(module: nn.Module) -> bool:
    """Tell whether a network convolves pictures beyond a patch embedding, so that channels_last pays."""
    return sum(isinstance(m, nn.Conv2d | nn.ConvTranspose2d) for m in module.modules()) > 1


def _can_stop(module: nn.Module) -> bool:
    """Tell whether an exception can leave the network: not where torch compiled or scripted a part of it."""
    made = (m for m in module.modules() if isinstance(m, torch.jit.ScriptModule) or m._compiled_call_impl is not None)
    return next(made, None) is None and all(type(m).__name__ != "OptimizedModule" for m in module.modules())


def _uncast(reduce: Reducer, device: torch.device, cast: bool) -> Reducer:
    """Keep autocast out of a reducer: sums and projections stay float32."""

    def plainly(x: Tensor) -> Tensor:
        with torch.autocast(device.type, enabled=False):
            return reduce(x)

    return plainly if cast else reduce
