"""Architectures of the pocket encoders: five CIFAR-sized networks built from timm's own classes."""

from collections.abc import Callable

from torch import nn

IMAGE_SIZE = 32
CIFAR_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR_STD = (0.2470, 0.2435, 0.2616)


def _resnet(num_classes: int) -> nn.Module:
    """Build a four-stage basic-block ResNet whose stem keeps the full 32 x 32 resolution."""
    from timm.models.resnet import BasicBlock, ResNet

    model = ResNet(
        BasicBlock,  # pyright: ignore[reportArgumentType]  timm's annotation means the class
        layers=(2, 2, 2, 2), num_classes=num_classes, channels=(16, 32, 64, 128), stem_type="deep", stem_width=8,
    )  # fmt: skip
    model.conv1 = nn.Conv2d(3, 16, kernel_size=3, stride=1, padding=1, bias=False)
    model.maxpool = nn.Identity()
    nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    return model


def _vit(num_classes: int) -> nn.Module:
    """Build a ViT of 6 blocks, width 128, patch 4; position embeddings follow the input size."""
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(
        img_size=IMAGE_SIZE, patch_size=4, num_classes=num_classes, embed_dim=128, depth=6,
        num_heads=4, mlp_ratio=2.0, dynamic_img_size=True,
    )  # fmt: skip


def _swin(num_classes: int) -> nn.Module:
    """Build a three-stage Swin of widths 36, 72, 144, patch 2, window 4."""
    from timm.models.swin_transformer import SwinTransformer

    return SwinTransformer(
        img_size=IMAGE_SIZE, patch_size=2, num_classes=num_classes, embed_dim=36,
        depths=(2, 4, 2), num_heads=(2, 4, 8), window_size=4, drop_path_rate=0.05,
    )  # fmt: skip


def _mixer(num_classes: int) -> nn.Module:
    """Build an MLP-Mixer of 6 blocks, width 128, patch 4."""
    from timm.models.mlp_mixer import MlpMixer

    return MlpMixer(num_classes=num_classes, img_size=IMAGE_SIZE, patch_size=4, num_blocks=6, embed_dim=128)


BUILDERS: dict[str, Callable[[int], nn.Module]] = {
    "resnet": _resnet,
    "vit": _vit,
    "swin": _swin,
    "mixer": _mixer,
    "dino": _vit,  # the same architecture as vit: self-supervised against supervised is a fair question
}


def build(name: str, num_classes: int = 10) -> nn.Module:
    """Build the untrained pocket network `name`; `dino` carries no classifier."""
    return BUILDERS[name](0 if name == "dino" else num_classes)
