import numpy as np
import pytest
import timm as timm_library
import torch
from PIL import Image
from safetensors.torch import save_file

from repalign.encoders import hub, load_encoder
from repalign.encoders import timm as source
from repalign.errors import HubError, InputError, WeightsError

TINY = "vit_tiny_patch16_224"
HUB_ID = "timm/resnet18.a1_in1k"


def network(name, **options):
    torch.manual_seed(3)
    return timm_library.create_model(name, pretrained=False, **options)


def saved(tmp_path, name, **options):
    path = tmp_path / "file.safetensors"
    save_file(network(name, **options).state_dict(), path)
    return path


@pytest.mark.parametrize("alias", list(source.ALIASES))
def test_every_alias_has_published_weights(alias):
    assert source.ALIASES[alias] in timm_library.list_pretrained()


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "efficientnet_b0",
                                  "efficientnet_b3", "regnety_016", "densenet121", "vgg16"])  # fmt: skip
def test_common_names_are_timms_own(name):
    full = source.resolve(name)
    assert full in timm_library.list_pretrained()
    assert full.startswith(f"{name}.")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dino_vitb61", "unknown encoder 'dino_vitb61'; did you mean dino_vitb16"),
        ("restnet50", "did you mean resnet50"),
        ("vit_base_patch16_224.dinno", "did you mean vit_base_patch16_224.dino"),
        ("C:\\models\\vit", "unknown encoder"),
    ],
)
def test_unknown_names_come_with_near_matches(name, message):
    with pytest.raises(InputError) as caught:
        load_encoder(name)
    assert message in str(caught.value)


def test_random_weights_are_untrained_reproducible_and_leave_the_random_state():
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    first, second = load_encoder(f"{TINY}@random"), load_encoder("vit_t16@random")
    assert torch.equal(torch.rand(3), expected)
    assert first.untrained
    assert first.notes == ("random weights drawn with seed 0",)
    assert first.fingerprint == second.fingerprint
    assert len(first.fingerprint) == 32
    assert (first.name, second.name) == (f"{TINY}@random", "vit_t16@random")
    assert first.source == second.source == "timm:vit_tiny_patch16_224.augreg_in21k_ft_in1k"
    assert not first.module.training
    assert not any(p.requires_grad for p in first.module.parameters())
    assert sum(layer.role == "block" for layer in first.layers) == 12


def test_preprocessing_is_the_networks_own():
    encoder = load_encoder(f"{TINY}@random")
    picture = encoder.preprocess(Image.fromarray(np.full((300, 400, 3), 255, np.uint8)))
    assert picture.shape == (3, 224, 224)
    assert torch.allclose(picture, torch.ones(()))  # mean 0.5, std 0.5


def test_dino_vitb16_loads_from_a_file(tmp_path):
    path = saved(tmp_path, "vit_base_patch16_224.dino")
    encoder = load_encoder(f"dino_vitb16@{path}")
    expected = network("vit_base_patch16_224.dino").state_dict()
    found = encoder.module.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[k], expected[k]) for k in found)
    assert not encoder.untrained
    assert encoder.notes == ()
    assert encoder.name == f"dino_vitb16@{path}"


def test_the_number_of_classes_comes_from_the_file(tmp_path):
    assert load_encoder(f"{TINY}@{saved(tmp_path, TINY, num_classes=7)}").module.num_classes == 7
    headless = load_encoder(f"{TINY}@{saved(tmp_path, TINY, num_classes=0)}")
    assert headless.module.num_classes == 0
    assert headless.notes == ()


def test_a_dino_training_checkpoint_loads_its_teacher(tmp_path):
    state = network(TINY, num_classes=0).state_dict()
    head = {"head.mlp.0.weight": torch.ones(4, 192), "head.last_layer.weight_v": torch.ones(4, 4)}
    teacher = {f"backbone.{k}": v for k, v in state.items()} | head
    student = {f"module.backbone.{k}": v * 0 for k, v in state.items()}
    torch.save({"student": student, "teacher": teacher, "epoch": 9}, tmp_path / "checkpoint.pth")
    encoder = load_encoder(f"{TINY}@{tmp_path / 'checkpoint.pth'}")
    assert torch.equal(encoder.module.state_dict()["pos_embed"], state["pos_embed"])
    assert encoder.notes == (
        "weights read from 'teacher' (there is also student)",
        "prefix 'backbone.' taken off, 2 tensors outside it left aside",
    )


