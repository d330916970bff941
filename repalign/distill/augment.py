"""Augmentation: a picture in, an 8-bit tensor of the student's size out, by transforms of timm and torchvision."""

import random
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL.Image import Image, fromarray
from torch import Tensor

from repalign.distill.recipe import SMALL_INPUT, Recipe
from repalign.distill.sight import WHITE, Sight

Augmentation = Callable[[Image], Any]  # a step gives a picture, the last one a tensor
LARGEST_PIXEL_SHIFT = 0.45  # of the input, that a policy's translations may be (timm's own choice)


def augmentation(recipe: Recipe, sight: Sight) -> Augmentation:
    """Build what a training picture goes through: PIL RGB → `(3, h, w)` 8-bit, random by the global generators.

    Crop, flip, a policy of timm's, colour jitter, erasing, in this order. What is erased gets the mean colour.
    """
    from torchvision import transforms

    steps: list[Callable] = [_crop(recipe, sight)]
    if recipe.flip:
        steps.append(transforms.RandomHorizontalFlip(recipe.flip))
    if recipe.auto_augment:
        steps.append(_policy(recipe.auto_augment, sight))
    if recipe.colour_jitter:
        steps.append(transforms.ColorJitter(*(recipe.colour_jitter,) * 3))
    steps.append(pixels_of)
    if recipe.erase:
        steps.append(_erasing(recipe.erase, sight))
    return transforms.Compose(steps)


def crop_of(recipe: Recipe, sight: Sight) -> str:
    """Say which crop "auto" means for pictures of this size."""
    if recipe.crop != "auto":
        return recipe.crop
    return "pad" if max(sight.size) <= SMALL_INPUT else "resized"


def pixels_of(picture: Image) -> UInt8[Tensor, "3 h w"]:
    """Turn a picture into a tensor of memory of its own."""
    return torch.from_numpy(np.array(picture, dtype=np.uint8)).permute(2, 0, 1).contiguous()


def _crop(recipe: Recipe, sight: Sight) -> Augmentation:
    """Build the crop to the student's size; pictures of other sizes are first scaled to cover it."""
    from timm.data.transforms import RandomResizedCropAndInterpolation
    from torchvision import transforms

    kind = crop_of(recipe, sight)
    if kind == "resized":
        return RandomResizedCropAndInterpolation(sight.size, scale=recipe.crop_scale, interpolation="bicubic")
    cover = transforms.Compose(
        [
            transforms.Resize(max(sight.size), transforms.InterpolationMode.BICUBIC, antialias=True),
            transforms.CenterCrop(sight.size),
        ]
    )
    return partial(_shift, cover, sight.size, recipe.crop_padding if kind == "pad" else 0)


def _shift(cover: Augmentation, size: tuple[int, int], padding: int, picture: Image) -> Image:
    """Shift a picture by up to `padding` pixels either way; what comes in is its mirror image.

    As torchvision's RandomCrop with reflecting padding, which takes five times as long for small pictures.
    """
    fitted = picture if picture.size == size[::-1] else cover(picture)
    if not padding:
        return fitted
    y, x = (_reflected(random.randint(-padding, padding), side) for side in size)
    return fromarray(np.asarray(fitted)[y[:, None], x])


def _reflected(shift: int, side: int) -> NDArray[np.intp]:
    """List the places of a shifted row, those outside of it reflected at its ends."""
    period = max(2 * (side - 1), 1)
    places = np.abs(np.arange(shift, side + shift)) % period
    return np.minimum(places, period - places) if side > 1 else np.zeros(1, np.intp)


def _policy(name: str, sight: Sight) -> Augmentation:
    from timm.data.auto_augment import auto_augment_transform, rand_augment_transform

    build = rand_augment_transform if name.startswith("rand") else auto_augment_transform
    mean = tuple(round(WHITE * value) for value in sight.mean)
    policy = build(name, {"translate_const": int(min(sight.size) * LARGEST_PIXEL_SHIFT), "img_mean": mean})
    return partial(_obey, policy)


def _obey(policy: Augmentation, picture: Image) -> Image:
    """Apply a policy, but for the strongest posterisation, to 0 bits: timm draws it and Pillow refuses it."""
    try:
        return policy(picture)
    except ValueError as error:
        if "bits" not in str(error):
            raise
        return picture


def _erasing(chance: float, sight: Sight) -> Callable[[Tensor], Tensor]:
    from timm.data.random_erasing import RandomErasing

    rectangle = RandomErasing(chance, device="cpu")  # pyright: ignore[reportArgumentType]  its annotation is too narrow
    mean = torch.tensor([round(WHITE * value) for value in sight.mean], dtype=torch.uint8)[:, None, None]
    return partial(_erase, rectangle, mean)


def _erase(rectangle: Callable[[Tensor], Tensor], mean: Tensor, pixels: Tensor) -> Tensor:
    kept = rectangle(torch.ones(1, *pixels.shape[1:]))  # timm erases floats, with zeros
    return torch.where(kept > 0, pixels, mean)
