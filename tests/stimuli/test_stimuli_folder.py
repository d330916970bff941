import os
import random

import pytest
from PIL import Image

from repalign.errors import InputError
from repalign.stimuli.folder import load


def fill(root, names, seed=0):
    """Write one-colour pictures in shuffled order; the colour is the place in the sorted list."""
    shuffled = sorted(names)
    random.Random(seed).shuffle(shuffled)
    for name in shuffled:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (sorted(names).index(name), 0, 0)).save(path)


def test_ids_are_sorted_relative_paths_whatever_the_file_system_says(tmp_path):
    names = ["b/10.png", "b/9.png", "a/z/1.jpg", "a.png", "B/1.png", "ü/1.png"]
    for seed in (1, 2):
        fill(tmp_path / str(seed), names, seed)
        stimuli = load(tmp_path / str(seed))
        assert stimuli.ids == tuple(sorted(names))
        assert stimuli.groups is None
        assert stimuli.extent is None
    assert stimuli.load(stimuli.ids.index("b/9.png")).getpixel((0, 0)) == (sorted(names).index("b/9.png"), 0, 0)


def test_scandir_order_does_not_matter(tmp_path, monkeypatch):
    names = [f"{c}/{i}.png" for c in "ab" for i in range(5)]
    fill(tmp_path, names)
    scandir = os.scandir

    class Backwards:
        def __init__(self, path):
            self.path = path

        def __enter__(self):
            with scandir(self.path) as entries:
                return sorted(entries, key=lambda e: e.name, reverse=True)

        def __exit__(self, *_):
            pass

    forwards = load(tmp_path).ids
    monkeypatch.setattr(os, "scandir", Backwards)
    assert load(tmp_path).ids == forwards == tuple(names)


def test_sub_folders_are_labels(tmp_path):
    fill(tmp_path, ["cat/a/1.png", "cat/2.png", "dog/1.png", "top.png"])
    assert load(tmp_path).labels == ("cat", "cat", "dog", "")


def test_no_sub_folders_no_labels(tmp_path):
    fill(tmp_path, ["1.png", "2.png"])
    (tmp_path / "empty").mkdir()
    assert load(tmp_path).labels is None


def test_hidden_files_and_mac_leftovers_are_passed_over_and_the_rest_is_listed(tmp_path):
    fill(tmp_path, ["1.png", ".hidden.png", ".cache/2.png", "__MACOSX/3.png", "a/__MACOSX/4.png", "a/._5.png"])
    (tmp_path / "a" / "README.txt").write_text("x")
    stimuli = load(tmp_path)
    assert stimuli.ids == ("1.png",)
    assert stimuli.labels is None
    assert stimuli.skipped == (("a/README.txt", "Pillow reads no such file"),)


@pytest.mark.parametrize("ending", ["", "/"])
def test_the_name_shows_that_it_is_a_folder(tmp_path, monkeypatch, ending):
    fill(tmp_path / "cats", ["1.png"])
    monkeypatch.chdir(tmp_path)
    assert load(f"cats{ending}").name == "cats/"


def test_links_are_followed_and_loops_end(tmp_path):
    fill(tmp_path / "store", ["1.png"])
    root = tmp_path / "set"
    root.mkdir()
    (root / "a").symlink_to(tmp_path / "store")
    (root / "b").symlink_to(tmp_path / "store")
    (root / "loop").symlink_to(root)
    assert load(root).ids == ("a/1.png", "b/1.png")


def test_a_broken_picture_is_found_when_it_is_loaded(tmp_path):
    (tmp_path / "1.jpg").write_text("text")
    stimuli = load(tmp_path)
    with pytest.raises(InputError, match=r"1\.jpg can't be read as a picture"):
        stimuli.load(0)


def test_a_missing_folder(tmp_path):
    (tmp_path / "cats").mkdir()
    with pytest.raises(InputError, match=rf"there is no folder {tmp_path}/cat/ .*; did you mean {tmp_path}/cats\?"):
        load(f"{tmp_path}/cat/")


def test_an_empty_folder(tmp_path):
    (tmp_path / ".DS_Store").write_text("")
    with pytest.raises(InputError) as caught:
        load(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path} is an empty folder (hidden files aside); "
        "give a folder of .jpg, .png, .webp, .tif or other pictures"
    )


def test_a_folder_without_images(tmp_path):
    for name in ("a.txt", "b.txt", "c.CSV", "Makefile"):
        (tmp_path / name).write_text("x")
    with pytest.raises(InputError) as caught:
        load(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path} holds 4 files but no image (.txt, no suffix, .csv); "
        "give a folder of .jpg, .png, .webp, .tif or other pictures"
    )


def test_a_folder_of_shards_says_how_they_are_read(tmp_path):
    (tmp_path / "0.tar").write_bytes(b"")
    with pytest.raises(InputError, match=rf"holds 1 files but no image \(\.tar\); wds:{tmp_path} reads shards"):
        load(tmp_path)


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(InputError, match=r"a\.txt can't be listed: Not a directory; give a readable folder"):
        load(tmp_path / "a.txt")
