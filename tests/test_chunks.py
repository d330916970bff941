"""Features by chunks: kept in the cache, read again, gone on with, and held or read by blocks."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import repalign.chunks
from repalign.cache import Cache
from repalign.chunks import How
from repalign.encoders import load_encoder
from repalign.encoders.structure import select
from repalign.errors import RepalignError, RepalignWarning
from repalign.extract import Request, extract, extract_large
from repalign.filters import load_filter
from repalign.forward import Runner
from repalign.pooling import parse_pool
from repalign.stimuli import load_stimuli
from repalign.subset import subset
from repalign.together import Together
from repalign.types import Stimuli


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Twelve pictures are three chunks."""
    monkeypatch.setattr(repalign.chunks, "CHUNK", 5)


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


def request(nets, name="net", pool="mean", filter_=None, choice="blocks"):
    encoder = load_encoder(f"{nets}:{name}")
    return Request(encoder, select(encoder.layers, choice), parse_pool(pool), filter_)


def counted(stimuli):
    """The same stimuli, and how often each is decoded."""
    loads = Counter()

    def load(i):
        loads[i] += 1
        return stimuli.load(i)

    return replace(stimuli, load=load), loads


@pytest.fixture
def ran(monkeypatch):
    """How many pictures each forward pass had."""
    sizes, begin = [], Runner.begin
    monkeypatch.setattr(Runner, "begin", lambda self, pixels: sizes.append(len(pixels)) or begin(self, pixels))
    return sizes


def same(a, b):
    assert (a.ids, a.groups, a.filter, a.pool) == (b.ids, b.groups, b.filter, b.pool)
    assert {k: v for k, v in a.meta.items() if k != "seconds"} == {k: v for k, v in b.meta.items() if k != "seconds"}
    assert list(a.layers) == list(b.layers)
    for name, rows in a.layers.items():
        assert torch.equal(rows, b.layers[name])


def test_a_second_run_decodes_and_computes_nothing(nets, photos, cache, ran):
    stimuli, loads = counted(load_stimuli(str(photos)))
    grey = load_filter("grey")
    wanted = [request(nets), request(nets, "other"), request(nets, pool="max"), request(nets, filter_=grey)]
    plain = extract(wanted, load_stimuli(str(photos)))
    first = extract(wanted, stimuli, cache=cache)
    assert max(loads.values()) == 1
    loads.clear()
    ran.clear()
    second = extract(wanted, stimuli, cache=cache)
    assert not loads
    assert not ran
    for one, other, uncached in zip(first, second, plain, strict=True):
        same(one, other)
        same(one, uncached)
    assert second[3].meta["difference"] > 0


def test_what_makes_features_different_is_computed_anew(nets, photos, cache, ran):
    stimuli, wanted = load_stimuli(str(photos)), request(nets)
    extract([wanted], stimuli, cache=cache)
    others = {
        "weights": request(nets, "other"),
        "pool": replace(wanted, pool=parse_pool("max")),
        "filter": replace(wanted, filter=load_filter("grey")),
        "preprocessing": replace(
            wanted, encoder=replace(wanted.encoder, preprocess=brighter(wanted.encoder.preprocess))
        ),
    }
    for what, other in others.items():
        (alone,) = extract([other], stimuli)
        (found,) = extract([other], stimuli, cache=cache)
        same(alone, found)
        assert not torch.equal(found.layers["0.1"], extract([wanted], stimuli)[0].layers["0.1"]), what
    ran.clear()
    extract([wanted], stimuli, How(precision="bf16"), cache=cache)
    assert sum(ran) == 12
    extract([wanted], stimuli, cache=cache)
    assert sum(ran) == 12


def brighter(preprocess):
    return lambda picture: preprocess(picture) + 0.25


def test_a_changed_picture_costs_its_chunk_alone(nets, photos, cache):
    wanted = request(nets)
    extract([wanted], load_stimuli(str(photos)), cache=cache)
    stimuli, loads = counted(load_stimuli(str(photos)))
    Image.new("RGB", (8, 8), "red").save(photos / stimuli.ids[6])
    (found,) = extract([wanted], stimuli, cache=cache)
    assert sorted(loads) == [5, 6, 7, 8, 9]
    same(found, extract([wanted], load_stimuli(str(photos)))[0])


