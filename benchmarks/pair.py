"""The pair of networks that is measured, its pictures as tensors decoded before, and the bare forward pass.

The tensors stand in for decoding: a stimulus is a picture of one pixel whose colour is its number, and an encoder's
preprocessing looks the tensor up. Making, hashing and looking up those pictures counts as repalign's time.
"""

import copy
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import timm
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import interpolate

from repalign.encoders.finish import finish
from repalign.encoders.spec import Spec
from repalign.extract import Request
from repalign.pooling import parse_pool
from repalign.types import Encoder, Stimuli

BATCH = 32
SIZE = 224
RESNET, VIT = "resnet18", "vit_tiny_patch16_224"
LAYERS = {
    RESNET: ("maxpool", *(f"layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1)), "global_pool"),
    VIT: tuple(f"blocks.{k}" for k in (0, 1, 2, 4, 5, 6, 7, 9, 10, 11)),  # ten of twelve, the first and last included
}


@dataclass(frozen=True)
class Network:
    """A network as its author gives it, in eval mode, and the names of the layers that are compared."""

    name: str
    module: nn.Module
    layers: tuple[str, ...]


def network(name: str, layers: tuple[str, ...], **options: Any) -> Network:  # noqa: ANN401  what timm takes
    """Build a network of timm with random weights that are the same every time.

    Its batch norms get weights between ½ and 1½: timm's own 0 would make every residual block an identity.
    """
    torch.manual_seed(0)
    module = timm.create_model(name, pretrained=False, **options).eval()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
    return Network(name, module, layers)


def pair() -> tuple[Network, Network]:
    """Build resnet18 and vit_tiny, ten layers each."""
    return network(RESNET, LAYERS[RESNET]), network(VIT, LAYERS[VIT])


def pictures(n: int, size: int = SIZE, seed: int = 0) -> Tensor:
    """Draw smooth colour fields of different contrast with noise on them, `(n, 3, size, size)` float32."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.empty(n, 3, size, size)
    for start in range(0, n, BATCH):
        part = drawn[start : start + BATCH]
        coarse = torch.randn(len(part), 3, 7, 7, generator=generator)
        contrast = 0.5 + torch.rand(len(part), 1, 1, 1, generator=generator)
        part[:] = contrast * interpolate(coarse, size=(size, size), mode="bicubic")
        part += 0.3 * torch.randn(part.shape, generator=generator)
    return drawn


def forward(networks: Sequence[Network], pixels: Tensor, batch: int = BATCH) -> None:
    """Run every network over all pictures and keep nothing: the floor."""
    with torch.inference_mode():
        for part in pixels.split(batch):
            for one in networks:
                one.module(part)


def forward_bfloat16(networks: Sequence[Network], pixels: Tensor, batch: int = BATCH) -> None:
    """Run them as a user in a hurry would: bfloat16 by autocast, and channels last where there are convolutions."""
    with torch.inference_mode(), torch.autocast(pixels.device.type, torch.bfloat16):
        for part in pixels.split(batch):
            last = part.to(memory_format=torch.channels_last)
            for one in networks:
                one.module(last if is_convolutional(one.module) else part)


def is_convolutional(module: nn.Module) -> bool:
    """Tell whether a network is made of convolutions rather than having one that cuts out patches."""
    return sum(isinstance(part, nn.Conv2d) for part in module.modules()) > 1


def flat(output: Tensor) -> Tensor:
    """Lay all positions and channels side by side, class token included."""
    return output.flatten(1)


def flat_without_class(output: Tensor) -> Tensor:
    """Lay positions and channels side by side, but not vit's class token: what repalign flattens."""
    return flat(output[:, 1:] if output.ndim == 3 else output)


def averaged(output: Tensor) -> Tensor:
    """Average over positions: of a map, or of patches without the class token."""
    if output.ndim == 4:
        return output.mean((2, 3))
    return output[:, 1:].mean(1) if output.ndim == 3 else output


def features(one: Network, pixels: Tensor, reduce: Callable[[Tensor], Tensor], batch: int = BATCH) -> dict[str, Tensor]:
    """Record the layers with plain hooks in float32, `(n, d)` each."""
    found: dict[str, list[Tensor]] = {name: [] for name in one.layers}

    def keep(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        return lambda _module, _inputs, output: found[name].append(reduce(output).clone())

    with ExitStack() as stack:
        for name in one.layers:
            stack.callback(one.module.get_submodule(name).register_forward_hook(keep(name)).remove)
        forward([one], pixels, batch)
    joined: dict[str, Tensor] = {}
    for name in one.layers:
        joined[name] = torch.cat(found.pop(name))
    return joined


def as_encoder(one: Network, pixels: Tensor) -> Encoder:
    """Give repalign a network of its own with the same weights, since it may lay them out in another order.

    The preprocessing looks tensors up; pictures that repalign draws itself, to try the network, find some tensor too.
    """
    spec = Spec(f"{one.name}@random", "timm", one.name, "random")
    return finish(
        spec, copy.deepcopy(one.module), lambda picture: pixels[_number(picture) % len(pixels)],
        source=f"timm:{one.name}", untrained=True,
    )  # fmt: skip


def as_stimuli(n: int) -> Stimuli:
    """Make n pictures of one pixel each, told apart by their colour."""
    return Stimuli("predecoded", tuple(f"{i:06d}" for i in range(n)), lambda i: Image.new("RGB", (1, 1), _colour(i)))


def request(encoder: Encoder, layers: Sequence[str], pool: str) -> Request:
    """Ask an encoder for layers by name."""
    return Request(encoder, tuple(x for x in encoder.layers if x.name in set(layers)), parse_pool(pool))


def _colour(i: int) -> tuple[int, int, int]:
    return i & 255, i >> 8 & 255, i >> 16 & 255


def _number(picture: Image.Image) -> int:
    red, green, blue = picture.getpixel((0, 0))  # type: ignore[misc]
    return red | green << 8 | blue << 16
