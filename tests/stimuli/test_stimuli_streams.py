import gzip
import http.server
import shutil
import sys
import threading
from functools import partial

import pyarrow
import pyarrow.parquet
import pytest
import webdataset
from datasets import Dataset, DatasetDict, Features, Value
from datasets import Image as Column
from tars import level, pack, png, shard
from webdataset.tariterators import tarfile_samples

from repalign.errors import InputError, UnreadableImagesError
from repalign.stimuli import STREAMS, Skipped, load_stimuli, load_stream
from repalign.stimuli.content import digest_bytes
from repalign.stimuli.stream import AHEAD, Item, decoded, share


@pytest.fixture
def shards(tmp_path):
    """Three shards of four pictures, 0 to 11."""
    for k in range(3):
        shard(tmp_path / f"train-{k}.tar", 4 * k, txt=lambda _: b"text")
    return tmp_path


@pytest.fixture
def tables(tmp_path):
    """Four parquet files of three pictures, 0 to 11."""
    kinds = Features({"picture": Column(), "n": Value("int64")})
    for k in range(4):
        rows = [{"picture": {"bytes": png(n), "path": None}, "n": n} for n in range(3 * k, 3 * k + 3)]
        with (tmp_path / f"{k}.parquet").open("wb") as file:
            Dataset.from_list(rows, features=kinds).with_format("arrow").to_parquet(file)
    return tmp_path


def shown(stream, rank=0, world=1):
    found = list(stream.open(rank, world))
    assert all(picture.mode == "RGB" for _, picture in found)
    return {name: level(picture) for name, picture in found}


def specs(folder):
    """A stream of each kind that is found in `folder`, by the number of its shards."""
    return {
        "wds": f"wds:pipe:cat {folder}/train-{{0..2}}.tar",
        "hfdata": f"hfdata:parquet:{folder}/{{0..3}}.parquet",
    }


@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_processes_share_all_pictures_under_the_same_ids(shards, tables, kind, world):
    stream = load_stream(specs(tables)[kind])
    whole = shown(stream)
    assert sorted(whole.values()) == list(whole.values()) == list(range(12))
    shares = [shown(stream, rank, world) for rank in range(world)]
    assert sum(map(len, shares)) == 12
    assert {name: value for one in shares for name, value in one.items()} == whole
    assert all(shares)
    assert list(shown(stream, world - 1, world)) == list(shares[-1])
    assert stream.name == specs(tables)[kind]


def test_shards_have_the_ids_that_they_have_on_disk(shards):
    assert tuple(shown(load_stream(specs(shards)["wds"]))) == load_stimuli(f"wds:{shards}").ids


def test_samples_are_those_of_webdataset(tmp_path):
    with webdataset.TarWriter(str(tmp_path / "a.tar"), encoder=False) as writer:
        for k in range(6):
            writer.write({"__key__": f"cats/v{k % 2}/{k}", "png": png(k), "txt": b"text", "m.cls": b"1"})
    expected = {
        f"a/{sample['__key__']}.png": sample["png"]
        for sample in tarfile_samples([{"url": f"pipe:cat {tmp_path}/a.tar"}])
    }
    stimuli = load_stimuli(f"{tmp_path}/a.tar")
    assert stimuli.ids == tuple(expected)
    assert [stimuli.content(i) for i in range(6)] == [digest_bytes(data) for data in expected.values()]
    assert shown(load_stream(f"wds:pipe:cat {tmp_path}/a.tar")) == {name: k for k, name in enumerate(expected)}


def test_what_is_no_stream(shards):
    assert load_stream(f"wds:{shards}") is None
    assert load_stream(shards) is None
    assert load_stream("bundled:photos") is None
    for spec in ("wds:https://host/0.tar", "wds:pipe:cat 0.tar", "hfdata:cifar10"):
        with pytest.raises(InputError, match=f"{spec} is a stream, which is read once .*; give a folder of images"):
            load_stimuli(spec)


