"""What reaches a cat's receptors, shown to a person: two cones, the eye's optics and, on request, rods."""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from repalign.errors import InputError
from repalign.filters import dichromat, pigments, spectra
from repalign.filters.base import Step
from repalign.filters.checks import positive
from repalign.filters.colour import transform
from repalign.filters.cosine import multiply
from repalign.filters.degrees import by_extent, gaussian_optics, required_fov, span
from repalign.filters.eccentricity import blend
from repalign.filters.flow import Scene
from repalign.filters.mtf import MTF50, MTF50_SOURCE, defocus_transfer, gaussian_mtf, pupil_size

# nm: cones of Ringo et al. 1977 (Science 198:753); Guenther & Zrenner 1993 (J Neurosci 13:1543), whose rods these are,
# found 550 and 450, Loop, Millican & Thomas 1987 (J Physiol 382:537) 561 and 454
L_PEAK, S_PEAK, ROD_PEAK = 555.0, 450.0, 501.0
RODS_ONLY, CONES_ONLY = 3.0, 30.0  # cd/m² at and beyond which Loop et al. found rods or cones alone
PUPILS = ("round", "slit")


@final
@dataclass(frozen=True)
class Cat(Step):
    """Keep what a cat's cones catch and its optics pass, in a scene `fov_deg` degrees wide.

    `mtf50` is the frequency, in cycles per degree, at which the optics keep half of the contrast (inf: no optics).
    `defocus` in dioptres spreads points over the image of the pupil: `round`, or a vertical `slit` of the same area,
    `aspect` times as high as wide. `eccentricity` lowers `mtf50` away from the picture's centre. `luminance` in cd/m²
    brings in rods below 30 and leaves only rods at 3; `tapetum` multiplies their light.

    Source: the functions it is made of. Misleads when read as what a cat experiences, or for scenes lit by other light
    than D65: `docs/filters.md` says what is not modelled.
    """

    fov_deg: float | None = None
    mtf50: float = MTF50
    pupil: str = "round"
    defocus: float = 0.0
    aspect: float = 3.0
    eccentricity: bool = False
    luminance: float | None = None
    tapetum: float = 1.0

    name: ClassVar[str] = "cat"
    twins: ClassVar[bool] = True
    source: ClassVar[str] = "; ".join((pigments.SOURCE, spectra.SOURCE, dichromat.SOURCE, MTF50_SOURCE))

    def __post_init__(self) -> None:
        required_fov(self.name, self.fov_deg)
        positive(self.name, "mtf50", self.mtf50, "cycles per degree", infinite=True)
        positive(self.name, "aspect", self.aspect, "times as high as wide")
        positive(self.name, "tapetum", self.tapetum, "times the rods' light")
        if self.pupil not in PUPILS:
            raise InputError(f"cat: pupil must be one of {', '.join(PUPILS)}, not {self.pupil!r}")
        if not math.isfinite(self.defocus):
            raise InputError(f"cat: defocus must be a finite number of dioptres, not {self.defocus}")
        if self.pupil == "slit" and self.defocus == 0:
            raise InputError(
                "cat: a slit pupil changes only what is out of focus; give defocus in dioptres, or pupil=round"
            )
        if self.luminance is not None:
            positive(self.name, "luminance", self.luminance, "cd/m²", infinite=True)
        if self.tapetum != 1 and self.rod_share == 0:
            raise InputError(
                f"cat: tapetum acts on rods, which need a luminance below {CONES_ONLY:g} cd/m²; give luminance too"
            )

    @property
    def label(self) -> str:
        """Name the filter and its options for a person."""
        parts = [f"cat, scene {self.fov_deg:g}° wide"]
        parts += [f"half contrast at {self.mtf50:g} cycles/°"] if self.mtf50 != MTF50 else []
        parts += [f"{self.pupil} pupil {self.defocus:g} D out of focus"] if self.defocus else []
        parts += ["blurrier off centre"] if self.eccentricity else []
        parts += [f"{self.luminance:g} cd/m²"] if self.luminance is not None else []
        parts += [f"tapetum × {self.tapetum:g}"] if self.tapetum != 1 else []
        return ", ".join(parts)

    @property
    def remarks(self) -> tuple[str, ...]:
        """Say which options rest on less than a measured optical transfer."""
        notes = []
        if self.eccentricity:
            notes.append(
                "cat: the fall-off with eccentricity is behavioural acuity about the picture's centre, not optics"
            )
        if self.rod_share:
            notes.append("cat: rods and cones are mixed linearly between 3 and 30 cd/m²; the pictures are not darkened")
        if self.tapetum != 1:
            notes.append("cat: the gain of the tapetum is the user's number; no measured one is known to repalign")
        return tuple(notes)

    @property
    def rod_share(self) -> float:
        """Compute the share of rods, linear in log luminance from 0 at 30 cd/m² to 1 at 3 cd/m²."""
        if self.luminance is None:
            return 0.0
        return float(np.clip(math.log(CONES_ONLY / self.luminance) / math.log(CONES_ONLY / RODS_ONLY), 0, 1))

    @property
    def matrix(self) -> Float[np.ndarray, "3 3"]:
        """Compute the matrix of linear RGB; its first two rows are the same."""
        rods = np.tile(pigments.catch(ROD_PEAK), (3, 1))
        return (1 - self.rod_share) * cone_matrix() + self.rod_share * self.tapetum * rods

    def render(self, x: Float[Tensor, "n 3 h w"], scene: Scene) -> Float[Tensor, "n 3 h w"]:
        """Apply colour, then optics; both are linear, so their order doesn't matter."""
        light = transform(x, self.matrix[1:])  # red equals green, so two planes go through the optics
        yellow, blue = by_extent(light, scene, self._optics).unbind(1)
        return torch.stack([yellow, yellow, blue], 1)

    def _optics(self, x: Float[Tensor, "n c h w"], extent: float) -> Float[Tensor, "n c h w"]:
        degrees = span(x, required_fov(self.name, self.fov_deg), extent)
        if self.eccentricity:
            return blend(x, degrees, self.mtf50, self._uniform)
        return self._uniform(x, degrees, self.mtf50)

    def _uniform(self, x: Tensor, degrees: tuple[float, float], mtf50: float) -> Tensor:
        if self.defocus == 0:
            return gaussian_optics(x, degrees, mtf50)
        return multiply(x, lambda fy, fx: self.transfer(fy, fx, mtf50), degrees)

    def transfer(
        self, fy: Float[Tensor, "*fy"], fx: Float[Tensor, "*fx"], mtf50: float | None = None
    ) -> Float[Tensor, "*f"]:
        """Compute the transfer at vertical and horizontal frequencies in cycles per degree, at the picture's centre."""
        optics = gaussian_mtf(torch.sqrt(fy**2 + fx**2), self.mtf50 if mtf50 is None else mtf50)
        pupil = pupil_size(self.aspect if self.pupil == "slit" else 1.0)
        return optics * defocus_transfer(fy, fx, self.defocus, pupil)


@lru_cache(maxsize=1)
def cone_matrix() -> Float[np.ndarray, "3 3"]:
    """Build the projection that preserves the catches of both cones."""
    return dichromat.projection(np.stack([pigments.catch(L_PEAK), pigments.catch(S_PEAK)]))
