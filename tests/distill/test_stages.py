"""Where stages are found: published mappings, many timm families, networks from elsewhere, and what has none."""

import pytest
import timm
import torch
from timm.models.convmixer import ConvMixer
from timm.models.volo import VOLO
from torch import nn
from torchvision import models as vision

from repalign.distill.networks import examine
from repalign.distill.stages import Stage, channels, choose_stages, find_stages
from repalign.errors import InputError, LayerError
from repalign.types import Layer

FLAT = ["blocks.1", "blocks.3", "blocks.9", "blocks.11"]
DEEP = ["blocks.1", "blocks.3", "blocks.21", "blocks.23"]
PARTS, LAYERS = [f"stages.{k}" for k in range(4)], [f"layers.{k}" for k in range(4)]

NARROW = {"embed_dim": 24, "num_heads": 2}
TNT = {"embed_dim": 24, "inner_dim": 8, "num_heads_outer": 2, "num_heads_inner": 2}
SEQUENCER = {"embed_dims": (8, 16, 16, 16), "hidden_sizes": (4, 8, 8, 8), "layers": (1, 1, 1, 1)}
TWINS = {"embed_dims": (8, 16, 24, 32), "num_heads": (1, 2, 3, 4), "depths": (1, 1, 2, 1)}

# network, size of picture, keywords, ends of the stages
FAMILIES = [
    # as published with OFA-KD
    ("resnet18", 64, {}, ["layer1", "layer2", "layer3", "layer4"]),
    ("vit_small_patch16_224", 32, {"img_size": 32, **NARROW}, FLAT),
    ("deit_tiny_distilled_patch16_224", 32, {"img_size": 32, **NARROW}, FLAT),
    ("resmlp_12_224", 32, {"img_size": 32}, FLAT),
    ("beitv2_large_patch16_224", 32, {"img_size": 32, **NARROW}, DEEP),
    ("swin_tiny_patch4_window7_224", 64, {"img_size": 64, "embed_dim": 12}, LAYERS),
    ("test_convnext", 64, {}, PARTS),
    ("mobilenetv2_035", 64, {}, ["blocks.1", "blocks.2", "blocks.4", "blocks.6"]),
    # flat, with something else before or after the blocks
    ("cait_xxs24_224", 32, {"img_size": 32, **NARROW}, DEEP),
    ("xcit_nano_12_p16_224", 32, NARROW, FLAT),
    ("vit_tiny_r_s16_p8_224", 64, {"img_size": 64, **NARROW}, FLAT),
    # blocks that give several tensors, of which the first has other rows than pictures
    ("tnt_s_patch16_224", 32, {"img_size": 32, **TNT}, FLAT),
    # pyramids, some with several stages of one resolution
    (
        "densenet121",
        64,
        {"block_config": (2, 2, 2, 2)},
        [f"features.denseblock{k}" for k in (1, 2, 3)] + ["features.norm5"],
    ),
    ("pvt_v2_b0", 64, {}, PARTS),
    ("mobilenetv3_small_050", 64, {}, ["blocks.0", "blocks.1", "blocks.3", "blocks.5"]),
    ("test_nfnet", 64, {}, ["stages.0", "stages.1", "stages.2", "final_conv"]),
    ("pit_ti_224", 64, {"img_size": 64}, ["transformers.0", "transformers.1", "transformers.2"]),
    ("dla46_c", 64, {}, ["level2", "level3", "level4", "level5"]),
    ("sequencer2d_s", 56, {"img_size": 56, **SEQUENCER}, PARTS),
    # pyramids whose declaration names no module of theirs
    ("coat_tiny", 32, {"img_size": 32, "embed_dims": (16,) * 4}, [f"serial_blocks{k}.1" for k in (1, 2, 3, 4)]),
    ("twins_pcpvt_small", 64, {"img_size": 64, **TWINS}, ["blocks.0.0", "blocks.1.0", "blocks.2.1", "blocks.3.0"]),
    ("mvitv2_tiny", 64, {"img_size": 64}, PARTS),
    # parallel maps: the pyramid before the classifier
    ("hrnet_w18_small", 64, {}, [f"incre_modules.{k}" for k in range(4)]),
    # one name declared for each of two streams
    ("crossvit_9_240", 240, {}, ["blocks.0", "blocks.1", "blocks.2"]),
]


def volo():
    plan = {"outlook_attention": (True, False, False, False), "downsamples": (True, False, False, False)}
    shape = {"embed_dims": (8, 16, 16, 16), "num_heads": (2,) * 4, "mlp_ratio": 2.0, "stem_hidden_dim": 8}
    return VOLO((1, 1, 1, 1), img_size=64, post_layers=("ca",), num_classes=10, **plan, **shape)


OTHERS = {
    "volo": (volo, 64, ["network.0", "network.2", "network.3", "network.4"]),
    "convmixer": (lambda: ConvMixer(12, 24, patch_size=7, num_classes=10), 32, DEEP),
    "torchvision resnet": (vision.resnet18, 64, ["layer1", "layer2", "layer3", "layer4"]),
    "torchvision densenet": (
        lambda: vision.DenseNet(4, (2, 2, 2, 2), 8, num_classes=10), 64,
        [f"features.denseblock{k}" for k in (1, 2, 3, 4)],
    ),
    "torchvision shufflenet": (vision.shufflenet_v2_x0_5, 64, ["stage2", "stage3", "stage4"]),
    "torchvision squeezenet": (vision.squeezenet1_1, 64, ["features.4", "features.7", "features.12"]),
    "torchvision vit": (
        lambda: vision.VisionTransformer(32, 8, 12, 2, 24, 48, num_classes=10), 32,
        [f"encoder.layers.encoder_layer_{k}" for k in (1, 3, 9, 11)],
    ),
    "plain convolutions": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 5), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
            nn.Flatten(), nn.Linear(8, 9), nn.ReLU(), nn.Linear(9, 10),
        ), 32, ["0", "3"],
    ),
    "hidden layers": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(48, 9), nn.ReLU(), nn.Linear(9, 8), nn.ReLU(), nn.Linear(8, 10)),
        4, ["1", "3"],
    ),
}  # fmt: skip