@pytest.mark.skipif(shutil.which("curl") is None, reason="webdataset reads URLs through curl")
def test_urls(shards):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=shards)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        host = f"wds:http://127.0.0.1:{server.server_port}"
        assert list(shown(load_stream(f"{host}/train-{{0..2}}.tar")).values()) == list(range(12))
        with pytest.raises(
            InputError, match=r"wds: http://127.*/none\.tar can't be read: .*; check the shard and the way"
        ):
            shown(load_stream(f"{host}/none.tar"))
        server.shutdown()


def test_packed_shards_and_files_by_url(shards):
    (shards / "a.tar.gz").write_bytes(gzip.compress((shards / "train-1.tar").read_bytes()))
    assert shown(load_stream(f"wds:file://{shards}/a.tar.gz")) == {f"a/{k:04d}.png": k for k in range(4, 8)}
    (shards / "b.tar.gz").write_bytes((shards / "a.tar.gz").read_bytes()[:-100])
    with pytest.raises(InputError, match=r"b\.tar\.gz can't be read: Compressed file ended"):
        shown(load_stream(f"wds:file://{shards}/b.tar.gz"))


def test_a_choice_of_pictures(tmp_path):
    pack(tmp_path / "a.tar", {f"{k}.{end}": png(k + add) for k in range(4) for end, add in (("png", 0), ("m.png", 9))})
    with pytest.raises(InputError, match=r"the sample 0 has several pictures \(m\.png, png\)"):
        shown(load_stream(f"wds:pipe:cat {tmp_path}/a.tar"))
    assert list(shown(load_stream(f"wds:pipe:cat {tmp_path}/a.tar:ext=m.png")).values()) == [9, 10, 11, 12]


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("head -c 3000 {}", "it is cut off: it ends at byte 3,000"),
        ("head -c 2048 {}", "it is cut off: it ends at byte 2,048, without the archive's end mark"),
        ("false", "exit 1|it ends at byte 0"),
        ("cat {} && exit 3", "exit 3"),
        ("cat {}; exec >&-; sleep 0.3; exit 3", "exit 3"),  # known only some time after the last byte
        ("echo {}", "it is cut off"),
        ("cat {}.none", "exit 1"),
        ("tr p q < {}", "at byte 0 a member's header is expected"),
    ],
)
def test_a_shard_that_does_not_arrive_whole_is_an_error(shards, command, reason):
    with pytest.raises(InputError, match=rf"wds: pipe:.* can't be read: .*({reason}).*; check the shard"):
        shown(load_stream("wds:pipe:" + command.format(shards / "train-0.tar"), Skipped()))


def test_a_stream_may_be_left_half_way(shards):
    pictures = load_stream(f"wds:pipe:cat {shards}/train-{{0..2}}.tar").open(0, 1)
    assert next(pictures)[0] == "train-0/0000.png"
    pictures.close()


def test_what_can_not_be_decoded_is_counted_or_an_error(tmp_path):
    pack(tmp_path / "a.tar", {f"{k:02d}.png": b"text" if k % 2 else png(k) for k in range(90)})
    spec = f"wds:pipe:cat {tmp_path}/a.tar"
    with pytest.raises(UnreadableImagesError) as caught:
        shown(load_stream(spec))
    reason = "a/01.png can't be read as a picture: it is in no format Pillow reads; repair the file or leave it out"
    assert str(caught.value) == f"{reason}; or go on without it with --skip-unreadable"
    assert caught.value.skipped == (("a/01.png", reason),)
    skipped = Skipped()
    assert list(shown(load_stream(spec, skipped)).values()) == list(range(0, 90, 2))
    assert skipped.count == 45
    assert len(skipped.first) == 40
    assert skipped.first[0] == ("a/01.png", reason)


def test_only_a_few_pictures_are_decoded_ahead():
    read = []

    def items():
        for k in range(1000):
            read.append(k)
            yield Item(str(k), lambda k=k: png(k % 256))

    pictures = decoded(items(), None)
    assert [next(pictures)[0] for _ in range(3)] == ["0", "1", "2"]
    assert len(read) == AHEAD + 2
    pictures.close()


def test_few_sources_are_shared_by_rows():
    def read(number):
        return iter([f"{number}/{row}" for row in range(5)])

    assert list(share(2, read, 1, 3)) == ["0/1", "0/4", "1/2"]
    assert list(share(4, read, 1, 3)) == [f"1/{row}" for row in range(5)]


