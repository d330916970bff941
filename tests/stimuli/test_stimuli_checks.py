import pytest
from PIL import Image

from repalign.errors import InputError
from repalign.stimuli.checks import existing, require_enough, some
from repalign.types import Stimuli


def numbered(n):
    return Stimuli("few/", tuple(map(str, range(n))), lambda i: Image.new("RGB", (2, 2)))


def test_existing_gives_the_path(tmp_path, monkeypatch):
    (tmp_path / "cats").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert existing("~/cats", "folder") == tmp_path / "cats"


def test_a_missing_folder_names_near_matches(tmp_path):
    (tmp_path / "cats").mkdir()
    with pytest.raises(InputError) as caught:
        existing(f"{tmp_path}/catz/", "folder")
    assert str(caught.value) == (
        f"there is no folder {tmp_path}/catz/ ({tmp_path} holds no catz); did you mean {tmp_path}/cats?"
    )


def test_the_first_missing_part_of_a_path_is_named(tmp_path):
    with pytest.raises(InputError, match=rf"there is no manifest .*\({tmp_path} holds no x\); check the path"):
        existing(tmp_path / "x" / "y" / "list.csv", "manifest")


def test_a_path_below_a_file(tmp_path):
    (tmp_path / "list.csv").write_text("path\n")
    with pytest.raises(InputError, match=r"list\.csv holds no cats\)"):
        existing(tmp_path / "list.csv" / "cats", "folder")


def test_four_stimuli_are_enough():
    stimuli = numbered(4)
    assert require_enough(stimuli) is stimuli


@pytest.mark.parametrize("n", [0, 2, 3])
def test_fewer_are_not(n):
    with pytest.raises(InputError) as caught:
        require_enough(numbered(n))
    assert str(caught.value) == f"few/ holds {n} images; similarity needs at least 4 stimuli; add more"


def test_one_image_has_its_own_sentence():
    with pytest.raises(InputError) as caught:
        require_enough(numbered(1))
    assert str(caught.value) == (
        "few/ is one image only: similarity compares how stimuli relate to each other and needs at least 4 stimuli; "
        "give a folder of images"
    )


def test_some_names_five():
    assert some(list("abcdef")) == "a, b, c, d, e, …"
    assert some(list("abcde")) == "a, b, c, d, e"
