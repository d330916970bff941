"""Extraction: encoders over stimuli, each picture decoded once for all of them, reduced inside the hook."""

import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod, sqrt

import torch
from PIL.Image import Image
from torch import Tensor

from repalign.errors import InputError, UnreadableImagesError
from repalign.filters import Filter
from repalign.filters.light import as_batch, as_picture, picture_squares
from repalign.hooks import record
from repalign.memory import check_memory
from repalign.pooling import Pool, reducer
from repalign.progress import Track, silent
from repalign.types import Activations, Encoder, Layer, Stimuli


@dataclass(frozen=True)
class Request:
    """One encoder, the layers wanted from it, how positions become one vector, and what the pictures pass before."""

    encoder: Encoder
    layers: tuple[Layer, ...]
    pool: Pool
    filter: Filter | None = None

    @property
    def view(self) -> tuple[int, str]:
        """Tell requests apart that need a forward pass of their own."""
        return id(self.encoder), self.filter.spec if self.filter else ""


@dataclass(frozen=True)
class _Decoded:
    """One picture as the input `(3, h, w)` of every view, its content hash, or why it can't be read.

    `clipped` is the share of pixels that each view's filter cut, `squares` the mean squared difference that it makes in
    linear light, `notes` what it had to say.
    """

    inputs: tuple[Tensor, ...]
    digest: bytes
    reason: str = ""
    clipped: tuple[float, ...] = ()
    squares: tuple[float, ...] = ()
    notes: tuple[tuple[str, ...], ...] = ()


def extract(
    requests: Sequence[Request],
    stimuli: Stimuli,
    *,
    device: torch.device | None = None,
    batch_size: int = 32,
    workers: int | None = None,
    skip_unreadable: bool = False,
    track: Track = silent,
) -> list[Activations]:
    """Run every encoder over every stimulus and keep the pooled outputs of its layers, float32 on the CPU.

    Requests of one encoder through one filter (other layers, other pools) share a forward pass. A filter acts on the
    picture as it was decoded, before any encoder's preprocessing resizes it, and its result is rounded to 8 bits.
    Pictures that can't be decoded are left out with `skip_unreadable`, listed in `meta["skipped"]`. `meta` also
    holds the stimuli's `fingerprint` (over ids and decoded pixels), the mean share of pixels that the filter `clipped`,
    the `difference` it makes (root mean square in linear light 0..1, NaN when it changes a picture's size), the
    `filter_notes`, and the seconds spent.

    Raises UnreadableImagesError naming and counting all of them otherwise; InputError when the features won't
    fit into memory.
    """
    _check_memory(requests, len(stimuli))
    device = device or torch.device("cpu")
    views = list({r.view: r for r in requests}.values())
    for view in views:
        view.encoder.module.to(device).eval()
    stores: list[dict[str, Tensor]] = [{} for _ in requests]
    clipped, squares = [0.0] * len(views), [0.0] * len(views)
    notes = [dict[str, None]() for _ in views]
    content = hashlib.blake2b(digest_size=16)
    skipped: list[tuple[str, str]] = []
    kept: list[int] = []
    began = time.perf_counter()
    names = " and ".join(dict.fromkeys(v.encoder.name for v in views))
    with ExitStack() as stack:
        advance = stack.enter_context(track(f"{names} on {stimuli.name}", len(stimuli)))
        stack.enter_context(torch.inference_mode())
        for indices, decoded in _batches(views, stimuli, batch_size, workers):
            skipped += [(stimuli.ids[i], d.reason) for i, d in zip(indices, decoded, strict=True) if d.reason]
            readable = [(i, d) for i, d in zip(indices, decoded, strict=True) if not d.reason]
            if readable and (skip_unreadable or not skipped):
                for k, view in enumerate(views):
                    pixels = torch.stack([d.inputs[k] for _, d in readable]).to(device)
                    own = [(r, s) for r, s in zip(requests, stores, strict=True) if r.view == view.view]
                    for outputs, (_, store) in zip(_forward([r for r, _ in own], pixels), own, strict=True):
                        _store(store, outputs, len(kept), len(stimuli))
                    clipped[k] += sum(d.clipped[k] for _, d in readable)
                    squares[k] += sum(d.squares[k] for _, d in readable)
                    notes[k].update(dict.fromkeys(note for _, d in readable for note in d.notes[k]))
                for i, d in readable:
                    content.update(stimuli.ids[i].encode() + b"\0" + d.digest)
                kept += [i for i, _ in readable]
            advance(len(indices))
    if skipped and not skip_unreadable:
        raise UnreadableImagesError(_unreadable(skipped, len(stimuli), stimuli.name), tuple(skipped))
    if not kept:
        raise UnreadableImagesError(f"{stimuli.name}: none of {len(stimuli)} pictures can be decoded", tuple(skipped))
    meta = {
        "fingerprint": content.hexdigest(),
        "skipped": list(stimuli.skipped) + skipped,
        "seconds": time.perf_counter() - began,
    }
    of_view = {
        v.view: {"clipped": share / len(kept), "difference": sqrt(square / len(kept)), "filter_notes": tuple(said)}
        if v.filter
        else {}
        for v, share, square, said in zip(views, clipped, squares, notes, strict=True)
    }
    return [_activations(r, s, stimuli, kept, meta | of_view[r.view]) for r, s in zip(requests, stores, strict=True)]


