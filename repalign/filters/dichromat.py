"""Show all that two kinds of cone keep of a colour, in colours of one plane."""

import numpy as np
from jaxtyping import Float

PLANE = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])  # columns span R = G: yellow, blue, white, black, all greys
SOURCE = "Viénot, Brettel & Mollon 1999, Color Res Appl 24:243–252 (projection on one plane)"


def projection(catches: Float[np.ndarray, "2 3"]) -> Float[np.ndarray, "3 3"]:
    """Build the matrix that replaces linear RGB by the colour with R = G that both cones catch equally.

    `catches` say what each cone catches of R, G and B. The matrix is a projection: applied twice it changes nothing
    more, and colours of the plane, white and greys among them, stay. Source: Viénot et al. 1999, whose protanope and
    deuteranope share this plane. Misleads when read as what the animal experiences: it shows what it can't tell apart.
    """
    return PLANE @ np.linalg.solve(catches @ PLANE, catches)
