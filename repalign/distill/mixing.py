"""Mixup and CutMix, by timm: pictures of a batch mixed with each other, their labels in the same shares."""

from typing import final

from torch import Tensor

from repalign.distill.recipe import Recipe


@final
class Mix:
    """Mixes batches as a recipe says; draws from NumPy's global generator.

    Where it mixes, labels become probabilities, smoothed as the recipe says.
    """

    def __init__(self, recipe: Recipe, num_classes: int) -> None:
        self._mixup = None
        if recipe.mixes:
            from timm.data.mixup import Mixup

            self._mixup = Mixup(
                mixup_alpha=recipe.mixup, cutmix_alpha=recipe.cutmix, label_smoothing=recipe.label_smoothing,
                num_classes=num_classes,
            )  # fmt: skip

    def __call__(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Mix pictures `(b, 3, h, w)` and labels `(b,)`; the labels come out as `(b, classes)`, or as they are."""
        return (x, y) if self._mixup is None else self._mixup(x, y)
