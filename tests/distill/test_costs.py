"""Parameters and operations of heads and networks, against what is worked out by hand."""

from dataclasses import FrozenInstanceError
from math import isnan, prod

import pytest
import timm
import torch
from timm_families import CLASSES, FAMILIES
from torch import nn

from repalign.distill.costs import Cost, Share, cost_of, costs_of_heads
from repalign.distill.heads import build_head
from repalign.distill.networks import examine, has_class_token
from repalign.distill.stages import Stage, find_stages
from repalign.types import Layer


def conv(side, a, b, kernel, groups=1, stride=1):
    """Operations of a convolution that gives side × side positions."""
    return 2 * side**2 * (a // groups) * b * kernel**2


def block(tokens, width, ratio=4):
    """Operations of a transformer block."""
    linear = 2 * tokens * width * (3 * width + width + 2 * ratio * width)
    return linear + 2 * 2 * tokens**2 * width


def maps(number, shape):
    return Stage(number, Layer(f"s{number}", "Block", shape, "nchw", 0, shape[1:], 0, 0.0, "block"))


def tokens(number, side, width, prefix):
    shape = (side**2 + prefix, width)
    return Stage(number, Layer(f"s{number}", "Block", shape, "tokens", prefix, (side, side), 0, 0.0, "block"))


@pytest.mark.parametrize(
    ("module", "shape", "parameters", "flops"),
    [
        (nn.Linear(7, 5), (7,), 40, 2 * 7 * 5),
        (nn.Conv2d(4, 6, 3, padding=1, bias=False), (4, 8, 8), 216, conv(8, 4, 6, 3)),
        (nn.Conv2d(4, 8, 3, padding=1, groups=4), (4, 8, 8), 80, conv(8, 4, 8, 3, groups=4)),
        (nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1)), (4, 8, 8), 8, 0),
        (timm.models.vision_transformer.Block(24, 4), (10, 24), 7_152, block(10, 24)),
        (nn.TransformerEncoderLayer(8, 2, 32, batch_first=True), (5, 8), 872, block(5, 8)),
        (nn.LSTM(8, 8, batch_first=True), (5, 8), 576, 2 * 5 * 2 * 8 * 32),
    ],
)
def test_costs_of_layers_by_hand(module, shape, parameters, flops):
    x = torch.randn(3, *shape)
    assert cost_of(module, x) == Cost(parameters, flops)  # of one of the three
    assert cost_of(module.to("meta"), x.to("meta")) == Cost(parameters, flops)


def test_a_resnet_costs_what_is_published():
    found = cost_of(timm.create_model("resnet18"), torch.randn(1, 3, 224, 224))
    assert found.parameters == 11_689_512  # torchvision's table
    assert found.flops / 2e9 == pytest.approx(1.814, abs=0.001)  # and its giga multiply-adds


def test_shared_parameters_count_once():
    one = nn.Linear(6, 6)
    assert cost_of(nn.Sequential(one, one), torch.randn(1, 6)) == Cost(42, 2 * 2 * 36)


def test_a_map_head_costs_what_its_convolutions_do():
    stages = (maps(1, (8, 9, 9)), maps(2, (20, 5, 5)))
    costs = costs_of_heads(stages, 10, 30)
    first = conv(5, 8, 8, 3, 8) + conv(5, 8, 8, 1) + conv(5, 8, 8, 3, 8) + conv(5, 8, 30, 1) + 2 * 30 * 10
    assert costs == {
        1: Cost(72 + 64 + 16 + 72 + 240 + 60 + 310, first),
        2: Cost(20 * 30 + 30 + 310, conv(5, 20, 30, 1) + 2 * 30 * 10),
    }


def test_a_token_head_costs_what_merging_blocks_and_classifier_do():
    stages = (tokens(1, 6, 8, 1), tokens(2, 3, 16, 1))
    costs = costs_of_heads(stages, 10, 0, class_token=True)
    merging, prefix, classes = 2 * 9 * 32 * 16, 2 * 8 * 16, 2 * 16 * 10
    assert costs[1].flops == merging + prefix + block(10, 16) + classes
    assert costs[2].flops == block(10, 16) + classes
    assert costs_of_heads(stages, 10, 0)[1] == costs[1]  # the mean costs no multiplications


@pytest.mark.parametrize("family", ["resnet", "swin", "levit", "vit with a class token and registers"])
def test_heads_on_no_device_cost_what_built_ones_do(family):
    student, x = FAMILIES[family](64), torch.randn(2, 3, 64, 64)
    seen = examine(family, student, x)
    stages, token = find_stages(student, seen.layers), has_class_token(student)
    random = torch.get_rng_state()
    costs = costs_of_heads(stages, CLASSES, seen.width, token)
    assert torch.equal(torch.get_rng_state(), random)
    assert list(costs) == [s.number for s in stages]
    for stage in stages:
        head = build_head(stage, stages, CLASSES, seen.width, token)
        assert costs[stage.number] == cost_of(head, torch.randn(2, *stage.layer.shape))
        assert costs[stage.number].parameters == sum(prod(p.shape) for p in head.parameters())


def test_counting_changes_nothing_and_is_undone_after_an_error():
    class Breaks(nn.Module):
        def forward(self, x):
            raise ZeroDivisionError

    def settings():
        backends = torch.backends
        return backends.mkldnn.enabled, backends.cudnn.enabled, backends.mha.get_fastpath_enabled()

    before = settings()
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)).train()
    state, random = {k: v.clone() for k, v in net.state_dict().items()}, torch.get_rng_state()
    cost_of(net, torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
    assert all(m.training for m in net.modules())
    assert all(p.grad is None for p in net.parameters())
    with pytest.raises(ZeroDivisionError):
        cost_of(nn.Sequential(net, Breaks()), torch.randn(2, 3, 8, 8))
    assert settings() == before
    assert all(m.training for m in net.modules())
    assert not nn.modules.module._global_forward_hooks
    assert not nn.modules.module._global_forward_pre_hooks


def test_a_parameter_that_is_passed_on_as_a_token_is_no_hindrance():
    assert cost_of(FAMILIES["cait"](32), torch.randn(1, 3, 32, 32)).flops > 0


def test_shares_are_fractions_of_the_student():
    assert Cost(50, 300).share_of(Cost(200, 100)) == Share(0.25, 3.0)
    nothing = Cost(50, 300).share_of(Cost(0, 0))
    assert isnan(nothing.parameters)
    assert isnan(nothing.flops)
    with pytest.raises(FrozenInstanceError):
        nothing.flops = 1.0
