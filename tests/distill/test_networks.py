"""What a dry run shows of a classifier and leaves behind, and what a pass records."""

import pytest
import timm
import torch
from torch import nn
from torchvision import models as vision

from repalign.distill.networks import Anatomy, examine, frozen, has_class_token, logits_of, run
from repalign.errors import InputError, LayerError
from repalign.hooks import first_tensor, record, trace

PICTURES = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def hooks_of(module):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules())


class Net(nn.Module):
    """Batch norm with an in-place ReLU after it, dropout, and what `end` makes of the pooled features."""

    def __init__(self, end=None):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.act = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True)
        self.drop, self.end = nn.Dropout(0.5), end or nn.Linear(6, 5)

    def forward(self, x):
        return self.end(self.drop(self.act(self.norm(self.conv(x))).mean((2, 3))))


class Raises(Net):
    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def forward(self, x):
        super().forward(x)
        raise self.kind("no room for these")


def distilled(**keywords):
    return timm.create_model(
        "deit_tiny_distilled_patch16_224", img_size=32, embed_dim=12, depth=2, num_heads=2, num_classes=5, **keywords
    )


def test_examine_counts_classes_and_finds_the_classifier():
    seen = examine("a net", Net(), PICTURES)
    assert isinstance(seen, Anatomy)
    assert (seen.classes, seen.classifier, seen.width) == (5, "end", 6)
    assert [layer.name for layer in seen.layers] == ["conv", "norm", "act", "drop", "end"]


def test_examine_leaves_mode_statistics_gradients_and_random_state():
    net = Net().train()
    net.norm.eval()
    state, random = {k: v.clone() for k, v in net.state_dict().items()}, torch.get_rng_state()
    examine("a net", net, PICTURES)
    assert (net.training, net.norm.training, net.drop.training) == (True, False, True)
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert all(p.grad is None for p in net.parameters())
    assert hooks_of(net) == 0


def test_frozen_restores_modes_after_an_error_and_tells_networks_that_cache():
    class Remembers(Net):
        kept = None

        def train(self, mode=True):
            self.kept = None if mode else self.kept
            return super().train(mode)

        def forward(self, x):
            if not self.training:
                self.kept = self.norm.bias.detach().clone()
            return super().forward(x)

    net = Remembers().train()

    def fail():
        with frozen(net):
            net(PICTURES)
            assert not net.norm.training
            assert not torch.is_grad_enabled()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert net.training
    assert net.norm.training
    assert net.kept is None  # what was computed ahead for eval is not kept through training
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("kind", [RuntimeError, TypeError, AssertionError, IndexError, KeyError, AttributeError])
def test_a_network_that_cannot_run_the_pictures_is_refused_by_name(kind):
    net = Raises(kind).train()
    with pytest.raises(InputError) as refused:
        examine("the student", net, PICTURES, "give smaller ones")
    said = str(refused.value)
    assert said.startswith("the student can't run pictures of shape (3, 8, 8) (")
    assert "no room for these" in said
    assert said.endswith("; give smaller ones")
    assert net.training
    assert hooks_of(net) == 0


@pytest.mark.parametrize(
    ("end", "got"),
    [
        (nn.Unflatten(1, (2, 3)), r"shape \(4, 2, 3\)"),
        (nn.Flatten(0), r"shape \(24,\)"),
        (nn.Sequential(nn.Unflatten(0, (2, 2)), nn.Flatten(1)), r"shape \(2, 12\)"),
    ],
)
def test_a_network_that_gives_no_logits_is_refused(end, got):
    with pytest.raises(InputError, match=f"a net gives {got}, not logits"):
        examine("a net", Net(end), PICTURES)


def test_hooks_are_gone_after_errors_in_the_middle_of_a_pass():
    net = Net(nn.Linear(7, 5))
    with pytest.raises(RuntimeError):
        run(net, PICTURES, ["norm", "end"], "end")
    assert hooks_of(net) == 0
    with pytest.raises(LayerError, match="there is no layer 'nowhere'"):
        run(net, PICTURES, ["norm", "nowhere"])
    with pytest.raises(RuntimeError):
        trace(net, PICTURES)
    assert hooks_of(net) == 0


@pytest.mark.parametrize("mode", [True, False])
def test_a_layer_before_an_in_place_relu_is_recorded_as_it_was(mode):
    net = Net().train(mode)
    net.drop.eval()
    logits, outputs, penultimate = run(net, PICTURES, ["norm", "act"], "end")
    expected = nn.functional.batch_norm(
        net.conv(PICTURES), net.norm.running_mean, net.norm.running_var, None, None, training=mode
    )
    torch.testing.assert_close(outputs["norm"], expected)
    assert (outputs["norm"] < 0).any()
    torch.testing.assert_close(outputs["act"], expected.relu())
    torch.testing.assert_close(penultimate, expected.relu().mean((2, 3)))
    torch.testing.assert_close(logits, net.end(penultimate))


def test_gradients_flow_through_all_that_is_recorded():
    for part in range(3):
        net = Net().train()
        logits, outputs, penultimate = run(net, PICTURES, ["norm"], "end")
        [logits, outputs["norm"], penultimate][part].square().sum().backward()
        assert net.conv.weight.grad.abs().sum() > 0
        assert (net.end.weight.grad is None) == (part > 0)


def test_the_gradient_of_a_recorded_layer_is_that_of_autograd():
    net, x = Net().double().eval(), PICTURES.double()
    run(net, x, ["norm"])[1]["norm"].pow(3).sum().backward()
    found = net.conv.weight.grad.clone()
    net.zero_grad()
    net.norm(net.conv(x)).pow(3).sum().backward()
    torch.testing.assert_close(found, net.conv.weight.grad)


