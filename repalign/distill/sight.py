"""How each network wants its pictures, found by showing it plain ones; a student's batch as the teacher wants it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from repalign.errors import InputError
from repalign.types import Encoder

BLACK, GREY, WHITE = 0, 51, 255  # 51 is a fifth of 255
TOLERANCE = 1e-3  # of a standard deviation, that a plain picture may be off the line from black to white


@dataclass(frozen=True)
class Sight:
    """What a network's preprocessing does: `(pixels / 255 − mean) / std` a channel, at `size` = (h, w)."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: tuple[int, int]


def sight_of(encoder: Encoder) -> Sight:
    """Read mean, standard deviation and size off what an encoder's preprocessing makes of plain pictures.

    Raises InputError when it does more to colours than shift and scale each channel.
    """
    black, grey, white = (_shown(encoder, level) for level in (BLACK, GREY, WHITE))
    std = 1 / (white - black)
    mean = -black * std
    plain = bool(torch.isfinite(std).all() and (std > 0).all())
    if not plain or float((grey - (GREY / WHITE - mean) / std).abs().max()) > TOLERANCE:
        raise InputError(
            f"the preprocessing of {encoder.name} does more than shift and scale colours, so training batches can't "
            "be made for it; give a network whose preprocessing ends in a plain normalisation"
        )
    return Sight(tuple(mean.tolist()), tuple(std.tolist()), encoder.input_size)


def _shown(encoder: Encoder, level: int) -> Float[Tensor, " 3"]:
    """Give the colour that a plain picture becomes. Raises InputError when it isn't plain any more."""
    h, w = encoder.input_size
    pixels = encoder.preprocess(Image.new("RGB", (w, h), (level, level, level))).double()
    colour = pixels.mean((1, 2))
    if float((pixels - colour[:, None, None]).abs().max()) > TOLERANCE:
        raise InputError(
            f"the preprocessing of {encoder.name} draws something into plain pictures, so training batches can't be "
            "made for it; give a network whose preprocessing is a plain normalisation"
        )
    return colour


class Normalise(nn.Module):
    """Turn 8-bit pictures `(b, 3, h, w)` into what a network wants, float32 of the same shape."""

    def __init__(self, sight: Sight) -> None:
        super().__init__()
        mean, std = (torch.tensor(values, dtype=torch.float64)[:, None, None] for values in (sight.mean, sight.std))
        self.register_buffer("scale", (1 / (WHITE * std)).float(), persistent=False)
        self.register_buffer("shift", (-mean / std).float(), persistent=False)
        self.scale: Tensor
        self.shift: Tensor

    def forward(self, pictures: Tensor) -> Float[Tensor, "b 3 h w"]:
        """Normalise."""
        return pictures * self.scale + self.shift


class TeacherInput(nn.Module):
    """Show the teacher a batch that was normalised for the student `(b, 3, h, w)`: renormalised, at its own size.

    Resizing is bicubic with antialiasing, as PIL's.
    """

    def __init__(self, student: Sight, teacher: Sight) -> None:
        super().__init__()
        self.size = None if student.size == teacher.size else teacher.size
        ours, theirs = (torch.tensor([s.mean, s.std], dtype=torch.float64) for s in (student, teacher))
        scale, shift = ours[1] / theirs[1], (ours[0] - theirs[0]) / theirs[1]
        self.same = bool(torch.allclose(ours, theirs, rtol=0, atol=1e-6))  # float32's rounding of one normalisation
        self.register_buffer("scale", scale.float()[:, None, None], persistent=False)
        self.register_buffer("shift", shift.float()[:, None, None], persistent=False)
        self.scale: Tensor
        self.shift: Tensor

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h2 w2"]:
        """Renormalise and resize."""
        x = x if self.same else x * self.scale + self.shift
        if self.size is None:
            return x
        return nn.functional.interpolate(x, self.size, mode="bicubic", align_corners=False, antialias=True)


def teacher_input(student: Encoder, teacher: Encoder) -> tuple[Callable[[Tensor], Tensor], tuple[str, ...]]:
    """Build what turns the student's batches into the teacher's, and say what the teacher loses by it."""
    ours, theirs = sight_of(student), sight_of(teacher)
    notes: tuple[str, ...] = ()
    if min(ours.size) < min(theirs.size):
        notes = (
            f"in training the teacher sees the student's pictures of {ours.size[0]}×{ours.size[1]} pixels enlarged to "
            f"{theirs.size[0]}×{theirs.size[1]}, with less detail than it is evaluated on",
        )
    return TeacherInput(ours, theirs), notes
