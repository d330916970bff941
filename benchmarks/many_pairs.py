"""Eight networks, all pairs: repalign runs each once, a library for pairs runs every network with every other."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import definition
import numpy as np
import torch
from common import Result, Settings, Work, alternate, keeping, ratio, timed
from numpy.typing import NDArray
from pair import Network, as_encoder, as_stimuli, features, flat, forward, network, pictures, request
from peers import PEER_BATCH, PEERS, is_here
from torch.utils.data import DataLoader, TensorDataset

from repalign.align import align_all
from repalign.encoders.structure import select
from repalign.extract import extract
from repalign.metrics import parse_metric
from repalign.types import Encoder

SIZE = 96  # pixels a side
MOST = 256  # stimuli
NETWORKS: dict[str, dict[str, Any]] = {
    "resnet10t": {}, "resnet14t": {}, "resnet18": {}, "regnetx_002": {}, "mobilenetv2_050": {}, "lcnet_050": {},
    "convnext_atto": {}, "vit_tiny_patch16_224": {"img_size": SIZE, "class_token": False, "global_pool": "avg"},
}  # fmt: skip

Pairs = dict[tuple[int, int], NDArray[np.float64]]


def measure(_names: Sequence[str], settings: Settings) -> dict[str, list[Result]]:
    """Alternate repalign, the peer and the floors of both: eight bare passes, and two for each of 28 pairs."""
    n = min(settings.stimuli, MOST)
    pixels, stimuli = pictures(n, SIZE), as_stimuli(n)
    plain = [network(name, (), **options) for name, options in NETWORKS.items()]
    encoders = [as_encoder(one, pixels) for one in plain]
    networks = [Network(o.name, o.module, _stages(e)) for o, e in zip(plain, encoders, strict=True)]
    requests = [request(e, one.layers, "flatten") for e, one in zip(encoders, networks, strict=True)]
    kept: dict[str, Pairs] = {}

    def ours() -> Pairs:
        found = align_all(extract(requests, stimuli), parse_metric("cka_linear"))
        return {pair: one.scores for pair, one in found.items()}

    works: dict[str, Work] = {"floor": timed(lambda: forward(networks, pixels)), "ours": keeping(ours, kept, "ours")}
    if is_here(PEERS["pytorch-cka"]):
        loader = DataLoader(TensorDataset(pixels), batch_size=PEER_BATCH)
        works["pytorch-cka"] = keeping(lambda: _pair_by_pair(networks, loader), kept, "pytorch-cka")
    forward(networks, pixels[:PEER_BATCH])
    taken = alternate(works, settings.repeats)
    truth = _truth(networks, kept["ours"], pixels)
    own, spread = ratio(taken["ours"], taken["floor"])
    worst = {name: max(definition.worst(found[pair], truth[pair]) for pair in truth) for name, found in kept.items()}
    layers = sum(len(one.layers) for one in networks)
    note = f"{n} stimuli of {SIZE} × {SIZE}, {layers} layers, flattened; 8 passes against 56"
    what = "8 networks, all pairs: repalign / 8 bare forward passes"
    found = [Result(what, own, spread=spread, worst=worst["ours"], note=note)]
    what = "8 networks, all pairs: pytorch-cka pair by pair / repalign"
    if "pytorch-cka" not in taken:
        return {"many": [*found, Result(what, None, at_least=5, note="pytorch-cka is not installed")]}
    value, spread = ratio(taken["pytorch-cka"], taken["ours"])
    passes, _ = ratio(taken["pytorch-cka"], [7 * s for s in taken["floor"]])
    off = worst["pytorch-cka"]
    note = f"pytorch-cka takes {passes:.2f} × its own floor, 56 bare passes; its scores are off by up to {off:.0e}"
    return {"many": [*found, Result(what, value, "×", None, 5, spread, worst["ours"], note)]}


def _stages(encoder: Encoder) -> tuple[str, ...]:
    """Name the last block of every stage."""
    return tuple(layer.name for layer in select(encoder.layers, "stages"))


def _pair_by_pair(networks: Sequence[Network], loader: DataLoader) -> Pairs:
    from cka import compute_cka  # pyright: ignore[reportMissingImports]

    found: Pairs = {}
    for i, j in combinations(range(len(networks)), 2):
        a, b = networks[i], networks[j]
        options = {"layers": list(a.layers), "model2_layers": list(b.layers), "device": "cpu", "progress": False}
        found[i, j] = compute_cka(a.module, b.module, loader, **options)[0].double().numpy()
    return found


def _truth(networks: Sequence[Network], pairs: Pairs, pixels: torch.Tensor) -> Pairs:
    """Compute the definition for every pair, on features from plain hooks."""
    plain = [features(one, pixels, flat) for one in networks]
    return {(i, j): definition.cka(plain[i], plain[j]) for i, j in pairs}
