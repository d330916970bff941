"""Checkpoints of a training run: written whole or not at all, so that a run that was killed goes on where it was."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from repalign.errors import InputError

FORMAT = 1
READABLE = 0o644  # safetensors would have the user alone read its files
LAST, BEST = Path("checkpoints/last.pt"), Path("checkpoints/best.pt")
STUDENT, STUDENT_BEST = "student.safetensors", "student_best.safetensors"


def save(state: Mapping[str, Any], file: Path) -> None:
    """Write a state (tensors, numbers and text in dictionaries and lists) and put it in the place of the last one."""
    file.parent.mkdir(exist_ok=True)
    part = _part(file)
    with part.open("wb") as opened:
        torch.save({"format": FORMAT, **state}, opened)
        opened.flush()
        os.fsync(opened.fileno())
    part.replace(file)


def load(file: Path) -> dict[str, Any]:
    """Read what `save` wrote, on the CPU, without running code.

    Raises InputError when it is no such file or of another format.
    """
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises nearly every built-in exception for a damaged file
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{file} can't be read ({reason}); start the run again with --force") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise InputError(f"{file} is no checkpoint of this version; start the run again with --force")
    return state


def save_weights(state: Mapping[str, Tensor], file: Path, about: str) -> None:
    """Write a network's weights as safetensors, which `NAME@FILE` loads; equal weights give equal bytes."""
    from safetensors.torch import save_file

    part = _part(file)
    save_file({k: v.detach().cpu().contiguous().clone() for k, v in state.items()}, part, {"repalign": about})
    part.chmod(READABLE)
    part.replace(file)


def state_of(module: nn.Module) -> dict[str, Tensor]:
    """Copy a network's state to the CPU."""
    return {k: v.detach().cpu().clone() for k, v in module.state_dict().items()}


def finite(state: Mapping[str, Tensor]) -> bool:
    """Tell whether every number of a state is finite, with one look at the device."""
    found = [torch.isfinite(v).all() for v in state.values() if v.is_floating_point()]
    return bool(torch.stack([one.to(found[0].device) for one in found]).all()) if found else True


def _part(file: Path) -> Path:
    return file.with_name(f".{file.name}.part")
