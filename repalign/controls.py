"""Controls of a stimulus filter: other filters that change the pictures as much, so that a score means something."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import nan

import numpy as np
import torch
from PIL.Image import Image

from repalign.errors import InputError
from repalign.filters import FILTERS, Filter, as_strong, linear_difference, make_filter
from repalign.filters.light import as_batch, linear_squares
from repalign.types import Stimuli

CONTROLS = ("identity", "grey", "blur", "red_removal", "protan", "deutan", "jpeg", "noise")
SAMPLED = 32  # pictures on which differences are measured
WINDOW = 256  # pixels: of a larger picture, a window somewhere in it
ROUNDING = 1e-9  # of linear light: no difference at all
ANY_FOV = 60.0  # degrees: the unit in which a blur is written when the second view is no filter with a scene's width

Shown = Callable[[int], Image]  # a stimulus' number → what a view shows of it


@dataclass(frozen=True)
class Sample:
    """Windows of some stimuli as they are and as the second view shows them, and the `extent` of each.

    `difference` is the root mean square between the two in linear light 0..1, NaN where their sizes differ.
    """

    pictures: tuple[Image, ...]
    extent: tuple[float, ...]
    difference: float


@dataclass(frozen=True)
class Control:
    """A control filter, how far it moves the pictures, and how far as a ratio of what the second view does.

    `filter` is None where `note` says why there is none.
    """

    name: str
    filter: Filter | None
    difference: float = nan
    ratio: float = nan
    note: str = ""


def sample(stimuli: Stimuli, first: Shown, second: Shown, seed: int) -> Sample:
    """Take a seeded sample of up to 32 stimuli as the first view shows them, and compare it with the second view."""
    rng = np.random.default_rng(seed)
    chosen = sorted(rng.permutation(len(stimuli))[:SAMPLED].tolist())
    pictures, extents, squares = [], [], []
    for i in chosen:
        original, seen = first(i), second(i)
        extent = stimuli.extent[i] if stimuli.extent else 1.0
        window = _window(original, rng)
        cut = original.crop(window)
        pictures.append(cut)
        extents.append(extent * cut.width / original.width)
        same = original.size == seen.size
        squares.append(linear_squares(as_batch(cut), as_batch(seen.crop(window))) if same else torch.tensor([nan]))
    return Sample(tuple(pictures), tuple(extents), float(torch.cat(squares).mean().sqrt()))


def controls(names: Sequence[str], taken: Sample, condition: Filter | None) -> list[Control]:
    """Build the controls by name, each as strong as the second view where it has a strength.

    `condition` is the second view's filter, whose scene has the width that a blur needs. A control that can't be made
    as strong stands without a filter, with the reason. Raises InputError for a name that is no filter.
    """
    return [_control(name, taken, condition) for name in names]


def _control(name: str, taken: Sample, condition: Filter | None) -> Control:
    options = _scene(name, condition)
    if name not in FILTERS or FILTERS[name].strength is None:
        return _measured(name, make_filter(name, **options), taken)
    if not taken.difference > 0:
        why = "the second view changes nothing" if taken.difference == 0 else "both views differ in size"
        return Control(name, None, note=f"{why}, so no strength can be matched")
    what = condition.spec if condition else "the second view"
    try:
        made = as_strong(name, taken.difference, what, taken.pictures, taken.extent, **options)
    except InputError as reason:
        return Control(name, None, note=str(reason))
    return _measured(name, made, taken)


def _measured(name: str, made: Filter, taken: Sample) -> Control:
    difference = linear_difference(made, taken.pictures, taken.extent)
    difference = 0.0 if difference < ROUNDING else difference
    return Control(name, made, difference, difference / taken.difference if taken.difference > 0 else nan)


def _scene(name: str, condition: Filter | None) -> dict[str, object]:
    """Give the scene's width in degrees to a control that needs it."""
    if name not in FILTERS or "fov_deg" not in FILTERS[name].__dataclass_fields__:
        return {}
    known = [step.options["fov_deg"] for step in condition.steps if step.options.get("fov_deg")] if condition else []
    return {"fov_deg": known[0] if known else ANY_FOV}


def _window(picture: Image, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Choose the box of a window: all of a small picture."""
    width, height = (min(WINDOW, side) for side in picture.size)
    left, top = (int(rng.integers(whole - side + 1)) for whole, side in zip(picture.size, (width, height), strict=True))
    return left, top, left + width, top + height
