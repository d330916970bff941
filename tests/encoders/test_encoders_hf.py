import shutil

import numpy as np
import pytest
import torch
import transformers as tf
from PIL import Image
from safetensors.torch import load_file, save_file

from repalign.encoders import hub, load_encoder
from repalign.errors import HubError, InputError, WeightsError

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "image_size": 32}
TEXT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
        "vocab_size": 50, "max_position_embeddings": 8, "bos_token_id": 0, "eos_token_id": 1}  # fmt: skip
FAMILIES = {
    "vit": lambda: tf.ViTConfig(**SMALL, patch_size=8),
    "dinov2": lambda: tf.Dinov2Config(**SMALL, patch_size=8),
    "swin": lambda: tf.SwinConfig(image_size=32, patch_size=2, embed_dim=16, depths=[1, 1], num_heads=[2, 2],
                                  window_size=4),
    "convnext": lambda: tf.ConvNextConfig(hidden_sizes=[8, 16, 16, 16], depths=[1, 1, 1, 1], image_size=32),
    "resnet": lambda: tf.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16, 16, 16], depths=[1, 1, 1, 1],
                                      layer_type="basic"),
    "clip_vision": lambda: tf.CLIPVisionConfig(**SMALL, patch_size=8),
}  # fmt: skip
TWO_SIDED = {
    "clip": lambda: tf.CLIPConfig(text_config=TEXT, vision_config=SMALL | {"patch_size": 8}),
    "siglip": lambda: tf.SiglipConfig(text_config=TEXT, vision_config=SMALL | {"patch_size": 8}),
}


@pytest.fixture(autouse=True)
def quiet():
    tf.logging.disable_progress_bar()
    tf.logging.set_verbosity_error()


def processor():
    return tf.ViTImageProcessor(size={"height": 32, "width": 32})


def written(folder, config, kind=tf.AutoModel.from_config):
    torch.manual_seed(5)
    model = kind(config)
    model.save_pretrained(folder)
    processor().save_pretrained(folder)
    return model


@pytest.mark.parametrize("family", list(FAMILIES))
def test_saved_networks_load_from_their_folder(tmp_path, no_network, family):
    model = written(tmp_path / family, FAMILIES[family]()).eval()
    encoder = load_encoder(f"hf:{tmp_path / family}")
    pixels = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        expected = model(pixels).last_hidden_state
        assert torch.equal(encoder.module(pixels).last_hidden_state, expected)
    assert encoder.notes == ()
    assert not encoder.untrained
    assert encoder.source == f"hf:{tmp_path / family}"
    assert any(layer.role == "block" for layer in encoder.layers)
    assert no_network == []


def test_preprocessing_is_the_processors(tmp_path):
    written(tmp_path, FAMILIES["vit"]())
    picture = Image.fromarray(np.full((50, 70, 3), 255, np.uint8))
    assert torch.equal(load_encoder(f"hf:{tmp_path}").preprocess(picture), torch.ones(3, 32, 32))


@pytest.mark.parametrize("family", list(TWO_SIDED))
def test_of_a_network_for_pictures_and_text_the_vision_part_is_taken(tmp_path, family):
    model = written(tmp_path, TWO_SIDED[family]()).eval()
    encoder = load_encoder(f"hf:{tmp_path}")
    assert encoder.notes == (f"the vision part of {type(model).__name__}, before its projection",)
    pixels = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        expected = model.vision_model(pixels).last_hidden_state
        assert torch.equal(encoder.module(pixels).last_hidden_state, expected)


def test_a_classifier_is_left_aside_and_an_absent_pooler_said(tmp_path):
    model = written(tmp_path, FAMILIES["vit"](), tf.ViTForImageClassification)
    encoder = load_encoder(f"hf:{tmp_path}")
    assert encoder.notes == ("the pooler keeps untrained values (not in the file)",)
    weight = encoder.module.state_dict()["embeddings.cls_token"]
    assert torch.equal(weight, model.vit.embeddings.cls_token)


def test_half_precision_is_widened(tmp_path):
    written(tmp_path, FAMILIES["vit"](), lambda config: tf.AutoModel.from_config(config).half())
    module = load_encoder(f"hf:{tmp_path}").module
    assert {p.dtype for p in module.parameters()} == {torch.float32}


def test_random_weights_are_untrained_and_reproducible(tmp_path):
    written(tmp_path, FAMILIES["vit"]())
    first, second = load_encoder(f"hf:{tmp_path}@random"), load_encoder(f"hf:{tmp_path}@random")
    assert first.untrained
    assert first.fingerprint == second.fingerprint != load_encoder(f"hf:{tmp_path}").fingerprint


