"""What every stimulus filter is, alone or in a chain: pictures in, pictures of the same scene out."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from PIL.Image import Image
from torch import Tensor

from repalign.errors import InputError
from repalign.filters.flow import Scene, flow, picture_keys
from repalign.filters.light import as_batch, as_picture

Domain = Literal["linear", "encoded", "any"]
Extent = Sequence[float] | float | None
VALUES_AT_ONCE = 1 << 18  # on a CPU: one picture of 224 × 224, which stays in its cache
VALUES_ON_GPU = 1 << 27


@dataclass(frozen=True)
class Filtered:
    """Filtered pictures, sRGB 0..1 `(n, 3, h, w)`.

    `clipped (n,)` is the share of each picture's pixels that left the sRGB cube and were cut; `notes` say what this
    run adds to the filter's own notes.
    """

    pictures: Float[Tensor, "n 3 h w"]
    clipped: Float[Tensor, " n"]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Strength:
    """The option of a filter that `matched` varies, from `weakest` to `strongest`."""

    option: str
    weakest: float
    strongest: float
    scale: Literal["linear", "log", "whole"]

    def at(self, place: float) -> int | float:
        """Give the value at `place` between 0 (weakest) and 1, to four digits or a whole number."""
        if self.scale == "log":
            value = self.weakest * (self.strongest / self.weakest) ** place
        else:
            value = self.weakest + (self.strongest - self.weakest) * place
        return round(value) if self.scale == "whole" else float(f"{value:.4g}")


class Filter(ABC):
    """A stimulus filter or a chain of them; its options are dataclass fields.

    Light is decoded once, passes all filters that work in linear light, is clipped once and encoded once. `spec`
    builds the same filter again, `label` names it for a person, `reference` its sources, and `notes` stand beside every
    number that came from it.
    """

    @property
    @abstractmethod
    def steps(self) -> "tuple[Step, ...]":
        """List the single filters in the order in which light passes them."""

    @property
    def label(self) -> str:
        """Name the filter and its options for a person."""
        return " + ".join(step.label for step in self.steps)

    @property
    def spec(self) -> str:
        """Write the filter as `load_filter` takes it."""
        return ",".join(step.spec for step in self.steps)

    @property
    def reference(self) -> str:
        """Name the sources."""
        return "; ".join(dict.fromkeys(step.source for step in self.steps))

    @property
    def notes(self) -> tuple[str, ...]:
        """Say what must stand beside every number."""
        return tuple(dict.fromkeys(note for step in self.steps for note in step.remarks))

    def __call__(self, picture: Image, extent: float = 1.0) -> Image:
        """Filter one RGB picture; `extent` is the fraction of the scene's width that it shows."""
        return as_picture(self.batch(as_batch(picture), extent)[0])

    def batch(self, x: Float[Tensor, "n 3 h w"], extent: Extent = None) -> Float[Tensor, "n 3 k m"]:
        """Filter pictures, sRGB 0..1, float32 or float64, on their own device; height and width stay as they are.

        `extent (n,)` or one number is the fraction of the scene's width that a picture shows, default 1. Each picture
        is filtered as it would be alone. Only `catvision:size=` changes height and width. Raises InputError for other
        types, values outside 0..1 or NaN, and for a wrong extent.
        """
        return self._led(x, extent, count=False)[0]

    def apply(self, x: Float[Tensor, "n 3 h w"], extent: Extent = None) -> Filtered:
        """Filter pictures as `batch` does, and report what was cut."""
        pictures, cut = self._led(x, extent, count=True)
        notes = tuple(note for step in self.steps for note in step.run_notes(x.shape[2], x.shape[3]))
        return Filtered(pictures, cut, notes)

    def _led(self, x: Tensor, extent: Extent, *, count: bool) -> tuple[Tensor, Tensor]:
        _check(x)
        scene = Scene(_extents(extent, len(x)), picture_keys(x) if any(step.seeded for step in self.steps) else ())
        whole = VALUES_AT_ONCE if x.device.type == "cpu" else VALUES_ON_GPU
        size = max(1, whole // x[0].numel())
        done, cut = x.new_empty(0), x.new_zeros(len(x))
        for first in range(0, len(x), size):
            rows = slice(first, first + size)
            part, cut[rows] = flow(self.steps, x[rows].contiguous(), scene.part(rows), count=count)
            if first == 0:  # the shape is known now; each part's memory is used again by the next
                done = part.new_empty((len(x), *part.shape[1:]))
            done[rows] = part
        return done, cut


@dataclass(frozen=True)
class Step(Filter):
    """One filter; `domain` says what light it takes, `strength` which option `matched` varies.

    After a filter with `twins`, red equals green. `seeded` filters draw from a generator seeded by each picture's own
    pixels.
    """

    name: ClassVar[str]
    source: ClassVar[str]
    domain: ClassVar[Domain] = "linear"
    strength: ClassVar[Strength | None] = None
    twins: ClassVar[bool] = False
    seeded: ClassVar[bool] = False

    @abstractmethod
    def render(self, x: Float[Tensor, "n 3 h w"], scene: Scene) -> Float[Tensor, "n 3 k m"]:
        """Filter light of the own domain; linear light is not clipped here."""

    @property
    def steps(self) -> "tuple[Step, ...]":
        """List itself."""
        return (self,)

    @property
    @abstractmethod
    def label(self) -> str:
        """Name the filter and its options for a person."""

    @property
    def remarks(self) -> tuple[str, ...]:
        """Say what must stand beside every number; most filters need nothing."""
        return ()

    def run_notes(self, height: int, width: int) -> tuple[str, ...]:
        """Say what depends on the pictures' height and width in pixels; in most filters nothing does."""
        return ()

    @property
    def options(self) -> dict[str, bool | int | float | str | None]:
        """List the options by name."""
        return asdict(self)

    @property
    def spec(self) -> str:
        """Write the filter as `name:key=value,…`, with every option that is not at its default."""
        default = {field.name: field.default for field in fields(self)}
        text = ",".join(f"{key}={_written(value)}" for key, value in self.options.items() if value != default[key])
        return f"{self.name}:{text}" if text else self.name


def _written(value: object) -> str:
    """Write an option's value as it is read: 60 for 60.0, true for True."""
    return str(value).lower().removesuffix(".0")


def _check(x: Tensor) -> None:
    if not len(x):
        raise InputError("a filter was given no pictures; give at least one")
    if x.dtype not in (torch.float32, torch.float64):
        raise InputError(
            f"a filter takes sRGB as float32 or float64 in 0..1, not {x.dtype}; divide 8-bit values by 255"
        )
    low, high = (float(v) for v in x.aminmax())
    if not (low >= 0 and high <= 1):  # NaN fails both
        raise InputError(f"a filter takes sRGB values in 0..1, but these run from {low:.4g} to {high:.4g}")


def _extents(extent: Extent, n: int) -> tuple[float, ...]:
    if extent is None or isinstance(extent, (int, float)):
        values = (1.0 if extent is None else float(extent),) * n
    else:
        values = tuple(float(value) for value in extent)
    if len(values) != n:
        raise InputError(f"{len(values)} extents were given for {n} pictures; give one each or none")
    wrong = next((v for v in values if not 0 < v <= 1), None)
    if wrong is not None:
        raise InputError(f"an extent is the fraction of the scene's width that a picture shows, in 0..1, not {wrong}")
    return values
