import gzip
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from tars import level, pack, png, shard

from repalign.errors import InputError, UnreadableImagesError
from repalign.stimuli import load_stimuli, load_stimuli_pair
from repalign.stimuli.shards import expand, find
from repalign.stimuli.wds import load


@pytest.fixture
def shards(tmp_path):
    """Three shards of four pictures, 0 to 11."""
    for k in range(3):
        shard(tmp_path / "set" / f"train-{k:03d}.tar", 4 * k)
    return tmp_path / "set"


@pytest.mark.parametrize("spec", ["{}", "{}/", "{}/train-{{000..002}}.tar", "{}/*.tar", "{}/train-00{{0,1,2}}.tar"])
def test_all_ways_to_name_shards(shards, spec):
    stimuli = load_stimuli("wds:" + spec.format(shards))
    assert stimuli.ids == tuple(f"train-{k // 4:03d}/{k:04d}.png" for k in range(12))
    assert [level(stimuli.load(i)) for i in range(12)] == list(range(12))
    assert (stimuli.groups, stimuli.labels, stimuli.skipped) == (None, None, ())


def test_one_shard_needs_no_prefix(shards):
    assert load_stimuli(shards / "train-001.tar").ids[0] == "train-001/0004.png"


def test_braces():
    assert expand("{9..11}") == ["9", "10", "11"]
    assert expand("{2..0}{a,b}") == ["2a", "2b", "1a", "1b", "0a", "0b"]
    assert expand("a{b}c{}") == ["a{b}c{}"]
    with pytest.raises(InputError, match="names over 1,000,000 shards; name fewer"):
        expand("{0..1000000}.tar")


def test_shards_of_several_folders_keep_their_names_apart(tmp_path):
    for part in ("ab", "ac"):
        shard(tmp_path / part / "0.tar", 0)
    stimuli = load(f"{tmp_path}/*/0.tar")
    assert stimuli.ids[0] == "ab/0/0000.png"
    assert stimuli.ids[4] == "ac/0/0000.png"


def test_labels_from_classes_or_records(tmp_path):
    shard(tmp_path / "a.tar", 0, cls=lambda k: f"{k % 2}\n".encode())
    shard(tmp_path / "b.tar", 4, json=lambda k: json.dumps({"label": f"c{k}", "x": 1}).encode(), txt=lambda _: b"text")
    assert load(tmp_path / "a.tar").labels == ("0", "1", "0", "1")
    assert load(tmp_path).labels == ("0", "1", "0", "1", "c4", "c5", "c6", "c7")
    shard(tmp_path / "c.tar", 8, json=lambda k: b"[1]" if k % 2 else b"{")
    assert load(tmp_path).labels is None


def test_hidden_members_are_passed_over_and_samples_without_a_picture_listed(tmp_path):
    names = ["./x/a.png", "x/b.png", "c.v1.PNG", ".d.png", "__MACOSX/e.png", "__meta__/f.png", "g/._h.png", "README"]
    pack(tmp_path / "a.tar", {name: png(k) for k, name in enumerate(names)} | {"z.txt": b"", "z.json": b"{}"})
    stimuli = load(tmp_path / "a.tar")
    assert stimuli.ids == ("a/x/a.png", "a/x/b.png", "a/c.v1.png")
    assert [level(stimuli.load(i)) for i in range(3)] == [0, 1, 2]
    assert stimuli.skipped == (("a/z", "no picture among txt, json"),)


def test_several_pictures_in_a_sample_need_a_choice(tmp_path):
    pack(tmp_path / "a.tar", {f"{k}.{end}": png(k + add) for k in range(4) for end, add in (("png", 0), ("m.png", 9))})
    with pytest.raises(InputError) as caught:
        load(tmp_path / "a.tar")
    assert str(caught.value) == (
        "wds: a: the sample 0 has several pictures (m.png, png); say which is meant, as in wds:PATH:ext=m.png"
    )
    stimuli = load_stimuli(f"wds:{tmp_path}/a.tar:ext=m.png,jpg")
    assert [level(stimuli.load(i)) for i in range(4)] == [9, 10, 11, 12]
    with pytest.raises(InputError, match=r"no picture ending in bmp in 1 shards; give \.tar files"):
        load(f"{tmp_path}/a.tar:ext=bmp")


