"""Apply a 3 × 3 matrix to linear RGB."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


def transform(x: Float[Tensor, "n 3 h w"], matrix: Float[np.ndarray, "m 3"]) -> Float[Tensor, "n m h w"]:
    """Multiply every pixel's colour by `matrix`."""
    weights = torch.as_tensor(matrix, dtype=x.dtype, device=x.device)
    return (weights @ x.flatten(2)).unflatten(2, x.shape[2:])
