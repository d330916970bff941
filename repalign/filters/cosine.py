"""Multiply pictures in the cosine transform (type II), whose borders reflect by themselves.

Mode k of n pixels that span `degrees` has k / (2 degrees) cycles per degree. Multiplying the modes by a response g is a
convolution with `K = irfft(g)` of period 2n over the mirrored picture, so its matrix has entries
`K[i − j] + K[i + j + 1]`, both indices modulo 2n (Toeplitz + Hankel; Strang 1999, SIAM Review 41:135–147).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

BLOCK = 256  # output pixels that share one piece of a banded matrix
Response = Callable[[Float[Tensor, "*fy"], Float[Tensor, "*fx"]], Float[Tensor, "*f"]]


@dataclass(frozen=True)
class Piece:
    """Output pixels `first..last` of one axis from input pixels `low..high`: `matrix (high − low, last − first)`."""

    first: int
    last: int
    low: int
    high: int
    matrix: Tensor


@lru_cache(maxsize=64)
def gaussian_operator(
    n: int, degrees: float, mtf50: float, dtype: torch.dtype, device: torch.device
) -> tuple[Piece, ...]:
    """Build the operator of one axis whose response is `2^−(f / mtf50)²`, f in cycles per degree."""
    modes = torch.arange(n + 1, dtype=torch.float64) / (2 * degrees)
    return operator(torch.exp2(-((modes / mtf50) ** 2)), dtype, device)


def operator(response: Float[Tensor, " m"], dtype: torch.dtype, device: torch.device) -> tuple[Piece, ...]:
    """Build the operator of one axis of n = m − 1 pixels from the response of modes 0..n.

    Far entries that sum to less than the dtype's rounding are left out, so a blur narrow against the picture is banded.
    """
    n = len(response) - 1
    kernel = torch.fft.irfft(response.to(torch.float64), 2 * n)
    tail = kernel[: n + 1].abs().flip(0).cumsum(0).flip(0)  # tail[r] = what lies r pixels away and farther
    reach = int((tail > torch.finfo(dtype).eps / 4).sum())
    size = n if 2 * reach + BLOCK >= n else BLOCK
    pieces = []
    for first in range(0, n, size):
        last = min(first + size, n)
        low, high = max(0, first - reach), min(n, last + reach)
        i, j = torch.arange(low, high)[:, None], torch.arange(first, last)[None, :]
        matrix = kernel[(i - j) % (2 * n)] + kernel[(i + j + 1) % (2 * n)]
        pieces.append(Piece(first, last, low, high, matrix.to(device, dtype)))
    return tuple(pieces)


def multiply_axes(
    x: Float[Tensor, "n c h w"], rows: tuple[Piece, ...], columns: tuple[Piece, ...]
) -> Float[Tensor, "n c h w"]:
    """Apply a separable response: `rows` along the height, `columns` along the width."""
    x = torch.cat([piece.matrix.T @ x[:, :, piece.low : piece.high] for piece in rows], 2)
    return torch.cat([x[..., piece.low : piece.high] @ piece.matrix for piece in columns], 3)


def multiply(x: Float[Tensor, "n c h w"], response: Response, degrees: tuple[float, float]) -> Float[Tensor, "n c h w"]:
    """Apply any response `(fy, fx) → factor` that is even in both, f in cycles per degree.

    `degrees` are the height and the width that the pictures span.
    """
    h, w = x.shape[2:]
    mirrored = torch.cat([x, x.flip(2)], 2)
    mirrored = torch.cat([mirrored, mirrored.flip(3)], 3)
    fy = torch.fft.fftfreq(2 * h, dtype=torch.float64)[:, None] * h / degrees[0]
    fx = torch.fft.rfftfreq(2 * w, dtype=torch.float64)[None, :] * w / degrees[1]
    factor = response(fy, fx).to(x.device, x.dtype)
    return torch.fft.irfft2(torch.fft.rfft2(mirrored) * factor, s=(2 * h, 2 * w))[..., :h, :w]
