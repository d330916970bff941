import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from repalign.encoders import load_encoder
from repalign.errors import InputError

RNG = np.random.default_rng(0)
X = RNG.standard_normal((6, 4)).astype(np.float32)
Y = RNG.standard_normal((6, 3))
NAMES = ("a", "b", "c", "d", "e", "f")


def refused(path, message):
    with pytest.raises(InputError) as caught:
        load_encoder(f"features:{path}")
    assert message in str(caught.value)


def test_npy_is_one_layer_with_ids_by_order(tmp_path):
    np.save(tmp_path / "x.npy", X)
    found = load_encoder(f"features:{tmp_path / 'x.npy'}")
    assert found.encoder == f"features:{tmp_path / 'x.npy'}"
    assert list(found.layers) == ["features"]
    assert np.array_equal(found.layers["features"], X)
    assert found.ids == ("0", "1", "2", "3", "4", "5")
    assert found.meta["ids_by_order"] is True
    assert len(found.meta["fingerprint"]) == 32
    assert found.depths == {"features": 1.0}
    assert (found.geometry, found.pool, found.untrained) == ("features", "none", False)


def test_npz_keeps_the_files_order_and_ids(tmp_path):
    np.savez(tmp_path / "x.npz", zebra=X, apple=Y, ids=np.array(NAMES), labels=np.arange(6))
    found = load_encoder(f"features:{tmp_path / 'x.npz'}")
    assert list(found.layers) == ["zebra", "apple"]
    assert found.ids == NAMES
    assert found.depths == {"zebra": 0.0, "apple": 1.0}
    assert found.meta["ids_by_order"] is False
    assert found.meta["left_out"] == ["labels"]
    assert found.layers["zebra"].dtype == torch.float32
    assert found.layers["apple"].dtype == torch.float64


def test_safetensors_order_and_ids(tmp_path):
    layers = {f"block{i}": torch.from_numpy(X) + i for i in (10, 2, 1)}
    save_file(layers, tmp_path / "x.safetensors", metadata={"ids": json.dumps(NAMES)})
    found = load_encoder(f"features:{tmp_path / 'x.safetensors'}")
    assert list(found.layers) == ["block1", "block2", "block10"]
    assert found.ids == NAMES
    assert torch.equal(found.layers["block2"], layers["block2"])
    order = ["block10", "block1", "block2"]
    save_file(layers, tmp_path / "x.safetensors", metadata={"layers": json.dumps(order)})
    assert list(load_encoder(f"features:{tmp_path / 'x.safetensors'}").layers) == order


def test_csv(tmp_path):
    rows = [f"{name},{','.join(map(repr, row.tolist()))}" for name, row in zip(NAMES, Y, strict=True)]
    (tmp_path / "x.csv").write_text("\n".join(["id,f0,f1,f2", *rows, ""]))
    found = load_encoder(f"features:{tmp_path / 'x.csv'}")
    assert found.ids == NAMES
    assert np.array_equal(found.layers["features"], Y)


@pytest.mark.parametrize(
    ("kind", "kept"),
    [("float16", torch.float32), ("float32", torch.float32), (">f8", torch.float64), ("int16", torch.float64),
     ("bool", torch.float64)],
)  # fmt: skip
def test_number_types(tmp_path, kind, kept):
    values = (X > 0).astype(kind)
    np.save(tmp_path / "x.npy", values)
    found = load_encoder(f"features:{tmp_path / 'x.npy'}").layers["features"]
    assert found.dtype == kept
    assert np.array_equal(found, values.astype(float))


def test_bfloat16_is_widened(tmp_path):
    save_file({"x": torch.from_numpy(X).bfloat16()}, tmp_path / "x.safetensors")
    assert load_encoder(f"features:{tmp_path / 'x.safetensors'}").layers["x"].dtype == torch.float32


def test_missing_and_unsuited_files(tmp_path):
    np.save(tmp_path / "v4.npy", X)
    refused(tmp_path / "v5.npy", "did you mean v4.npy?")
    (tmp_path / "v4.mat").write_bytes(b"")
    refused(tmp_path / "v4.mat", "v4.mat is none of .npy, .npz, .safetensors, .csv")


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.safetensors", "x.csv"])
def test_damaged_files(tmp_path, name):
    (tmp_path / name).write_bytes(b"\xff\xfehello, no numbers here")
    with pytest.raises(InputError, match=r"damaged|no csv file in UTF-8"):
        load_encoder(f"features:{tmp_path / name}")


