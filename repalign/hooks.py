"""Forward hooks: the only module that registers any, and every one is removed when its block ends."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from repalign.errors import LayerError

Reducer = Callable[[Tensor], Tensor]


@dataclass
class Call:
    """What one dry run saw of a module: when it started and finished, how often, and its output's shape."""

    name: str
    module: nn.Module
    started: int
    finished: int = -1
    calls: int = 0
    shape: tuple[int, ...] | None = None


@dataclass
class Recording:
    """Reduced outputs of the latest forward pass, by layer name."""

    names: tuple[str, ...]
    values: dict[str, Tensor] = field(default_factory=dict)

    def take(self) -> dict[str, Tensor]:
        """Hand over the outputs of one forward pass and make room for the next.

        Raises LayerError naming the layers that the pass never ran.
        """
        missing = [name for name in self.names if name not in self.values]
        if missing:
            raise LayerError(f"the forward pass never ran {', '.join(missing[:5])}; choose other layers")
        taken = {name: self.values[name] for name in self.names}
        self.values.clear()
        return taken


@dataclass(eq=False)
class Recordings:
    """Recordings of one network for several purposes, made by the same forward passes."""

    every: list[Recording] = field(default_factory=list)

    def of(self, forward: Callable[[], object]) -> list[dict[str, Tensor]]:
        """Run a forward pass, no further than the recordings need it, and hand over each recording's outputs.

        Raises LayerError as `take` does, and whatever the network raises; a failed pass leaves nothing behind.
        """
        try:
            self._run(forward)
            return [recording.take() for recording in self.every]
        finally:
            for recording in self.every:
                recording.values.clear()

    def _run(self, forward: Callable[[], object]) -> None:
        try:
            forward()
        except _Enough as enough:
            if enough.of is not self:  # of recordings around these
                raise

    def stop_when_full(self) -> None:
        """Leave the forward pass once every layer of every recording has reported."""
        if all(len(recording.values) == len(recording.names) for recording in self.every):
            raise _Enough(self)


class _Enough(BaseException):
    """Raised in a hook to leave a forward pass; no Exception, so that no network takes it for an error of its own."""

    def __init__(self, of: Recordings) -> None:
        self.of = of


def first_tensor(output: object, batch: int | None = None) -> Tensor | None:
    """Find the tensor in a module's output: itself, or the first one inside a tuple, list or mapping.

    Where some of several have `batch` rows, the first of those.
    """
    every = list(_tensors(output))
    return next((x for x in every if x.ndim and len(x) == batch), every[0] if every else None)


def _tensors(output: object) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    if isinstance(output, Mapping):
        output = list(output.values())
    if isinstance(output, tuple | list):
        for item in output:
            yield from _tensors(item)


@contextmanager
def record_all(module: nn.Module, wanted: Sequence[Mapping[str, Reducer]], stop: bool) -> Iterator[Recordings]:
    """Record for several purposes during every forward pass inside the block; the hooks stay from pass to pass.

    With `stop`, a pass run by `Recordings.of` ends as soon as all layers have reported, whatever their order. A layer
    that would run again later is then not noticed: leave `stop` out where a layer may.

    Raises LayerError as `record` does.
    """
    found = Recordings()
    with ExitStack() as stack:
        for reducers in wanted:
            recording = record(module, reducers, found.stop_when_full if stop else None)
            found.every.append(stack.enter_context(recording))
        yield found


@contextmanager
def record(
    module: nn.Module, reducers: Mapping[str, Reducer], reported: Callable[[], None] | None = None, *,
    inputs: bool = False, detach: bool = True,
) -> Iterator[Recording]:  # fmt: skip
    """Record `reducers[name](output)` of each named submodule during every forward pass inside the block.

    The reducer runs inside the hook, at once: a module after the hooked one may write into the same memory
    (an in-place ReLU does). It must return memory of its own. Tuple, list and dict outputs give their first
    tensor, or the first that has a row for each of the network's inputs. `reported` is called after each layer.
    With `inputs`, what a submodule is given is recorded in place of what it gives; without `detach`, gradients flow
    back through what is recorded.

    Raises LayerError when a layer does not exist, gives no tensor, or runs twice in one forward pass.
    """
    modules = dict(module.named_modules())
    recording = Recording(tuple(reducers))
    batch: list[int] = []

    def count(_module: nn.Module, given: object, named: object) -> None:
        x = first_tensor((given, named))
        batch[:] = [len(x)] if x is not None and x.ndim else []

    def save(name: str, _module: nn.Module, given: object, output: object) -> None:
        if name in recording.values:
            raise LayerError(
                f"layer {name!r} runs more than once in a forward pass, so it has no single output; "
                "choose the layers around it"
            )
        seen = given if inputs else output
        tensor = first_tensor(seen, *batch)
        if tensor is None:
            raise LayerError(f"layer {name!r} gives no tensor but {type(seen).__name__}; choose another")
        recording.values[name] = reducers[name](tensor.detach() if detach else tensor)
        if reported is not None:
            reported()

    handles = [module.register_forward_pre_hook(count, with_kwargs=True)]
    try:
        for name in reducers:
            if name not in modules:
                raise LayerError(f"there is no layer {name!r} in {type(module).__name__}")
            handles.append(modules[name].register_forward_hook(partial(save, name)))
        yield recording
    finally:
        for handle in handles:
            handle.remove()


def trace(module: nn.Module, example: Tensor) -> list[Call]:
    """Run `example` once and list every submodule that ran, in the order in which they finished first."""
    calls: dict[str, Call] = {}
    clock = iter(range(10**9))

    def start(name: str, submodule: nn.Module, _inputs: object) -> None:
        calls.setdefault(name, Call(name, submodule, next(clock)))

    def finish(name: str, _submodule: nn.Module, _inputs: object, output: object) -> None:
        call, tensor = calls[name], first_tensor(output, len(example))
        call.calls += 1
        if call.calls == 1:
            call.finished = next(clock)
            floating = tensor is not None and tensor.is_floating_point()
            call.shape = tuple(tensor.shape) if tensor is not None and floating else None

    handles = []
    try:
        for name, submodule in module.named_modules():
            if name:
                handles.append(submodule.register_forward_pre_hook(partial(start, name)))
                handles.append(submodule.register_forward_hook(partial(finish, name)))
        with torch.inference_mode():
            module(example)
    finally:
        for handle in handles:
            handle.remove()
    return sorted((c for c in calls.values() if c.calls), key=lambda c: c.finished)
