"""Pictures in a NumPy file: `.npy`, read from disk as needed, or `.npz` with names and labels."""

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from PIL import Image

from repalign.errors import InputError
from repalign.stimuli.checks import existing
from repalign.stimuli.content import digest_parts
from repalign.types import Stimuli

METADATA = ("ids", "labels", "groups")
SHAPES = "(n, h, w, 3), (n, 3, h, w) or (n, h, w)"


def load(spec: str | Path) -> Stimuli:
    """Read pictures `(n, h, w, 3)`, `(n, 3, h, w)` or grey `(n, h, w)`, uint8 or float in 0..1.

    An `.npz` holds them under `images`, or as its only array, and may hold `ids`, `labels` and `groups`, each
    `(n,)`; `ids` default to the row numbers. Raises InputError on any other shape, type or range, and on Python
    objects, which are never unpickled.
    """
    arrays = _read(existing(spec, "array"), str(spec))
    images = _channels_last(_images(arrays, str(spec)), str(spec))
    _require_range(images, str(spec))
    n = len(images)
    ids = _strings(arrays, "ids", n, str(spec))
    return Stimuli(
        name=str(spec),
        ids=tuple(map(str, range(n))) if ids is None else ids,
        load=lambda i: _picture(images[i]),
        labels=_strings(arrays, "labels", n, str(spec)),
        groups=_strings(arrays, "groups", n, str(spec)),
        content=lambda i: _content(images[i]),
    )


def _read(path: Path, name: str) -> Mapping[str, NDArray]:
    """Read the arrays of a file by key; a single one stays on disk, memory-mapped."""
    try:
        if not zipfile.is_zipfile(path):
            return {"images": open_memmap(path, mode="r")}
        with np.load(path, allow_pickle=False) as content:
            return {key: content[key] for key in content.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        reason = str(error)
        if "object" in reason.lower():  # NumPy's own words for the dtype, mapped or not
            raise InputError(
                f"{name} holds Python objects, which only pickle reads and a pickle can run any code; "
                "save plain numbers (uint8) and text (dtype str) instead"
            ) from error
        raise InputError(f"{name} can't be read as a NumPy file: {reason}; save it again with numpy.save") from error


def _images(arrays: Mapping[str, NDArray], name: str) -> NDArray:
    """Find the array of pictures: `images`, or the only one that is no metadata."""
    if "images" in arrays:
        return arrays["images"]
    rest = [key for key in arrays if key not in METADATA]
    if len(rest) != 1:
        raise InputError(f"{name} has no array images (arrays found: {', '.join(arrays) or 'none'}); name one images")
    return arrays[rest[0]]


def _channels_last(images: NDArray, name: str) -> NDArray:
    """View the pictures as `(n, h, w, 3)` or `(n, h, w)`."""
    shape = images.shape
    if images.ndim == 3 and shape[2] == 3:
        raise InputError(f"{name} has the shape {shape} of one image only; stack several as {SHAPES}")
    if images.ndim not in (3, 4) or 0 in shape or (images.ndim == 4 and 3 not in (shape[1], shape[3])):
        raise InputError(f"{name} has the shape {shape}; give pictures as {SHAPES}")
    return np.moveaxis(images, 1, 3) if images.ndim == 4 and shape[3] != 3 else images


def _require_range(images: NDArray, name: str) -> None:
    """Raise InputError unless the pictures are uint8, or floats that all lie in 0..1."""
    if images.dtype == np.uint8:
        return
    if not np.issubdtype(images.dtype, np.floating):
        raise InputError(f"{name} has the type {images.dtype}; give uint8 in 0..255 or floats in 0..1")
    low, high = float(np.fmin.reduce(images, axis=None)), float(np.fmax.reduce(images, axis=None))
    holed = bool(np.isnan(images.min()))
    if holed or low < 0 or high > 1:
        holes = ", with NaN among them" if holed else ""
        raise InputError(f"{name} holds floats from {low:g} to {high:g}{holes}; scale the pictures to 0..1")


def _strings(arrays: Mapping[str, NDArray], key: str, n: int, name: str) -> tuple[str, ...] | None:
    """Give a metadata array as text; None when the file has none."""
    if key not in arrays:
        return None
    values = arrays[key]
    if values.shape != (n,):
        raise InputError(f"{name}: {key} has the shape {values.shape} for {n} pictures; give one each, ({n},)")
    return tuple(v.decode() if isinstance(v, bytes) else str(v) for v in values.tolist())


def _content(pixels: NDArray) -> bytes:
    """Digest the values of one picture, channels last whatever the file's order."""
    return digest_parts("array", pixels.dtype.str, str(pixels.shape), pixels.tobytes())


def _picture(pixels: NDArray) -> Image.Image:
    """Turn `(h, w, 3)` or `(h, w)` pixels into an RGB picture."""
    if pixels.dtype != np.uint8:
        pixels = np.rint(pixels.astype(np.float64) * 255).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(pixels)).convert("RGB")
