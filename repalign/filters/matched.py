"""Find how strong a control must be to change pictures as much as another filter does."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from PIL.Image import Image
from torch import Tensor

from repalign.errors import InputError
from repalign.filters.base import Filter, Step, Strength
from repalign.filters.light import as_batch, linear_squares

TOLERANCE = 0.05  # relative difference of the two RMS differences
STEPS = 40  # halvings; fewer are needed unless the filter moves in jumps
CLOSE = 0.005  # near enough to stop halving

Pictures = Sequence[Image] | Float[Tensor, "n 3 h w"]


def linear_difference(filter_: Filter, pictures: Pictures, extent: Sequence[float] | None = None) -> float:
    """Compute the root mean square by which a filter changes linear light 0..1, pictures weighted alike.

    It is taken after clipping, over all pixels and channels. `pictures` are RGB pictures of any sizes, or sRGB 0..1
    `(n, 3, h, w)`; `extent (n,)` as in `Filter.batch`. Raises InputError as that does.
    """
    extents = (1.0,) * len(pictures) if extent is None else tuple(extent)
    squares = []
    for x, part in _batches(pictures, extents):
        done = filter_.batch(x, part)
        if done.shape != x.shape:
            raise InputError(f"{filter_.spec} changes the size of pictures, so their difference is not defined")
        squares.append(linear_squares(x, done))
    return float(torch.cat(squares).mean().sqrt())


@dataclass(frozen=True)
class Search:
    """What halving needs: a filter for each strength, the difference it makes, and the one that is wanted."""

    make: Callable[[int | float], Step]
    strength: Strength
    difference: Callable[[Filter], float]
    wanted: float

    def halve(self) -> tuple[Step, float]:
        """Halve the range of strengths; return the filter that came nearest, and its difference."""
        low, high = 0.0, 1.0
        tried = {value: self._try(value) for value in (self.strength.at(0.0), self.strength.at(1.0))}
        for _ in range(STEPS):
            middle = (low + high) / 2
            value = self.strength.at(middle)
            if value in tried and self.strength.scale != "whole":
                break
            tried[value] = tried.get(value) or self._try(value)
            if abs(tried[value][1] / self.wanted - 1) < CLOSE:
                break
            low, high = (middle, high) if tried[value][1] < self.wanted else (low, middle)
        return min(tried.values(), key=lambda found: abs(found[1] - self.wanted))

    def _try(self, value: int | float) -> tuple[Step, float]:
        made = self.make(value)
        return made, self.difference(made)


def match_strength(
    factory: Callable[..., Step],
    strength: Strength,
    wanted: float,
    of: str,
    pictures: Pictures,
    extent: Sequence[float] | None,
) -> Step:
    """Find the filter whose linear RMS difference lies within 5 % of `wanted` on `pictures`.

    `of` names what makes that difference. Raises InputError when it is none, or when no strength comes so near.
    """
    if wanted == 0:
        raise InputError(f"{of} changes none of these pictures, so no control can be matched to it")
    search = Search(
        lambda value: factory(**{strength.option: value}),
        strength,
        lambda filter_: linear_difference(filter_, pictures, extent),
        wanted,
    )
    found, reached = search.halve()
    if abs(reached / wanted - 1) > TOLERANCE:
        raise InputError(
            f"{found.name} comes no nearer to {of} than {found.spec}: it changes linear light by "
            f"{reached:.4g} RMS, {of} by {wanted:.4g}; use another control or reference"
        )
    return found


def _batches(
    pictures: Pictures, extents: tuple[float, ...]
) -> Iterable[tuple[Float[Tensor, "m 3 h w"], tuple[float, ...]]]:
    """Give pictures of one size together: a filter takes a batch faster than one by one."""
    if isinstance(pictures, Tensor):
        return [(pictures, extents)]
    sizes = [picture.size for picture in pictures]
    batches = [[i for i, size in enumerate(sizes) if size == one] for one in dict.fromkeys(sizes)]
    return ((torch.cat([as_batch(pictures[i]) for i in rows]), tuple(extents[i] for i in rows)) for rows in batches)
