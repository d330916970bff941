"""The branches of OFA-KD: their shapes for many families and sizes, and what each part does."""

from itertools import pairwise
from math import ceil

import numpy as np
import pytest
import torch
from timm_families import CLASSES, FAMILIES
from torch import nn

from repalign.distill.heads import MapHead, PatchMerging, SeparableConv, TokenHead, build_head
from repalign.distill.networks import examine, has_class_token, run
from repalign.distill.stages import Stage, find_stages
from repalign.types import Layer

TEACHER_WIDTH = 40


def hooks_of(module):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules())


def stage(number, shape, layout="nchw", prefix=0, grid=None):
    return Stage(number, Layer(f"stage{number}", "Block", shape, layout, prefix, grid, 0, 0.0, "block"))


def maps(*shapes):
    return tuple(stage(i + 1, shape, "nchw", 0, shape[1:]) for i, shape in enumerate(shapes))


def tokens(*grids, widths=(8, 16, 32, 64), prefix=0):
    """Token stages with these grids, (side, side) each."""
    return tuple(
        stage(i + 1, (side**2 + prefix, width), "tokens", prefix, (side, side))
        for i, (side, width) in enumerate(zip(grids, widths, strict=False))
    )


def finite(parameters):
    return all(p.grad is not None and bool(p.grad.isfinite().all()) for p in parameters)


@pytest.mark.parametrize("size", [32, 64, 224, 240])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_stage_of_every_family_gets_a_head_that_learns(family, size):
    torch.manual_seed(0)
    student, x = FAMILIES[family](size).train(), torch.randn(2, 3, size, size, requires_grad=True)
    before = hooks_of(student)
    seen = examine(family, student, x.detach())
    stages = find_stages(student, seen.layers)
    width, token = max(seen.width or 0, TEACHER_WIDTH), has_class_token(student)
    heads = [build_head(s, stages, CLASSES, width, token).train() for s in stages]
    _, outputs, _ = run(student, x, [s.layer.name for s in stages])
    logits = [head(outputs[s.layer.name]) for head, s in zip(heads, stages, strict=True)]
    torch.stack([torch.logsumexp(each, 1).sum() for each in logits]).sum().backward()

    assert [s.number for s in stages] == [1, 2, 3, 4][: len(stages)]
    assert len(stages) == (3 if family in ("levit", "maxvit") else 4)
    assert [tuple(each.shape) for each in logits] == [(2, CLASSES)] * len(stages)
    assert all(finite(head.parameters()) for head in heads)
    assert finite([x, *(p for p in student.parameters() if p.grad is not None)])
    assert x.grad.abs().sum() > 0
    assert hooks_of(student) == before


@pytest.mark.parametrize(("channels", "later", "width"), [(8, 3, 100), (16, 2, 100), (24, 1, 24), (32, 0, 100)])
def test_a_map_head_has_one_separable_block_for_each_later_stage(channels, later, width):
    every = maps((8, 16, 16), (16, 8, 8), (24, 4, 4), (32, 2, 2))
    head = build_head(every[3 - later], every, 5, max(width, 40))
    assert isinstance(head, MapHead)
    widths = [channels * 2**i for i in range(later)] + [max(width, 40)]
    expected = sum(9 * a + a * a + 2 * a + 9 * a + a * b + 2 * b for a, b in pairwise(widths))
    expected += 0 if later else channels * widths[-1] + widths[-1]
    expected += widths[-1] * 5 + 5
    assert sum(p.numel() for p in head.parameters()) == expected
    assert sum(isinstance(m, SeparableConv) for m in head) == later
    assert isinstance(head[0], SeparableConv if later else nn.Conv2d)
    assert head(torch.randn(2, channels, 17, 13)).shape == (2, 5)


def test_the_last_width_is_the_widest_of_student_teacher_and_last_stage():
    every = maps((8, 8, 8), (64, 4, 4))
    for number, width in ((0, 10), (1, 10), (0, 64)):  # a student without a linear classifier may give no width
        assert build_head(every[number], every, 5, width)[-1].in_features == 64
    assert build_head(every[0], every, 5, 100)[-1].in_features == 100


def test_a_separable_block_halves_odd_sides_upwards():
    assert SeparableConv(3, 6)(torch.randn(2, 3, 15, 7)).shape == (2, 6, 8, 4)


@pytest.mark.parametrize(
    ("grids", "merges"),
    [
        ((14, 14, 14, 14), [1, 1, 1, 1]),  # DeiT at 224 pixels
        ((15, 15, 15, 15), [1, 1, 1, 1]),  # at 240
        ((37, 37, 37, 37), [2, 2, 2, 2]),  # DINOv2 at 518
        ((7, 7, 7, 7), [0, 0, 0, 0]),
        ((2, 2, 2, 2), [0, 0, 0, 0]),
        ((56, 28, 14, 7), [3, 2, 1, 0]),  # Swin
        ((60, 30, 15, 8), [3, 2, 1, 0]),
        ((63, 32, 16, 16), [2, 1, 0, 0]),
        ((14, 7, 4), [2, 1, 0]),  # LeViT
        ((8, 4, 2, 1), [3, 2, 1, 0]),
        ((64, 32, 28), [1, 0, 0]),  # a final grid above 7 that is a pyramid's is kept
    ],
)
def test_tokens_are_merged_down_to_the_final_grid(grids, merges):
    every = tokens(*grids)
    heads = [build_head(s, every, 5, TEACHER_WIDTH) for s in every]
    assert [len(head.merges) for head in heads] == merges
    assert [len(head.blocks) for head in heads] == [max(len(grids) - k, 1) for k in range(1, len(grids) + 1)]
    for head, s in zip(heads, every, strict=True):
        seen = []
        head.blocks[0].register_forward_hook(lambda _module, given, _output, seen=seen: seen.append(given[0].shape[1:]))
        assert head(torch.randn(2, *s.layer.shape)).shape == (2, 5)
        side = s.layer.grid[0]
        for _ in head.merges:
            side = ceil(side / 2)
        assert seen == [(side**2, every[-1].layer.shape[1])]


