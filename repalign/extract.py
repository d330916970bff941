"""Extraction: encoders over stimuli, each picture decoded once for all of them, reduced inside the hook."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from repalign.cache import Cache
from repalign.chunks import Chunks, How
from repalign.decoding import Request
from repalign.errors import InputError, RepalignError, UnreadableImagesError
from repalign.gathered import Gathered, merged
from repalign.memory import check_memory
from repalign.progress import Track, silent
from repalign.together import ALONE, Together
from repalign.types import Activations, Rows, Stimuli

__all__ = ["Extracted", "Request", "extract", "extract_large", "pick_device"]


@dataclass(frozen=True)
class Extracted:
    """What was extracted for one request: stimuli held in memory, the `ids` of all, and their rows read by blocks."""

    activations: Activations
    ids: tuple[str, ...]
    rows: Rows | None = None


def extract(
    requests: Sequence[Request],
    stimuli: Stimuli,
    how: How | None = None,
    *,
    skip_unreadable: bool = False,
    track: Track = silent,
    cache: Cache | None = None,
    together: Together = ALONE,
) -> list[Activations]:
    """Run every encoder over every stimulus and keep the pooled outputs of its layers, float32 on the CPU.

    Requests of one encoder through one filter (other layers, other pools) share a forward pass. A filter acts on the
    picture as it was decoded, before any encoder's preprocessing resizes it, and its result is rounded to 8 bits.
    What the `cache` holds is not computed again. Pictures that can't be decoded are left out with `skip_unreadable`,
    listed in `meta["skipped"]`. `meta` also holds the stimuli's `fingerprint` (over ids and decoded pixels), the mean
    share of pixels that the filter `clipped`, the `difference` it makes (root mean square in linear light 0..1, NaN
    when it changes a picture's size), the `filter_notes`, the `precision`, and the seconds spent. Of several processes
    each runs every so many-th chunk, and rank 0 has them all.

    Raises UnreadableImagesError naming and counting all of them otherwise; InputError when the features won't
    fit into memory.
    """
    chunks = Chunks(requests, stimuli, how or How(), cache)
    return _extract(chunks, range(len(stimuli)), skip_unreadable, track, together)[0]


def extract_large(
    requests: Sequence[Request],
    stimuli: Stimuli,
    keep: Sequence[int],
    cache: Cache,
    how: How,
    *,
    skip_unreadable: bool = False,
    track: Track = silent,
    together: Together = ALONE,
) -> list[Extracted]:
    """Do the same for more stimuli than fit into memory: those at `keep` are held, all are read from the cache again.

    Of several processes each has the rows of its own chunks.

    Raises as `extract` does.
    """
    chunks = Chunks(requests, stimuli, how, cache, stored=True)
    activations, found, own = _extract(chunks, keep, skip_unreadable, track, together)
    ids = tuple(name for number in found.pictures for name in found.ids(stimuli, number))
    return [Extracted(one, ids, _rows(chunks, r, own)) for one, r in zip(activations, requests, strict=True)]


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


def _extract(
    chunks: Chunks, keep: Sequence[int], skip_unreadable: bool, track: Track, together: Together
) -> tuple[list[Activations], Gathered, Gathered]:
    """Run this process's chunks; give the activations at `keep`, and what all processes and this one have."""
    _check_memory(chunks.requests, len(keep))
    began = time.perf_counter()
    own = _run(chunks, frozenset(keep), skip_unreadable, track, together)
    several = together.gather(own) if together.world > 1 else None
    found = own if several is None else merged(several)
    stimuli, skipped = chunks.stimuli, found.skipped(chunks.stimuli)
    if skipped and not skip_unreadable:
        raise UnreadableImagesError(_unreadable(skipped, len(stimuli), stimuli.name), tuple(skipped))
    if not found.filled and together.first:
        raise UnreadableImagesError(f"{stimuli.name}: none of {len(stimuli)} pictures can be decoded", tuple(skipped))
    meta = {
        "fingerprint": found.fingerprint(stimuli),
        "skipped": list(stimuli.skipped) + skipped,
        "seconds": time.perf_counter() - began,
        "precision": chunks.how.precision,
    }
    return [_activations(chunks, k, found, meta) for k in range(len(chunks.requests))], found, own


def _run(chunks: Chunks, wanted: frozenset[int], skip_unreadable: bool, track: Track, together: Together) -> Gathered:
    numbers = _own(chunks, together)
    room = sum(i in wanted for number in numbers for i in chunks.indices(number))
    found = Gathered([{} for _ in chunks.requests])
    names = " and ".join(dict.fromkeys(r.encoder.name for r in chunks.requests))
    with track(f"{names} on {chunks.stimuli.name}", sum(len(chunks.indices(k)) for k in numbers)) as advance:
        for chunk in chunks.run(numbers, skip_unreadable):
            found.add(chunk, wanted, room)
            advance(len(chunk.indices))
    return found


def _own(chunks: Chunks, together: Together) -> range:
    """List the chunks of this process."""
    return range(together.rank, len(chunks), together.world)


def _activations(chunks: Chunks, k: int, found: Gathered, meta: dict[str, object]) -> Activations:
    request, stimuli = chunks.requests[k], chunks.stimuli
    kept = found.indices()
    return request.activations(
        stimuli.name,
        tuple(stimuli.ids[i] for i in kept),
        found.layers(k),
        meta | (found.said_by_filter(request.spec) if request.filter else {}),
        None if stimuli.groups is None else tuple(stimuli.groups[i] for i in kept),
    )


def _rows(chunks: Chunks, request: Request, found: Gathered) -> Rows:
    """Give the rows of this process's chunks, read from the cache when they are asked for."""
    stimuli, numbers = chunks.stimuli, list(found.pictures)
    ids = tuple(found.ids(stimuli, number) for number in numbers)
    group = None if stimuli.groups is None else dict(zip(stimuli.ids, stimuli.groups, strict=True))

    def read(k: int, layers: Sequence[str]) -> Mapping[str, Tensor]:
        rows = chunks.read(request, numbers[k], layers)
        if rows is None:
            raise RepalignError(
                f"features of {request.encoder.name} can't be read back: removed from the cache meanwhile, or the disk "
                "was full; make room and run it again, which goes on where it was"
            )
        return rows

    return Rows(
        ids,
        None if group is None else tuple(tuple(group[name] for name in block) for block in ids),
        request.widths,
        read,
    )


def _check_memory(requests: Sequence[Request], n: int) -> None:
    need = 4 * n * sum(sum(r.widths.values()) for r in requests)
    pools = " and ".join(dict.fromkeys(str(r.pool) for r in requests))
    check_memory(need, f"features of {n} stimuli pooled by {pools}", "--pool mean, --limit N or fewer --layers")


def _unreadable(skipped: list[tuple[str, str]], total: int, name: str) -> str:
    listed = "; ".join(f"{i} ({reason})" for i, reason in skipped[:3]) + ("; …" if len(skipped) > 3 else "")
    return (
        f"{name}: {len(skipped)} of {total} pictures can't be decoded: {listed}. Mend or remove them, or go on "
        "without them with --skip-unreadable"
    )
