import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from repalign.chunks import How
from repalign.encoders import load_encoder
from repalign.encoders.structure import select
from repalign.errors import InputError, UnreadableImagesError
from repalign.extract import Request, extract, pick_device
from repalign.pooling import parse_pool
from repalign.sides import Options, load_sides
from repalign.stimuli import load_stimuli


def request(nets, name="net", choice="blocks", pool="mean"):
    encoder = load_encoder(f"{nets}:{name}")
    return Request(encoder, select(encoder.layers, choice), parse_pool(pool))


def plainly(encoder, stimuli, layer):
    """The mean-pooled output of one layer, one picture at a time."""
    rows = []
    for i in range(len(stimuli)):
        x = encoder.preprocess(stimuli.load(i))[None]
        for module in encoder.module[0][: int(layer[-1]) + 1]:
            x = module(x)
        rows.append(x.mean((2, 3))[0])
    return torch.stack(rows)


def test_rows_are_the_layers_means_in_the_order_of_the_stimuli(nets, photos):
    stimuli, wanted = load_stimuli(str(photos)), request(nets)
    (found,) = extract([wanted], stimuli, How(batch_size=5))
    assert found.ids == stimuli.ids
    for name in ("0.0", "0.1", "0.2"):
        assert torch.allclose(found.layers[name], plainly(wanted.encoder, stimuli, name), atol=1e-6)


def test_requests_of_one_encoder_share_its_forward_pass(nets, photos):
    stimuli, mean = load_stimuli(str(photos)), request(nets)
    passes = []
    mean.encoder.module.register_forward_pre_hook(lambda *_: passes.append(1))
    both = extract([mean, replace(mean, pool=parse_pool("max"))], stimuli, How(batch_size=12))
    (alone,) = extract([request(nets, pool="max")], stimuli, How(batch_size=12))
    assert len(passes) == 1
    assert [x.pool for x in both] == ["mean", "max"]
    for name, rows in alone.layers.items():
        assert torch.equal(rows, both[1].layers[name])
        assert not torch.equal(rows, both[0].layers[name])


@pytest.mark.parametrize("batch_size", [1, 5, 12, 100])
@pytest.mark.parametrize("workers", [1, 3])
def test_batches_and_threads_change_nothing(nets, photos, batch_size, workers):
    stimuli, wanted = load_stimuli(str(photos)), request(nets)
    (found,) = extract([wanted], stimuli, How(batch_size=batch_size, workers=workers))
    (again,) = extract([wanted], stimuli, How(batch_size=4))
    assert found.meta["fingerprint"] == again.meta["fingerprint"]
    for name, rows in found.layers.items():
        assert torch.allclose(rows, again.layers[name], atol=1e-6)


def test_two_encoders_share_one_decoding(nets, photos):
    stimuli = load_stimuli(str(photos))
    loads = []
    counted = type(stimuli)(stimuli.name, stimuli.ids, lambda i: loads.append(i) or stimuli.load(i))
    found = extract([request(nets), request(nets, "other")], counted)
    assert sorted(loads) == list(range(12))
    assert len(found) == 2


def test_the_fingerprint_is_of_ids_and_pixels(nets, photos):
    stimuli = load_stimuli(str(photos))
    (first,) = extract([request(nets)], stimuli)
    (fewer,) = extract([request(nets)], stimuli.take(range(11)))
    content = hashlib.blake2b(digest_size=16)
    for i, name in enumerate(stimuli.ids):
        content.update(name.encode() + b"\0" + hashlib.blake2b(stimuli.load(i).tobytes(), digest_size=16).digest())
    assert first.meta["fingerprint"] == content.hexdigest()
    assert fewer.meta["fingerprint"] != first.meta["fingerprint"]


def test_unreadable_pictures_stop_the_run_named_and_counted(nets, photos):
    (photos / "cats" / "03.png").write_bytes(b"not a picture")
    (photos / "dogs" / "08.png").write_bytes((photos / "dogs" / "08.png").read_bytes()[:60])
    with pytest.raises(
        UnreadableImagesError, match=r"2 of 12 pictures can't be decoded: cats/03.png .*dogs/08.png"
    ) as e:
        extract([request(nets)], load_stimuli(str(photos)), How(batch_size=3))
    assert [i for i, _ in e.value.skipped] == ["cats/03.png", "dogs/08.png"]
    assert "--skip-unreadable" in str(e.value)


def test_unreadable_pictures_are_left_out_on_request(nets, photos):
    stimuli = load_stimuli(str(photos))
    (whole,) = extract([request(nets)], stimuli)
    (photos / "cats" / "03.png").write_bytes(b"not a picture")
    (found,) = extract([request(nets)], stimuli, How(batch_size=3), skip_unreadable=True)
    assert found.ids == tuple(i for i in stimuli.ids if i != "cats/03.png")
    kept = [k for k, i in enumerate(stimuli.ids) if i != "cats/03.png"]
    for name, rows in found.layers.items():
        assert torch.allclose(rows, whole.layers[name][kept], atol=1e-6)
    assert [i for i, _ in found.meta["skipped"]] == ["cats/03.png"]


def test_nothing_readable_is_an_error(nets, photos):
    for file in photos.rglob("*.png"):
        file.write_bytes(b"")
    with pytest.raises(UnreadableImagesError, match="none of 12 pictures"):
        extract([request(nets)], load_stimuli(str(photos)), skip_unreadable=True)


def test_too_large_features_are_refused_before_the_first_picture(nets, photos, monkeypatch):
    monkeypatch.setattr("repalign.memory.SHARE", 1e-9)
    with pytest.raises(InputError, match=r"features of 12 stimuli pooled by flatten need .* GB"):
        extract([request(nets, pool="flatten")], load_stimuli(str(photos)))


def test_a_device_that_is_not_there():
    assert pick_device("cpu") == torch.device("cpu")
    with pytest.raises(InputError, match=r"device 'cuda:77' isn't there .*this machine has: cpu"):
        pick_device("cuda:77")
    with pytest.raises(InputError, match="device 'gpu' isn't there"):
        pick_device("gpu")


def test_sides_lose_the_rows_that_either_could_not_read(nets, photos, tmp_path):
    for file in photos.rglob("*.png"):
        copy = tmp_path / "b" / file.relative_to(photos)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())
    (photos / "cats" / "03.png").write_bytes(b"")
    (tmp_path / "b" / "dogs" / "06.png").write_bytes(b"")
    left, right = load_sides(
        f"{nets}:net", f"{nets}:net", str(photos), str(tmp_path / "b"), Options(skip_unreadable=True)
    )
    assert left.activations.ids == right.activations.ids
    assert not {"cats/03.png", "dogs/06.png"} & set(left.activations.ids)
    assert np.allclose(left.activations.layers["0.2"], right.activations.layers["0.2"], atol=1e-6)
