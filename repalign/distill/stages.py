"""The stages of a network: where OFA-KD may place a branch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

from torch import nn

from repalign.encoders.structure import select
from repalign.errors import InputError, LayerError
from repalign.types import Layer

MOST_STAGES = 4  # as in OFA-KD (Hao et al. 2023); of more, the deepest


@dataclass(frozen=True)
class Stage:
    """The `number`-th stage from the input, counted from 1, and the layer whose output ends it."""

    number: int
    layer: Layer


def find_stages(module: nn.Module, layers: Sequence[Layer]) -> tuple[Stage, ...]:
    """Find the stages among a network's `layers` (shallow to deep, as `find_layers` lists them).

    Pyramids have those that timm's `feature_info` names, the stem not counted, or else what ends each resolution.
    Blocks of one resolution (ViT, Mixer) are cut 2-2-6-2 (Hao et al. 2023, arXiv 2310.19444). Of more than four stages
    the deepest four are taken. Layers that run more than once in a pass, and the logits, are none.

    Raises LayerError when no stage can be found.
    """
    once = [layer for layer in layers if layer.calls == 1]
    ends = _declared(module, once) or _by_resolution(once)
    if not ends:
        raise LayerError(
            f"{type(module).__name__} has no stages: nothing before its logits that runs once a pass can be taken for "
            "a block; distil from its logits alone (kd, dkd or dist)"
        )
    return tuple(Stage(i + 1, layer) for i, layer in enumerate(ends[-MOST_STAGES:]))


def choose_stages(stages: Sequence[Stage], wanted: str | Sequence[int]) -> tuple[Stage, ...]:
    """Take `all`, `last` or `none` of the stages, or those with the numbers given ("1,3" or [1, 3]).

    Raises InputError naming the stages there are.
    """
    if wanted == "all":
        return tuple(stages)
    if wanted == "last":
        return tuple(stages[-1:])
    if wanted == "none":
        return ()
    known = ", ".join(f"{s.number} ({s.layer.name})" for s in stages)
    listed = wanted.split(",") if isinstance(wanted, str) else list(wanted)
    try:
        numbers = [int(number) for number in listed]
    except ValueError:
        raise InputError(f"stages {wanted!r}: give all, last, none, or numbers as in 1,3; there are {known}") from None
    missing = [n for n in numbers if n not in {s.number for s in stages}]
    if missing or len(set(numbers)) < len(numbers):
        what = f"there is no stage {missing[0]}" if missing else "a stage is named twice"
        raise InputError(f"stages {wanted!r}: {what}; there are {known}")
    return tuple(s for s in stages if s.number in numbers)


def channels(layer: Layer) -> int:
    """Count the features of a layer's output at one position."""
    return layer.shape[0] if layer.layout == "nchw" else layer.shape[-1]


def _declared(module: nn.Module, layers: Sequence[Layer]) -> list[Layer]:
    """Take the layers that the network's `feature_info` names, or nothing where it names none of use.

    An entry counts where it lies after the stem and has the channels it states: a layer of several parallel maps may be
    listed with all of them, and then the one that is recorded isn't what is meant.
    """
    info = getattr(module, "feature_info", None)
    entries = [e for e in (info if isinstance(info, list) else getattr(info, "info", [])) if isinstance(e, dict)]
    first_block = next((i for i, layer in enumerate(layers) if layer.role == "block"), 0)
    known = {layer.name: layer for layer in layers[first_block:]}
    found: dict[str, tuple[object, Layer]] = {}
    for entry in entries:
        layer = known.get(str(entry.get("module")))
        if layer is not None and entry.get("num_chs") in (None, channels(layer)):
            found[layer.name] = entry.get("reduction"), layer
    ends, last = [layer for _, layer in found.values()], dict(found.values())  # last: of each reduction
    if len(ends) <= MOST_STAGES:
        return ends if len(ends) > 1 else []
    if len(last) > 1:
        return list(last.values())
    cut = {layer.name for layer in select([replace(layer, role="block") for layer in ends], "stages")}
    return [layer for layer in ends if layer.name in cut]


def _by_resolution(layers: Sequence[Layer]) -> list[Layer]:
    """Take what ends each resolution, of maps and tokens, or else of vectors before the logits."""
    logits = layers[-1].shape if layers and layers[-1].layout == "vector" else None
    spatial = select([layer for layer in layers if layer.layout != "vector"], "stages")
    hidden = select([x for x in layers if x.layout == "vector" and x.shape != logits], "stages")
    blocks = _shrinking(spatial or hidden)
    return [_around(block, blocks, layers) for block in blocks]


def _around(block: Layer, blocks: Sequence[Layer], layers: Sequence[Layer]) -> Layer:
    """Take the outermost layer that holds this block alone and has its grid: a dense stage, not its last part."""
    for layer in sorted(layers, key=lambda x: len(x.name)):
        held = [other for other in blocks if other.name.startswith(layer.name + ".")]
        if held == [block] and (layer.layout, layer.prefix, layer.grid) == (block.layout, block.prefix, block.grid):
            return layer
    return block


def _shrinking(ends: Sequence[Layer]) -> list[Layer]:
    """Keep the longest chain of ever coarser grids, the deepest of equals: a network may have several streams."""
    areas = {layer.name: prod(layer.grid) for layer in ends if layer.grid is not None}
    if len(set(areas.values())) < 2:
        return list(ends)
    chains: list[list[Layer]] = []
    for layer in ends:
        if layer.name in areas:
            before = [c for c in chains if areas[c[-1].name] > areas[layer.name]]
            chains.append([*max(reversed(before), key=len, default=[]), layer])
    return max(reversed(chains), key=len)
