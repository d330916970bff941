"""The cache: entries come back as they were or not at all, and what is removed is what was unused for longest."""

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from repalign.cache import Cache, key_of, open_cache, places, store, temporary_cache
from repalign.cache.entry import FORMAT
from repalign.cache.files import TAG, file_of, in_words, look, remove, remove_empty
from repalign.errors import InputError, RepalignWarning

KEY = key_of("one")
ROWS = {"blocks.0": torch.arange(6.0).reshape(3, 2)}


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


def fill(cache, count, floats=1000, start=0):
    """Put `count` entries of a bit more than `4 * floats` bytes, each used a minute after the one before."""
    keys = [key_of(start + k) for k in range(count)]
    for k, key in enumerate(keys):
        cache.put(key, {"x": torch.full((floats,), float(k))})
        long_ago = time.time() - 1e6 + 60 * (start + k)
        if file_of(cache.root, key).exists():
            os.utime(file_of(cache.root, key), (long_ago, long_ago))
    return keys


def held(cache):
    return {file.key for file in look(cache.root).entries}


def test_an_entry_comes_back_as_it_was(cache):
    whole = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    tensors = {
        "float32": whole, "float64": whole.double(), "bfloat16": whole.bfloat16(), "int64": torch.arange(3),
        "slice": whole[:, 1:3], "rows": whole[1:3], "same": whole, "transposed": whole.T, "empty": torch.empty(0, 5),
        "number": torch.tensor(2.5), "needs grad": torch.ones(2, requires_grad=True), "channels last":
        torch.randn(1, 2, 3, 4).to(memory_format=torch.channels_last),
    }  # fmt: skip
    record = {"about": {"layer": 'a"checksum":"b', "n": 3}, "reasons": ["", "é"], "share": 0.1, "none": None}
    cache.put(KEY, tensors, record)
    entry = Cache(cache.root).get(KEY)
    assert entry.record == record
    assert list(entry.tensors) == sorted(tensors, key=list(entry.tensors).index)
    for name, tensor in tensors.items():
        assert entry.tensors[name].dtype == tensor.dtype
        assert torch.equal(entry.tensors[name], tensor)


def test_an_entry_may_be_a_record_alone(cache):
    cache.put(KEY, {}, {"digests": ["a", "b"]})
    entry = cache.get(KEY)
    assert (dict(entry.tensors), entry.record) == ({}, {"digests": ["a", "b"]})


def test_what_is_not_there_is_none_and_makes_no_folder(cache):
    assert cache.get(KEY) is None
    assert not cache.root.exists()


def test_a_later_entry_replaces_an_earlier_one(cache):
    cache.put(KEY, ROWS)
    cache.put(KEY, {"x": torch.zeros(1)})
    assert list(cache.get(KEY).tensors) == ["x"]
    assert len(look(cache.root).entries) == 1


def refuse(cache, damaged, match=r"computed again"):
    """Check that `damaged` bytes in the entry's place are refused with a warning, and removed."""
    path = file_of(cache.root, KEY)
    path.write_bytes(damaged)
    with pytest.warns(RepalignWarning, match=match) as caught:
        assert cache.get(KEY) is None
    assert str(path) in str(caught[0].message)
    assert not path.exists()
    assert cache.get(KEY) is None  # silently: it is a miss now


@pytest.fixture
def whole(cache):
    cache.put(KEY, ROWS, {"about": {"layer": "blocks.0"}})
    return file_of(cache.root, KEY).read_bytes()


