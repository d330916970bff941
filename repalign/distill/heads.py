"""The branches of OFA-KD: from a student stage's features to class logits, sized by a dry run and nothing else."""

from itertools import pairwise
from math import ceil, gcd, log2

import torch
from jaxtyping import Float
from torch import Tensor, nn

from repalign.distill.stages import Stage, channels

ATTENTION_HEADS = 4
FINAL_SIDE = 7  # positions a side at least to which a flat transformer's grid is merged (Hao et al. 2023)


def build_head(
    stage: Stage, stages: tuple[Stage, ...], num_classes: int, width: int, class_token: bool = False
) -> nn.Module:
    """Build the branch of one of a student's `stages`; its input is the stage's output as the student gives it.

    Maps `(n, c, h, w)` pass K − k separable convolutions of stride 2 whose channels double, the last one (for the last
    stage a 1 × 1 convolution) giving `width` = max(student's, teacher's final width), or the last stage's where that is
    more; then mean over positions and a linear layer. Tokens, and maps with channels last, pass patch mergings down to
    the final grid (that of the last stage, or the first of less than 14 positions a side for a flat network; tokens on
    no grid stay as they are), max(K − k, 1) transformer blocks, and a linear layer of the class token, where there is
    one, or of the mean. Vectors pass a linear layer. (Hao et al. 2023, arXiv 2310.19444, section 3.2 and appendix.)
    """
    layer, later = stage.layer, len(stages) - stage.number
    final = channels(stages[-1].layer)
    match layer.layout:
        case "nchw":
            return MapHead(channels(layer), later, max(width, final), num_classes)
        case "vector":
            return nn.Linear(channels(layer), num_classes)
        case _:
            return TokenHead(
                channels(layer), layer.grid, layer.prefix, _merges(layer.grid, stages), final, max(later, 1),
                num_classes, class_token and layer.prefix > 0,
            )  # fmt: skip


def _merges(grid: tuple[int, int] | None, stages: tuple[Stage, ...]) -> int:
    """Count the halvings from a grid to the final one."""
    final = stages[-1].layer.grid
    if grid is None:
        return 0
    if final is not None and final != grid:
        return max(round(log2(max(grid) / max(final))), 0)
    if len({s.layer.grid for s in stages}) > 1:  # the last stage of a pyramid
        return 0
    return max(int(log2(max(grid) / FINAL_SIDE)), 0)


class SeparableConv(nn.Sequential):
    """Depthwise 3 × 3 of stride 2, pointwise, then the same at stride 1, each with batch norm and ReLU.

    `(n, a, h, w)` → `(n, b, ⌈h/2⌉, ⌈w/2⌉)`.
    """

    def __init__(self, a: int, b: int) -> None:
        super().__init__(
            nn.Conv2d(a, a, 3, stride=2, padding=1, groups=a, bias=False),
            nn.Conv2d(a, a, 1, bias=False),
            nn.BatchNorm2d(a),
            nn.ReLU(),
            nn.Conv2d(a, a, 3, padding=1, groups=a, bias=False),
            nn.Conv2d(a, b, 1, bias=False),
            nn.BatchNorm2d(b),
            nn.ReLU(),
        )


class MapHead(nn.Sequential):
    """Separable convolutions, mean over positions, linear: `(n, c, h, w)` → `(n, classes)`."""

    def __init__(self, channels: int, later: int, width: int, num_classes: int) -> None:
        widths = [channels * 2**i for i in range(later)] + [width]
        steps: list[nn.Module] = [SeparableConv(a, b) for a, b in pairwise(widths)]
        if not steps:
            steps = [nn.Conv2d(channels, width, 1)]
        super().__init__(*steps, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes))


class PatchMerging(nn.Module):
    """Join each 2 × 2 positions, padding odd sides with zeros: `(n, h, w, a)` → `(n, ⌈h/2⌉, ⌈w/2⌉, b)`.

    As in Swin (Liu et al. 2021): layer norm, then one linear map of the four.
    """

    def __init__(self, a: int, b: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * a)
        self.reduction = nn.Linear(4 * a, b, bias=False)

    def forward(self, x: Float[Tensor, "n h w a"]) -> Float[Tensor, "n h2 w2 b"]:
        """Merge."""
        n, h, w, a = x.shape
        x = nn.functional.pad(x, (0, 0, 0, w % 2, 0, h % 2))
        x = x.reshape(n, ceil(h / 2), 2, ceil(w / 2), 2, a).permute(0, 1, 3, 4, 2, 5).flatten(3)
        return self.reduction(self.norm(x))


class TokenHead(nn.Module):
    """Patch mergings, transformer blocks, norm, linear: tokens `(n, t, c)` or maps `(n, h, w, c)` → `(n, classes)`.

    Each merging doubles the width, the last one gives `width`, that of the final stage; prefix tokens are set aside and
    mapped to it by a linear layer. Without mergings the `grid` isn't needed.
    """

    def __init__(
        self, channels: int, grid: tuple[int, int] | None, prefix: int, merges: int, width: int, depth: int,
        num_classes: int, class_token: bool,
    ) -> None:  # fmt: skip
        from timm.models.vision_transformer import Block

        super().__init__()
        widths = [channels * 2**i for i in range(merges)] + [width]
        self.grid, self.prefix, self.class_token = grid, prefix, class_token
        self.merges = nn.Sequential(*(PatchMerging(a, b) for a, b in pairwise(widths)))
        same = channels == width
        self.widen = nn.Identity() if same or merges else nn.Linear(channels, width)
        self.widen_prefix = nn.Identity() if same or not prefix else nn.Linear(channels, width)
        heads = gcd(width, ATTENTION_HEADS)
        self.blocks = nn.Sequential(*(Block(width, heads, qkv_bias=True) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.classify = nn.Linear(width, num_classes)

    def forward(self, x: Float[Tensor, "n t c"] | Float[Tensor, "n h w c"]) -> Float[Tensor, "n classes"]:
        """Classify."""
        x = x.flatten(1, 2) if x.ndim == 4 else x
        prefix, patches = x[:, : self.prefix], x[:, self.prefix :]
        if self.grid is not None:
            patches = self.merges(patches.unflatten(1, self.grid)).flatten(1, 2)
        patches = self.widen(patches)
        if self.prefix:
            patches = torch.cat([self.widen_prefix(prefix), patches], dim=1)
        x = self.norm(self.blocks(patches))
        return self.classify(x[:, 0] if self.class_token else x[:, self.prefix :].mean(1))
