from dataclasses import replace
from functools import partial
from itertools import pairwise

import pytest
import torch
from torch import nn

from repalign.encoders.structure import find_layers, select
from repalign.errors import InputError, LayerError, RepalignWarning
from repalign.forward import DoesNotFitError, runner
from repalign.pooling import parse_pool, reducer
from repalign.types import Encoder

CPU = torch.device("cpu")
MEAN = parse_pool("mean")


class Small(nn.Module):
    """Fits at most `most` pictures, counts the passes that reach its head, and is silent on `broken`."""

    def __init__(self, convolutions=3, most=10**6):
        super().__init__()
        sizes = [3, 8, 8, 8][: convolutions + 1]
        parts = pairwise(sizes)
        self.body = nn.Sequential(*(nn.Sequential(nn.Conv2d(a, b, 3, 2, 1), nn.ReLU(inplace=True)) for a, b in parts))
        self.head = nn.Linear(8, 5)
        self.most, self.ended, self.sizes = most, 0, []
        self.message = "CUDA out of memory. Tried to allocate 2 GiB"

    def forward(self, x):
        self.sizes.append(len(x))
        x = self.body[0](x)
        if len(x) > self.most:
            raise RuntimeError(self.message)
        x = self.body[1:](x)
        x = self.head(x.mean((2, 3)))
        self.ended += 1
        return x


def encoder(**options):
    torch.manual_seed(0)
    module = Small(**options).eval().requires_grad_(False)
    layers = find_layers(module, torch.rand(2, 3, 16, 16))
    module.ended, module.sizes = 0, []
    return Encoder("small", "test", module, lambda _: torch.zeros(3, 16, 16), layers, (16, 16), "0")


def pixels(n=7):
    return torch.rand(n, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def wanted(of, *choices, pool=MEAN):
    return [(select(of.layers, choice), pool) for choice in choices]


def hooks_of(module):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules())


def test_each_set_gets_its_layers_and_pools_from_one_pass():
    net, x = encoder(), pixels()
    with runner(net, [*wanted(net, "body.0"), *wanted(net, "body.*", pool=parse_pool("flatten"))], CPU) as one:
        first, second = one.run(x)
    expected = net.module.body[0](x)
    assert list(first) == ["body.0"]
    assert list(second) == ["body.0", "body.1", "body.2"]
    assert torch.allclose(first["body.0"], expected.mean((2, 3)), atol=1e-6)
    assert torch.allclose(second["body.0"], expected.flatten(1), atol=1e-6)
    assert all(rows.dtype == torch.float32 for found in (first, second) for rows in found.values())
    assert (net.module.sizes, hooks_of(net.module)) == ([7], 0)


def test_nothing_after_the_last_layer_is_computed():
    net = encoder()
    late = []
    net.module.body[2].register_forward_pre_hook(lambda *_: late.append(1))
    with runner(net, wanted(net, "body.1", "body.0"), CPU) as one:
        one.run(pixels())
        one.run(pixels())
    assert (late, net.module.ended, len(net.module.sizes)) == ([], 0, 2)
    with runner(net, wanted(net, "head"), CPU) as one:
        rows = one.run(pixels())[0]["head"]
    assert torch.allclose(rows, net.module(pixels()), atol=1e-6)


def test_a_layer_that_runs_again_is_noticed_although_passes_can_stop():
    net = encoder()
    again = replace(net, layers=tuple(replace(x, calls=2) for x in net.layers))
    with runner(again, [((again.layers[0],), MEAN)], CPU) as one:
        one.run(pixels())
    assert net.module.ended == 1


def test_an_error_of_the_network_is_its_own_and_the_next_batch_runs():
    net = encoder(most=4)
    net.module.message = "no such thing"
    with runner(net, wanted(net, "body.*"), CPU) as one:
        with pytest.raises(RuntimeError, match="no such thing"):
            one.run(pixels(5))
        assert len(one.run(pixels(4))[0]["body.2"]) == 4
    assert hooks_of(net.module) == 0


def test_a_batch_that_does_not_fit_is_halved_for_good_and_keeps_its_order():
    net = encoder(most=3)
    with runner(replace(net, module=encoder().module), wanted(net, "body.*"), CPU) as one:
        (whole,) = one.run(pixels(13))
    with runner(net, wanted(net, "body.*"), CPU) as one:
        with pytest.warns(RepalignWarning) as said:
            (found,) = one.run(pixels(13))
        assert [str(w.message) for w in said] == [
            "small: batch 13 does not fit into the memory of cpu; going on with 6",
            "small: batch 6 does not fit into the memory of cpu; going on with 3",
        ]
        (later,) = one.run(pixels(13))
    for name, rows in whole.items():
        assert torch.allclose(found[name], rows, atol=1e-6)
        assert torch.equal(later[name], found[name])
    assert net.module.sizes == [13, 6, 3, 3, 3, 3, 1, 3, 3, 3, 3, 1]


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("gone"), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")]
)
def test_every_way_to_say_that_memory_ran_out(error):
    net = encoder()

    def refuse(_module, inputs):
        if len(inputs[0]) > 4:
            raise error

    net.module.register_forward_pre_hook(refuse)
    with runner(net, wanted(net, "body.*"), CPU) as one, pytest.warns(RepalignWarning, match="going on with 4"):
        assert len(one.run(pixels(8))[0]["body.0"]) == 8


