"""Blocks, stages and layouts of real architectures, and parity with what timm and transformers give out."""

import fnmatch
import functools

import pytest
import timm
import torch

from repalign.encoders.structure import find_layers, select
from repalign.errors import LayerError
from repalign.hooks import record

# model, input size, blocks expected, first, layout and prefix of the blocks
FAMILIES = [
    ("resnet18", 64, 8, "maxpool", "nchw", 0),
    ("resnet50", 64, 16, "maxpool", "nchw", 0),
    ("vit_tiny_patch16_224", 224, 12, "patch_embed", "tokens", 1),
    ("deit_tiny_distilled_patch16_224", 224, 12, "patch_embed", "tokens", 2),
    ("vit_small_patch14_reg4_dinov2", 518, 12, "patch_embed", "tokens", 5),
    ("swin_tiny_patch4_window7_224", 224, 12, "patch_embed", "nhwc", 0),
    ("convnext_tiny", 64, 18, "stem", "nchw", 0),
    ("efficientnet_b0", 64, 16, "bn1", "nchw", 0),
    ("mobilenetv2_100", 64, 17, "bn1", "nchw", 0),
    ("mixer_s32_224", 224, 8, "stem", "tokens", 0),
    ("resmlp_12_224", 224, 12, "stem", "tokens", 0),
    ("regnetx_002", 64, 13, "stem", "nchw", 0),
    ("densenet121", 64, 58, "features.pool0", "nchw", 0),
    ("poolformer_s12", 64, 12, "stem", "nchw", 0),
    ("eva02_tiny_patch14_224", 224, 12, "patch_embed", "tokens", 1),
    ("edgenext_xx_small", 64, 12, "stem", "nchw", 0),
    ("focalnet_tiny_srf", 64, 12, "stem", "nchw", 0),
    ("repvit_m0_9", 64, 20, "stem", "nchw", 0),
]
PYRAMIDS = [
    "resnet18", "resnet50", "convnext_tiny", "efficientnet_b0", "mobilenetv2_100", "swin_tiny_patch4_window7_224",
    "poolformer_s12", "regnetx_002",
]  # fmt: skip


@functools.cache
def dry(name, size):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = timm.create_model(name).eval()
        picture = torch.randn(2, 3, size, size)
    return model, picture, find_layers(model, picture)


@pytest.mark.parametrize(("name", "size", "count", "stem", "layout", "prefix"), FAMILIES)
def test_blocks_are_found_from_structure(name, size, count, stem, layout, prefix):
    layers = dry(name, size)[2]
    blocks = [x for x in layers if x.role == "block"]
    chosen = select(layers, "blocks")
    assert len(blocks) == count
    assert chosen[0].name == stem
    assert chosen[0].role == "stem"
    assert {(b.layout, b.prefix) for b in blocks} == {(layout, prefix)}
    assert [x.depth for x in chosen] == pytest.approx([i / (len(chosen) - 1) for i in range(len(chosen))])
    assert all(0 <= x.depth <= 1 for x in layers)


@pytest.mark.parametrize("name", PYRAMIDS)
def test_stages_are_timms_feature_info_without_the_stem(name):
    model, _, layers = dry(name, next(f[1] for f in FAMILIES if f[0] == name))
    info = [entry["module"] for entry in model.feature_info if entry["reduction"] >= 2]
    stages = [x.name for x in select(layers, "stages")]
    wanted = [m for m in info if any(s == m or s.startswith(m + ".") for s in stages)]
    assert len(wanted) == len(stages)
    blocks = [x.name for x in layers if x.role == "block"]
    for stage, module in zip(stages, wanted, strict=True):
        assert stage == [b for b in blocks if b.startswith(module + ".") or b == module][-1]


@pytest.mark.parametrize(("name", "cut"), [("vit_tiny_patch16_224", (1, 3, 9, 11)), ("mixer_s32_224", (1, 3, 5, 7))])
def test_flat_networks_are_cut_2_2_6_2(name, cut):
    layers = dry(name, 224)[2]
    assert [x.name for x in select(layers, "stages")] == [f"blocks.{i}" for i in cut]


# DenseNet's stages are concatenations of its layers; the large DINOv2 adds nothing to the other ViTs
PARITY = [f[:2] for f in FAMILIES if f[0] not in ("densenet121", "vit_small_patch14_reg4_dinov2")]


