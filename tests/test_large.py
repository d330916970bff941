"""More stimuli than every pair is taken of: linear CKA over all of them, the rest over a subset; several processes."""

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import repalign as ra

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


@pytest.fixture
def whole(cli, nets, many, tmp_path):
    """The study in which all pairs are taken."""
    code, _, err = cli(*arguments(nets, many, tmp_path / "whole"))
    assert code == 0, err
    return tmp_path / "whole"


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


def together(count, *command, cwd):
    """Run repalign in several processes, as torchrun does."""
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count), "-m",
         "repalign", *map(str, command)],
        cwd=cwd, capture_output=True, text=True, timeout=300, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip


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
