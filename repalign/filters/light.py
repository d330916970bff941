"""Between sRGB and linear light (IEC 61966-2-1), between pictures and tensors, and differences in linear light."""

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

LEVELS = 255  # of an 8-bit channel
JOINT = 0.040448236277108191  # where the line x / 12.92 meets the power law; the standard rounds it to 0.04045
JOINT_LINEAR = JOINT / 12.92


def decode(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Turn sRGB values 0..1 into linear light 0..1.

    Line and power law are added, each held at their joint beyond its own part: cheaper than choosing between them. The
    standard's rounded joint moves no value by more than 3e-8.
    """
    curve = _power(x.clamp(min=JOINT).add_(0.055), 2.4).mul_(1.055**-2.4)
    return curve.add_(x.clamp(max=JOINT).sub_(JOINT), alpha=1 / 12.92)


def encode(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Turn linear light 0..1 into sRGB values 0..1, as `decode` joins them."""
    curve = _power(x.clamp(min=JOINT_LINEAR), 1 / 2.4).mul_(1.055).sub_(0.055)
    return curve.add_(x.clamp(max=JOINT_LINEAR).sub_(JOINT_LINEAR), alpha=12.92).clamp_(0, 1)


def as_batch(picture: Image.Image) -> Float[Tensor, "1 3 h w"]:
    """Turn a picture into a batch of one, sRGB 0..1 float32."""
    values = torch.from_numpy(np.array(picture.convert("RGB")))
    return values.permute(2, 0, 1)[None].float() / LEVELS


def as_picture(x: Float[Tensor, "3 h w"]) -> Image.Image:
    """Turn sRGB values 0..1 into an 8-bit RGB picture."""
    return Image.fromarray(as_bytes(x).permute(1, 2, 0).contiguous().numpy(), "RGB")


def as_bytes(x: Float[Tensor, "*shape"]) -> Tensor:
    """Round sRGB values 0..1 to 8 bits, on the CPU."""
    return x.detach().mul(LEVELS).round().clamp(0, LEVELS).to("cpu", torch.uint8)


def linear_squares(a: Float[Tensor, "n 3 h w"], b: Float[Tensor, "n 3 h w"]) -> Float[Tensor, " n"]:
    """Compute each pair's mean squared difference in linear light, over pixels and channels, in float64."""
    return (decode(a.double()) - decode(b.double())).square().mean((1, 2, 3))


def picture_squares(a: Image.Image, b: Image.Image) -> float:
    """Compute the mean squared difference of two 8-bit RGB pictures in linear light; NaN when their sizes differ."""
    if a.size != b.size:
        return float("nan")
    levels = decode(torch.arange(LEVELS + 1, dtype=torch.float64) / LEVELS).numpy()
    return float(np.square(levels[np.asarray(a)] - levels[np.asarray(b)]).mean())


def _power(x: Float[Tensor, "*shape"], exponent: float) -> Float[Tensor, "*shape"]:
    """Raise positive values to a power, in place; as exact as `pow` on 0..1, and faster on a CPU."""
    return x.log2_().mul_(exponent).exp2_()
