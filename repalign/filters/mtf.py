"""Transfer of the eye's optics, in cycles per degree of visual angle."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from repalign.errors import InputError

MTF50 = 2.43  # cycles/degree at which the cat's optics keep half of the contrast, artificial pupil of 4–4.8 mm
MTF50_SOURCE = "Bonds, Enroth-Cugell & Pinto 1972, J Physiol 220:383–401 (MTF 0.5 at 2.43 cycles/degree)"
PUPIL_MM = 4.4  # middle of the pupils with which MTF50 was measured


def gaussian_mtf(f: Float[Tensor, "*f"], mtf50: float) -> Float[Tensor, "*f"]:
    """Compute `2^−(f / mtf50)²`: the Gaussian line spread that passes through one half at `mtf50`.

    One published number fixes one parameter. Misleads where stray light matters: measured line spreads have wider
    skirts than a Gaussian.
    """
    return torch.exp2(-((f / mtf50) ** 2))


def nyquist_transfer(fov_deg: float, pixels: int, mtf50: float = MTF50) -> float:
    """Compute the transfer of the optics that is left at the Nyquist frequency of `pixels` across `fov_deg` degrees.

    Near 1, the optics hide nothing that an encoder with inputs of this width could see. Raises InputError for what is
    not positive.

    >>> round(nyquist_transfer(60.0, 224), 2), round(nyquist_transfer(8.0, 224), 6)
    (0.66, 0.0)
    """
    for name, value in (("fov_deg", fov_deg), ("pixels", pixels), ("mtf50", mtf50)):
        if not value > 0:
            raise InputError(f"nyquist_transfer: {name} must be positive, not {value}")
    return float(2 ** -((pixels / (2 * fov_deg) / mtf50) ** 2))


def defocus_transfer(
    fy: Float[Tensor, "*fy"], fx: Float[Tensor, "*fx"], dioptres: float, pupil_mm: tuple[float, float]
) -> Float[Tensor, "*f"]:
    """Compute the transfer of defocus through an elliptical pupil, `2 J₁(s) / s`; below 0 where contrast reverses.

    `pupil_mm` are the pupil's height and width. Geometrical optics: a point spreads evenly over an ellipse whose
    diameters, in radians, are those of the pupil in metres times the defocus in dioptres (Banks et al. 2015, Science
    Advances 1:e1500391, Results), so `s = π |dioptres| |(height fy, width fx)|` with f in cycles per radian.
    """
    height, width = (millimetres / 1000 * abs(dioptres) * math.degrees(1) for millimetres in pupil_mm)
    s = math.pi * torch.sqrt((height * fy) ** 2 + (width * fx) ** 2)
    near_zero = s < 1e-6  # where 2 J₁(s) / s is 1 in float64
    ratio = 2 * torch.special.bessel_j1(s) / s.masked_fill(near_zero, 1.0)
    return ratio.masked_fill(near_zero, 1.0)


def pupil_size(aspect: float) -> tuple[float, float]:
    """Compute height and width in millimetres of the elliptical pupil `aspect` times as high as wide.

    Its area is that of the round pupil with which the optics were measured.
    """
    return PUPIL_MM * math.sqrt(aspect), PUPIL_MM / math.sqrt(aspect)