@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
def test_objects_need_pickle_and_are_refused(tmp_path, name):
    values = np.array([[1, "a"], [None, 2]], dtype=object)
    if name == "x.npy":
        np.save(tmp_path / name, values)
    else:
        np.savez(tmp_path / name, x=values)
    refused(tmp_path / name, "holds Python objects; those need pickle, which can run any code")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.ones((5, 3, 2, 2))}, "'x' has shape (5, 3, 2, 2), but features are (stimuli, features); average"),
        ({"x": np.ones((5, 3, 2, 2))}, "x.mean(axis=(2, 3)), or flatten them, x.reshape(len(x), -1)"),
        ({"x": np.ones(5)}, "no array of shape (stimuli, features)"),
        ({"x": np.ones((0, 3))}, "no array of shape (stimuli, features) with anything in it"),
        ({"x": X, "y": Y[:4]}, "layers have unequal numbers of rows (x: 6, y: 4)"),
        ({"x": X, "ids": np.array(NAMES[:5])}, "5 ids for 6 rows; give one id a row"),
        ({"x": X, "groups": np.array(NAMES[:5])}, "5 groups for 6 stimuli; give one group a stimulus, or none"),
        ({"x": X, "y": np.ones((2, 6, 3))}, "every layer needs the same repeats and stimuli (x: 6 × d, y: 2 × 6 × d)"),
        ({"x": np.ones((2, 6, 3)), "y": np.ones((3, 6, 3))}, "(x: 2 × 6 × d, y: 3 × 6 × d); if the middle axis counts"),
        ({"x": np.ones((6, 9, 3)), "ids": np.array(NAMES)}, "but there are 6 ids; if the middle axis counts positions"),
        ({"x": X, "ids": np.array(["a"] * 6)}, "1 ids stand more than once (a); ids must be unique"),
        ({"x": X * np.nan}, "'x' has 24 entries that are NaN or infinite"),
        ({"x": X.astype(complex)}, "'x' holds complex128 and no real numbers"),
        ({"x": np.array([["a", "b"]])}, "'x' holds <U1 and no real numbers"),
    ],
)
def test_wrong_arrays(tmp_path, arrays, message):
    np.savez(tmp_path / "x.npz", **arrays)
    refused(tmp_path / "x.npz", message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "x.csv is empty"),
        ("name,f0\na,1\n", "the first column must be called 'id', and is called 'name'"),
        ("id,f0,f1\na,1,2\nb,1\n", "line 3 has 2 cells, not 3"),
        ("id,f0,f1\na,1,2\nb,1,x\n", "line 3, column 3 holds 'x' and no number"),
        ("id,f0\na,\n", "line 2, column 2 holds '' and no number"),
        ("id,f0\na,NA\n", "line 2, column 2 holds 'NA' and no number"),
        ("id,f0\na,nan\n", "1 entries that are NaN or infinite"),
        ("id,group,f0\na,g,x\n", "line 2, column 3 holds 'x' and no number"),
        ("id,f0\na,1\na,2\n", "1 ids stand more than once (a)"),
    ],
)
def test_wrong_tables(tmp_path, text, message):
    (tmp_path / "x.csv").write_text(text)
    refused(tmp_path / "x.csv", message)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"ids": "a, b"}, "the metadata must hold 'ids', 'groups' and 'layers' as JSON lists"),
        ({"layers": '["y"]'}, "the metadata's 'layers' must list every tensor once"),
    ],
)
def test_wrong_metadata(tmp_path, metadata, message):
    save_file({"x": torch.ones(6, 2)}, tmp_path / "x.safetensors", metadata=metadata)
    refused(tmp_path / "x.safetensors", message)


def test_an_npz_under_another_name(tmp_path):
    np.savez(tmp_path / "x.npz", x=X)
    (tmp_path / "x.npz").rename(tmp_path / "x.npy")
    refused(tmp_path / "x.npy", "is an archive of arrays; give it the ending .npz")


def test_three_axes_are_repeats_and_say_so(tmp_path):
    values = np.random.default_rng(1).standard_normal((4, 6, 3))
    np.savez(tmp_path / "x.npz", v1=values, it=values[:, :, :2], ids=np.array(NAMES), rt=np.ones(6))
    found = load_encoder(f"features:{tmp_path / 'x.npz'}")
    assert found.geometry == "repeats"
    assert found.ids == NAMES
    assert found.layers["v1"].shape == (4, 6, 3)
    assert found.join(("c", "a")).layers["it"].shape == (4, 2, 2)
    assert found.meta["notes"] == ["three axes taken as 4 repeats of 6 stimuli × 3, 2 features"]
    assert found.meta["left_out"] == ["rt"]


@pytest.mark.parametrize("kind", ["npz", "safetensors", "csv"])
def test_groups(tmp_path, kind):
    groups, path = ("u", "u", "v", "v", "w", "w"), tmp_path / f"x.{kind}"
    if kind == "npz":
        np.savez(path, x=X, ids=np.array(NAMES), groups=np.array(groups))
    elif kind == "safetensors":
        metadata = {"ids": json.dumps(NAMES), "groups": json.dumps(groups)}
        save_file({"x": torch.from_numpy(X)}, path, metadata=metadata)
    else:
        rows = [f"{i},{g},{','.join(map(repr, x.tolist()))}" for i, g, x in zip(NAMES, groups, X, strict=True)]
        path.write_text("\n".join(["id,group,a,b,c,d", *rows]))
    found = load_encoder(f"features:{path}")
    assert found.groups == groups
    assert found.ids == NAMES
    assert next(iter(found.layers.values())).shape == (6, 4)
    assert found.join(("f", "a")).groups == ("w", "u")


def test_several_subjects_have_no_mean(tmp_path):
    for name in ("sub-1", "sub-2"):
        np.save(tmp_path / f"{name}.npy", X)
    message = "stands for several subjects, whose features have no mean; name one file, compare every subject"
    refused(tmp_path, message)
    refused(tmp_path / "sub-*.npy", message)


def test_a_name_with_a_bracket_is_a_file_when_there_is_one(tmp_path):
    np.save(tmp_path / "x[1].npy", X)
    assert len(load_encoder(f"features:{tmp_path / 'x[1].npy'}")) == 6
