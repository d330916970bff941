"""What every model source ends with: a frozen network, one dry run, its layers and the fingerprint of its weights."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from repalign.encoders.spec import Spec
from repalign.encoders.structure import find_layers
from repalign.errors import InputError, RepalignError
from repalign.types import Encoder, Layer

SEED = 0
NOISE_SIZE = 256  # pixels a side of the dry run's pictures; every preprocessing resizes them
FINGERPRINT_BYTES = 16


@contextmanager
def seeded(seed: int = SEED) -> Iterator[None]:
    """Draw the same untrained weights every time, and leave the caller's random state as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def finish(
    spec: Spec, module: nn.Module, preprocess: Callable[[Image.Image], Tensor], *,
    source: str, untrained: bool = False, notes: Sequence[str] = (),
) -> Encoder:  # fmt: skip
    """Freeze `module` in float32 and eval mode, find its layers with noise pictures and build the Encoder.

    Raises InputError when the preprocessing gives no picture `(3, h, w)` or the network can't run it.
    """
    module.float().eval().requires_grad_(False)
    if untrained:
        notes = (f"random weights drawn with seed {SEED}", *notes)
    layers, size = _dry_run(spec, module, preprocess)
    return Encoder(str(spec), source, module, preprocess, layers, size, fingerprint(module), untrained, tuple(notes))


def fingerprint(module: nn.Module) -> str:
    """Hash names, shapes, dtypes and bytes of the sorted state dict: 32 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=FINGERPRINT_BYTES)
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


@contextmanager
def explained(spec: Spec, what: str) -> Iterator[None]:
    """Turn whatever the code of others raises inside the block into one InputError that says what failed."""
    try:
        yield
    except RepalignError:
        raise
    except Exception as error:
        raise InputError(f"{spec}: {what} failed: {type(error).__name__}: {error}") from error


def _dry_run(
    spec: Spec, module: nn.Module, preprocess: Callable[[Image.Image], Tensor]
) -> tuple[tuple[Layer, ...], tuple[int, int]]:
    """Find the layers and the input size with two noise pictures; constant ones could hide where the batch is."""
    noise = np.random.default_rng(SEED).integers(0, 256, (2, NOISE_SIZE, NOISE_SIZE, 3), dtype=np.uint8)
    with explained(spec, "the preprocessing"):
        pictures = [preprocess(Image.fromarray(pixels)) for pixels in noise]
    for picture in pictures:
        if not isinstance(picture, Tensor) or picture.ndim != 3 or len(picture) != 3:
            got = tuple(picture.shape) if isinstance(picture, Tensor) else type(picture).__name__
            raise InputError(f"{spec}: the preprocessing must turn a PIL picture into a tensor (3, h, w), not {got}")
    batch = torch.stack(pictures)
    with explained(spec, f"a forward pass of {tuple(batch.shape)}"):
        return find_layers(module, batch), (batch.shape[-2], batch.shape[-1])