def test_a_convolution_of_one_position_is_a_classifier_and_one_of_a_map_is_not():
    single = Net(nn.Sequential(nn.Unflatten(1, (6, 1, 1)), nn.Conv2d(6, 5, 1), nn.Flatten()))
    seen = examine("a net", single, PICTURES)
    assert (seen.classifier, seen.width) == ("end.1", 6)
    logits, _, penultimate = run(single.eval(), PICTURES, (), "end.1")
    torch.testing.assert_close(logits, penultimate @ single.end[1].weight.flatten(1).T + single.end[1].bias)

    of_map = nn.Sequential(nn.Conv2d(3, 5, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    seen = examine("a net", of_map, PICTURES)
    assert (seen.classes, seen.classifier, seen.width) == (5, None, None)
    assert run(of_map, PICTURES, (), None)[2] is None


def test_squeezenet_has_no_classifier_and_dla_has_one():
    squeeze = examine("s", vision.squeezenet1_1(num_classes=5), torch.randn(2, 3, 64, 64))
    assert (squeeze.classes, squeeze.classifier, squeeze.width) == (5, None, None)
    net = timm.create_model("dla46_c", num_classes=5)
    seen = examine("d", net, torch.randn(2, 3, 64, 64))
    assert (seen.classifier, seen.width) == ("fc", 256)
    assert run(net, torch.randn(2, 3, 64, 64), (), "fc")[2].shape == (2, 256)


def test_the_classifier_is_the_layer_that_gives_the_logits_where_others_are_as_wide():
    class Aside(Net):
        """Has another linear layer of five outputs that runs last."""

        def __init__(self):
            super().__init__()
            self.last = nn.Linear(6, 5)

        def forward(self, x):
            pooled = self.act(self.norm(self.conv(x))).mean((2, 3))
            logits = self.end(pooled)
            return logits, self.last(pooled)

    assert examine("a net", Aside(), PICTURES).classifier == "end"
    assert examine("a net", Net(nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 5))), PICTURES).classifier == "end.1"
    scaled = nn.Sequential(nn.Linear(6, 5), nn.LogSoftmax(1))
    assert examine("a net", Net(scaled), PICTURES).classifier == "end.0"


def test_a_distilled_deit_gives_the_mean_of_two_heads_or_both():
    net, x = distilled(), torch.randn(2, 3, 32, 32)
    seen = examine("deit", net, x)
    assert (seen.classes, seen.classifier, seen.width) == (5, "head_dist", 12)
    net.eval()
    logits, _, penultimate = run(net, x, (), "head_dist")
    net.set_distilled_training(True)
    net.train()
    logits_while_training, outputs, _ = run(net, x, ["blocks.1", "head"], "head_dist")
    torch.testing.assert_close(logits_while_training, outputs["head"])  # the class token's, the first of two
    both = net(x)
    assert isinstance(both, tuple)
    torch.testing.assert_close(logits, (both[0] + both[1]) / 2)
    torch.testing.assert_close(both[1], net.head_dist(penultimate))


def test_logits_of_a_transformers_classifier():
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=12, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, image_size=8, patch_size=4,
        num_labels=5,
    )  # fmt: skip
    net = ViTForImageClassification(config).train()
    seen = examine("vit", net, PICTURES)
    assert (seen.classes, seen.classifier, seen.width) == (5, "classifier", 12)
    net.eval()
    logits, _, penultimate = run(net, PICTURES, (), "classifier")
    assert torch.equal(logits, net(PICTURES).logits)
    torch.testing.assert_close(logits, net.classifier(penultimate))
    assert has_class_token(net)


def test_logits_of_tuples_and_of_nothing():
    a, b = torch.zeros(2, 3), torch.ones(2, 3)
    assert logits_of((a, b)) is a
    assert logits_of({"out": b, "aux": a}) is b
    assert logits_of("none") is None


def test_class_tokens_are_declared_or_named():
    assert has_class_token(distilled())
    assert has_class_token(vision.VisionTransformer(32, 16, 1, 2, 12, 24))  # class_token
    assert not has_class_token(timm.create_model("test_convnext"))  # though it has a classifier
    gap = {"class_token": False, "num_reg_tokens": 2, "global_pool": "avg"}
    small = {"img_size": 28, "embed_dim": 24, "depth": 1, "num_heads": 2}
    assert not has_class_token(timm.create_model("eva02_tiny_patch14_224", **small, **gap))  # registers, undeclared


class Several(nn.Module):
    """Gives parts of pictures first and pictures second, as TNT's blocks do."""

    def forward(self, x):
        return x.repeat(2, 1), x + 1


def test_of_several_tensors_the_one_with_a_row_for_each_picture_is_taken():
    parts, pictures = torch.zeros(6, 2), torch.zeros(3, 2)
    assert first_tensor((parts, [pictures]), 3) is pictures
    assert first_tensor((parts, torch.tensor(3.0)), 4) is parts
    assert first_tensor((parts, pictures)) is parts
    net = nn.Sequential(Several(), nn.Identity())
    x = torch.randn(3, 2)
    assert [call.shape for call in trace(net, x)] == [(3, 2), (3, 2)]
    with record(net, {"0": torch.clone}) as recording:
        net(x)
        assert torch.equal(recording.take()["0"], x + 1)
    assert hooks_of(net) == 0
