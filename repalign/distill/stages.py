"""The stages of a network: where OFA-KD may place a branch."""

from collections.abc import Sequence
from dataclasses import dataclass

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

    Pyramids are cut where the resolution changes: at the modules that timm's `feature_info` names, the stem not
    counted, or else after the last block of each resolution. Blocks of one resolution (ViT, Mixer) are cut 2-2-6-2
    (Hao et al. 2023, arXiv 2310.19444). Of more than four stages the deepest four are taken.

    Raises LayerError when no stage can be found.
    """
    ends = _declared(module, layers) or list(select(layers, "stages"))
    if not ends:
        raise LayerError(f"{type(module).__name__} shows no stages; give layers by name")
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


def _declared(module: nn.Module, layers: Sequence[Layer]) -> list[Layer]:
    """Take the last declared layer of each reduction, or nothing where the network declares none of use."""
    info = getattr(module, "feature_info", None)
    entries = [e for e in (info if isinstance(info, list) else getattr(info, "info", [])) if isinstance(e, dict)]
    by_name = {layer.name: (i, layer) for i, layer in enumerate(layers)}
    first_block = next((i for i, layer in enumerate(layers) if layer.role == "block"), 0)
    found: dict[object, Layer] = {}
    for entry in entries:
        place, layer = by_name.get(str(entry.get("module")), (-1, None))
        if layer is not None and place >= first_block and layer.calls == 1:
            found[entry.get("reduction")] = layer
    return list(found.values()) if len(found) > 1 else []
