"""The students: a ResNet, a ViT and a Swin of four stages each, small enough for a thousand runs on two cores."""

from collections.abc import Callable

import torch
from torch import nn

IMAGE_SIZE, CLASSES = 32, 10


def _resnet() -> nn.Module:
    """Build a ResNet of one basic block a stage, widths 16 to 128, whose stem halves the picture."""
    from timm.models.resnet import BasicBlock, ResNet

    model = ResNet(
        BasicBlock, layers=(1, 1, 1, 1), num_classes=CLASSES, channels=(16, 32, 64, 128), stem_type="deep", stem_width=8
    )
    model.conv1 = nn.Conv2d(3, 16, kernel_size=3, stride=2, padding=1, bias=False)
    model.maxpool = nn.Identity()
    nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    return model


def _vit() -> nn.Module:
    """Build a ViT of 6 blocks, width 48, patch 8."""
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(
        img_size=IMAGE_SIZE, patch_size=8, num_classes=CLASSES, embed_dim=48, depth=6, num_heads=4, mlp_ratio=2.0
    )


def _swin() -> nn.Module:
    """Build a four-stage Swin of widths 24 to 192, patch 4, window 4."""
    from timm.models.swin_transformer import SwinTransformer

    return SwinTransformer(
        img_size=IMAGE_SIZE, patch_size=4, num_classes=CLASSES, embed_dim=24, depths=(1, 1, 2, 1),
        num_heads=(2, 2, 4, 4), window_size=4, mlp_ratio=2.0,
    )  # fmt: skip


BUILDERS: dict[str, Callable[[], nn.Module]] = {"resnet": _resnet, "vit": _vit, "swin": _swin}


def build_student(name: str, seed: int) -> nn.Module:
    """Build an untrained student whose weights are drawn with `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return BUILDERS[name]().to(memory_format=torch.channels_last if name == "resnet" else torch.contiguous_format)
