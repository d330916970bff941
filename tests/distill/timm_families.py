"""Small untrained networks of many timm families, for pictures of any size."""

import timm
from timm.models.densenet import DenseNet
from timm.models.maxxvit import MaxxVit, MaxxVitCfg, MaxxVitTransformerCfg
from timm.models.metaformer import MetaFormer
from timm.models.mlp_mixer import Affine, MlpMixer, ResBlock
from timm.models.regnet import RegNet, RegNetCfg
from timm.models.vgg import VGG

CLASSES = 10
SMALL = {"embed_dim": 24, "num_heads": 2, "depth": 6}
MIXER = {"num_blocks": 6, "patch_size": 16, "num_classes": CLASSES}
RESMLP = {"embed_dim": 22, "mlp_ratio": 4, "block_layer": ResBlock, "norm_layer": Affine}
WINDOWS = {32: 2, 64: 4, 224: 7, 240: 5}  # MaxViT's divide the grid of every stage


def any_size(name, **keywords):
    return lambda _size: timm.create_model(name, pretrained=False, num_classes=CLASSES, **keywords)


def one_size(name, **keywords):
    return lambda size: timm.create_model(name, pretrained=False, num_classes=CLASSES, img_size=size, **keywords)


def vit(**keywords):
    return one_size("vit_tiny_patch16_224", **{**SMALL, **keywords})


def swin(name):
    return one_size(name, embed_dim=8, depths=(1, 1, 2, 1), num_heads=(1, 2, 2, 2))


def vgg(_size):
    widths = [8, "M", 12, "M", 16, 16, "M", 24, 24, "M", 24, 24, "M"]
    return VGG(widths, num_classes=CLASSES, mlp_ratio=0.01)


def maxvit(size):
    attention = MaxxVitTransformerCfg(dim_head=8, window_size=(WINDOWS[size],) * 2, partition_ratio=None)
    shape = MaxxVitCfg((16, 24, 32), (1, 1, 1), block_type=("M",) * 3, stem_width=16, transformer_cfg=attention)
    return MaxxVit(shape, img_size=size, num_classes=CLASSES)


FAMILIES = {
    "resnet": any_size("test_resnet"),
    "convnext": any_size("test_convnext"),
    "mobilenetv2": any_size("mobilenetv2_035"),
    "mobilenetv3": any_size("mobilenetv3_small_050"),
    "efficientnet": any_size("test_efficientnet"),
    "densenet": lambda _size: DenseNet(4, (2, 2, 2, 2), num_classes=CLASSES),
    "vgg": vgg,
    "regnet": lambda _size: RegNet(RegNetCfg(depth=6, w0=8, wa=8, wm=2.0, group_size=4), num_classes=CLASSES),
    "poolformer": lambda _size: MetaFormer(dims=(8, 12, 16, 24), depths=(1, 1, 2, 1), num_classes=CLASSES),
    "maxvit": maxvit,
    "swin": swin("swin_tiny_patch4_window7_224"),
    "swinv2": swin("swinv2_tiny_window8_256"),
    "levit": one_size("levit_128s", embed_dim=(16, 24, 32), key_dim=8, num_heads=(2, 2, 2)),
    "vit": vit(),
    "vit of odd width": vit(embed_dim=21, num_heads=3),
    "vit with registers alone": vit(reg_tokens=2, class_token=False, global_pool="avg"),
    "vit with a class token and registers": vit(reg_tokens=4),
    "vit without prefix": vit(class_token=False, global_pool="avg"),
    "deit, distilled": one_size("deit_tiny_distilled_patch16_224", **SMALL),
    "beit": one_size("beit_base_patch16_224", **SMALL),
    "cait": one_size("cait_xxs24_224", **SMALL),
    "mixer": lambda size: MlpMixer(img_size=size, embed_dim=24, **MIXER),
    "resmlp": lambda size: MlpMixer(img_size=size, **RESMLP, **MIXER),
}