def test_many_threads_read_at_once(shards):
    stimuli = load(shards)
    places = [i % 12 for i in range(240)]
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(lambda i: level(stimuli.load(i)), places)) == places


def test_damaged_shards_are_named_with_the_byte_or_kept_as_far_as_they_go(shards):
    data = (shards / "train-001.tar").read_bytes()
    (shards / "train-001.tar").write_bytes(data[:2100])
    bad = bytearray((shards / "train-002.tar").read_bytes())
    bad[1024] ^= 1
    (shards / "train-002.tar").write_bytes(bad)
    with pytest.raises(UnreadableImagesError) as caught:
        load_stimuli(f"wds:{shards}")
    cut = "it is cut off: it ends at byte 2,100, without the archive's end mark"
    flipped = "at byte 1,024 a member's header is expected, and what stands there is none"
    assert str(caught.value) == (
        f"wds: {shards}: 2 of 3 shards are damaged: train-001.tar ({cut}); train-002.tar ({flipped}); "
        "mend them, or go on with the pictures before the damage with --skip-unreadable"
    )
    stimuli = load_stimuli(f"wds:{shards}", skip_unreadable=True)
    assert stimuli.skipped == (("train-001.tar", cut), ("train-002.tar", flipped)) == caught.value.skipped
    assert stimuli.ids[4:] == ("train-001/0004.png", "train-001/0005.png", "train-002/0008.png")


def test_a_name_twice_in_a_shard_is_damage(tmp_path):
    pack(tmp_path / "a.tar", [("a.png", png(0)), ("a.png", png(1))])
    with pytest.raises(UnreadableImagesError, match=r"a\.png stands in it twice, the second time at byte 1,536"):
        load(tmp_path / "a.tar")


def test_a_picture_that_can_not_be_decoded_shows_when_it_is_loaded(tmp_path):
    pack(tmp_path / "a.tar", {f"{k}.png": b"text" if k else png(k) for k in range(4)})
    stimuli = load(tmp_path / "a.tar")
    assert level(stimuli.load(0)) == 0
    with pytest.raises(InputError, match=r"a/1\.png in .*/a\.tar can't be read as a picture: it is in no format"):
        stimuli.load(1)


def test_a_shard_that_vanishes_or_shrinks(shards):
    stimuli = load(shards)
    (shards / "train-002.tar").write_bytes((shards / "train-002.tar").read_bytes()[:520])
    with pytest.raises(InputError, match=r"train-002/0008\.png in .* can't be read: .* became shorter .*put the shard"):
        stimuli.load(8)
    with pytest.raises(OSError, match="it became shorter"):
        stimuli.content(8)
    (shards / "train-002.tar").unlink()
    with pytest.raises(InputError, match="No such file or directory; put the shard back"):
        stimuli.load(8)
    with pytest.raises(FileNotFoundError):
        stimuli.content(8)


def test_packed_shards_are_refused(shards):
    (shards / "x.tar").write_bytes(gzip.compress((shards / "train-000.tar").read_bytes()))
    with pytest.raises(
        InputError, match=r"x\.tar is packed by gzip, and its pictures must be read in any order; unpack"
    ):
        load(shards / "x.tar")


def test_names_of_no_shard(shards, tmp_path):
    with pytest.raises(InputError, match=r"there is no shard .*train-003\.tar .*did you mean"):
        find(f"{shards}/train-{{000..003}}.tar")
    with pytest.raises(InputError, match=r"wds: .*x\*\.tar names no shard; give \.tar files"):
        find(f"{shards}/x*.tar")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"names no shard; give \.tar files: a folder of them, \{000\.\.009\} or \*"):
        find(f"{tmp_path}/empty")
    with pytest.raises(InputError, match=r"train-000\.tar is named more than once; name each shard once"):
        find(f"{shards}/train-{{000,000}}.tar")


def test_two_sets_pair(shards, tmp_path):
    for k in range(3):
        shard(tmp_path / "other" / f"train-{k:03d}.tar", 4 * k)
    first, second = load_stimuli_pair(f"wds:{shards}", f"wds:{tmp_path}/other")
    assert first.ids == second.ids
    assert first.content(3) == second.content(3) != second.content(4)
