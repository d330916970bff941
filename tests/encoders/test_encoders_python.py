import sys

import pytest
import torch
from safetensors.torch import save_file

from repalign.encoders import load_encoder
from repalign.encoders.python import DEFAULT_NOTE
from repalign.errors import InputError, WeightsError

CODE = """
import torch
from torch import nn
from torchvision import transforms

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=4)
        self.blocks = nn.Sequential(*[nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)) for _ in range(2)])
    def forward(self, x):
        return self.blocks(self.stem(x)).mean((2, 3))

small = transforms.Compose([transforms.Resize((16, 16)), transforms.ToTensor()])
instance = Net()
number = 3

def build(): return Net()
def with_preprocess(): return Net(), small
def wrong(): return {"a": 1}
def wrong_pair(): return Net(), 3
def fails(): raise OSError("no such disk")
def bad_preprocess(): return Net(), lambda picture: torch.ones(1, 16, 16)
def no_tensor(): return Net(), lambda picture: picture
def preprocess_fails(): return Net(), lambda picture: picture.nonsense
def does_not_run(): return nn.Linear(7, 7), small
class Holder:
    net = staticmethod(build)
"""


@pytest.fixture
def name(tmp_path, monkeypatch, request):
    """Write a module of the user's into the current directory."""
    module = f"user_{abs(hash(request.node.name))}"
    (tmp_path / f"{module}.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield module
    sys.modules.pop(module, None)


def test_a_function_in_the_current_directory(name):
    first, second = load_encoder(f"python:{name}:build"), load_encoder(f"python:{name}:build")
    assert first.notes == (DEFAULT_NOTE,)
    assert not first.untrained
    assert first.fingerprint == second.fingerprint
    assert [x.name for x in first.layers if x.role == "block"] == ["blocks.0", "blocks.1"]


def test_its_own_preprocessing_is_used(name):
    encoder = load_encoder(f"python:{name}:with_preprocess")
    assert encoder.notes == ()
    assert encoder.layers[0].grid == (4, 4)


@pytest.mark.parametrize("attribute", ["Net", "instance", "Holder.net"])
def test_classes_instances_and_dotted_names(name, attribute):
    assert type(load_encoder(f"python:{name}:{attribute}").module).__name__ == "Net"


def test_weights_and_random(name, tmp_path):
    state = {k: torch.full_like(v, 0.5) for k, v in load_encoder(f"python:{name}:build").module.state_dict().items()}
    save_file(state, tmp_path / "w.safetensors")
    encoder = load_encoder(f"python:{name}:build@w.safetensors")
    assert torch.equal(encoder.module.state_dict()["stem.bias"], state["stem.bias"])
    save_file({"stem.bias": state["stem.bias"]}, tmp_path / "part.safetensors")
    with pytest.raises(WeightsError, match="9 of 10 tensors missing from the file"):
        load_encoder(f"python:{name}:build@part.safetensors")
    assert load_encoder(f"python:{name}:build@random").untrained


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ("", "write package.module:callable"),
        ("biuld", "has no 'biuld'; it has build"),
        ("number", "it names a int; name a function that returns a torch module"),
        ("wrong", "it must return a torch module, or (module, preprocess), but it returned dict"),
        ("wrong_pair", "but it returned Net, int"),
        ("fails", "the call failed: OSError: no such disk"),
        ("bad_preprocess", "the preprocessing must turn a PIL picture into a tensor (3, h, w), not (1, 16, 16)"),
        ("no_tensor", "into a tensor (3, h, w), not Image"),
        ("preprocess_fails", "the preprocessing failed: AttributeError"),
        ("does_not_run", "a forward pass of (2, 3, 16, 16) failed: RuntimeError"),
    ],
)
def test_errors(name, attribute, message):
    with pytest.raises(InputError) as caught:
        load_encoder(f"python:{name}:{attribute}")
    assert message.replace("write ", "write python:") in str(caught.value)


def test_imports_that_fail(name, tmp_path):
    with pytest.raises(InputError, match=r"importing 'no_such_package' failed: ModuleNotFoundError.*must be installed"):
        load_encoder("python:no_such_package:build")
    (tmp_path / "broken_user_module.py").write_text("1 / 0")
    with pytest.raises(InputError, match="importing 'broken_user_module' failed: ZeroDivisionError"):
        load_encoder("python:broken_user_module:build")