@pytest.mark.parametrize("prefix", [0, 1, 2, 5])
@pytest.mark.parametrize("width", [12, 13, 18])
def test_prefix_tokens_pass_beside_the_merging_at_any_width(prefix, width):
    every = tokens(15, 8, widths=(7, width), prefix=prefix)
    head = build_head(every[0], every, 5, TEACHER_WIDTH, class_token=True)
    assert head.class_token == (prefix > 0)
    assert head.blocks[0].attn.num_heads == {12: 4, 13: 1, 18: 2}[width]
    assert head(torch.randn(3, 15**2 + prefix, 7)).shape == (3, 5)


@pytest.mark.parametrize("class_token", [True, False])
def test_the_class_token_or_else_the_mean_of_the_patches_is_classified(class_token):
    every = tokens(4, 4, widths=(8, 8), prefix=2)
    head = build_head(every[0], every, 5, TEACHER_WIDTH, class_token).eval()
    head.blocks = nn.Sequential()  # so that tokens don't mix
    x = torch.randn(2, 18, 8)
    plain = nn.functional.layer_norm(x, (8,))
    read = plain[:, 0] if class_token else plain[:, 2:].mean(1)
    torch.testing.assert_close(head(x), read @ head.classify.weight.T + head.classify.bias)


def test_registers_alone_are_no_class_token():
    x = torch.randn(2, 3, 32, 32)
    tokens = {name: has_class_token(FAMILIES[name](32)) for name in FAMILIES if name.startswith("vit")}
    assert tokens == {
        "vit": True,
        "vit of odd width": True,
        "vit with registers alone": False,
        "vit with a class token and registers": True,
        "vit without prefix": False,
    }
    seen = examine("vit", FAMILIES["vit with a class token and registers"](32), x)
    assert {(s.layer.prefix, s.layer.grid) for s in find_stages(nn.Identity(), seen.layers)} == {(5, (2, 2))}


def test_merging_joins_four_neighbours_and_pads_odd_sides_with_zeros():
    torch.manual_seed(0)
    merging = PatchMerging(3, 5).double()
    x = torch.randn(2, 5, 3, 3, dtype=torch.float64)
    padded, weight = np.zeros((2, 6, 4, 3)), merging.reduction.weight.detach().numpy()
    padded[:, :5, :3] = x.numpy()
    expected = np.zeros((2, 3, 2, 5))
    for n, i, j in np.ndindex(2, 3, 2):
        four = np.concatenate([padded[n, 2 * i + a, 2 * j + b] for b in (0, 1) for a in (0, 1)])
        expected[n, i, j] = weight @ ((four - four.mean()) / np.sqrt(four.var() + 1e-5))
    np.testing.assert_allclose(merging(x).detach().numpy(), expected, atol=1e-12)


def test_maps_with_channels_last_pass_as_tokens_do():
    every = tuple(stage(i + 1, (s, s, c), "nhwc", 0, (s, s)) for i, (s, c) in enumerate([(6, 8), (3, 16)]))
    head = build_head(every[0], every, 5, TEACHER_WIDTH)
    assert isinstance(head, TokenHead)
    x = torch.randn(2, 6, 6, 8)
    torch.testing.assert_close(head(x), head(x.flatten(1, 2)))


def test_a_stage_of_maps_before_one_of_tokens_ends_at_the_tokens_width():
    every = (stage(1, (8, 14, 14), "nchw", 0, (14, 14)), stage(2, (49, 24), "tokens", 0, (7, 7)))
    first, last = (build_head(s, every, 5, 10) for s in every)
    assert first[-1].in_features == 24
    assert last(torch.randn(2, 49, 24)).shape == first(torch.randn(2, 8, 14, 14)).shape == (2, 5)
    turned = (stage(1, (196, 8), "tokens", 0, (14, 14)), stage(2, (24, 7, 7), "nchw", 0, (7, 7)))
    head = build_head(turned[0], turned, 5, 10)
    assert (len(head.merges), head.classify.in_features) == (1, 24)


def test_tokens_on_no_grid_and_vectors_get_heads_too():
    free = (stage(1, (13, 8), "tokens"), stage(2, (13, 8), "tokens"))
    assert [build_head(s, free, 5, 10)(torch.randn(2, 13, 8)).shape for s in free] == [(2, 5)] * 2
    assert build_head(free[0], free, 5, 10)(torch.randn(2, 4, 8)).shape == (2, 5)  # their number may change
    assert build_head(stage(1, (9,), "vector"), (stage(1, (9,), "vector"),), 5, 10)(torch.randn(2, 9)).shape == (2, 5)
