"""Checkpoints as people really have them: read without running code, unwrapped from what training put around them."""

import argparse
import pickle
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from repalign.encoders.files import find_file
from repalign.errors import WeightsError

# Where training loops keep the network inside a checkpoint; an average of the weights is what gets evaluated
# (timm, DINO), so it comes before the weights it averages.
NESTS = (
    "state_dict_ema", "model_ema", "ema", "teacher", "state_dict", "model_state_dict", "model", "module", "network",
    "net", "backbone", "encoder", "weights", "params", "student",
)  # fmt: skip
DEEPEST_NEST = 3
LFS_POINTER = b"version https://git-lfs"
NOT_ALL_OF_PICKLE = (
    "it needs pickle, which can run any code while it loads, so it is not opened; where you trust it, load it in "
    "Python and write the weights alone: torch.save(model.state_dict(), 'weights.pt'), or "
    "safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')"
)


@dataclass(frozen=True)
class Checkpoint:
    """Tensors of one file by name, and notes on how they were found in it."""

    path: Path
    tensors: dict[str, Tensor]
    notes: tuple[str, ...] = ()


def read_checkpoint(text: str) -> Checkpoint:
    """Read the tensors of a safetensors file or of a `torch.save` file that loads with `weights_only`.

    Raises WeightsError when the file is missing, needs pickle, is no checkpoint or holds no tensors.
    """
    path = find_file(text, "checkpoint", WeightsError)
    with path.open("rb") as file:
        head = file.read(len(LFS_POINTER))
    if head == LFS_POINTER:
        raise WeightsError(f"{path} is a Git LFS pointer and not the weights; fetch them with: git lfs pull")
    if path.suffix == ".safetensors":
        return Checkpoint(path, _read_safetensors(path))
    tensors, notes = _unwrap(path, _read_torch(path, head))
    return Checkpoint(path, tensors, notes)


def count_classes(checkpoint: Checkpoint, classifier: Sequence[str]) -> int:
    """Read the number of classes off the classifier's weight; 0 without one."""
    for name in classifier[:1]:
        ending = f"{name}.weight"
        found = [k for k in checkpoint.tensors if k == ending or k.endswith("." + ending)]
        if found:
            return len(checkpoint.tensors[min(found, key=len)])
    return 0


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise WeightsError(f"{path} is no safetensors file, or a damaged one ({error}); fetch it again") from error


def _read_torch(path: Path, head: bytes) -> object:
    # argparse.Namespace is data only, and DINO's, MAE's and timm's own checkpoints carry their arguments in one.
    with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
        warnings.simplefilter("ignore")  # about pickle protocols and TorchScript; both end below
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            raise WeightsError(f"{path} can't be used: {_reason(path, head, error)}") from error


def _reason(path: Path, head: bytes, error: Exception) -> str:
    """Say why torch refused the file."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if any(n.endswith("constants.pkl") for n in names):
            return "it is a TorchScript archive; save the weights alone: torch.save(module.state_dict(), 'weights.pt')"
        if any(n.endswith("data.pkl") for n in names) and isinstance(error, pickle.UnpicklingError):
            return NOT_ALL_OF_PICKLE + _globals(path)
    elif head[:1] == b"\x80" and isinstance(error, pickle.UnpicklingError):  # pickle's PROTO opcode
        return NOT_ALL_OF_PICKLE
    what = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:120]}"
    return f"it is no checkpoint, or a damaged one ({what}); give a safetensors file or one that torch.save wrote"


def _globals(path: Path) -> str:
    names = torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
    return f" (it asks for {', '.join(sorted(map(str, names))[:5])})" if names else ""


def _unwrap(path: Path, content: object) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Follow the keys of NESTS down to the tensors and note the way taken and the ways left."""
    notes: list[str] = []
    for _ in range(DEEPEST_NEST):
        nests = _nests(content)
        if not nests:
            break
        known = [key for key in NESTS if key in nests]
        if not known and (len(nests) > 1 or _tensors(content)):
            break
        key = (known or nests)[0]
        others = [k for k in known if k != key]
        notes.append(f"weights read from {key!r}" + (f" (there is also {', '.join(others)})" if others else ""))
        content = content[key] if isinstance(content, Mapping) else content
    tensors = _tensors(content)
    if not tensors:
        keys = f"; it holds {', '.join(map(str, list(content)[:8]))}" if isinstance(content, Mapping) else ""
        raise WeightsError(f"{path} holds no weights by name{keys}; write it with torch.save(model.state_dict(), …)")
    return tensors, tuple(notes)


def _nests(content: object) -> list[str]:
    """List the keys under which a mapping with tensors stands, at any depth in reach."""
    if not isinstance(content, Mapping):
        return []
    return [k for k, v in content.items() if isinstance(k, str) and (_tensors(v) or _nests(v))]


def _tensors(content: object) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        return {}
    return {k: v.detach() for k, v in content.items() if isinstance(k, str) and isinstance(v, Tensor)}
