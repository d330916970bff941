from pathlib import Path

import numpy as np
import pytest
from fashion import write_fashion
from PIL import Image
from tars import shard
from test_stimuli_video import MPEG4, film

from repalign.errors import InputError
from repalign.stimuli import ACCEPTED, STIMULI, load_stimuli, load_stimuli_pair
from repalign.types import Stimuli


def fill(folder, n=4, suffix="png"):
    folder.mkdir()
    for i in range(n):
        Image.new("RGB", (4, 4), (i, 0, 0)).save(folder / f"{i}.{suffix}")
    return folder


@pytest.fixture
def specs(tmp_path):
    """One spec for each kind."""
    fill(tmp_path / "cats")
    rows = "".join(f"cats/{i}.png,cats/{3 - i}.png\n" for i in range(4))
    (tmp_path / "list.csv").write_text(f"path,path_b\n{rows}")
    film(tmp_path / "clips" / "a.mp4", [k / 2 for k in range(10)], **MPEG4)
    np.save(tmp_path / "a.npy", np.zeros((4, 5, 5), np.uint8))
    shard(tmp_path / "a.tar", 0)
    return {
        "array": f"{tmp_path}/a.npy",
        "bundled": "bundled:photos",
        "folder": f"{tmp_path}/cats/",
        "manifest": f"{tmp_path}/list.csv",
        "torchvision": f"torchvision:FashionMNIST:root={write_fashion(tmp_path / 'zoo')},split=test",
        "video": f"{tmp_path}/clips/",
        "wds": f"{tmp_path}/a.tar",
    }


@pytest.mark.parametrize("kind", STIMULI)
def test_every_kind_keeps_the_contract(specs, kind):
    for stimuli in (STIMULI[kind](specs[kind]), load_stimuli(specs[kind]), load_stimuli(f"{kind}:{specs[kind]}")):
        assert isinstance(stimuli, Stimuli)
        assert stimuli.name == specs[kind]
        assert len(set(stimuli.ids)) == len(stimuli) >= 4
        picture = stimuli.load(len(stimuli) - 1)
        assert picture.mode == "RGB"
        assert stimuli.take([1, 0]).ids == (stimuli.ids[1], stimuli.ids[0])
        assert stimuli.take([1, 0]).content(0) == stimuli.content(1)
    assert load_stimuli(stimuli) is stimuli


def test_a_path_object_is_a_spec(specs):
    assert load_stimuli(Path(specs["folder"])).name == specs["folder"]


def test_a_prefix_chooses_the_kind(specs, tmp_path):
    (tmp_path / "list.txt").write_text((tmp_path / "list.csv").read_text())
    assert len(load_stimuli(f"manifest:{tmp_path}/list.txt")) == 4
    first, second = load_stimuli_pair(f"manifest:{tmp_path}/list.txt")
    assert second is not None
    assert second.ids == first.ids


def test_a_folder_may_have_a_suffix(tmp_path):
    assert len(load_stimuli(fill(tmp_path / "set.csv"))) == 4


@pytest.mark.parametrize("n", [1, 3])
def test_too_few(tmp_path, n):
    with pytest.raises(InputError, match="at least 4 stimuli"):
        load_stimuli(fill(tmp_path / "few", n))


def test_one_image_file(specs):
    with pytest.raises(
        InputError, match=r"cats/0\.png is one image only: .* at least 4 stimuli; give a folder of images"
    ):
        load_stimuli(specs["folder"] + "0.png")


def test_a_file_of_another_kind(tmp_path):
    (tmp_path / "a.zip").write_text("")
    with pytest.raises(InputError) as caught:
        load_stimuli(tmp_path / "a.zip")
    assert str(caught.value) == f"{tmp_path}/a.zip is of no kind repalign reads; give {ACCEPTED}"


def test_a_missing_path_lists_what_is_accepted_or_near(specs, tmp_path):
    with pytest.raises(InputError) as caught:
        load_stimuli(tmp_path / "zzzzzzzz")
    assert str(caught.value) == (
        f"there is no file or folder {tmp_path}/zzzzzzzz ({tmp_path} holds no zzzzzzzz); give {ACCEPTED}"
    )
    with pytest.raises(InputError, match=rf"did you mean {tmp_path}/cats\?"):
        load_stimuli(f"{tmp_path}/catz/")
    with pytest.raises(InputError, match=r"there is no manifest .*; did you mean .*/list\.csv\?"):
        load_stimuli(f"{tmp_path}/lists.csv")


def test_an_unknown_prefix_and_no_name_at_all():
    with pytest.raises(InputError, match="unknown kind of stimuli 'bundle'; did you mean bundled"):
        load_stimuli("bundle:photos")
    with pytest.raises(InputError, match="known: array, bundled, folder, hfdata, manifest, torchvision, video, wds"):
        load_stimuli("zzz:photos")
    with pytest.raises(InputError, match="no stimuli were named; give a folder of images"):
        load_stimuli("")


def test_two_folders_pair(specs, tmp_path):
    first, second = load_stimuli_pair(specs["folder"], fill(tmp_path / "humans", suffix="bmp"))
    assert second is not None
    assert first.ids == second.ids == ("0", "1", "2", "3")


def test_a_manifest_brings_its_second_side(specs):
    first, second = load_stimuli_pair(specs["manifest"])
    assert second is not None
    assert first.ids == second.ids
    assert [second.load(i).getpixel((0, 0))[0] for i in range(4)] == [3, 2, 1, 0]


def test_without_a_second_side_there_is_none(specs):
    assert load_stimuli_pair(specs["folder"])[1] is None
    assert load_stimuli_pair(load_stimuli(specs["folder"]))[1] is None


def test_sides_that_do_not_pair(specs, tmp_path):
    with pytest.raises(InputError, match="do not pair up"):
        load_stimuli_pair(specs["folder"], fill(tmp_path / "more", 5))
