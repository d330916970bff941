import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from repalign.encoders import load_encoder, pocket
from repalign.encoders.pocket_models import BUILDERS, build
from repalign.errors import InputError, WeightsError

METADATA = {"test_accuracy": "0.9012", "measure": "top-1 accuracy", "seed": "0", "epochs": "16"}


@pytest.fixture
def weights(tmp_path, monkeypatch):
    monkeypatch.setattr(pocket, "WEIGHTS", tmp_path)

    def put(name, change=lambda state: state):
        torch.manual_seed(2)
        state = {k: v.half() if v.is_floating_point() else v for k, v in build(name).state_dict().items()}
        save_file(change(state), tmp_path / f"{name}.safetensors", metadata=METADATA)
        return state

    return put


@pytest.mark.parametrize("name", list(BUILDERS))
def test_bundled_weights_load_in_float32(weights, name):
    state = weights(name)
    encoder = load_encoder(f"pocket:{name}")
    found = encoder.module.state_dict()
    assert all(torch.equal(found[k], v.to(found[k].dtype)) for k, v in state.items())
    assert {p.dtype for p in encoder.module.parameters()} == {torch.float32}
    assert (encoder.name, encoder.source, encoder.untrained, encoder.notes) == (
        f"pocket:{name}", f"pocket:{name}", False, (),
    )  # fmt: skip


def test_untrained_weights_need_no_file(weights):
    first, second = load_encoder("pocket:vit@random"), load_encoder("pocket:vit@random")
    assert first.untrained
    assert first.fingerprint == second.fingerprint


def test_a_file_of_ones_own(weights, tmp_path):
    state = build("resnet", num_classes=4).state_dict()
    torch.save({"model": state}, tmp_path / "mine.pt")
    encoder = load_encoder(f"pocket:resnet@{tmp_path / 'mine.pt'}")
    assert torch.equal(encoder.module.state_dict()["fc.weight"], state["fc.weight"])
    assert encoder.notes == ("weights read from 'model'",)


def test_preprocessing_resizes_the_shortest_side_and_crops():
    half = np.zeros((64, 128, 3), np.uint8)
    half[:, 64:] = 255
    picture = pocket.preprocessing()(Image.fromarray(half))
    assert picture.shape == (3, 32, 32)
    expected = [(1 - mean) / std for mean, std in zip(pocket.CIFAR_MEAN, pocket.CIFAR_STD, strict=True)]
    assert torch.allclose(picture[:, 16, -1], torch.tensor(expected))


def test_errors(weights):
    with pytest.raises(InputError, match="unknown pocket encoder 'vitt'; did you mean vit"):
        load_encoder("pocket:vitt")
    with pytest.raises(WeightsError, match=r"pocket:vit: its weights are not at .*vit.safetensors; install repalign"):
        load_encoder("pocket:vit")
    weights("mixer", lambda state: {k: v for k, v in state.items() if k != "norm.bias"})
    with pytest.raises(WeightsError, match=r"pocket:mixer: the weights don't fit: 1 of .*\(norm.bias\)"):
        load_encoder("pocket:mixer")


def test_the_catalogue_lists_what_is_there(weights):
    weights("resnet")
    rows = {row["name"]: row for row in pocket.catalogue()}
    assert list(rows) == list(BUILDERS)
    assert rows["resnet"]["parameters"] == sum(p.numel() for p in build("resnet").parameters())
    assert rows["resnet"] == METADATA | {"name": "resnet", "parameters": rows["resnet"]["parameters"], "bundled": True}
    assert not rows["dino"]["bundled"]