def pick_device(name: str) -> torch.device:
    """Choose a device: `auto` takes a GPU where there is one.

    Raises InputError when the device named isn't there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        found = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        reason = str(error).splitlines()[0]
        raise InputError(f"device {name!r} isn't there ({reason}); this machine has: {', '.join(found)}") from None
    return device


def _batches(
    views: Sequence[Request], stimuli: Stimuli, batch_size: int, workers: int | None
) -> Iterator[tuple[list[int], list[_Decoded]]]:
    """Yield batches in order; threads decode the next one while the encoders run."""

    def decode(index: int) -> _Decoded:
        try:
            picture = stimuli.load(index)
        except (OSError, ValueError, SyntaxError) as error:
            return _Decoded((), b"", str(error).splitlines()[0] if str(error) else type(error).__name__)
        digest = hashlib.blake2b(picture.tobytes(), digest_size=16).digest()
        seen = {spec: _seen(picture, f, stimuli.extent_of(index), stimuli.ids[index]) for spec, f in filters.items()}
        ours = [seen[v.view[1]] for v in views]
        inputs = tuple(v.encoder.preprocess(one.picture) for v, one in zip(views, ours, strict=True))
        found = zip(*((one.clipped, one.squares, one.notes) for one in ours), strict=True)
        return _Decoded(inputs, digest, "", *found)

    filters = {v.view[1]: v.filter for v in views}
    groups = [list(range(i, min(i + batch_size, len(stimuli)))) for i in range(0, len(stimuli), batch_size)]
    with ThreadPoolExecutor(workers or min(8, os.cpu_count() or 1)) as threads:
        ahead = [threads.submit(decode, i) for i in groups[0]] if groups else []
        for position, indices in enumerate(groups):
            current = ahead
            following = groups[position + 1] if position + 1 < len(groups) else []
            ahead = [threads.submit(decode, i) for i in following]
            yield indices, [future.result() for future in current]


@dataclass(frozen=True)
class _Seen:
    """A picture behind a filter, the share of its pixels that was cut, how far it moved, what the filter had to say."""

    picture: Image
    clipped: float = 0.0
    squares: float = 0.0
    notes: tuple[str, ...] = ()


def _seen(picture: Image, filter_: Filter | None, extent: float, name: str) -> _Seen:
    """Pass a picture through a filter. Raises InputError naming the picture when the filter can't take it."""
    if filter_ is None:
        return _Seen(picture)
    try:
        found = filter_.apply(as_batch(picture), extent)
    except InputError as error:
        raise InputError(f"{name} through {filter_.spec}: {error}") from None
    shown = as_picture(found.pictures[0])
    return _Seen(shown, float(found.clipped[0]), picture_squares(picture, shown), found.notes)


def _forward(requests: Sequence[Request], pixels: Tensor) -> list[dict[str, Tensor]]:
    """Run one batch through the encoder of all `requests`; the hooks live for this pass alone."""
    with ExitStack() as stack:
        recordings = [
            stack.enter_context(record(r.encoder.module, {layer.name: reducer(layer, r.pool) for layer in r.layers}))
            for r in requests
        ]
        requests[0].encoder.module(pixels)
        return [recording.take() for recording in recordings]


def _store(store: dict[str, Tensor], outputs: dict[str, Tensor], start: int, total: int) -> None:
    """Write one batch of rows into the arrays of all stimuli."""
    for name, rows in outputs.items():
        if name not in store:
            store[name] = torch.empty(total, rows.shape[1])
        store[name][start : start + len(rows)] = rows.cpu()


def _activations(
    request: Request, store: dict[str, Tensor], stimuli: Stimuli, kept: list[int], meta: dict[str, object]
) -> Activations:
    encoder = request.encoder
    return Activations(
        encoder=encoder.name,
        stimuli=stimuli.name,
        ids=tuple(stimuli.ids[i] for i in kept),
        layers={name: rows[: len(kept)] for name, rows in store.items()},
        depths={layer.name: layer.depth for layer in request.layers},
        pool=str(request.pool),
        filter=request.view[1],
        untrained=encoder.untrained,
        groups=None if stimuli.groups is None else tuple(stimuli.groups[i] for i in kept),
        meta=meta,
    )


def _width(layer: Layer, pool: Pool) -> int:
    """Count the features that a layer gives a stimulus."""
    channels = layer.shape[0] if layer.layout in ("nchw", "vector") else layer.shape[-1]
    if pool.method == "grid" and layer.grid is not None:
        return channels * pool.cells**2
    return prod(layer.shape) if pool.method == "flatten" else channels


def _check_memory(requests: Sequence[Request], n: int) -> None:
    need = 4 * n * sum(_width(layer, r.pool) for r in requests for layer in r.layers)
    pools = " and ".join(dict.fromkeys(str(r.pool) for r in requests))
    check_memory(need, f"features of {n} stimuli pooled by {pools}", "--pool mean, --limit N or fewer --layers")


def _unreadable(skipped: list[tuple[str, str]], total: int, name: str) -> str:
    listed = "; ".join(f"{i} ({reason})" for i, reason in skipped[:3]) + ("; …" if len(skipped) > 3 else "")
    return (
        f"{name}: {len(skipped)} of {total} pictures can't be decoded: {listed}. Mend or remove them, or go on "
        "without them with --skip-unreadable"
    )
