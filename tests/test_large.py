"""More stimuli than every pair is taken of: linear CKA over all of them, the rest over a subset; several processes."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from torchrun import together

import repalign as ra
from repalign.cache import Cache
from repalign.errors import InputError, RepalignError, RepalignWarning
from repalign.sides import load_sides
from repalign.storage import Storage

N, HELD = 300, 80


@pytest.fixture
def many(tmp_path):
    """Three hundred small smooth pictures in one array, two chunks of them."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (N, 4, 4, 3), dtype=np.uint8)
    grown = [np.asarray(Image.fromarray(x).resize((16, 16), Image.Resampling.BICUBIC)) for x in small]
    np.save(tmp_path / "many.npy", np.stack(grown))
    return tmp_path / "many.npy"


def table(folder, metric):
    found = pd.read_csv(folder / "alignment.csv")
    return found[found["metric"].str.startswith(metric)].reset_index(drop=True)


def arguments(nets, many, out, *more):
    return (
        "compare", "--a", f"{nets}:net", "--b", f"{nets}:other", "--data", many, "--permutations", 99,
        "--metric", "cka_linear", "--metric", "cka_linear:debiased=false", "--metric", "rsa", "--out", out, *more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Where the first test that asks for the whole study leaves it."""
    return tmp_path_factory.mktemp("kept") / "whole"


@pytest.fixture
def whole(cli, nets, many, kept):
    """The study in which all pairs are taken, computed once."""
    if not kept.exists():
        code, _, err = cli(*arguments(nets, many, kept))
        assert code == 0, err
    return kept


@pytest.mark.parametrize("cache", ["--cache", "--no-cache"])
def test_linear_cka_is_of_all_stimuli_and_says_so(cli, nets, many, whole, tmp_path, cache):
    code, out, err = cli(*arguments(nets, many, tmp_path / "S", "--max-pairwise", HELD, cache))
    assert code == 0, err
    for metric in ("cka_linear:debiased=true", "cka_linear:debiased=false"):
        streamed, embedded = table(tmp_path / "S", metric), table(whole, metric)
        assert set(streamed["n"]) == {N}
        for column in ("value", "se", "ci_low", "ci_high"):
            np.testing.assert_allclose(streamed[column], embedded[column], rtol=1e-9, atol=1e-12)
    assert set(table(tmp_path / "S", "rsa")["n"]) == {HELD}
    meta = json.loads((tmp_path / "S" / "study.json").read_text())
    assert meta["pairwise"] == {"held": HELD, "of": N, "seed": 0}
    assert meta["stimuli"]["a"]["n"] == N
    notes = " ".join(meta["inference"][table(tmp_path / "S", "rsa")["metric"][0]]["notes"])
    assert f"subset of {HELD} of {N}" in notes
    assert f"{HELD} of" in (tmp_path / "S" / "report.html").read_text() or f"of {HELD}" in out


def test_python_gives_the_same(nets, many, whole):
    found = ra.compare(f"{nets}:net", f"{nets}:other", str(many), ["cka_linear", "rsa"], max_pairwise=HELD)
    assert found["cka_linear"].n == N
    assert found["rsa"].n == HELD
    values = table(whole, "cka_linear:debiased=true")["value"].to_numpy()
    np.testing.assert_allclose(found["cka_linear"].scores.ravel(), values, rtol=1e-9)
    sure = ra.infer_encoders(f"{nets}:net", f"{nets}:other", str(many), ["cka_linear"], max_pairwise=HELD)
    embedded = table(whole, "cka_linear:debiased=true")
    np.testing.assert_allclose(sure["cka_linear"].se.ravel(), embedded["se"], rtol=1e-9)
    assert np.isfinite(sure["cka_linear"].p_values).all()


def test_saved_features_are_streamed_too(tmp_path):
    rng = np.random.default_rng(1)
    shared = rng.normal(size=(N, 5))
    for name in "ab":
        np.savez(tmp_path / f"{name}.npz", one=shared @ rng.normal(size=(5, 7)), two=rng.normal(size=(N, 4)))
    a, b = (f"features:{tmp_path / name}.npz" for name in "ab")
    large, full = (ra.compare(a, b, metrics=["cka_linear", "rsa"], max_pairwise=m) for m in (HELD, 4096))
    assert (large["cka_linear"].n, large["rsa"].n) == (N, HELD)
    np.testing.assert_allclose(large["cka_linear"].scores, full["cka_linear"].scores, rtol=1e-9, atol=1e-12)
    with_itself = ra.compare(a, metrics=["cka_linear"], max_pairwise=HELD)["cka_linear"]
    np.testing.assert_allclose(np.diagonal(with_itself.scores), 1, rtol=1e-12)


def test_one_encoder_under_two_conditions_is_streamed(cli, nets, many, tmp_path):
    arguments = ["compare", "--a", f"{nets}:net", "--data", many, "--filter", "grey", "--permutations", 0, "--metric",
                 "cka_linear", "--controls", "none", "--tests", "none"]  # fmt: skip
    for name, size in (("all", 4096), ("part", HELD)):
        code, _, err = cli(*arguments, "--out", tmp_path / name, "--max-pairwise", size)
        assert code == 0, err
    a, b = (table(tmp_path / name, "cka_linear") for name in ("all", "part"))
    np.testing.assert_allclose(a["value"], b["value"], rtol=1e-9)
    assert pd.read_csv(tmp_path / "part" / "summary.csv")["n"][0] == HELD


@pytest.mark.parametrize("count", [2, 3])
def test_several_processes_give_what_one_gives(nets, many, whole, tmp_path, count):
    done = together(count, *arguments(nets, many, tmp_path / "S", "--max-pairwise", HELD, "--no-cache"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for metric in ("cka_linear:debiased=true", "cka_linear:debiased=false"):
        several, one = table(tmp_path / "S", metric), table(whole, metric)
        assert set(several["n"]) == {N}
        for column in ("value", "se"):
            np.testing.assert_allclose(several[column], one[column], rtol=1e-9, atol=1e-12)
    alone = ra.compare(f"{nets}:net", f"{nets}:other", str(many), ["rsa"], max_pairwise=HELD)["rsa"]
    np.testing.assert_allclose(table(tmp_path / "S", "rsa")["value"], alone.scores.ravel(), rtol=1e-9)
    assert (tmp_path / "S" / "report.html").is_file()


def test_a_process_that_fails_ends_the_run_with_its_cause(nets, tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "pictures").mkdir()
    for k in range(N):
        file = tmp_path / "pictures" / f"{k:03d}.png"
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(file)
    (tmp_path / "pictures" / "290.png").write_bytes(b"no picture")  # in the second chunk, the second process's
    done = together(2, *arguments(nets, "pictures", tmp_path / "S", "--max-pairwise", HELD), cwd=tmp_path)
    assert done.returncode != 0
    assert "1 of 300 pictures can't be decoded: 290.png" in done.stderr
    assert not (tmp_path / "S").exists()


def test_saved_features_are_not_shared_by_processes(tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(20, 3)))
    done = together(2, "compare", "--a", "features:x.npy", "--b", "features:x.npy", cwd=tmp_path)
    assert done.returncode != 0
    assert "saved features; only encoders are shared" in done.stderr


def test_groups_that_one_side_knows_draw_the_subset_of_both(nets, many, tmp_path):
    folders = tmp_path / "a", tmp_path / "b"
    pictures = np.load(many)
    for folder in folders:
        folder.mkdir()
        for k, pixels in enumerate(pictures):
            Image.fromarray(pixels).save(folder / f"{k:03d}.png")
    rows = "".join(f"a/{k:03d}.png,{k:03d}.png,g{k // 10}\n" for k in range(N))
    (tmp_path / "list.csv").write_text("path,id,group\n" + rows)
    left, right = load_sides(
        f"{nets}:net", None, str(tmp_path / "list.csv"), str(folders[1]), ra.Options(max_pairwise=HELD),
        storage=Storage(None, lambda: Cache(tmp_path / "spill")),
    )  # fmt: skip
    assert len(left.activations) == len(right.activations) == 60  # of each of 30 groups 2, as 3 would be more than 80
    assert {left.activations.groups.count(f"g{k}") for k in range(30)} == {2}


def test_groups_of_either_file_stratify_by_id(tmp_path):
    rng = np.random.default_rng(2)
    names = np.array([f"i{k}" for k in range(N)])
    order = rng.permutation(N)
    np.savez(tmp_path / "a.npz", x=rng.normal(size=(N, 4)), ids=names)
    np.savez(tmp_path / "b.npz", y=rng.normal(size=(N, 4)), ids=names[order], groups=[f"g{k // 30}" for k in order])
    a, b = (f"features:{tmp_path / name}.npz" for name in "ab")
    left, right = load_sides(a, b, None, None, ra.Options(max_pairwise=HELD))
    assert left.activations.ids == right.activations.ids
    assert {left.activations.groups.count(g) for g in left.activations.groups} == {8}
    assert left.rows.groups == right.rows.groups


def test_an_encoder_that_saw_few_pictures_decides_how_many_there_are(nets, many, tmp_path):
    np.savez(tmp_path / "a.npz", x=np.random.default_rng(0).normal(size=(N, 4)), ids=[str(k) for k in range(N)])
    ids = [str(i) for i in range(N)]
    shown = replace(ra.load_stimuli(str(many)), ids=tuple(ids))
    for sides in ((f"features:{tmp_path / 'a'}.npz", f"{nets}:net"), (f"{nets}:net", f"features:{tmp_path / 'a'}.npz")):
        left, right = load_sides(*sides, shown, None, ra.Options(limit=50, max_pairwise=HELD))
        assert len(left.activations) == len(right.activations) == 50
        assert left.rows is None


def test_a_block_of_which_nothing_can_be_read_is_left_out(cli, nets, tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "pictures").mkdir()
    for k in range(600):
        file = tmp_path / "pictures" / f"{k:03d}.png"
        if 256 <= k < 512:
            file.write_bytes(b"no picture")
        else:
            Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(file)
    options = ("--max-pairwise", HELD, "--skip-unreadable", "--permutations", 0)
    code, _, err = cli("compare", "--a", f"{nets}:net", "--data", "pictures", "--metric", "cka_linear", *options,
                       "--out", tmp_path / "S")  # fmt: skip
    assert code == 0, err
    assert set(table(tmp_path / "S", "cka_linear")["n"]) == {344}


def test_saved_features_are_those_of_all_stimuli(cli, nets, many, tmp_path):
    options = ("--metric", "cka_linear", "--permutations", 0, "--no-stability", "--max-pairwise", HELD, "--no-cache")
    code, _, err = cli("compare", "--a", f"{nets}:net", "--data", many, *options, "--save-features", "--out", "S")
    assert code == 0, err
    again = ra.compare("features:S/features_a.safetensors", f"{nets}:net", str(many), ["cka_linear"])["cka_linear"]
    assert again.n == N
    np.testing.assert_allclose(np.diagonal(again.scores), 1, rtol=1e-9)


def test_a_cache_that_fills_up_ends_a_run_that_reads_from_it(nets, many, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("repalign.cache.store.write", full)
    with pytest.raises(RepalignError, match="can't be written any more"), pytest.warns(RepalignWarning):
        ra.compare(f"{nets}:net", None, str(many), ["cka_linear"], max_pairwise=HELD)


def test_groups_are_not_shared_by_processes_and_that_is_said_at_once(nets, tmp_path):
    rows = "".join(f"{k}.png,g{k // 10}\n" for k in range(N))
    (tmp_path / "list.csv").write_text("path,group\n" + rows)
    for k in range(N):
        Image.new("RGB", (4, 4)).save(tmp_path / f"{k}.png")
    done = together(2, "compare", "--a", f"{nets}:net", "--data", "list.csv", "--max-pairwise", HELD, cwd=tmp_path)
    assert done.returncode != 0
    assert "--groups none" in done.stderr


def test_whole_maps_of_many_stimuli_are_of_the_subset(nets, many):
    found = ra.compare(f"{nets}:net", None, str(many), ["cka_linear"], pool="flatten", max_pairwise=HELD)["cka_linear"]
    assert found.n == HELD


def test_too_little_memory_is_said_before_any_encoder_runs(nets, many, monkeypatch):
    monkeypatch.setattr("repalign.running.extract_large", None)
    with pytest.raises(InputError, match=r"all pairs of 80 stimuli take .* raise --memory"):
        ra.compare(f"{nets}:net", None, str(many), ["cka_linear"], max_pairwise=HELD, memory="1KB")
    with pytest.raises(InputError, match=r"needs .* MB for its sums over all stimuli"):
        ra.compare(f"{nets}:net", None, str(many), ["cka_linear"], max_pairwise=HELD, memory="300KB", pool="grid:8")


def test_a_read_error_of_the_machine_is_not_kept(nets, many, tmp_path):
    stimuli, failing = ra.load_stimuli(str(many)).take(range(20)), [7]

    def load(i):
        if i in failing:
            raise OSError(24, "Too many open files")
        return stimuli.load(i)

    shown = replace(stimuli, load=load)
    first = ra.compare(f"{nets}:net", None, shown, ["cka_linear"], skip_unreadable=True)["cka_linear"]
    failing.clear()
    assert (first.n, ra.compare(f"{nets}:net", None, shown, ["cka_linear"])["cka_linear"].n) == (19, 20)


def test_a_study_is_not_shared_by_processes(design, tmp_path):
    done = together(2, "study", "who.toml", cwd=tmp_path)
    assert done.returncode != 0
    assert "run by one process" in done.stderr
