"""float32 with all its digits, whatever short cuts a process has allowed torch."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def full_float32() -> Iterator[None]:
    """Multiply and convolve float32 with all its 24 bits: TF32 keeps 11, bfloat16 8.

    cuDNN takes TF32 for convolutions unless told otherwise.
    """
    backends: Any = torch.backends  # whose type doesn't list all attributes
    kinds = backends.cuda.matmul, backends.cudnn.conv, backends.mkldnn.matmul, backends.mkldnn.conv
    before = [kind.fp32_precision for kind in kinds]
    try:
        for kind in kinds:
            kind.fp32_precision = "ieee"
        yield
    finally:
        for kind, precision in zip(kinds, before, strict=True):
            kind.fp32_precision = precision
