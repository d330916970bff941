import pickle

import numpy as np
import pytest

from repalign.errors import InputError
from repalign.stimuli.array import _read, load

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (5, 6, 7, 3), np.uint8)
SHAPES = "(n, h, w, 3), (n, 3, h, w) or (n, h, w)"
GREY = RNG.integers(0, 256, (5, 6, 7), np.uint8)


def npy(tmp_path, values):
    np.save(tmp_path / "a.npy", values)
    return tmp_path / "a.npy"


def npz(tmp_path, **arrays):
    np.savez_compressed(tmp_path / "a.npz", **arrays)
    return tmp_path / "a.npz"


def test_colour_and_its_row_numbers(tmp_path):
    stimuli = load(npy(tmp_path, COLOUR))
    assert stimuli.ids == ("0", "1", "2", "3", "4")
    assert (stimuli.labels, stimuli.groups) == (None, None)
    assert np.array_equal(np.asarray(stimuli.load(3)), COLOUR[3])


def test_grey_becomes_rgb(tmp_path):
    picture = load(npy(tmp_path, GREY)).load(2)
    assert (picture.mode, picture.size) == ("RGB", (7, 6))
    assert np.array_equal(np.asarray(picture)[..., 1], GREY[2])


def test_channels_first(tmp_path):
    stimuli = load(npy(tmp_path, COLOUR.transpose(0, 3, 1, 2)))
    assert np.array_equal(np.asarray(stimuli.load(3)), COLOUR[3])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
def test_floats_are_rounded_to_8_bits(tmp_path, dtype):
    stimuli = load(npy(tmp_path, (COLOUR / 255).astype(dtype)))
    assert np.array_equal(np.asarray(stimuli.load(1)), COLOUR[1])


def test_an_npy_stays_on_disk(tmp_path):
    assert isinstance(_read(npy(tmp_path, COLOUR), "a.npy")["images"], np.memmap)


def test_npz_with_names(tmp_path):
    names = {"ids": list("abcde"), "labels": [0, 0, 1, 1, 1], "groups": np.array([b"x"] * 5)}
    stimuli = load(npz(tmp_path, images=COLOUR, other=[1], **names))
    assert stimuli.ids == tuple("abcde")
    assert stimuli.labels == ("0", "0", "1", "1", "1")
    assert stimuli.groups == ("x",) * 5


def test_npz_with_one_array_of_another_name(tmp_path):
    assert len(load(npz(tmp_path, x=GREY, ids=list("abcde")))) == 5


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (COLOUR[0], f"has the shape (6, 7, 3) of one image only; stack several as {SHAPES}"),
        (GREY[0], f"has the shape (6, 7); give pictures as {SHAPES}"),
        (COLOUR[..., :2], f"has the shape (5, 6, 7, 2); give pictures as {SHAPES}"),
        (GREY[:0], f"has the shape (0, 6, 7); give pictures as {SHAPES}"),
        (GREY.astype(np.int64), "has the type int64; give uint8 in 0..255 or floats in 0..1"),
        (np.linspace(0, 255, 30).reshape(5, 3, 2), "holds floats from 0 to 255; scale the pictures to 0..1"),
        (np.linspace(-0.5, 0.5, 30).reshape(5, 3, 2), "holds floats from -0.5 to 0.5; scale the pictures to 0..1"),
        (np.array([[[0.0, np.inf]]]), "holds floats from 0 to inf; scale the pictures to 0..1"),
        (np.array([[[0.5, np.nan]]]), "holds floats from 0.5 to 0.5, with NaN among them; scale the pictures to 0..1"),
    ],
)
def test_wrong_arrays_are_named(tmp_path, values, message):
    path = npy(tmp_path, values)
    with pytest.raises(InputError) as caught:
        load(path)
    assert str(caught.value) == f"{path} {message}"


@pytest.mark.parametrize("where", ["npy", "npz", "ids"])
def test_objects_are_never_unpickled(tmp_path, where):
    objects = np.array([{"a": 1}, None], dtype=object)
    if where == "npy":
        path = npy(tmp_path, objects)
    else:
        path = npz(tmp_path, images=objects) if where == "npz" else npz(tmp_path, images=GREY, ids=objects)
    with pytest.raises(InputError) as caught:
        load(path)
    assert str(caught.value) == (
        f"{path} holds Python objects, which only pickle reads and a pickle can run any code; "
        "save plain numbers (uint8) and text (dtype str) instead"
    )


def test_several_arrays_and_none_called_images(tmp_path):
    path = npz(tmp_path, train=GREY, test=GREY)
    with pytest.raises(InputError) as caught:
        load(path)
    assert str(caught.value) == f"{path} has no array images (arrays found: train, test); name one images"


def test_metadata_of_another_length(tmp_path):
    with pytest.raises(InputError, match=r"a\.npz: labels has the shape \(4,\) for 5 pictures; give one each, \(5,\)"):
        load(npz(tmp_path, images=GREY, labels=list("abcd")))


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_a_truncated_file(tmp_path, suffix):
    path = npy(tmp_path, GREY) if suffix == "npy" else npz(tmp_path, images=GREY)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(InputError, match=r"can't be read as a NumPy file: .+; save it again with numpy\.save"):
        load(path)


def test_a_pickle_named_npy(tmp_path):
    path = tmp_path / "a.npy"
    path.write_bytes(pickle.dumps([1]))
    with pytest.raises(InputError, match=r"a\.npy can't be read as a NumPy file: .*magic string"):
        load(path)


def test_damage_inside_an_npz(tmp_path):
    path = npz(tmp_path, images=GREY)
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 0xFF
    path.write_bytes(damaged)
    with pytest.raises(InputError, match=r"a\.npz can't be read as a NumPy file: "):
        load(path)


def test_a_missing_file(tmp_path):
    with pytest.raises(InputError, match="there is no array"):
        load(tmp_path / "a.npy")
