"""A classifier as an encoder of everything a diagnosis needs from it: layers, penultimate representation and logits."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from repalign.decoding import Request
from repalign.distill.networks import Anatomy, examine, run
from repalign.distill.stages import Stage, find_stages
from repalign.encoders.structure import select
from repalign.errors import InputError
from repalign.pooling import Pool
from repalign.types import Activations, Encoder, Layer

INSIDE = "network."  # under which the classifier's own layers stand
LOGITS, PENULTIMATE = "logits", "penultimate"


class Whole(nn.Module):
    """A classifier whose logits, and what its last linear layer is given, can be recorded as layers' outputs."""

    def __init__(self, network: nn.Module, classifier: str | None) -> None:
        super().__init__()
        self.network, self.classifier = network, classifier
        self.penultimate, self.logits = nn.Identity(), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Run the classifier."""
        logits, _, penultimate = run(self.network, x, (), self.classifier)
        if penultimate is not None:
            self.penultimate(penultimate)
        return self.logits(logits)


@dataclass(frozen=True)
class Part:
    """A network to be diagnosed: its stages and blocks, and what a dry run shows of its logits.

    `anatomy` is None for a network that gives no logits, and `notes` then say why. With `fresh_classifier` the logits
    come from an untrained classifier on trained features, and say nothing.
    """

    encoder: Encoder
    anatomy: Anatomy | None
    stages: tuple[Stage, ...]
    blocks: tuple[Layer, ...]
    notes: tuple[str, ...] = ()
    fresh_classifier: bool = False

    @property
    def classes(self) -> int | None:
        """Count the logits; None where there are none."""
        return self.anatomy.classes if self.anatomy else None

    @property
    def device(self) -> torch.device:
        """Say where the network is."""
        first = next(self.encoder.module.parameters(), None)
        return torch.device("cpu") if first is None else first.device

    @property
    def recorded(self) -> dict[str, Layer]:
        """List the layers whose features are compared, by name: blocks and stages, each once, shallow to deep."""
        wanted = {layer.name for layer in (*self.blocks, *(s.layer for s in self.stages))}
        return {layer.name: layer for layer in self.encoder.layers if layer.name in wanted}

    def request(self) -> Request:
        """Ask for the mean-pooled features of all of them, for the penultimate representation and the logits."""
        if self.anatomy is None:
            return Request(self.encoder, tuple(self.recorded.values()), Pool("mean"))
        inside = [replace(layer, name=INSIDE + layer.name) for layer in self.recorded.values()]
        ends = [_vector(LOGITS, self.anatomy.classes)]
        if self.anatomy.width is not None:
            ends.insert(0, _vector(PENULTIMATE, self.anatomy.width))
        module = Whole(self.encoder.module, self.anatomy.classifier).eval()
        layers = (*inside, *ends)
        return Request(replace(self.encoder, module=module, layers=layers), layers, Pool("mean"))


@dataclass(frozen=True)
class Seen:
    """What a network said about pictures: features `(n, d)` of each layer, penultimate `(n, w)`, logits `(n, c)`."""

    part: Part
    features: Activations
    penultimate: Activations | None
    logits: Tensor | None


def find_parts(encoder: Encoder, fresh_classifier: bool = False) -> Part:
    """Find a network's stages, blocks and logits by a dry run on noise.

    Blocks that run more than once in a pass have no single output and are left out, with a note.

    Raises LayerError when no stage can be found.
    """
    once = tuple(layer for layer in encoder.layers if layer.calls == 1)
    again = [layer.name for layer in encoder.layers if layer.calls > 1 and layer.role != "inner"]
    notes = [f"{encoder.name}: {name} runs more than once in a pass, so it is not compared" for name in again]
    anatomy, why = _anatomy(encoder)
    stages, blocks = find_stages(encoder.module, once), select(once, "blocks")
    return Part(
        encoder,
        anatomy,
        stages,
        blocks,
        (*(f"{encoder.name}: {note}" for note in encoder.notes), *notes, *why),
        fresh_classifier,
    )


def _anatomy(encoder: Encoder) -> tuple[Anatomy | None, list[str]]:
    """Look for logits; without them, say why there are none."""
    if getattr(encoder.module, "num_classes", None) == 0:  # as timm says it
        return None, [f"{encoder.name} ends in features, without a classifier"]
    example = torch.randn(2, 3, *encoder.input_size, generator=torch.Generator().manual_seed(0))
    try:
        first = next(encoder.module.parameters(), example)
        return examine(encoder.name, encoder.module, example.to(first.device)), []
    except InputError as reason:
        return None, [str(reason)]


def seen(part: Part, found: Activations) -> Seen:
    """Sort what `Part.request` gave: layers under the network's own names, penultimate and logits by themselves."""
    own = {name.removeprefix(INSIDE): x for name, x in found.layers.items() if name not in (LOGITS, PENULTIMATE)}
    depths = {name.removeprefix(INSIDE): depth for name, depth in found.depths.items()}
    features = replace(found, layers=own, depths={name: depths[name] for name in own})
    last = found.layers.get(PENULTIMATE)
    penultimate = None if last is None else replace(found, layers={PENULTIMATE: last}, depths={PENULTIMATE: 1.0})
    return Seen(part, features, penultimate, found.layers.get(LOGITS))


def _vector(name: str, width: int) -> Layer:
    return Layer(name, "Identity", (width,), "vector", 0, None, 0, 1.0, "inner")
