"""Controls of a stimulus filter: other filters that change the pictures as much, so that a score means something."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import nan

import numpy as np
import torch
from PIL.Image import Image

from repalign.errors import InputError
from repalign.filters import FILTERS, Filter, as_strong, linear_difference, make_filter, scene_width
from repalign.filters.light import as_batch, linear_squares
from repalign.types import Stimuli

CONTROLS = ("identity", "grey", "blur", "red_removal", "protan", "deutan", "jpeg", "noise")
PIXELS = 4 << 20  # on which a control's strength is found: 64 windows of 256 × 256, or as many small pictures
WINDOW = 256  # pixels: of a larger picture, a window somewhere in it
TIGHT = 0.05  # of the wanted difference, over all pictures
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

    def measured(self, difference: float, wanted: float) -> "Control":
        """Say how far it moves the pictures, and how far as a ratio of `wanted`."""
        return replace(self, difference=difference, ratio=difference / wanted if wanted > 0 else nan)


def sample(stimuli: Stimuli, first: Shown, second: Shown, seed: int) -> Sample:
    """Take a seeded sample of the stimuli as the first view shows them, and compare it with the second view."""
    rng = np.random.default_rng(seed)
    pictures, extents, squares, room = [], [], [], PIXELS
    for i in rng.permutation(len(stimuli)).tolist():
        if room <= 0:
            break
        original, seen = first(i), second(i)
        window = _window(original, rng)
        cut = original.crop(window)
        pictures.append(cut)
        room -= cut.width * cut.height
        extents.append(stimuli.extent_of(i) * cut.width / original.width)
        same = original.size == seen.size
        squares.append(linear_squares(as_batch(cut), as_batch(seen.crop(window))) if same else torch.tensor([nan]))
    return Sample(tuple(pictures), tuple(extents), float(torch.cat(squares).mean().sqrt()))


def controls(names: Sequence[str], taken: Sample, condition: Filter | None) -> list[Control]:
    """Build the controls by name, each as strong as the second view where it has a strength.

    `condition` is the second view's filter, whose scene has the width that a blur needs. A control that can't be made
    as strong stands without a filter, with the reason. Raises InputError for a name that is no filter.
    """
    return [_control(name, taken, condition) for name in names]


def tightened(control: Control, ratio: float, taken: Sample, condition: Filter | None) -> Control:
    """Build a control again when `ratio`, its strength over all pictures, is more than 5 % off.

    The sample's aim is divided by the ratio. A control that has no strength, or comes no nearer, stays.
    """
    if control.filter is None or FILTERS[control.name].strength is None or not abs(ratio - 1) > TIGHT:
        return control
    aim = replace(taken, difference=taken.difference / ratio)
    again = _control(control.name, aim, condition)
    return control if again.filter is None else again


def _control(name: str, taken: Sample, condition: Filter | None) -> Control:
    options = scene_width(name, condition, ANY_FOV)
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
    return Control(name, made).measured(0.0 if difference < ROUNDING else difference, taken.difference)


def _window(picture: Image, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Choose the box of a window: all of a small picture."""
    width, height = (min(WINDOW, side) for side in picture.size)
    left, top = (int(rng.integers(whole - side + 1)) for whole, side in zip(picture.size, (width, height), strict=True))
    return left, top, left + width, top + height
