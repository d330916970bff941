"""What a photoreceptor catches of each sRGB primary."""

import numpy as np
from jaxtyping import Float

from repalign.filters.spectra import BASIS, D65, WAVELENGTHS

SOURCE = "Govardovskii, Fyhrquist, Reuter, Kuzmin & Donner 2000, Vis Neurosci 17:509–528 (pigment templates)"


def absorbance(wavelengths: Float[np.ndarray, " w"], peak: float) -> Float[np.ndarray, " w"]:
    """Compute the relative absorbance of an A1 pigment with its α band at `peak` nm.

    Source: Govardovskii et al. 2000, eqs. 1 and 2 (α band), 5a and 5b (β band, a Gaussian of height 0.26). It leaves
    out self-screening and the eye's media.
    """
    x = peak / wavelengths
    a = 0.8795 + 0.0459 * np.exp(-((peak - 300) ** 2) / 11940)
    alpha = 1 / (np.exp(69.7 * (a - x)) + np.exp(28 * (0.922 - x)) + np.exp(-14.9 * (1.104 - x)) + 0.674)
    middle, width = 189 + 0.315 * peak, -40.5 + 0.195 * peak
    return alpha + 0.26 * np.exp(-(((wavelengths - middle) / width) ** 2))


def catch(peak: float) -> Float[np.ndarray, "3"]:
    """Compute the quanta that a receptor with its peak at `peak` nm catches of red, green and blue at full light.

    White catches 1. A template is per quantum, so the illuminant's power is weighted by wavelength.
    """
    weights = absorbance(WAVELENGTHS, peak) * D65 * WAVELENGTHS
    return weights @ BASIS / (weights @ BASIS).sum()
