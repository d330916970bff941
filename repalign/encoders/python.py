"""Encoders from the user's own code: `python:package.module:callable`, which returns a network."""

import difflib
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from repalign.encoders.checkpoint import read_checkpoint
from repalign.encoders.finish import SEED, explained, finish, seeded
from repalign.encoders.fit import fit
from repalign.encoders.spec import Spec
from repalign.errors import InputError
from repalign.types import Encoder

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
RESIZE, CROP = 256, 224  # the usual ImageNet evaluation: shortest side, then the centre
DEFAULT_NOTE = f"no preprocessing given: ImageNet's is used (shortest side {RESIZE}, centre {CROP})"


def load(spec: Spec, *, allow_partial: bool = False) -> Encoder:
    """Call the user's function and take the module, or the `(module, preprocess)`, that it returns.

    Modules in the current directory can be imported. `@path` puts a checkpoint in; `@random` only marks the
    network as untrained. Whether it is trained otherwise is for its author to know.

    Raises InputError when the import, the call or what it returns fails.
    """
    module, preprocess = _call(spec, _find(spec))
    notes: tuple[str, ...] = ()
    if preprocess is None:
        preprocess, notes = imagenet(), (DEFAULT_NOTE,)
    if spec.path:
        notes += fit(module, read_checkpoint(spec.path), name=str(spec), allow_partial=allow_partial)
    return finish(spec, module, preprocess, source=f"python:{spec.name}", untrained=spec.untrained, notes=notes)


def draw(spec: Spec, seed: int) -> nn.Module:
    """Call the user's function for a network whose weights are drawn with a seed; a network that is there stays.

    Raises InputError as `load` does.
    """
    return _call(spec, _find(spec), seed)[0]


def imagenet() -> Callable[..., Tensor]:
    """Build ImageNet's usual evaluation preprocessing, `PIL RGB → (3, 224, 224)`."""
    from torchvision import transforms

    return transforms.Compose(
        [
            transforms.Resize(RESIZE, transforms.InterpolationMode.BICUBIC, antialias=True),
            transforms.CenterCrop(CROP),
            transforms.ToTensor(),
            transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )


def _find(spec: Spec) -> object:
    """Import the module and follow the dotted name inside it."""
    path, colon, attribute = spec.name.partition(":")
    if not (path and colon and attribute):
        raise InputError(f"{spec}: write python:package.module:callable, for example python:my_models:build")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)  # it stays: the user's module may import its neighbours later
    try:
        found = importlib.import_module(path)
    except Exception as error:
        raise InputError(
            f"{spec}: importing {path!r} failed: {type(error).__name__}: {error}; it must be installed or lie in {here}"
        ) from error
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError as error:
            names = [n for n in dir(found) if not n.startswith("_")]
            near = difflib.get_close_matches(part, names, n=5, cutoff=0.5) or names[:10]
            raise InputError(f"{spec}: {path!r} has no {part!r}; it has {', '.join(near)}") from error
    return found


def _call(spec: Spec, found: object, seed: int = SEED) -> tuple[nn.Module, Callable[..., Any] | None]:
    """Call what was found, unless it is a network already, and check what comes back."""
    if not isinstance(found, nn.Module):
        if not callable(found):
            raise InputError(f"{spec}: it names a {type(found).__name__}; name a function that returns a torch module")
        with seeded(seed), explained(spec, "the call"):
            found = found()  # where it draws, with the seed
    module, preprocess = found if isinstance(found, tuple) and len(found) == 2 else (found, None)
    if not isinstance(module, nn.Module) or not (preprocess is None or callable(preprocess)):
        kinds = ", ".join(type(x).__name__ for x in found) if isinstance(found, tuple) else type(found).__name__
        raise InputError(f"{spec}: it must return a torch module, or (module, preprocess), but it returned {kinds}")
    return module, preprocess