def test_more_layers_use_what_is_there_for_the_old_ones(nets, photos, cache):
    stimuli, few = load_stimuli(str(photos)), request(nets, choice="0.0")
    extract([few], stimuli, cache=cache)
    entries = sum(1 for _ in cache.root.rglob("*.safetensors"))
    both = extract([few, replace(few, layers=select(few.encoder.layers, "blocks"))], stimuli, cache=cache)
    assert torch.equal(both[0].layers["0.0"], both[1].layers["0.0"])
    assert sum(1 for _ in cache.root.rglob("*.safetensors")) == entries + 2 * 3  # two more layers, three chunks


@pytest.mark.parametrize("damage", ["cut", "flipped", "gone"])
def test_a_damaged_chunk_is_noticed_and_computed_again(nets, photos, cache, damage):
    stimuli, wanted = load_stimuli(str(photos)), request(nets)
    (first,) = extract([wanted], stimuli, cache=cache)
    file = sorted(cache.root.rglob("*.safetensors"))[3]
    contents = bytearray(file.read_bytes())
    if damage == "gone":
        file.unlink()
        (again,) = extract([wanted], stimuli, cache=cache)
    else:
        contents[-3] ^= 4
        file.write_bytes(contents[:-9] if damage == "cut" else contents)
        with pytest.warns(RepalignWarning, match="computed again"):
            (again,) = extract([wanted], stimuli, cache=Cache(cache.root))
    same(first, again)
    stimuli, loads = counted(stimuli)
    extract([wanted], stimuli, cache=cache)
    assert not loads


def test_unreadable_pictures_are_known_from_the_cache_too(nets, photos, cache):
    (photos / "cats" / "07.png").write_bytes(b"no picture")
    stimuli, wanted = load_stimuli(str(photos)), request(nets)
    first, again = (extract([wanted], stimuli, skip_unreadable=True, cache=cache)[0] for _ in range(2))
    same(first, again)
    assert [name for name, _ in again.meta["skipped"]] == ["cats/07.png"]
    with pytest.raises(RepalignError, match=r"1 of 12 pictures can't be decoded: cats/07.png"):
        extract([wanted], stimuli, cache=cache)


def test_stimuli_of_unknown_content_are_not_kept(nets, photos, cache):
    stimuli = replace(load_stimuli(str(photos)), content=None)
    extract([request(nets)], stimuli, cache=cache)
    assert not list(cache.root.rglob("*.safetensors"))


@pytest.mark.parametrize("known", [True, False])
def test_of_many_stimuli_some_are_held_and_all_can_be_read(nets, photos, cache, known):
    stimuli = load_stimuli(str(photos))
    stimuli = replace(stimuli, groups=tuple(name.split("/")[0] for name in stimuli.ids))
    stimuli = stimuli if known else replace(stimuli, content=None)
    wanted = [request(nets), request(nets, pool="max")]
    keep = subset(12, stimuli.groups, 5, 0)
    for one, whole in zip(extract_large(wanted, stimuli, keep, cache, How()), extract(wanted, stimuli), strict=True):
        same(one.activations, replace(whole.join([stimuli.ids[i] for i in keep]), meta=one.activations.meta))
        assert one.ids == stimuli.ids
        assert one.rows.widths == {name: rows.shape[1] for name, rows in whole.layers.items()}
        assert [len(block) for block in one.rows.ids] == [5, 5, 2]
        assert sum(one.rows.groups, ()) == stimuli.groups
        for name, rows in whole.layers.items():
            assert torch.equal(torch.cat([one.rows.read(k, [name])[name] for k in range(3)]), rows)


def test_rows_that_vanish_are_an_error_and_not_a_wrong_number(nets, photos, cache):
    stimuli = load_stimuli(str(photos))
    (one,) = extract_large([request(nets)], stimuli, [0, 1, 2, 3], cache, How())
    for file in cache.root.rglob("*.safetensors"):
        file.unlink()
    with pytest.raises(RepalignError, match="can't be read back"):
        one.rows.read(0, ["0.0"])


