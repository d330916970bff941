"""What makes two encoders one to the cache: weights, structure, code, and what the preprocessing does to pictures."""

import functools
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

import repalign
from repalign.cache.keys import key_of
from repalign.encoders.settings import bits, code_of, qualified, settings
from repalign.types import Encoder

# Libraries whose modules compute features or preprocess; by name and version they are known well enough.
LIBRARIES = {"torch": "torch", "torchvision": "torchvision", "timm": "timm", "transformers": "transformers"}
ALWAYS = ("torch", "pillow", "numpy")  # they run every encoder and decode every picture
OWN_CODE = (".", "encoders", "filters", "stimuli")  # of repalign: everything from the file to the feature
WIDE, TALL = (640, 400), (90, 150)  # probe pictures in pixels: one that most preprocessings shrink, one they enlarge


def identity(encoder: Encoder) -> str:
    """Digest everything that decides which features a picture gets from `encoder`: 32 hexadecimal digits.

    These are the weights (their fingerprint, and a sum over them as they are now, since a module may be trained on
    after it was loaded), buffers that are not saved with them, each module's class and plain attributes, the layers'
    layout, what `preprocess` makes of two pictures, the code of modules that belong to no known library, the versions
    of those that do, and repalign's own code. Equal in every process on one machine.

    It does not see what a function reaches outside its own file (helper modules, data files, global variables), nor
    settings of torch that change its arithmetic.
    """
    module = encoder.module
    return key_of(
        encoder.fingerprint,
        _sums(module),
        _unsaved(module),
        settings(module),
        [(layer.name, layer.shape, layer.layout, layer.prefix, layer.grid) for layer in encoder.layers],
        _probe(encoder.preprocess),
        _code(encoder),
    )


def installed(names: Iterable[str]) -> dict[str, str]:
    """Give the versions of those distributions that are installed."""
    versions = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


@functools.cache
def own_code() -> str:
    """Digest repalign's version and the code that leads from a file to a feature."""
    root = Path(repalign.__file__).parent
    files = sorted(p for folder in OWN_CODE for p in (root / folder).glob("*.py"))
    return key_of(repalign.__version__, [(str(p.relative_to(root)), p.read_bytes()) for p in files])


def _sums(module: nn.Module) -> dict[str, int]:
    """Add up each weight's bits as whole numbers: exact in any order, and a hundredth of the time of a hash.

    Alone it would not notice two values that changed places; the fingerprint does.
    """
    named = dict(module.state_dict())
    sums = [_words(tensor).sum(dtype=torch.int64) for tensor in named.values()]
    return dict(zip(named, [int(total) for total in sums], strict=True))


def _words(tensor: Tensor) -> Tensor:
    """View a tensor as whole numbers of the widest type that it can be seen as."""
    flat = tensor.detach().reshape(-1)
    start, size = flat.storage_offset() * flat.element_size(), flat.nbytes
    for kind in (torch.int64, torch.int32, torch.int16):
        if start % kind.itemsize == 0 and size % kind.itemsize == 0:
            return flat.view(kind)
    return flat.view(torch.uint8)


def _unsaved(module: nn.Module) -> dict[str, str]:
    """Digest the buffers that are not in the state dict, such as tables of positions."""
    saved = module.state_dict()
    return {name: bits(buffer) for name, buffer in module.named_buffers() if name not in saved}


def _probe(preprocess: Callable[[Image.Image], Tensor]) -> list[str]:
    """Digest what becomes of two pictures with colour, ramps and noise."""
    return [bits(preprocess(picture)) for picture in _pictures()]


@functools.cache
def _pictures() -> tuple[Image.Image, ...]:
    noise = np.random.default_rng(0)
    pictures = []
    for width, height in (WIDE, TALL):
        ramps = np.stack(np.broadcast_arrays(
            np.linspace(0, 200, width)[None, :], np.linspace(200, 0, height)[:, None], np.array([[90.0]])
        ), axis=-1)  # fmt: skip
        pixels = ramps + noise.integers(0, 56, (height, width, 3))
        pictures.append(Image.fromarray(pixels.astype(np.uint8)))
    return tuple(pictures)


def _code(encoder: Encoder) -> Mapping[str, object]:
    """Say whose code runs: libraries by version, other modules by the bytes of their files and their functions."""
    classes = {kind for module in encoder.module.modules() for kind in type(module).__mro__}
    classes |= _classes_of(encoder.preprocess)
    homes = {kind.__module__ for kind in classes} | {_home(encoder.preprocess)}
    if encoder.source.startswith("python:"):
        homes.add(encoder.source.removeprefix("python:").partition(":")[0])
    known = {LIBRARIES[top] for top in map(_top, homes) if top in LIBRARIES}
    foreign = {home for home in homes if _is_foreign(home)}
    return {
        "repalign": own_code(),
        "versions": installed(sorted({*ALWAYS, *known})),
        "files": {home: _file_bytes(home) for home in foreign},
        "classes": {qualified(kind): code_of(kind) for kind in classes if _is_foreign(kind.__module__)},
    }


def _classes_of(preprocess: object) -> set[type]:
    """Collect the classes of a preprocessing and of what it holds."""
    held = getattr(preprocess, "__dict__", {}).values()
    return {type(one) for one in (preprocess, *held)}


def _home(preprocess: object) -> str:
    return str(getattr(preprocess, "__module__", None) or type(preprocess).__module__)


def _top(home: str) -> str:
    return home.partition(".")[0]


def _is_foreign(home: str) -> bool:
    """Tell whether a module is neither Python's own, nor a library's, nor ours."""
    top = _top(home)
    return top not in LIBRARIES and top not in sys.stdlib_module_names and top not in ("repalign", "numpy", "PIL")


def _file_bytes(home: str) -> bytes | None:
    """Read the file that defines a module; None for one that has no file, as in a notebook."""
    file = getattr(sys.modules.get(home), "__file__", None)
    return Path(file).read_bytes() if file and Path(file).is_file() else None