def test_a_saved_data_set_with_splits(tmp_path):
    rows = [
        {"image": {"bytes": png(n), "path": "x.png"}, "other": {"bytes": png(n + 9), "path": None}} for n in range(6)
    ]
    kinds = Features({"image": Column(), "other": Column()})
    whole = Dataset.from_list(rows, features=kinds)
    DatasetDict({"test": whole, "train": whole.select(range(4))}).save_to_disk(
        tmp_path / "set", num_shards={"test": 2, "train": 1}
    )
    name = f"hfdata:{tmp_path}/set"
    assert shown(load_stream(f"{name}:test:other")) == {f"test/{n // 3}/{n % 3}": n + 9 for n in range(6)}
    assert len(shown(load_stream(f"{name}::image"))) == 4
    with pytest.raises(InputError, match=r"has 2 picture columns \(image, other\); name one, hfdata:NAME"):
        load_stream(name)
    with pytest.raises(InputError, match=r"unknown split of hfdata:.* 'tests'; did you mean test"):
        load_stream(f"{name}:tests")
    with pytest.raises(InputError, match=r"unknown picture column of hfdata:.* 'n'; known: image, other"):
        load_stream(f"{name}:test:n")
    whole.save_to_disk(tmp_path / "one")
    assert list(shown(load_stream(f"hfdata:{tmp_path}/one::image")).values()) == list(range(6))


def test_a_folder_of_pictures(tmp_path):
    (tmp_path / "train" / "cat").mkdir(parents=True)
    for k in range(5):
        (tmp_path / "train" / "cat" / f"{k}.png").write_bytes(png(k))
    for spec in (f"hfdata:imagefolder:{tmp_path}", f"hfdata:{tmp_path}"):
        assert shown(load_stream(spec)) == {f"train/0/{k}": k for k in range(5)}
        assert list(shown(load_stream(spec), 1, 2).values()) == [1, 3]
    stream = load_stream(spec)
    (tmp_path / "train" / "cat" / "0.png").unlink()
    with pytest.raises(
        UnreadableImagesError, match=r"train/0/0 can't be read: .*No such file.*; mend it or leave it out"
    ):
        next(stream.open(0, 1))


def test_files_that_do_not_say_what_is_a_picture(tmp_path):
    table = pyarrow.table({"jpg": [png(1), png(2), b"", None], "n": [1, 2, 3, 4]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    skipped = Skipped()
    assert shown(load_stream(f"hfdata:parquet:{tmp_path}/*.parquet", skipped)) == {"train/0/0": 1, "train/0/1": 2}
    assert skipped.count == 2
    assert skipped.first[1] == ("train/0/3", "train/0/3 can't be read: it is empty; mend it or leave it out")


def test_data_sets_that_can_not_be_opened(tmp_path, tables, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"hfdata:.*/none can't be read: .*; check the name, the files and the way"):
        load_stream(f"hfdata:{tmp_path}/none")
    for spec in ("", "a:b:c:d", "parquet", "parquet:"):
        with pytest.raises(InputError, match="can't be taken apart; give hfdata:NAME"):
            load_stream(f"hfdata:{spec}")
    (tables / "2.parquet").write_bytes((tables / "2.parquet").read_bytes()[:200])
    with pytest.raises(InputError, match=r"hfdata:parquet:.* can't be read: .*; check the name"):
        shown(load_stream(specs(tables)["hfdata"]))


@pytest.mark.parametrize(("spec", "library"), [("wds:pipe:cat a.tar", "webdataset"), ("hfdata:a/b", "datasets")])
def test_a_missing_library_names_the_extra(monkeypatch, spec, library):
    from repalign.stimuli import wds_stream

    wds_stream._opener.cache_clear()
    for name in [name for name in sys.modules if name.split(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    kind = spec.partition(":")[0]
    with pytest.raises(
        InputError, match=rf"{kind} streams need the library {library}, .*: pip install 'repalign\[stream\]'"
    ):
        load_stream(spec)