@pytest.mark.parametrize("world", [2, 3, 5])
def test_several_processes_have_together_what_one_has(nets, photos, cache, world):
    (photos / "cats" / "07.png").write_bytes(b"no picture")
    stimuli, wanted = load_stimuli(str(photos)), [request(nets), request(nets, pool="max")]
    alone = extract(wanted, stimuli, skip_unreadable=True)
    sent = []
    for rank in reversed(range(world)):  # rank 0 last, when it can gather what the others have sent

        def gather(value, rank=rank):
            sent.insert(0, value)
            return sent if rank == 0 else None

        together = Together(rank, world, lambda tensor: tensor, gather)
        found = extract_large(
            wanted, stimuli, range(len(stimuli)), cache, How(), skip_unreadable=True, together=together
        )
        assert len(found[0].rows.ids) == len(range(rank, 3, world))
    for one, whole in zip(found, alone, strict=True):
        same(one.activations, whole)
        assert one.ids == whole.ids


KILLED = """
import sys
from pathlib import Path
import repalign.chunks
from repalign.cache import Cache
from repalign.chunks import How
from repalign.encoders import load_encoder
from repalign.encoders.structure import select
from repalign.extract import Request, extract
from repalign.pooling import parse_pool
from repalign.stimuli import load_stimuli
repalign.chunks.CHUNK = 5
encoder = load_encoder("python:tinynets:net")
print("ready", flush=True)
extract([Request(encoder, select(encoder.layers, "blocks"), parse_pool("mean"))], load_stimuli(sys.argv[1]),
        How(batch_size=2), cache=Cache(Path(sys.argv[2])))
"""


def test_killed_runs_are_gone_on_with_to_the_same_bits(nets, photos, tmp_path, cache):
    rng = np.random.default_rng(1)
    for k in range(12, 60):
        Image.fromarray(rng.integers(0, 256, (300, 300, 3), dtype=np.uint8)).save(photos / "cats" / f"{k}.png")
    stimuli, wanted = load_stimuli(str(photos)), request(nets)
    (whole,) = extract([wanted], stimuli, How(batch_size=2), cache=Cache(tmp_path / "other"))
    stopped = []
    for after in (0.05, 0.15, 0.3):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(photos), str(cache.root)],
            stdout=subprocess.PIPE,
            cwd=tmp_path,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        process.stdout.readline()
        time.sleep(after)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        stopped.append(len(list(cache.root.rglob("*.safetensors"))))
    (found,) = extract([wanted], stimuli, How(batch_size=2), cache=cache)
    same(found, whole)
    assert min(stopped) < len(list(cache.root.rglob("*.safetensors"))), "no run was stopped in the middle"
    names = {f.stem for f in cache.root.rglob("*.safetensors")}
    assert names == {f.stem for f in (tmp_path / "other").rglob("*.safetensors")}


def test_the_subset_gives_every_group_its_share():
    groups = ["a"] * 100 + ["b"] * 300 + ["c"] * 600
    chosen = subset(1000, groups, 100, 1)
    assert Counter(groups[i] for i in chosen) == {"a": 10, "b": 30, "c": 60}
    assert chosen == sorted(set(chosen))
    assert chosen != subset(1000, groups, 100, 2)
    assert subset(4, None, 10, 0) == [0, 1, 2, 3]


def test_the_subset_is_a_fair_draw_without_groups():
    counts = Counter(i for seed in range(2000) for i in subset(10, None, 3, seed))
    assert all(abs(counts[i] - 600) < 5 * (600 * 0.7) ** 0.5 for i in range(10))


def test_of_more_groups_than_places_each_has_the_same_chance():
    groups = [str(i // 3) for i in range(30)]
    counts = Counter(groups[i] for seed in range(2000) for i in subset(30, groups, 5, seed))
    assert all(abs(counts[g] - 1000) < 5 * 500**0.5 for g in set(groups))


def test_a_stimulus_whose_file_is_gone_is_named(nets, photos, cache):
    stimuli = load_stimuli(str(photos))
    (photos / stimuli.ids[0]).unlink()
    with pytest.raises(RepalignError, match=stimuli.ids[0]):
        extract([request(nets)], stimuli, cache=cache)


def test_one_stimulus_alone_is_a_chunk(nets, photos, cache):
    stimuli = load_stimuli(str(photos)).take([3])
    assert isinstance(stimuli, Stimuli)
    (found,) = extract([request(nets)], stimuli, cache=cache)
    assert found.ids == stimuli.ids
