"""The published filter of the package catvision, called as it is."""

from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from typing import Any, ClassVar, final

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from repalign.errors import InputError
from repalign.filters.base import Domain, Step
from repalign.filters.checks import positive
from repalign.filters.flow import Scene
from repalign.filters.light import as_batch, as_picture

MODES = ("biological", "legacy")


@final
@dataclass(frozen=True)
class CatVision(Step):
    """Call `CatVisionFilter.apply_cat_vision` on 8-bit BGR pixels, `mode` biological (its default) or legacy.

    Its blurs are in pixels, not degrees, so the size at which it runs changes the result. By default it runs on a
    picture as it is, before any encoder resizes it; with `size` the picture is first resized (bicubic) to that many
    pixels on its shorter side, and stays so: the only filter that changes height and width.

    Raises InputError when the package is not installed.
    """

    mode: str = "biological"
    size: int | None = None

    name: ClassVar[str] = "catvision"
    source: ClassVar[str] = "Shah 2025, catvision (PyPI, MIT licence), https://github.com/aryashah2k/catvision"
    domain: ClassVar[Domain] = "encoded"

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise InputError(f"catvision: mode must be one of {', '.join(MODES)}, not {self.mode!r}")
        if self.size is not None:
            positive(self.name, "size", self.size, "pixels of the shorter side")
        _filter()

    @property
    def label(self) -> str:
        """Name the filter and its options for a person."""
        return f"catvision {version('catvision')}, {self.mode}, {self._where}"

    @property
    def remarks(self) -> tuple[str, ...]:
        """Say at which size it ran."""
        return (f"catvision {version('catvision')} ({self.mode}) ran {self._where}; its result depends on the size",)

    def run_notes(self, height: int, width: int) -> tuple[str, ...]:
        """Say at how many pixels pictures of this height and width were filtered."""
        wide, high = self._pixels(width, height)
        return (f"catvision ran at {wide} × {high} pixels, {'before' if self.size is None else 'after'} resizing",)

    @property
    def _where(self) -> str:
        if self.size is None:
            return "at each picture's own size, before resizing"
        return f"at a shorter side of {self.size} pixels, after resizing"

    def _pixels(self, width: int, height: int) -> tuple[int, int]:
        if self.size is None:
            return width, height
        scale = self.size / min(width, height)
        return round(width * scale), round(height * scale)

    def render(self, x: Float[Tensor, "n 3 h w"], scene: Scene) -> Float[Tensor, "n 3 k m"]:
        """Filter each picture."""
        return torch.cat([self._filtered(picture) for picture in x])

    def _filtered(self, picture: Float[Tensor, "3 h w"]) -> Float[Tensor, "1 3 k m"]:
        shown = as_picture(picture)
        pixels = self._pixels(*shown.size)
        if pixels != shown.size:
            shown = shown.resize(pixels, Image.Resampling.BICUBIC)
        bgr = np.ascontiguousarray(np.array(shown)[:, :, ::-1])
        done = _filter().apply_cat_vision(bgr, use_biological_accuracy=self.mode == "biological")
        rgb = Image.fromarray(np.ascontiguousarray(done[:, :, ::-1]), "RGB")
        return as_batch(rgb).to(picture.device, picture.dtype)


@lru_cache(maxsize=1)
def _filter() -> Any:  # noqa: ANN401  a class of an optional package
    try:
        from catvision import CatVisionFilter  # type: ignore[import-not-found]
    except ImportError as error:
        raise InputError(
            f"catvision can't be imported ({error}); install it with: pip install 'repalign[cat]'"
        ) from error
    return CatVisionFilter()