def stages_of(model, size):
    return find_stages(model, examine("a network", model, torch.randn(2, 3, size, size)).layers)


@pytest.mark.parametrize(("name", "size", "keywords", "ends"), FAMILIES, ids=[f[0] for f in FAMILIES])
def test_stages_of_timm_classifiers(name, size, keywords, ends):
    model = timm.create_model(name, pretrained=False, num_classes=10, **keywords)
    stages = stages_of(model, size)
    assert [s.layer.name for s in stages] == ends
    assert [s.number for s in stages] == [1, 2, 3, 4][: len(ends)]
    assert all(s.layer.grid is not None for s in stages)


@pytest.mark.parametrize("name", OTHERS)
def test_stages_of_networks_from_elsewhere(name):
    make, size, ends = OTHERS[name]
    assert [s.layer.name for s in stages_of(make(), size)] == ends


def test_a_dense_stage_is_all_of_it_and_not_its_last_layer():
    widths = [channels(s.layer) for s in stages_of(OTHERS["torchvision densenet"][0](), 64)]
    assert widths == [16, 16, 16, 16]  # 8 and twice 4; the transition halves them


def test_the_same_stages_at_any_size_of_picture():
    model = timm.create_model("test_resnet", num_classes=10)
    assert len({tuple(s.layer.name for s in stages_of(model, size)) for size in (32, 64, 240)}) == 1


class Again(nn.Module):
    """Runs its only block three times."""

    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 10)
        self.blocks = nn.Sequential(nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 1)))

    def forward(self, x):
        x = self.stem(x)
        return self.head(self.blocks(self.blocks(self.blocks(x))).mean((2, 3)))


@pytest.mark.parametrize("make", [Again, lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 10))])
def test_a_network_without_stages_is_refused_with_the_remedy(make):
    with pytest.raises(LayerError, match=r"has no stages: .* distil from its logits alone \(kd, dkd or dist\)"):
        stages_of(make(), 8)


def layer(name, grid, role="block", calls=1, wide=8):
    return Layer(name, "Block", (wide, *grid), "nchw", 0, grid, 0, 0.0, role, calls)


def declared(*entries):
    model = nn.Identity()
    model.feature_info = [{"module": m, "num_chs": c, "reduction": r} for m, c, r in entries]
    return model


def test_a_declared_layer_counts_after_the_stem_run_once_and_with_its_channels():
    sides = {"stem": 32, "a": 16, "b": 8, "twice": 4, "fused": 4, "c": 2}
    roles = {"stem": "stem"}
    layers = [layer(n, (s, s), roles.get(n, "block"), 2 if n == "twice" else 1) for n, s in sides.items()]
    model = declared(("stem", 8, 2), ("a", 8, 4), ("b", 8, 8), ("twice", 8, 16), ("fused", 24, 16), ("c", 8, 32))
    assert [s.layer.name for s in find_stages(model, layers)] == ["a", "b", "c"]


def test_of_more_than_four_the_deepest_and_of_each_resolution_the_last():
    layers = [layer(f"p{k}", (2 ** (6 - k),) * 2) for k in range(6)]
    assert [s.layer.name for s in find_stages(nn.Identity(), layers)] == ["p2", "p3", "p4", "p5"]
    model = declared(*((f"p{k}", 8, (2, 2, 4, 8, 8, 16)[k]) for k in range(6)))
    assert [s.layer.name for s in find_stages(model, layers)] == ["p1", "p2", "p4", "p5"]


def test_a_stream_that_grows_again_is_left_out():
    down, up = [layer(f"d{s}", (s, s)) for s in (16, 8, 4)], [layer(f"u{s}", (s, s)) for s in (8, 16)]
    assert [s.layer.name for s in find_stages(nn.Identity(), down + up)] == ["d16", "d8", "d4"]


STAGES = tuple(Stage(k, layer(f"p{k}", (4, 4))) for k in (1, 2, 3, 4))


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [("all", [1, 2, 3, 4]), ("last", [4]), ("none", []), ("3, 1", [1, 3]), ([4, 2], [2, 4]), ((3,), [3]), ([], [])],
)
def test_stages_are_chosen_by_word_or_number(wanted, numbers):
    assert [s.number for s in choose_stages(STAGES, wanted)] == numbers


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("1,5", "there is no stage 5; there are 1 (p1), 2 (p2), 3 (p3), 4 (p4)"),
        ([0], "there is no stage 0"),
        ("1,1", "a stage is named twice"),
        ("first", "give all, last, none, or numbers as in 1,3; there are 1 (p1)"),
        ("", "give all, last, none, or numbers"),
    ],
)
def test_a_stage_that_does_not_exist_is_refused(wanted, said):
    with pytest.raises(InputError) as refused:
        choose_stages(STAGES, wanted)
    assert said in str(refused.value)
