"""Chunks of 256 stimuli: the unit in which features are computed, kept in the cache and read again.

Chunk and batch boundaries depend on nothing but the order of the stimuli, so a run that was stopped and goes on
computes the same bits as one that was not.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any
from uuid import uuid4

import torch
from torch import Tensor

from repalign.cache import Cache, key_of
from repalign.decoding import UNREADABLE, Decoded, Request, Sight, decode
from repalign.encoders.identity import identity, installed, own_code
from repalign.errors import RepalignError
from repalign.forward import Begun, Runner, runner
from repalign.types import Encoder, Layer, Stimuli

DECODERS = ("pillow", "av", "catvision", "opencv-python-headless")  # what pictures pass besides repalign's own code
CHUNK = 256  # stimuli: small beside memory, large beside what a file costs


@dataclass(frozen=True)
class How:
    """How encoders are run: where, on how many pictures at once, with how many threads to decode them, how precisely.

    `precision` is "fp32", or "bf16" for passes in bfloat16 whose outputs are pooled in float32; `compiled` asks for
    torch.compile; `seed` draws projections.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    batch_size: int = 32
    workers: int | None = None
    precision: str = "fp32"
    compiled: bool = False
    seed: int = 0

    @property
    def threads(self) -> int:
        """Count the threads that decode."""
        return self.workers or min(8, os.cpu_count() or 1)


