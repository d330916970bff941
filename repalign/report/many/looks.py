"""How encoders are told apart: a family has a colour, a shape and a letter, an encoder a number and dashes."""

import string
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from repalign.report.colours import DASHES, LINES
from repalign.report.many.saved import ManyStudy, SavedEncoder


def _corners(count: int, turn: float, *radii: float) -> Float[np.ndarray, "c 2"]:
    """Place corners on circles of the given radii in turn, the first one `turn` of a circle from the right."""
    angles = 2 * np.pi * (np.arange(count) / count + turn)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.resize(radii, count)[:, None]


SHAPES = (
    _corners(32, 0.0, 0.9),
    _corners(4, 0.125, 1.1),
    _corners(3, 0.25, 1.15),
    _corners(4, 0.0, 1.15),
    _corners(3, 0.75, 1.15),
    _corners(10, 0.25, 1.15, 0.52),
    _corners(6, 0.0, 1.05),
    _corners(8, 0.125, 1.2, 0.42),
)
"""Shapes of about the same area: circle, square, triangle, diamond, triangle down, star, hexagon, cross."""


@dataclass(frozen=True)
class Look:
    """How an encoder looks everywhere: `code` is its family's letter and its number there, as in "B2".

    `colour` counts in the page's list of lines, `shape` in `SHAPES`, `dash` in the list of dashes.
    """

    code: str
    colour: int
    shape: int
    dash: int

    @property
    def hue(self) -> str:
        """Give the colour on white."""
        return LINES[self.colour]

    @property
    def path(self) -> str:
        """Write the shape as an SVG path around 0, with a radius of about 1."""
        return "M" + "L".join(f"{x:.2f} {-y:.2f}" for x, y in SHAPES[self.shape].tolist()) + "Z"


def looks_of(study: ManyStudy) -> dict[str, Look]:
    """Give every encoder its look, by slug."""
    found = {}
    for k, family in enumerate(study.families):
        for i, encoder in enumerate(members(study, family)):
            found[encoder.id] = Look(f"{_letter(k)}{i + 1}", k % len(LINES), k % len(SHAPES), i % len(DASHES))
    return found


def family_looks(study: ManyStudy) -> list[tuple[str, Look]]:
    """Give every family that has an encoder the look they share, its letter as the code."""
    return [
        (family, Look(_letter(k), k % len(LINES), k % len(SHAPES), 0))
        for k, family in enumerate(study.families)
        if members(study, family)
    ]


def members(study: ManyStudy, family: str) -> list[SavedEncoder]:
    """List a family's encoders in the order of the study."""
    return [one for one in study.encoders if one.family == family]


def _letter(k: int) -> str:
    """Name family number k: A to Z, then AA to ZZ."""
    letters = string.ascii_uppercase
    return letters[k] if k < len(letters) else letters[k // len(letters) - 1] + letters[k % len(letters)]