def test_published_names_are_converted_by_timms_own_filter(tmp_path):
    state = network(TINY, num_classes=0).state_dict()
    torch.save(state | {"mask_token": torch.zeros(1, 192)}, tmp_path / "official.pth")
    encoder = load_encoder(f"{TINY}@{tmp_path / 'official.pth'}")
    assert torch.equal(encoder.module.state_dict()["pos_embed"], state["pos_embed"])
    assert encoder.notes == ("tensors renamed by timm's checkpoint filter",)


def test_weights_of_another_patch_size_are_refused(tmp_path):
    path = saved(tmp_path, "vit_small_patch16_224.dino", num_classes=0)
    with pytest.raises(WeightsError) as caught:
        load_encoder(f"dino_vits8@{path}")
    assert f"dino_vits8@{path}: the weights don't fit" in str(caught.value)
    assert "pos_embed: (1, 197, 384) in the file, (1, 785, 384) in the network" in str(caught.value)


def test_a_partial_load_is_noted(tmp_path):
    state = network(TINY, num_classes=0).state_dict()
    del state["norm.weight"]
    save_file(state, tmp_path / "part.safetensors")
    with pytest.raises(WeightsError, match=r"1 of 150 tensors missing from the file \(norm.weight\)"):
        load_encoder(f"{TINY}@{tmp_path / 'part.safetensors'}")
    encoder = load_encoder(f"{TINY}@{tmp_path / 'part.safetensors'}", allow_partial=True)
    assert "1 of 150 tensors keep untrained values" in encoder.notes[0]


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_cached_weights_load_without_the_network(no_network, hub_cache, name):
    state = network("resnet18").state_dict()
    write = save_file if name.endswith("safetensors") else torch.save
    hub_cache(HUB_ID, name, lambda path: write(state, path))
    encoder = load_encoder("resnet18")
    assert torch.equal(encoder.module.state_dict()["fc.weight"], state["fc.weight"])
    assert not encoder.untrained
    assert encoder.notes == ()
    assert no_network == []


def test_without_cache_and_network_nothing_is_run_untrained(no_network, hub_cache):
    with pytest.raises(HubError) as caught:
        load_encoder("resnet18")
    assert "resnet18: timm/resnet18.a1_in1k is not in the cache" in str(caught.value)
    assert "resnet18@path/to/weights.safetensors" in str(caught.value)


def test_a_download_that_fails_ends_with_the_same_error(monkeypatch, hub_cache):
    def broken(*args, **kwargs):
        raise ConnectionError("connection reset\nwith a paragraph of advice")

    monkeypatch.setattr(hub, "require_reachable", lambda spec, remote: None)
    monkeypatch.setattr(timm_library, "create_model", broken)
    with pytest.raises(HubError, match=r"can't give it: connection reset\. Three ways out"):
        load_encoder("resnet18")


def test_weights_outside_the_hub_are_looked_up_in_torchs_cache(no_network, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(HubError) as caught:
        load_encoder("gcvit_xxtiny")
    assert "gcvit_xxtiny: gcvit_xxtiny_224_nvidia" in str(caught.value)
    assert f"the cache {tmp_path}/checkpoints, and https://github.com can't give it" in str(caught.value)
    assert "point TORCH_HOME at a filled cache" in str(caught.value)
    state = network("gcvit_xxtiny").state_dict()
    (tmp_path / "checkpoints").mkdir()
    torch.save(state, tmp_path / "checkpoints" / source._published("gcvit_xxtiny").files[0])
    assert not load_encoder("gcvit_xxtiny").untrained


def test_networks_without_published_weights_say_so():
    with pytest.raises(WeightsError, match="timm has no trained weights for vit_base_patch16_18x2_224"):
        load_encoder("vit_base_patch16_18x2_224")