@dataclass(frozen=True)
class Pictures:
    """What is known of a chunk's pictures behind one filter: pixels' digests, or why there are none, and `Seen`."""

    digests: tuple[str, ...]
    reasons: tuple[str, ...]
    clipped: tuple[float, ...]
    squares: tuple[float, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Chunk:
    """Consecutive stimuli that were run: `features` of every request have the rows of those that could be read.

    Rows come in the pieces they were computed in, which wide features are not copied to join. `pictures` are by the
    filter's spec; `features` is None when a picture could not be read and none may be left out.
    """

    number: int
    indices: range
    pictures: Mapping[str, Pictures]
    features: tuple[Mapping[str, Sequence[Tensor]], ...] | None

    @property
    def reasons(self) -> tuple[str, ...]:
        """Say of each stimulus why it can't be read; "" when it can."""
        return next(iter(self.pictures.values())).reasons

    @property
    def readable(self) -> list[int]:
        """List the stimuli that could be read."""
        return [i for i, reason in zip(self.indices, self.reasons, strict=True) if not reason]


class Chunks:
    """All chunks of some stimuli for some requests, from the cache where it has them, else from the encoders.

    With `stored`, chunks can be read again even where nobody knows what the stimuli are made of.
    """

    def __init__(
        self, requests: Sequence[Request], stimuli: Stimuli, how: How, cache: Cache | None, stored: bool = False
    ) -> None:
        self.requests = tuple(requests)
        self.stimuli = stimuli
        self.how = how
        self.cache = cache
        self.stored = stored
        self.unknown = uuid4().hex if stored else None
        self.contents: dict[int, str | None] = {}
        self.code = () if cache is None else (own_code(), *sorted(installed(DECODERS).items()))
        encoders = {} if cache is None else {id(r.encoder): r.encoder for r in requests}
        self.identities = {key: identity(encoder) for key, encoder in encoders.items()}  # before any hook is in place

    def __len__(self) -> int:
        return (len(self.stimuli) + CHUNK - 1) // CHUNK

    def indices(self, number: int) -> range:
        """List the stimuli of a chunk."""
        return chunk_of(number, len(self.stimuli))

    def run(self, numbers: Sequence[int], skip_unreadable: bool = False) -> Iterator[Chunk]:
        """Give the chunks in order; threads decode the next batch while the encoders run.

        Once a picture could not be read and none may be left out, the rest are only looked at, to name all of them.
        """
        broken = False
        with ThreadPoolExecutor(self.how.threads) as threads, ExitStack() as running:
            runners = Runners(self.requests, self.how, running)
            parts: list[_Part] = []
            whole: tuple[int, list[_Part], bool] | None = None  # its rows may still be on their way from a GPU
            for job in _one_ahead(self._jobs(numbers, threads)):
                decoded = [future.result() for future in job.decoding]
                broken = broken or (not skip_unreadable and any(d.reason for d in decoded))
                readable = [d for d in decoded if not d.reason]
                if decoded:
                    begun = None if broken or not readable else runners.begin(readable)
                    parts.append(_Part([replace(d, inputs={}) for d in decoded], begun))
                if whole:
                    yield self._finished(*whole)
                    whole = None
                if job.cached is not None:
                    yield job.cached
                if job.last:
                    whole, parts = (job.number, parts, broken), []
            if whole:
                yield self._finished(*whole)

    def read(self, request: Request, number: int, layers: Sequence[str]) -> dict[str, Tensor] | None:
        """Read a chunk's rows of some layers; None when there is no such chunk, or not whole."""
        keys = self._keys(request, number, layers)
        if self.cache is None or keys is None:
            return None
        found = {}
        for layer, key in keys.items():
            entry = self.cache.get(key)
            if entry is None:
                return None
            found[layer] = entry.tensors["rows"]
        return found

    def _jobs(self, numbers: Sequence[int], threads: ThreadPoolExecutor) -> "Iterator[_Job]":
        for number in numbers:
            indices = self.indices(number)
            if self.cache is not None:
                self.contents[number] = self._content(indices, threads)
            cached = self._cached(number)
            if cached is not None:
                yield _Job(number, cached=cached)
                continue
            for start in range(indices.start, indices.stop, self.how.batch_size):
                batch = range(start, min(start + self.how.batch_size, indices.stop))
                futures = [threads.submit(decode, self.requests, self.stimuli, i) for i in batch]
                yield _Job(number, decoding=futures, last=batch.stop == indices.stop)

    def _content(self, indices: range, threads: ThreadPoolExecutor) -> str | None:
        """Digest what the chunk's stimuli are made of, and how much of their scenes they show.

        Where that is unknown, None: nothing is kept; or, when it must be, a name that no other run has.
        """
        content = self.stimuli.content
        if content is not None:
            with suppress(*UNREADABLE):  # a file that is gone or locked: loading it says why
                return key_of(*threads.map(content, indices), *(self.stimuli.extent_of(i) for i in indices))
        return self.unknown and key_of(self.unknown, indices.start)

    def _cached(self, number: int) -> Chunk | None:
        """Read a chunk of which everything is there."""
        if self.cache is None or self.contents[number] is None:
            return None
        pictures = {}
        for spec in {r.spec for r in self.requests}:
            entry = self.cache.get(self._pictures_key(spec, number))
            if entry is None:
                return None
            pictures[spec] = Pictures(**{k: tuple(v) for k, v in entry.record.items() if k != "about"})  # type: ignore[arg-type]
        features = [self.read(r, number, [layer.name for layer in r.layers]) for r in self.requests]
        if any(rows is None for rows in features):
            return None
        whole = tuple({name: (x,) for name, x in (rows or {}).items()} for rows in features)
        return Chunk(number, self.indices(number), pictures, whole)

    def _finished(self, number: int, parts: "Sequence[_Part]", broken: bool) -> Chunk:
        """Put a chunk's batches together, and into the cache."""
        decoded = [d for part in parts for d in part.decoded]
        pictures = {spec: _pictures(decoded, spec) for spec in dict.fromkeys(r.spec for r in self.requests)}
        if broken:
            return Chunk(number, self.indices(number), pictures, None)
        ran = [part.begun() for part in parts if part.begun]
        features = tuple(
            {layer.name: [batch[k][layer.name] for batch in ran] for layer in r.layers} if ran else {}
            for k, r in enumerate(self.requests)
        )
        chunk = Chunk(number, self.indices(number), pictures, features)
        if ran and not any(d.passing for d in decoded):
            self._keep(chunk)
        return chunk

    def _keep(self, chunk: Chunk) -> None:
        if self.cache is None or self.contents[chunk.number] is None or chunk.features is None:
            return
        for request, features in zip(self.requests, chunk.features, strict=True):
            for name, key in (self._keys(request, chunk.number, list(features)) or {}).items():
                self.cache.put(key, {"rows": torch.cat(list(features[name]))}, {"about": self._about(request, name)})
        if self.stored and self.cache.full:
            raise RepalignError(
                f"features of {len(self.stimuli):,} stimuli are read from {self.cache.root} again, but it can't be "
                "written any more; make room there, or name another folder with REPALIGN_CACHE; the same command goes "
                "on where it was"
            )
        for spec, pictures in chunk.pictures.items():  # last: a chunk without them is not whole
            about = {"about": {"filter": spec, "stimuli": self.stimuli.name}}
            self.cache.put(self._pictures_key(spec, chunk.number), {}, asdict(pictures) | about)

    def _keys(self, request: Request, number: int, layers: Sequence[str]) -> dict[str, str] | None:
        content = self.contents.get(number)
        if content is None:
            return None
        which = self.identities[id(request.encoder)]
        seed = self.how.seed if request.pool.features else 0
        how = (self.how.precision, self.how.compiled, self.how.device.type, seed)
        known = {layer.name: layer for layer in request.layers}
        shared = (which, self.code, request.spec, str(request.pool), how, content)
        return {name: key_of(*shared, _place(known[name])) for name in layers}

    def _pictures_key(self, spec: str, number: int) -> str:
        return key_of("pictures", spec, self.code, self.contents[number])

    def _about(self, request: Request, layer: str) -> dict[str, str]:
        return {
            "encoder": request.encoder.name, "layer": layer, "pool": str(request.pool), "filter": request.spec,
            "precision": self.how.precision, "stimuli": self.stimuli.name,
        }  # fmt: skip


def chunk_of(number: int, n: int) -> range:
    """List the stimuli of a chunk of n."""
    return range(number * CHUNK, min((number + 1) * CHUNK, n))


@dataclass(frozen=True)
class _Job:
    """One batch being decoded, or a chunk that the cache had."""

    number: int
    decoding: "Sequence[Future[Decoded]]" = ()
    last: bool = False
    cached: Chunk | None = None


@dataclass(frozen=True)
class _Part:
    """One batch, and what gives its features once they are there; None when there are none."""

    decoded: list[Decoded]
    begun: Callable[[], tuple[Mapping[str, Tensor], ...]] | None


class Runners:
    """The encoders, each made ready when it is first needed; views of one encoder share it."""

    def __init__(self, requests: Sequence[Request], how: How, running: ExitStack) -> None:
        self.requests = requests
        self.how = how
        self.running = running
        self.ready: dict[int, Any] = {}

    def begin(self, decoded: Sequence[Decoded]) -> Callable[[], tuple[Mapping[str, Tensor], ...]]:
        """Start every encoder on the pictures as it sees them; what is given back gives each request its layers."""
        begun: dict[Sight, Begun] = {}
        for request in self.requests:
            if request.sight not in begun:
                pixels = torch.stack([d.inputs[request.sight] for d in decoded])
                begun[request.sight] = self._runner(request.encoder).begin(pixels)

        def rows() -> tuple[Mapping[str, Tensor], ...]:
            found = {sight: one.rows() for sight, one in begun.items()}
            return tuple(found[r.sight][self._wanted(r.encoder).index((r.layers, r.pool))] for r in self.requests)

        return rows

    def _wanted(self, encoder: Encoder) -> list[tuple[tuple[Layer, ...], Any]]:
        return list(dict.fromkeys((r.layers, r.pool) for r in self.requests if r.encoder.module is encoder.module))

    def _runner(self, encoder: Encoder) -> Runner:
        if id(encoder.module) not in self.ready:  # two encoders may share a network
            how = self.how
            made = runner(encoder, self._wanted(encoder), how.device, how.precision, how.compiled, how.seed)
            self.ready[id(encoder.module)] = self.running.enter_context(made)
        return self.ready[id(encoder.module)]


def _one_ahead(jobs: Iterator[_Job]) -> Iterator[_Job]:
    """Have each job's successor begun before the job is handed over."""
    previous = next(jobs, None)
    for job in jobs:
        yield previous  # type: ignore[misc]  there is one, since another follows
        previous = job
    if previous is not None:
        yield previous


def _pictures(decoded: Sequence[Decoded], spec: str) -> Pictures:
    seen = [d.seen.get(spec) for d in decoded]
    return Pictures(
        tuple(d.digest for d in decoded),
        tuple(d.reason for d in decoded),
        tuple(s.clipped if s else 0.0 for s in seen),
        tuple(s.squares if s else 0.0 for s in seen),
        tuple(dict.fromkeys(note for s in seen if s for note in s.notes)),
    )


def _place(layer: Layer) -> tuple[object, ...]:
    """Say what pooling reads of a layer beside its output."""
    return layer.name, layer.layout, layer.prefix, layer.grid or ()
