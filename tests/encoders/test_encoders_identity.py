"""An encoder's identity: another one for whatever changes its features, the same in every process."""

import os
import subprocess
import sys
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional

from repalign.cache import key_of
from repalign.encoders import identity as module_under_test
from repalign.encoders import load_encoder
from repalign.encoders.finish import finish, seeded
from repalign.encoders.identity import identity, installed
from repalign.encoders.settings import code_of
from repalign.encoders.spec import Spec
from repalign.forward import runner
from repalign.pooling import parse_pool


def preprocess(picture, mean=0.5, size=16):
    from torchvision.transforms.functional import pil_to_tensor, resize

    return resize(pil_to_tensor(picture), [size, size]).float() / 255 - mean


class Net(nn.Module):
    """Two convolutions; what stands between them, and with what numbers, is not in the weights."""

    def __init__(self, activation=functional.relu, heads=2, between=None, table=0.0):
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)
        self.activation, self.heads, self.between = activation, heads, between or nn.ReLU()
        self.options = {"scale": 1.0}
        self.register_buffer("table", torch.full((2,), table), persistent=False)

    def forward(self, x):
        return self.two(self.between(self.activation(self.one(x))))


def encoder(see=preprocess, **options):
    with seeded():
        module = Net(**options)
    return finish(Spec("net", "python", "net"), module, see, source="python:net")


@pytest.fixture(scope="module")
def plain():
    return identity(encoder())


def test_the_same_encoder_twice_has_one_identity(plain):
    assert identity(encoder()) == plain
    assert identity(replace(encoder(), name="another", notes=("a note",))) == plain


@pytest.mark.parametrize(
    "options",
    [
        {"activation": functional.gelu},
        {"activation": partial(functional.leaky_relu, negative_slope=0.2)},
        {"activation": lambda x: 2 * x},
        {"heads": 4},
        {"between": nn.GELU()},
        {"table": 1.0},
        {"see": partial(preprocess, mean=0.25)},
    ],
    ids=lambda options: next(iter(options)),
)
def test_the_same_weights_otherwise_used_have_another_identity(options, plain):
    changed = encoder(**options)
    assert changed.fingerprint == encoder().fingerprint
    assert identity(changed) != plain


def test_functions_written_in_one_place_are_told_apart_by_their_code_and_what_they_hold():
    def scaled(by):
        return lambda x: by * x

    first, second, third = (identity(encoder(activation=f)) for f in (scaled(2), scaled(3), lambda x: x / 2))
    assert len({first, second, third}) == 3
    assert identity(encoder(activation=scaled(2))) == first


def test_weights_count_also_when_they_change_after_loading(plain):
    trained = encoder()
    with torch.no_grad():
        trained.module.one.weight[0, 0, 0, 0] += 1e-6
    assert identity(trained) != plain
    assert identity(replace(encoder(), fingerprint="another")) != plain


def test_a_hook_of_the_users_own_counts(plain):
    hooked = encoder()
    hooked.module.one.register_forward_hook(lambda module, inputs, output: 2 * output)
    assert identity(hooked) != plain


def test_running_it_changes_nothing(plain):
    ran = encoder()
    wanted = [(ran.layers, parse_pool("mean"))]
    with runner(ran, wanted, torch.device("cpu"), "bf16") as at_work:
        at_work.run(torch.zeros(2, 3, 16, 16))
        assert identity(ran) == plain
    assert identity(ran) == plain


def test_versions_and_code_count(plain, monkeypatch):
    monkeypatch.setattr(module_under_test, "installed", lambda names: dict.fromkeys(names, "0"))
    assert identity(encoder()) != plain
    monkeypatch.undo()
    monkeypatch.setattr(module_under_test, "own_code", lambda: "other")
    assert identity(encoder()) != plain
    monkeypatch.undo()
    assert identity(encoder()) == plain
    assert set(installed(["torch", "no-such-thing"])) == {"torch"}


def test_the_users_file_counts(nets, tmp_path):
    before = identity(load_encoder(f"{nets}:net"))
    assert identity(load_encoder(f"{nets}:net")) == before
    source = (tmp_path / "tinynets.py").read_text()
    (tmp_path / "tinynets.py").write_text(source.replace("torch.relu", "torch.tanh"))
    sys.modules.pop("tinynets")
    os.utime(tmp_path / "tinynets.py", (1e9, 1e9))  # Python would otherwise take it for the file it compiled
    assert identity(load_encoder(f"{nets}:net")) != before


def test_a_class_that_has_no_file_counts_by_its_code(plain):
    """As a class in a notebook, whose cell is run again with another forward pass."""

    def written(forward):
        kind = type("Written", (Net,), {"forward": forward, "__module__": "no_file"})
        with seeded():
            module = kind()
        return identity(finish(Spec("net", "python", "net"), module, preprocess, source="python:net"))

    same = written(Net.forward)
    assert written(Net.forward) == same
    assert written(lambda self, x: self.two(torch.tanh(self.one(x)))) != same


CHOSEN = "def chosen(x): return x if x in {'a', 'b', 'c', 'd', 'e', 'f'} else [y for y in x]\n"


def test_a_process_of_its_own_agrees(monkeypatch):
    monkeypatch.setattr(module_under_test, "own_code", lambda: "as it is")  # it may be edited this moment
    code = CHOSEN + (
        "from repalign.cache import key_of\n"
        "from repalign.encoders import identity as i, load_encoder\n"
        "i.own_code = lambda: 'as it is'\n"
        "print(i.identity(load_encoder('pocket:swin')), key_of(i.code_of(chosen)))"
    )
    here: dict = {}
    exec(CHOSEN, here)  # a set in the code is in another order in every process
    other = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": "7"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert other.stdout.split() == [identity(load_encoder("pocket:swin")), key_of(code_of(here["chosen"]))]
