"""Streams through compare: one pass over them gives what the same pictures on disk give."""

import http.server
import io
import json
import shutil
import threading
from copy import deepcopy
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import Dataset, Features
from datasets import Image as Column
from PIL import Image
from streamed import in_processes
from tars import pack
from torchrun import together

import repalign as ra
import repalign.incoming as arriving
from repalign import onepass
from repalign.align import align
from repalign.chunks import How
from repalign.decoding import Request
from repalign.encoders import load_encoder
from repalign.errors import InputError, UnreadableImagesError
from repalign.incoming import Incoming, ahead, passed
from repalign.kept import Known
from repalign.pooling import Pool
from repalign.precision import PrecisionCheck
from repalign.projected import gram_errors
from repalign.stimuli import load_stream
from repalign.stimuli.stream import Skipped, Stream
from repalign.together import ALONE, Together

N, HELD = 300, 80
LINEAR = ["cka_linear", "cka_linear:debiased=false"]


def encoded(seed):
    """A small smooth picture."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    data = io.BytesIO()
    Image.fromarray(small).resize((16, 16), Image.Resampling.BICUBIC).save(data, "PNG")
    return data.getvalue()


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """Three hundred pictures in five shards, in a folder by the same ids, and as parquet."""
    home = tmp_path_factory.mktemp("pictures")
    data = [encoded(k) for k in range(N)]
    for shard in range(5):
        members = {f"{k:04d}.png": data[k] for k in range(60 * shard, 60 * shard + 60)}
        pack(home / f"s-{shard}.tar", members)
        (home / "folder" / f"s-{shard}").mkdir(parents=True)
        for name, picture in members.items():
            (home / "folder" / f"s-{shard}" / name).write_bytes(picture)
    rows = Dataset.from_list([{"image": {"bytes": one, "path": None}} for one in data], Features({"image": Column()}))
    rows.save_to_disk(home / "saved", num_shards=2)
    rows.with_format("arrow").to_parquet(home / "all.parquet")
    return home


def table(folder, metric):
    found = pd.read_csv(folder / "alignment.csv")
    return found[found["metric"].str.startswith(metric)].reset_index(drop=True)


def tars(pictures):
    return f"wds:pipe:cat {pictures}/s-{{0..4}}.tar"


def scores(nets, data, metrics=LINEAR, **options):
    return ra.compare(f"{nets}:net", f"{nets}:other", str(data), metrics, **{"max_pairwise": HELD} | options)


def agree(found, expected, n=N):
    for metric, one in found.items():
        assert one.n == n
        np.testing.assert_allclose(one.scores, expected[metric].scores, rtol=1e-9, atol=1e-12)


@pytest.fixture
def expected(nets, pictures):
    return scores(nets, pictures / "folder", max_pairwise=4096)


@pytest.mark.parametrize("batch", [7, 32, 300])
def test_a_stream_gives_what_a_folder_gives(nets, pictures, expected, batch):
    agree(scores(nets, tars(pictures), batch_size=batch), expected)


@pytest.mark.parametrize("place", ["saved::image", "parquet:all.parquet"])
def test_a_data_set_gives_what_a_folder_gives(nets, pictures, expected, monkeypatch, place):
    monkeypatch.chdir(pictures)
    agree(scores(nets, f"hfdata:{place}"), expected)


@pytest.mark.skipif(shutil.which("curl") is None, reason="webdataset reads URLs through curl")
def test_shards_by_url_give_what_a_folder_gives(nets, pictures, expected):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=pictures)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        agree(scores(nets, f"wds:http://127.0.0.1:{server.server_port}/s-{{0..4}}.tar"), expected)
        server.shutdown()


def test_measures_that_need_pairs_are_of_a_sample(nets, pictures):
    found = scores(nets, tars(pictures), ["rsa", "cka_linear"])
    assert (found["rsa"].n, found["cka_linear"].n) == (HELD, N)
    all_kept = scores(nets, tars(pictures), ["rsa", "cka_rbf"], max_pairwise=N)
    agree(all_kept, scores(nets, pictures / "folder", ["rsa", "cka_rbf"], max_pairwise=N))
    assert not np.allclose(found["rsa"].scores, all_kept["rsa"].scores, rtol=1e-3)
    again = scores(nets, tars(pictures), ["rsa"], batch_size=11)["rsa"].scores
    np.testing.assert_allclose(again, found["rsa"].scores, rtol=1e-6)
    assert not np.allclose(scores(nets, tars(pictures), ["rsa"], seed=1)["rsa"].scores, found["rsa"].scores, rtol=1e-3)


def test_errors_are_those_of_the_sample(nets, pictures):
    names = f"{nets}:net", f"{nets}:other"
    found = ra.infer_encoders(*names, tars(pictures), ["cka_linear"], max_pairwise=200)["cka_linear"]
    exact = ra.infer_encoders(*names, str(pictures / "folder"), ["cka_linear"])["cka_linear"]
    assert found.se == pytest.approx(exact.se, rel=0.5)
    assert np.isfinite(found.p_values).all()
    assert "standard errors are those of a sample of 200 stimuli, scaled by √(m/n)" in found.notes


def test_one_encoder_through_a_filter(nets, pictures, cli, tmp_path):
    code, _, err = cli(
        "compare", "--a", f"{nets}:net", "--filter", "grey", "--metric", "cka_linear", "--permutations", 0, "--tests",
        "none", "--controls", "blur", "--no-stability", "--data", tars(pictures), "--max-pairwise", HELD, "--out",
        tmp_path / "S",
    )  # fmt: skip
    assert code == 0, err
    found = table(tmp_path / "S", "cka_linear")
    left, right = ra.sides.load_sides(f"{nets}:net", None, str(pictures / "folder"), None, ra.Options(filter="grey"))
    expected = align(left.activations, right.activations, ra.metrics.parse_metric("cka_linear")).scores
    np.testing.assert_allclose(found["value"], expected.ravel(), rtol=1e-9, atol=1e-12)
    assert set(found["n"]) == {N}
    meta = json.loads((tmp_path / "S" / "study.json").read_text())
    for key in ("clipped", "difference"):
        assert meta["filters"]["b"][key] == pytest.approx(right.activations.meta[key], rel=1e-9)
    assert meta["controls"][0]["ratio"] == pytest.approx(1, abs=0.1)  # the control saw the sample's pictures
    assert pd.read_csv(tmp_path / "S" / "controls.csv")["value"].notna().all()
    assert len(meta["thumbs"]) == 12
    assert all((tmp_path / "S" / one[key]).is_file() for one in meta["thumbs"] for key in ("file", "file_b"))


def test_a_study_says_how_many_pictures_were_seen(nets, pictures, cli, tmp_path):
    code, _, err = cli(
        "compare", "--a", f"{nets}:net", "--b", f"{nets}:other", "--data", tars(pictures), "--limit", 150,
        "--permutations", 19, "--out", tmp_path / "S", "--max-pairwise", HELD, "--pools", "max",
    )  # fmt: skip
    assert code == 0, err
    meta = json.loads((tmp_path / "S" / "study.json").read_text())
    stimuli = meta["stimuli"]["a"]
    assert (stimuli["n"], stimuli["name"], stimuli["skipped"]) == (150, tars(pictures), [])
    assert stimuli["notes"] == ["--limit 150: the first pictures of the stream, not a random subset of it"]
    assert meta["pairwise"] == {"held": HELD, "of": 150, "seed": 0}
    assert len(meta["thumbs"]) == 12
    assert set(table(tmp_path / "S", "cka_linear")["n"]) == {150}
    assert set(table(tmp_path / "S", "rsa")["n"]) == {HELD}
    page = (tmp_path / "S" / "report.html").read_text()
    for said in ("150", "not a random subset", "standard errors are those of a sample of 80 stimuli"):
        assert said in page
    assert {"mean", "max"} <= set(pd.read_csv(tmp_path / "S" / "curves.csv").astype(str).to_numpy().ravel())


def test_the_error_of_a_projection_is_measured_on_the_pictures_kept(nets, pictures):
    options = ra.Options(pool="flatten:8", max_pairwise=HELD)
    left, right = ra.sides.load_sides(f"{nets}:net", f"{nets}:other", tars(pictures), None, options)
    assert len(left.stimuli) == 64
    assert all(0 < error < 2 for side in (left, right) for error in gram_errors(side).values())
    assert len(gram_errors(left)) == len(left.layers)


def test_a_limit_takes_the_first_pictures(nets, pictures, tmp_path):
    (tmp_path / "first").mkdir()
    for k in range(130):
        source = pictures / "folder" / f"s-{k // 60}" / f"{k:04d}.png"
        shutil.copy(source, tmp_path / "first" / source.name)
    expected = scores(nets, tmp_path / "first", max_pairwise=4096)
    agree(scores(nets, tars(pictures), limit=130), expected, 130)
    agree(scores(nets, tars(pictures), limit=9999), scores(nets, pictures / "folder", max_pairwise=4096))


def test_pictures_that_can_not_be_decoded(nets, pictures, tmp_path):
    names = [f"{k:04d}.png" for k in range(120)]
    (tmp_path / "folder").mkdir()
    for shard in range(2):
        members = {n: b"none" if n == "0070.png" else encoded(n_) for n_, n in enumerate(names) if n_ // 60 == shard}
        pack(tmp_path / f"b-{shard}.tar", members)
        for name, data in members.items():
            (tmp_path / "folder" / name).write_bytes(data)
    data = f"wds:pipe:cat {tmp_path}/b-{{0..1}}.tar"
    with pytest.raises(UnreadableImagesError, match=r"b-1/0070\.png can't be read as a picture.*--skip-unreadable"):
        scores(nets, data)
    options = {"skip_unreadable": True, "max_pairwise": HELD}
    expected = scores(nets, tmp_path / "folder", skip_unreadable=True, max_pairwise=4096)
    agree(scores(nets, data, skip_unreadable=True), expected, 119)
    for limit in (None, 100):
        left, _ = ra.sides.load_sides(f"{nets}:net", f"{nets}:other", data, None, ra.Options(**options, limit=limit))
        assert [name for name, _ in left.activations.meta["skipped"]] == ["b-1/0070.png"]
        assert left.n == (limit or 119)
    pack(tmp_path / "b-0.tar", dict.fromkeys(names, b"none"))
    with pytest.raises(UnreadableImagesError, match="holds no picture that can be decoded, of 120; check what it"):
        scores(nets, f"wds:pipe:cat {tmp_path}/b-0.tar", skip_unreadable=True)


def test_a_shard_that_breaks_ends_the_run(nets, pictures):
    with pytest.raises(InputError, match=r"head -c 9000 .* can't be read: it is cut off"):
        scores(nets, f"wds:pipe:head -c 9000 {pictures}/s-{{0..4}}.tar")


def test_two_processes_give_what_one_gives(nets, pictures, tmp_path, expected):
    done = together(
        2, "compare", "--a", f"{nets}:net", "--b", f"{nets}:other", "--data", tars(pictures), "--permutations", 0,
        "--interval", "none", "--max-pairwise", HELD, "--no-stability", "--metric", "cka_linear", "--metric", "rsa",
        "--out", tmp_path / "S", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    alone = scores(nets, tars(pictures), ["rsa"])["rsa"].scores
    found = table(tmp_path / "S", "cka_linear")
    assert set(found["n"]) == {N}
    np.testing.assert_allclose(found["value"], expected["cka_linear"].scores.ravel(), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(table(tmp_path / "S", "rsa")["value"], alone.ravel(), rtol=1e-6)
    assert len(list((tmp_path / "S" / "thumbs").iterdir())) == 12


@pytest.mark.parametrize(("world", "limit"), [(3, None), (3, 130), (7, None), (2, 5)])
def test_any_number_of_processes_keeps_the_same(nets, pictures, world, limit):
    """Seven processes share five shards by pictures."""
    options, metrics = ra.Options(limit=limit, max_pairwise=HELD), [ra.metrics.parse_metric(m) for m in LINEAR]
    encoders = [load_encoder(f"{nets}:{name}") for name in ("net", "other")]

    def load(team):
        own = [replace(encoder, module=deepcopy(encoder.module)) for encoder in encoders]  # hooks are in the module
        return ra.sides.load_sides(*own, tars(pictures), None, options, metrics=metrics, together=team)

    several, (left, right) = in_processes(world, load), load(ALONE)
    for side, one in zip(several[0], (left, right), strict=True):
        assert (side.ids, side.n) == (one.ids, one.n) == (one.ids, limit or N)
        assert side.activations.meta["fingerprint"] == one.activations.meta["fingerprint"]
        for name, rows in one.activations.layers.items():
            torch.testing.assert_close(side.activations.layers[name], rows)
        assert side.stimuli.ids == one.stimuli.ids
        assert side.stimuli.load(3).tobytes() == one.stimuli.load(3).tobytes()
    for found, _ in several:
        expected = left.sums.streamed(True).scores
        np.testing.assert_allclose(found.sums.streamed(True).scores, expected, rtol=1e-6)


def test_what_a_stream_does_not_have(nets, pictures, tmp_path):
    data = tars(pictures)
    np.savez(tmp_path / "x.npz", l=np.random.default_rng(0).normal(size=(N, 4)))
    for options, said in (
        (
            {"stimuli_b": str(pictures / "folder")},
            r"s-\{0\.\.4\}\.tar is read from front to back, so it can't be paired",
        ),
        ({"groups": "folder"}, "--groups folder: a stream has no groups; leave it out, or compare a local copy"),
        ({"limit": 3}, "--limit 3 leaves too few stimuli; give at least 4"),
        ({"memory": "10kB"}, r"for 3 × 3 layers need 1\.\d MB, and memory is 0\.0 MB; .*--layers stages"),
    ):
        with pytest.raises(InputError, match=said):
            scores(nets, data, **options)
    with pytest.raises(InputError, match="is read from front to back, so it can't be paired"):
        scores(nets, pictures / "folder", stimuli_b=data)
    for a, b in ((f"features:{tmp_path}/x.npz", f"{nets}:net"), (f"{nets}:net", f"features:{tmp_path}/x.npz")):
        with pytest.raises(InputError, match=r"x\.npz holds saved features, one row a stimulus, and of the stream"):
            ra.compare(a, b, data)


def test_too_large_sums_are_refused_before_anything_is_read(nets, tmp_path):
    with pytest.raises(InputError, match="sums over all pictures"):
        scores(nets, f"wds:pipe:touch {tmp_path}/read; cat none.tar", memory="10kB")
    assert not (tmp_path / "read").exists()


def test_a_study_of_many_needs_pictures_that_stay(design, pictures, cli):
    code, _, err = cli("study", design, "--data", tars(pictures))
    assert code == 2
    assert "is a stream, which is read once from front to back, and here pictures are needed in any order" in err


def of_length(length, n=8):
    picture = Image.new("RGB", (4, 4))
    return Stream("few", lambda rank, world: ((str(k), picture) for k in range(rank, n, world)), length=length)


def test_the_precision_is_chosen_by_the_first_pictures(nets, pictures, monkeypatch):
    """bfloat16 is tried where the length is known, and left alone where it is not."""
    monkeypatch.setattr(onepass, "without_check", lambda device, n: None)
    tried = {}

    def check(sample, metrics, n, pairs):
        left, right = sample("bf16")
        tried.update(n=n, ids=left.ids, same=left.ids == right.ids)
        return PrecisionCheck("bf16", "a test", n)

    monkeypatch.setattr(onepass, "check_precision", check)
    sides = partial(ra.sides.load_sides, f"{nets}:net", f"{nets}:other", metrics=[ra.metrics.parse_metric("rsa")])
    known = replace(load_stream(tars(pictures)), length=N)
    with monkeypatch.context() as patched:
        patched.setattr(arriving, "load_stream", lambda spec, skipped: known)
        left, _ = sides(tars(pictures), None, ra.Options())
    assert (left.how.precision, left.check.reason, left.n) == ("bf16", "a test", N)
    assert tried == {"n": N, "ids": tuple(f"s-{k // 60}/{k:04d}.png" for k in range(64)), "same": True}
    left, _ = sides(tars(pictures), None, ra.Options())
    assert left.how.precision == "fp32"
    assert left.check.reason.startswith("nobody knows how many pictures the stream holds")
    left, _ = sides(tars(pictures), None, ra.Options(limit=100))
    assert (left.how.precision, left.n, tried["n"]) == ("bf16", 100, 100)
    left, _ = sides(tars(pictures), None, ra.Options(precision="bf16"))
    assert left.how.precision == "bf16"
    left, _ = sides(tars(pictures), None, ra.Options(precision="fp32"))
    assert left.check is None


@pytest.mark.parametrize("world", [1, 2, 3])
def test_a_limit_is_shared_by_processes(world):
    stream = of_length(None)
    shares = [
        [name for name, _ in Incoming(stream, 5).pictures(Together(rank, world, ALONE.sum_, ALONE.gather))]
        for rank in range(world)
    ]
    assert sorted(name for share in shares for name in share) == list("01234")
    counted = [Incoming(stream, 5, Skipped()).counted(Together(rank, 3, ALONE.sum_, ALONE.gather)) for rank in range(3)]
    assert len({id(one) for one in counted}) == 3


@pytest.mark.parametrize(
    ("limit", "length", "n"), [(None, None, None), (5, None, 5), (None, 8, 8), (9, 8, 8), (5, 8, 5)]
)
def test_how_many_pictures_are_known_to_come(limit, length, n):
    assert Incoming(of_length(length), limit).n == n


def test_pictures_left_out_beyond_those_named_are_counted():
    known = Known()
    for k in range(45):
        known.skipped.add(str(k), "why")
    assert Incoming(of_length(None)).notes(known) == (
        "45 pictures can't be decoded and are left out; 40 of them are named",
    )


def test_what_is_left_half_way_is_closed():
    closed = []

    def items():
        try:
            yield from range(1, 9)
        finally:
            closed.append(True)

    source = items()
    made = ahead(source)
    assert [next(made), next(made)] == [1, 2]
    made.close()
    source.close()
    assert closed


def test_the_next_batch_is_made_while_one_is_used():
    begun = threading.Event()

    def items():
        yield "one"
        begun.set()
        yield "two"

    made = ahead(items())
    assert next(made) == "one"
    assert begun.wait(10)
    assert list(made) == ["two"]
    with pytest.raises(ZeroDivisionError):
        list(ahead(1 // k for k in (1, 0)))


def test_passes_end_where_the_pictures_do(nets):
    encoder = load_encoder(f"{nets}:net")
    request = Request(encoder, encoder.layers[:1], Pool("mean"))
    for n, sizes in ((0, []), (3, [3]), (8, [4, 4]), (9, [4, 4, 1])):
        found = list(passed([request], Incoming(of_length(None, n)).pictures(ALONE), How(batch_size=4)))
        assert [len(batch.ids) for batch, _ in found] == sizes
        assert [len(next(iter(rows[0].values()))) for _, rows in found] == sizes