def test_a_checkpoint_goes_through_transformers_own_names(tmp_path):
    config = FAMILIES["vit"]()
    written(tmp_path / "a", config)
    torch.manual_seed(6)
    tf.ViTForImageClassification(config).save_pretrained(tmp_path / "b")
    state = load_file(tmp_path / "b" / "model.safetensors")
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "w.pt")
    encoder = load_encoder(f"hf:{tmp_path / 'a'}@{tmp_path / 'w.pt'}")
    assert torch.equal(encoder.module.state_dict()["embeddings.cls_token"], state["vit.embeddings.cls_token"])
    assert encoder.notes == (
        "weights read from 'state_dict'",
        "the pooler keeps untrained values (not in the file)",
    )


def test_a_checkpoint_that_does_not_fit_is_refused(tmp_path):
    written(tmp_path, FAMILIES["vit"]())
    state = load_file(tmp_path / "model.safetensors")
    deeper = tf.AutoModel.from_config(tf.ViTConfig(**SMALL | {"num_hidden_layers": 3}, patch_size=8)).state_dict()
    save_file(deeper, tmp_path / "deeper.safetensors")
    wider = state | {"embeddings.cls_token": torch.ones(1, 1, 48)}
    save_file(wider, tmp_path / "wider.safetensors")
    with pytest.raises(WeightsError, match=r"the weights don't fit: 16 unexpected \(layers\.2\."):
        load_encoder(f"hf:{tmp_path}@{tmp_path / 'deeper.safetensors'}")
    with pytest.raises(WeightsError, match=r"embeddings.cls_token: \(1, 1, 48\) in the file, \(1, 1, 32\) in the net"):
        load_encoder(f"hf:{tmp_path}@{tmp_path / 'wider.safetensors'}")
    partial = load_encoder(f"hf:{tmp_path}@{tmp_path / 'wider.safetensors'}", allow_partial=True)
    assert partial.notes[0].startswith("loaded in part, 1 of ")


def test_a_folder_whose_own_weights_are_incomplete_is_refused(tmp_path):
    written(tmp_path, FAMILIES["vit"]())
    state = load_file(tmp_path / "model.safetensors")
    del state["layernorm.weight"]
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=r"missing from the file \(layernorm.weight\)"):
        load_encoder(f"hf:{tmp_path}")


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("config.json", InputError, "has no config.json; write it with model.save_pretrained"),
        ("preprocessor_config.json", InputError, "write them with model.save_pretrained(…) and processor.save_pretra"),
        ("model.safetensors", WeightsError, "The folder must hold config.json, preprocessor_config.json and model.saf"),
    ],
)
def test_missing_files_are_named(tmp_path, name, error, message):
    written(tmp_path, FAMILIES["vit"]())
    (tmp_path / name).unlink()
    with pytest.raises(error) as caught:
        load_encoder(f"hf:{tmp_path}")
    assert message in str(caught.value)
    assert name in str(caught.value)


def test_a_network_without_pictures_is_refused(tmp_path):
    written(tmp_path, tf.BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16))
    with pytest.raises(InputError, match="BertModel takes input_ids and no pictures; name a vision model"):
        load_encoder(f"hf:{tmp_path}")


def test_an_unknown_kind_of_network_is_refused(tmp_path):
    written(tmp_path, FAMILIES["vit"]())
    (tmp_path / "config.json").write_text('{"model_type": "my_own"}')
    with pytest.raises(InputError, match=r"transformers can't use it: .*my_own.*python:package\.module:function"):
        load_encoder(f"hf:{tmp_path}")


def test_a_name_that_is_neither_folder_nor_hub_id():
    with pytest.raises(InputError, match="'no/such/folder' is neither a folder that exists nor a hub id"):
        load_encoder("hf:no/such/folder")


def test_a_cached_repository_loads_without_the_network(tmp_path, hub_cache, no_network):
    written(tmp_path / "net", FAMILIES["vit"]())
    for file in (tmp_path / "net").iterdir():
        hub_cache("org/net", file.name, lambda path, file=file: shutil.copy(file, path))
    encoder = load_encoder("hf:org/net")
    assert encoder.fingerprint == load_encoder(f"hf:{tmp_path / 'net'}").fingerprint
    assert no_network == []


@pytest.mark.parametrize("name", ["hf:org/net", "hf:org/net@random"])
def test_without_cache_and_network_the_hub_error_comes(hub_cache, no_network, name):
    with pytest.raises(HubError, match=r"org/net is not in the cache .*name files that you have, hf:path/to/folder;"):
        load_encoder(name)


def test_a_half_filled_cache_is_completed_from_the_hub(tmp_path, hub_cache, no_network, monkeypatch):
    written(tmp_path / "net", FAMILIES["vit"]())
    hub_cache("org/net", "config.json", lambda path: shutil.copy(tmp_path / "net" / "config.json", path))
    with pytest.raises(HubError, match="org/net is not in the cache"):
        load_encoder("hf:org/net")

    def download(place, **where):
        raise OSError("the connection broke\nand advice follows")

    monkeypatch.setattr(hub, "require_reachable", lambda spec, remote: None)
    monkeypatch.setattr(tf.AutoImageProcessor, "from_pretrained", download)
    with pytest.raises(HubError, match=r"can't give it: the connection broke\. Three ways out"):
        load_encoder("hf:org/net")
