"""Pictures that the tests of filters share."""

import numpy as np
import torch
from PIL import Image

from repalign.filters.light import decode, encode


def colours(n: int = 200, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Draw linear colours all over the cube, as one picture `(1, 3, 1, n)`."""
    return torch.rand(1, 3, 1, n, generator=torch.Generator().manual_seed(1), dtype=dtype)


def pictures(n: int = 3, h: int = 40, w: int = 56, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Draw smooth coloured pictures with some detail, sRGB 0..1."""
    generator = torch.Generator().manual_seed(2)
    coarse = torch.rand(n, 3, 5, 7, generator=generator, dtype=torch.float64)
    smooth = torch.nn.functional.interpolate(coarse, size=(h, w), mode="bicubic", align_corners=False)
    detail = 0.1 * torch.randn(n, 3, h, w, generator=generator, dtype=torch.float64)
    return (smooth + detail).clamp(0, 1).to(dtype)


def picture(h: int = 40, w: int = 56) -> Image.Image:
    """Draw one 8-bit RGB picture."""
    return Image.fromarray((pictures(1, h, w)[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8), "RGB")


def grating(cpd: float, size: tuple[int, int], width_deg: float, axis: str, phase: float = 0.3) -> torch.Tensor:
    """Draw a grey grating of contrast 0.8 in linear light, sRGB `(1, 3, h, w)` float64; bars across `axis`."""
    h, w = size
    per_pixel = width_deg / w
    places = torch.arange(w if axis == "x" else h, dtype=torch.float64) * per_pixel
    wave = 0.5 + 0.4 * torch.cos(2 * np.pi * cpd * places + phase)
    flat = wave[None, :].expand(h, w) if axis == "x" else wave[:, None].expand(h, w)
    return encode(flat.expand(1, 3, h, w).contiguous())


def contrast(x: torch.Tensor, cpd: float, width_deg: float, axis: str) -> float:
    """Fit a grating of `cpd` to the middle half of sRGB pictures; return its contrast relative to `grating`'s."""
    light = decode(x)[0, 1]
    profile = (light if axis == "x" else light.T).mean(0).numpy()
    n = len(profile)
    inner = np.arange(n // 4, n - n // 4)
    angle = 2 * np.pi * cpd * inner * width_deg / x.shape[3]
    design = np.stack([np.cos(angle), np.sin(angle), np.ones(len(inner))], 1)
    fitted = np.linalg.lstsq(design, profile[inner], rcond=None)[0]
    return float(np.hypot(*fitted[:2]) / 0.4)
