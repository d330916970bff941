"""Decode any picture Pillow reads into upright 8-bit RGB."""

from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError
from PIL.ImageFile import StubImageFile

from repalign.errors import InputError

WHITE_16_BIT = 65535.0
WHITE_FLOAT = 1.0
THUMBNAIL_SIZE = 96


@cache
def image_suffixes() -> frozenset[str]:
    """List the file suffixes Pillow can decode, in lower case with their dot.

    Formats that Pillow only writes (PDF) or only recognises (HDF5, MPEG) are not pictures to us.
    """
    Image.init()
    suffixes = Image.registered_extensions().items()
    return frozenset(suffix for suffix, name in suffixes if _decodes(name))


def _decodes(name: str) -> bool:
    """Say whether Pillow reads the pixels of the format `name`."""
    if name not in Image.OPEN or name == "MPEG":  # Pillow reads an MPEG's size and no frame
        return False
    factory = Image.OPEN[name][0]
    return not (isinstance(factory, type) and issubclass(factory, StubImageFile))


def is_image(path: str | Path) -> bool:
    """Say by its suffix whether a file is a picture; the file is not opened.

    >>> is_image("cats/Tom.JPG"), is_image("notes.txt")
    (True, False)
    """
    return Path(path).suffix.lower() in image_suffixes()


def open_rgb(source: str | Path | bytes, name: str = "") -> Image.Image:
    """Decode the first frame of a file, or of its bytes, as upright RGB.

    EXIF orientation is applied. Transparency is laid over white: a plain conversion would show the
    arbitrary colours, mostly black, that lie under transparent pixels, and white is what cut-outs and logos
    are drawn for. 16-bit grey is divided by 257, so that its white stays white; 32-bit integers are read on
    the same scale, floats as 0..1. `name` says what bytes are in the error.

    Raises InputError naming the file and the reason when it can't be decoded, is truncated, is a
    decompression bomb, or holds values outside those ranges.
    """
    name = name or (f"<{len(source)} bytes>" if isinstance(source, bytes) else str(source))
    try:
        with Image.open(BytesIO(source) if isinstance(source, bytes) else source) as image:
            decoded = ImageOps.exif_transpose(image)
    except Exception as error:  # a broken file makes Pillow's plugins raise nearly every built-in exception
        raise _unreadable(name, error) from error
    try:
        return _to_rgb(decoded)
    except ValueError as error:
        raise _unreadable(name, error) from error


def thumbnail(image: Image.Image, size: int = THUMBNAIL_SIZE) -> Image.Image:
    """Shrink a copy of the picture to fit `size` × `size` pixels; a smaller picture stays as it is.

    >>> thumbnail(Image.new("RGB", (640, 480))).size
    (96, 72)
    """
    small = image.copy()
    small.thumbnail((size, size), Image.Resampling.LANCZOS)
    return small


def _unreadable(name: str, error: Exception) -> InputError:
    """Build the error for a picture, with Pillow's reason but without its repetition of the name."""
    reason = str(error).rstrip(".") or type(error).__name__
    if isinstance(error, UnidentifiedImageError):
        reason = "it is in no format Pillow reads"
    elif isinstance(error, OSError) and error.strerror:
        reason = error.strerror
    return InputError(f"{name} can't be read as a picture: {reason}; repair the file or leave it out")


def _to_rgb(image: Image.Image) -> Image.Image:
    """Convert a decoded picture of any mode to RGB."""
    if image.mode.startswith("I"):
        image = _grey(image, WHITE_16_BIT)
    elif image.mode == "F":
        image = _grey(image, WHITE_FLOAT)
    elif image.mode == "LAB":  # the one mode Pillow's own conversion does not know
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
        image = image if converted is None else converted
    elif image.mode == "La":  # premultiplied: Pillow converts it to LA only
        image = image.convert("LA")
    return _over_white(image) if _has_alpha(image) else image.convert("RGB")


def _grey(image: Image.Image, white: float) -> Image.Image:
    """Scale grey values of 0..white to 8 bits.

    Raises InputError naming the range found when a value lies outside it.
    """
    values: NDArray = np.asarray(image).astype(np.float64)
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= white):
        raise InputError(f"its grey values run from {low:g} to {high:g} where 0 to {white:g} is expected")
    return Image.fromarray(np.rint(values * (255 / white)).astype(np.uint8))


def _has_alpha(image: Image.Image) -> bool:
    """Say whether some pixels may be transparent, by a channel or by a colour that stands for it."""
    return image.mode in ("LA", "PA", "RGBA", "RGBa") or "transparency" in image.info


def _over_white(image: Image.Image) -> Image.Image:
    """Composite a picture with transparency on white."""
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