def test_a_flipped_bit_anywhere_is_noticed(cache, whole):
    for place in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << (place // 7 % 8)
        refuse(cache, bytes(damaged))


def test_a_cut_or_lengthened_file_is_noticed(cache, whole):
    for length in range(0, len(whole), 7):
        refuse(cache, whole[:length])
    refuse(cache, whole + b"\0")
    refuse(cache, whole[:-1])
    refuse(cache, bytes(len(whole)))


def test_another_entry_or_format_in_the_place_is_noticed(cache, whole, monkeypatch):
    cache.put(key_of("two"), ROWS)
    refuse(cache, file_of(cache.root, key_of("two")).read_bytes(), match=f"for {KEY}")
    monkeypatch.setattr("repalign.cache.entry.FORMAT", "repalign-cache-0")
    cache.put(KEY, ROWS)
    old = file_of(cache.root, KEY).read_bytes()
    monkeypatch.setattr("repalign.cache.entry.FORMAT", FORMAT)
    refuse(cache, old, match="repalign-cache-0")
    from safetensors.torch import save

    refuse(cache, save(ROWS), match="never an entry")


def test_a_folder_in_the_place_is_a_miss_with_a_warning(cache):
    file_of(cache.root, KEY).mkdir(parents=True)
    with pytest.warns(RepalignWarning, match="can't be used: Is a directory"):
        assert cache.get(KEY) is None


def test_a_use_is_noted_once_in_a_run(cache):
    path = file_of(cache.root, KEY)
    cache.put(KEY, ROWS)
    reader = Cache(cache.root)
    os.utime(path, (1e9, 1e9))
    reader.get(KEY)
    assert time.time() - path.stat().st_mtime < 100
    os.utime(path, (1e9, 1e9))
    reader.get(KEY)
    assert path.stat().st_mtime == 1e9


def test_what_was_unused_for_longest_goes_first(cache):
    keys = fill(cache, 10)
    Cache(cache.root).get(keys[1])
    size = look(cache.root).size
    new = Cache(cache.root, most=size)
    new.put(KEY, ROWS)
    removed = set(keys) - held(cache)
    assert removed == {keys[0], keys[2]}  # a tenth of room and what is too much
    assert look(cache.root).size <= 0.9 * size


def test_what_a_run_has_read_written_or_pinned_stays(cache):
    keys = fill(cache, 6)
    new = Cache(cache.root, most=look(cache.root).size // 2)
    new.pin([keys[0], "not there"])
    new.get(keys[1])
    new.put(KEY, ROWS)
    assert {keys[0], keys[1], KEY} <= held(cache)
    assert not {keys[2], keys[3], keys[4]} & held(cache)


def test_a_run_larger_than_the_cap_says_so_once_and_goes_on(cache):
    small = Cache(cache.root, most=20_000)
    with pytest.warns(RepalignWarning, match=r"20\.0 kB .*REPALIGN_CACHE_SIZE") as caught:
        keys = fill(small, 20)
    assert len(caught) == 1
    assert held(cache) == set(keys)
    later = Cache(cache.root, most=20_000)
    later.put(KEY, ROWS)
    assert look(cache.root).size <= 20_000
    assert KEY in held(cache)


def test_the_folder_is_walked_seldom(cache, monkeypatch):
    walks = []
    monkeypatch.setattr(store, "look", lambda root: walks.append(root) or look(root))
    new = Cache(cache.root, most=1_000_000)
    fill(new, 20, floats=1000)
    assert len(walks) == 1
    with pytest.warns(RepalignWarning, match="this run alone"):
        fill(new, 480, floats=1000, start=20)
    assert 10 <= len(walks) <= 30  # a tenth of the cap apart
    assert Cache(cache.root).get(key_of(499)) is not None


def test_files_of_others_are_never_touched(cache):
    fill(cache, 3)
    foreign = [
        cache.root / "thesis.txt",
        cache.root / key_of(0)[:2] / "notes.safetensors",
        cache.root / "zz" / "zz.part",
    ]
    for path in foreign:
        path.parent.mkdir(exist_ok=True)
        path.write_text("work")
    assert len(remove(look(cache.root).entries)) == 3
    remove_empty(cache.root)
    assert sorted(p for p in cache.root.rglob("*") if p.is_file()) == sorted(foreign)
    assert all(path.read_text() == "work" for path in foreign)


def test_parts_of_killed_runs_go_and_those_of_live_ones_stay(cache):
    fill(cache, 1)
    folder = file_of(cache.root, key_of(0)).parent
    dead, fresh = (folder / f".{folder.name}{name}.part" for name in ("dead", "fresh"))
    for part in (dead, fresh):
        part.write_bytes(b"half")
    os.utime(dead, (1e9, 1e9))
    Cache(cache.root, most=10**9).put(KEY, ROWS)
    assert (dead.exists(), fresh.exists()) == (False, True)


def test_a_full_disk_is_said_once_and_leaves_nothing_half_written(cache, monkeypatch):
    cache.put(key_of("before"), ROWS)
    whole_open = Path.open

    def open_full(path, mode="r", *rest, **options):
        file = whole_open(path, mode, *rest, **options)
        if "x" not in mode:
            return file
        full = Path("/dev/full").open("wb", buffering=0)  # noqa: SIM115  closed by the code under test
        file.close()
        return full

    monkeypatch.setattr(Path, "open", open_full)
    with pytest.warns(RepalignWarning, match="No space left on device.*goes on") as caught:
        fill(cache, 5)
    assert len(caught) == 1
    monkeypatch.undo()
    assert held(cache) == {key_of("before")}
    assert not look(cache.root).parts
    assert cache.get(key_of("before")) is not None


def test_a_cache_that_vanishes_meanwhile_stops_nothing(cache, monkeypatch):
    def vanished(*_):
        raise FileNotFoundError(errno.ENOENT, "cleared")

    monkeypatch.setattr(store, "write", vanished)
    cache.put(KEY, ROWS)
    monkeypatch.undo()
    cache.put(KEY, ROWS)
    assert cache.get(KEY) is not None


def test_an_unwritable_folder_is_one_clear_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "inside"):
        with pytest.raises(
            InputError, match=f"cache folder {folder} can't be written .*REPALIGN_CACHE, or .*--no-cache"
        ):
            open_cache(folder)
    monkeypatch.setattr(places.os, "access", lambda *_: False)
    with pytest.raises(InputError, match="Permission denied"):
        open_cache(tmp_path / "read-only")


def test_the_place_and_the_cap_come_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("REPALIGN_CACHE", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("REPALIGN_CACHE_SIZE", "5GB")
    cache = open_cache()
    assert (cache.root, cache.most) == (tmp_path / "elsewhere", 5_000_000_000)
    assert (cache.root / TAG).read_text().startswith("Signature: 8a477f597d28d172789f06886806bc55\n")
    assert open_cache(tmp_path / "named", most=7).most == 7
    monkeypatch.setenv("REPALIGN_CACHE_SIZE", "much")
    with pytest.raises(InputError, match=r"REPALIGN_CACHE_SIZE.*much"):
        open_cache()
    monkeypatch.delenv("REPALIGN_CACHE_SIZE")
    assert 0 < open_cache().most <= 20_000_000_000
    monkeypatch.delenv("REPALIGN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert places.default_folder().name == "repalign"


def test_a_temporary_cache_ends_with_its_block(tmp_path):
    with temporary_cache(tmp_path) as cache:
        fill(cache, 3)
        assert cache.root.parent == tmp_path
        assert cache.most is None
    assert not list(tmp_path.iterdir())
    with pytest.raises(TypeError), temporary_cache(tmp_path):
        key_of(object())
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="--no-cache"), temporary_cache(tmp_path / "nowhere"):
        pass


HOLD = """
import sys, time
from pathlib import Path
from repalign.cache import temporary_cache
with temporary_cache(Path(sys.argv[1])) as cache:
    print(cache.root, flush=True)
    time.sleep(100)
"""


def test_a_killed_runs_temporary_cache_is_removed_by_the_next_and_a_live_ones_is_not(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True) as run:
        folder = Path(run.stdout.readline().strip())
        os.utime(folder, (1e9, 1e9))
        with temporary_cache(tmp_path):
            assert folder.is_dir()
        run.kill()
    assert folder.is_dir()
    with temporary_cache(tmp_path):
        assert not folder.exists()


@pytest.mark.parametrize(
    ("size", "words"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (250_000_000, "250 MB"), (3 * 10**12, "3.0 TB")]
)
def test_sizes_in_words(size, words):
    assert in_words(size) == words


def test_importing_the_cache_does_not_import_torch():
    code = "import sys, repalign.cache, repalign.cache_cli, repalign.cache.listing; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
