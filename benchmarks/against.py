"""repalign and the other libraries on the same pair, flattened: seconds against seconds of the same round.

With fewer stimuli than the other lines: what the peers do with all pairs grows with their square, and would take hours.
That favours them, since the forward pass is a larger share of fewer stimuli.
"""

import math
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import definition
import numpy as np
import torch
from common import Result, Settings, Work, alternate, keeping, ratio, timed
from numpy.typing import NDArray
from ours import Compared, Pair, Way
from pair import flat, flat_without_class, forward
from peers import PEER_BATCH, PEERS, Peer, Run, is_here, run_apart
from torch import Tensor

MOST = 256  # stimuli
OURS: dict[str, Way] = {  # the measure that a peer computes, as repalign is asked for it
    "debiased CKA": Way("", None, ("cka_linear",), "flatten"),
    "biased CKA": Way("", None, ("cka_linear:debiased=false",), "flatten"),
    "RSA": Way("", None, ("rsa",), "flatten"),
}


def measure(_names: Sequence[str], settings: Settings) -> dict[str, list[Result]]:
    """Alternate the floor, repalign and every peer that is here."""
    n = min(settings.stimuli, MOST)
    setting = Pair(n)
    ours: dict[str, Compared] = {}
    peers: dict[str, Run] = {}
    here = {name: peer for name, peer in PEERS.items() if is_here(peer)}
    works: dict[str, Work] = {"floor": timed(lambda: forward(setting.networks, setting.pixels, PEER_BATCH))}
    for measure_ in {peer.measure: None for peer in here.values()}:
        works[measure_] = keeping(partial(setting.compare, OURS[measure_], PEER_BATCH), ours, measure_)
    forward(setting.networks, setting.pixels[:PEER_BATCH])
    with tempfile.TemporaryDirectory() as folder:
        pixels = Path(folder) / "pixels.npy"
        np.save(pixels, setting.pixels.numpy())
        for name in here:
            works[name] = _apart(name, pixels, peers)
        taken = alternate(works, settings.repeats)
    own, truths = (_truths(setting, reduce) for reduce in (flat_without_class, flat))
    found = [_own_line(name, taken, ours[name], own[name], n) for name in ours]
    found += [_line(name, peer, taken, peers.get(name), truths[peer.measure]) for name, peer in PEERS.items()]
    return {"peers": found}


def _apart(name: str, pixels: Path, kept: dict[str, Run]) -> Work:
    """Make work of a peer's run in its own process, whose clock counts; one that failed is not asked again."""

    def work() -> float:
        if name not in kept or not kept[name].failure:
            kept[name] = run_apart(name, pixels, torch.get_num_threads())
        return kept[name].seconds

    return work


def _truths(setting: Pair, reduce: Callable[[Tensor], Tensor]) -> dict[str, NDArray[np.float64]]:
    """Compute the definitions on features of plain hooks: the peers flatten the class token too, repalign does not."""
    a, b = setting.plain(reduce)
    return {
        "debiased CKA": definition.cka(a, b),
        "biased CKA": definition.cka(a, b, debiased=False),
        "RSA": definition.rsa(a, b),
    }


def _own_line(name: str, taken: dict[str, list[float]], found: Compared, truth: NDArray[np.float64], n: int) -> Result:
    """Give repalign's own time beside the floor."""
    value, spread = ratio(taken[name], taken["floor"])
    apart = definition.worst(next(iter(found.scores.values())), truth)
    what = f"repalign, {name}, flattened / bare forward"
    return Result(what, value, spread=spread, worst=apart, note=f"{n} stimuli")


def _line(name: str, peer: Peer, taken: dict[str, list[float]], run: Run | None, truth: NDArray[np.float64]) -> Result:
    """Give a peer's seconds over repalign's for the same measure: above 1, repalign is ahead."""
    what = f"{name} / repalign, {peer.measure}"
    if run is None:
        return Result(what, None, at_least=1.0, note=f"{name} is not installed")
    if run.failure or run.scores is None or not all(map(math.isfinite, taken[name])):
        return Result(what, None, at_least=1.0, note=f"failed: {run.failure}")
    value, spread = ratio(taken[name], taken[peer.measure])
    beside, _ = ratio(taken[name], taken["floor"])
    note = f"{beside:.2f} × the bare forward, peak {run.peak:.1f} GB"
    return Result(what, value, "×", None, 1.0, spread, definition.worst(run.scores, truth), note)