@pytest.mark.parametrize(("name", "size"), PARITY)
def test_hooks_equal_timms_forward_intermediates(name, size):
    """Every intermediate timm hands out is the output of one of the layers we choose, number for number."""
    model, picture, layers = dry(name, size)
    stages = select(layers, "stages")
    with torch.inference_mode():
        theirs = model.forward_intermediates(picture, intermediates_only=True, norm=False)
        with record(model, {x.name: torch.clone for x in select(layers, "blocks")}) as recording:
            model(picture)
            ours = recording.take()
    as_images = {n: image(ours[n], next(x for x in layers if x.name == n)) for n in ours}
    matched = [n for t in theirs for n, o in as_images.items() if o.shape == t.shape and torch.equal(o, t)]
    wanted = {x.name for x in stages}
    assert wanted <= set(matched), sorted(wanted - set(matched))


def image(x, layer):
    if layer.layout == "nhwc":
        return x.permute(0, 3, 1, 2)
    if layer.layout == "tokens":
        return x[:, layer.prefix :].transpose(1, 2).unflatten(2, layer.grid)
    return x


@pytest.mark.parametrize("family", ["vit", "dinov2", "swin"])
def test_hooks_equal_transformers_hidden_states(family):
    import transformers as hf

    small = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "image_size": 32, "patch_size": 8}
    config, kind = {
        "vit": (lambda: hf.ViTConfig(**small, intermediate_size=64), hf.ViTModel),
        "dinov2": (lambda: hf.Dinov2Config(**small), hf.Dinov2Model),
        "swin": (
            lambda: hf.SwinConfig(
                image_size=32, patch_size=2, embed_dim=16, depths=[2, 2], num_heads=[2, 4], window_size=4
            ),
            hf.SwinModel,
        ),
    }[family]
    model = kind(config()).eval()
    picture = torch.randn(2, 3, 32, 32)
    layers = find_layers(model, picture)
    chosen = select(layers, "blocks")
    with torch.inference_mode(), record(model, {x.name: torch.clone for x in chosen}) as recording:
        states = model(picture, output_hidden_states=True).hidden_states
        ours = recording.take()
    if family == "swin":  # its states are the stages' outputs, after the patches are merged
        assert torch.equal(ours[chosen[0].name], states[0])
        inside = [x for x in layers if fnmatch.fnmatch(x.name, "*layers.?.downsample")]
        merged = [x.name for x in inside]
        with torch.inference_mode(), record(model, dict.fromkeys(merged, torch.clone)) as recording:
            model(picture)
            ours = recording.take()
        assert torch.equal(ours[merged[0]], states[1])
    else:
        for layer, state in zip(chosen[:-1], states, strict=True):
            assert torch.equal(ours[layer.name], state), layer.name
    assert chosen[-1].role == "norm"


def test_globs_stay_within_a_part_and_double_stars_do_not():
    layers = dry("resnet18", 64)[2]
    assert [x.name for x in select(layers, "layer3.*")] == ["layer3.0", "layer3.1"]
    assert len(select(layers, "layer3.**")) > 10
    assert [x.name for x in select(layers, "layer4.[01], conv1")] == ["conv1", "layer4.0", "layer4.1"]


def test_unknown_globs_and_repeated_layers_are_errors():
    layers = dry("resnet18", 64)[2]
    with pytest.raises(LayerError, match=r"unknown layer or glob 'layer3.7'; did you mean .*layer3.*repalign layers"):
        select(layers, "layer3.7")

    class Shared(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.again = torch.nn.Conv2d(3, 3, 3, padding=1), torch.nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x):
            return self.again(self.again(self.first(x)))

    layers = find_layers(Shared(), torch.randn(2, 3, 8, 8))
    with pytest.raises(LayerError, match="'again' runs 2 times"):
        select(layers, "again")


def test_a_network_without_blocks_is_taken_by_its_weighted_layers():
    layers = dry("vgg11", 64)[2]
    assert sum(x.kind == "Conv2d" for x in select(layers, "blocks")) >= 8


def test_a_non_square_input_keeps_its_grid():
    model = timm.create_model("vit_tiny_patch16_224", img_size=(64, 96)).eval()
    blocks = [x for x in find_layers(model, torch.randn(2, 3, 64, 96)) if x.role == "block"]
    assert {(b.prefix, b.grid) for b in blocks} == {(1, (4, 6))}
    model = timm.create_model("resnet18").eval()
    blocks = [x for x in find_layers(model, torch.randn(2, 3, 64, 96)) if x.role == "block"]
    assert blocks[0].grid == (16, 24)