def test_one_picture_that_does_not_fit_is_an_error_that_names_the_pool():
    net = encoder()
    net.module.most = 0
    with (
        runner(net, wanted(net, "body.*", pool=parse_pool("flatten")), CPU) as one,
        pytest.warns(RepalignWarning),
        pytest.raises(DoesNotFitError, match=r"not even one .* by flatten .* --pool"),
    ):
        one.run(pixels(2))


def test_batches_come_back_in_order():
    net, x = encoder(), pixels(10)
    with runner(net, wanted(net, "body.*"), CPU) as one:
        found = [outputs[0]["body.2"] for outputs in [one.run(part) for part in x.split(4)]]
        assert torch.allclose(torch.cat(found), one.run(x)[0]["body.2"], atol=1e-6)
    assert [len(rows) for rows in found] == [4, 4, 2]


@pytest.mark.parametrize("pool", ["mean", "max", "grid:2", "flatten", "flatten:8"])
def test_bf16_rounds_the_network_but_not_what_is_made_of_its_outputs(pool):
    net = encoder()
    seen = {}
    net.module.body[1].register_forward_hook(lambda _m, _i, output: seen.update(out=output.clone()))
    chosen = wanted(net, "body.1", pool=parse_pool(pool))
    rows = {}
    for precision in ("bf16", "fp32"):
        with runner(net, chosen, CPU, precision) as one:
            rows[precision] = one.run(pixels())[0]["body.1"]
        if precision == "bf16":
            assert seen["out"].dtype == torch.bfloat16
            assert torch.equal(rows["bf16"], reducer(chosen[0][0][0], parse_pool(pool))(seen["out"].float()))
    assert rows["bf16"].dtype == torch.float32
    assert torch.allclose(rows["bf16"], rows["fp32"], atol=0.05)
    assert not torch.equal(rows["bf16"], rows["fp32"])
    assert next(net.module.parameters()).dtype == torch.float32
    assert not torch.is_autocast_enabled("cpu")


def test_convolutions_run_channels_last_and_a_patch_embedding_does_not():
    for convolutions, last in ((3, True), (1, False)):
        net = encoder(convolutions=convolutions)
        formats = []
        net.module.register_forward_pre_hook(
            lambda _m, x, formats=formats: formats.append(x[0].is_contiguous(memory_format=torch.channels_last))
        )
        with runner(net, wanted(net, "body.0"), CPU) as one:
            one.run(pixels())
        assert formats == [last]


def test_compiled_networks_report_as_plain_ones_do(monkeypatch):
    net, x = encoder(), pixels(10)
    sizes = []

    def compiler(graph, _inputs):
        def run(*inputs):
            sizes.append(len(inputs))
            return graph(*inputs)

        return run

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=compiler))
    with runner(net, wanted(net, "body.*"), CPU) as one:
        plain = [begun.rows() for begun in [one.begin(part) for part in x.split(4)]]
    with runner(net, wanted(net, "body.*"), CPU, compiled=True) as one:
        found = [begun.rows() for begun in [one.begin(part) for part in x.split(4)]]
    for [first], [second] in zip(plain, found, strict=True):
        assert all(torch.allclose(first[name], second[name], atol=1e-6) for name in first)
    assert sizes, "the compiled graph never ran"
    assert hooks_of(net.module) == 0


def test_without_a_compiler_there_is_one_clear_error(monkeypatch):
    def no_compiler(_graph, _inputs):
        raise RuntimeError("no working C++ compiler")

    net = encoder()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=no_compiler))
    with (
        runner(net, wanted(net, "body.*"), CPU, compiled=True) as one,
        pytest.raises(
            InputError, match=r"small can't be compiled here .*no working C\+\+ compiler.*leave out --compile"
        ),
    ):
        one.run(pixels())


def test_a_network_that_holds_a_compiled_part_runs_whole():
    net = encoder()
    net.module.body[2].compile(backend="eager")
    with runner(net, wanted(net, "body.0"), CPU) as one:
        one.run(pixels())
    assert net.module.ended == 1


def test_unknown_precision_and_layers():
    net = encoder()
    with pytest.raises(InputError, match="unknown precision 'fp16'"), runner(net, wanted(net, "body.*"), CPU, "fp16"):
        pass
    chosen = wanted(net, "body.*", pool=parse_pool("flatten:4"))
    with pytest.raises(InputError, match="flatten:k can't be compiled"), runner(net, chosen, CPU, compiled=True):
        pass
    gone = replace(net.layers[0], name="nowhere")
    with pytest.raises(LayerError, match="no layer 'nowhere'"), runner(net, [((gone,), MEAN)], CPU):
        pass
    assert hooks_of(net.module) == 0
