from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tars import pack, png
from test_stimuli_video import MPEG4, film

from repalign.stimuli import content, load_stimuli, load_stimuli_pair, read_stimuli


def digests(stimuli):
    return [stimuli.content(i) for i in range(len(stimuli))]


def folder(root, levels):
    root.mkdir(parents=True)
    for k, level in enumerate(levels):
        (root / f"{k}.png").write_bytes(png(level))
    return root


def test_the_same_bytes_have_one_digest_wherever_they_lie(tmp_path):
    levels = [5, 6, 7, 5]
    here = digests(load_stimuli(folder(tmp_path / "here", levels)))
    (tmp_path / "there.csv").write_text("path,id\n" + "".join(f"here/{k}.png,x{k}\n" for k in range(4)))
    pack(tmp_path / "set.tar", {f"a{k}.png": png(level) for k, level in enumerate(levels)})
    assert digests(load_stimuli(folder(tmp_path / "away", levels))) == here
    assert digests(load_stimuli(tmp_path / "there.csv")) == here
    assert digests(load_stimuli(tmp_path / "set.tar")) == here
    assert here[0] == here[3]
    assert len({*here}) == 3
    assert {len(digest) for digest in here} == {16}


def test_one_byte_changes_it(tmp_path):
    root = folder(tmp_path / "a", range(4))
    stimuli = load_stimuli(root)
    before = digests(stimuli)
    data = bytearray((root / "2.png").read_bytes())
    data[-20] ^= 1
    (root / "2.png").write_bytes(data)
    assert [a == b for a, b in zip(before, digests(stimuli), strict=True)] == [True, True, False, True]


def test_take_keeps_in_step(tmp_path):
    stimuli = load_stimuli(folder(tmp_path / "a", range(5)))
    every = digests(stimuli)
    assert digests(stimuli.take([4, 1, 1 + 2, 0]).take([2, 0])) == [every[3], every[4]]


def test_a_second_side_has_its_own(tmp_path):
    a, b = folder(tmp_path / "a", range(4)), folder(tmp_path / "b", [9, 1, 8, 3])
    first, second = load_stimuli_pair(a, b)
    assert [x == y for x, y in zip(digests(first), digests(second), strict=True)] == [False, True, False, True]
    (tmp_path / "list.csv").write_text("path,path_b\n" + "".join(f"a/{k}.png,b/{k}.png\n" for k in range(4)))
    listed, listed_b = load_stimuli_pair(tmp_path / "list.csv")
    assert (digests(listed), digests(listed_b)) == (digests(first), digests(second))


def test_a_file_that_vanished_is_the_systems_error(tmp_path):
    root = folder(tmp_path / "a", range(4))
    stimuli = load_stimuli(root)
    (root / "1.png").unlink()
    with pytest.raises(FileNotFoundError):
        stimuli.content(1)


def test_the_bytes_shape_and_type_of_an_array_count(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 8, 3), dtype=np.uint8)
    pixels[3] = pixels[0]

    def of(array):
        np.save(tmp_path / "a.npy", array)
        return digests(load_stimuli(tmp_path / "a.npy"))

    found = of(pixels)
    assert found[0] == found[3] != found[1]
    assert of(np.moveaxis(pixels, 3, 1)) == found  # the same pictures, channels first
    assert not {*of(pixels.reshape(4, 8, 6, 3))} & {*found}
    assert not {*of(np.zeros((4, 6, 8), np.uint8))} & {*of(np.zeros((4, 6, 8), np.float16))}


def test_windows_of_bundled_photographs_differ():
    stimuli = load_stimuli("bundled:photos")
    every = digests(stimuli)
    assert len({*every}) == len(every)
    assert digests(load_stimuli("bundled:photos")) == every
    colour = load_stimuli("bundled:photos:colour")
    shared = {*colour.ids} & {*stimuli.ids}
    assert shared
    of = dict(zip(stimuli.ids, every, strict=True))
    assert all(of[name] == colour.content(i) for i, name in enumerate(colour.ids) if name in shared)


def test_frames_differ_and_stay_the_same_whatever_was_asked_for(tmp_path):
    film(tmp_path / "clips" / "a.mp4", [k / 10 for k in range(40)], **MPEG4)
    every = load_stimuli(f"video:{tmp_path}/clips/a.mp4:fps=all")
    of = dict(zip(every.ids, digests(every), strict=True))
    assert len({*of.values()}) == 40
    some = load_stimuli(f"video:{tmp_path}/clips/:fps=2,max=5")
    assert digests(some) == [of[name] for name in some.ids]
    (tmp_path / "clips" / "b.mp4").write_bytes((tmp_path / "clips" / "a.mp4").read_bytes())
    both = load_stimuli(f"{tmp_path}/clips/")
    assert digests(both)[:4] == digests(both)[4:]


def test_a_video_is_read_once_for_all_its_frames_and_threads(tmp_path, monkeypatch):
    film(tmp_path / "a.mp4", [k / 10 for k in range(40)], **MPEG4)
    stimuli = load_stimuli(f"video:{tmp_path}/a.mp4:fps=all")
    opened = []
    real = Path.open
    monkeypatch.setattr(Path, "open", lambda self, *args, **more: opened.append(self) or real(self, *args, **more))
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(stimuli.content, range(40)))
    assert opened == [tmp_path / "a.mp4"]
    assert len({*found}) == 40


def test_parts_are_told_apart():
    assert content.digest_parts("a", "bc", 1) != content.digest_parts("a", "b", "c1")
    assert content.digest_parts("a", 12) != content.digest_parts("b", 12)
    assert content.digest_parts("a", 12) == content.digest_parts("a", b"12")


def test_no_picture_is_decoded(tmp_path, monkeypatch):
    stimuli = read_stimuli(folder(tmp_path / "a", range(4)))
    monkeypatch.setattr(Image, "open", lambda *_: pytest.fail("a picture was opened"))
    assert len({*digests(stimuli)}) == 4
