"""Certainty through the command line: what stands in the study, and what is refused."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import repalign as ra
from repalign.sides import load_sides


@pytest.fixture
def videos(tmp_path):
    """Six folders of four alike frames: frames of videos."""
    rng = np.random.default_rng(0)
    for video in range(6):
        folder = tmp_path / "videos" / f"v{video}"
        folder.mkdir(parents=True)
        scene = rng.integers(0, 256, (6, 6, 3))
        for frame in range(4):
            pixels = np.clip(scene + rng.normal(0, 12, scene.shape), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).resize((32, 32), Image.Resampling.BICUBIC).save(folder / f"{frame}.png")
    return tmp_path / "videos"


def study(cli, *arguments, out="S"):
    code, printed, err = cli("compare", *arguments, "--out", out)
    assert code == 0, err
    return json.loads(Path(out, "study.json").read_text()), pd.read_csv(f"{out}/alignment.csv"), printed


def test_every_pair_has_an_interval_and_a_test(cli, nets, photos, tmp_path):
    meta, frame, printed = study(
        cli, "--a", f"{nets}:net", "--b", f"{nets}:other", "--data", photos, "--metric", "cka_linear", "--metric",
        "cka_linear:debiased=false", "--permutations", "99",
    )  # fmt: skip
    known = frame[["se", "ci_low", "ci_high", "null_mean", "p", "p_adjusted", "q"]]
    assert known.notna().all(axis=None)
    assert (frame["ci_low"] <= frame["value"]).all()
    assert (frame["value"] <= frame["ci_high"]).all()
    assert (frame["p"] >= 1 / 100).all()
    assert (frame["p"] <= frame["p_adjusted"] + 1e-12).all()
    biased = frame["metric"] == "cka_linear:debiased=false"
    assert frame["independent"].notna().equals(biased)
    assert meta["inference"]["cka_linear:debiased=true"] == {
        "interval": "jackknife", "level": 0.95, "n_groups": None, "n_permutations": 99, "seed": 0, "notes": [],
    }  # fmt: skip
    assert meta["config"]["permutations"] == 99
    curves = pd.read_csv(tmp_path / "S" / "curves.csv")
    assert set(curves["kind"]) == {"stimuli", "split_half", "pool"}
    assert set(curves.loc[curves["kind"] == "pool", "x"]) == {"mean", "max"}
    assert "largest_share" in pd.read_csv(tmp_path / "S" / "layers.csv")
    assert "p adj." in printed


def test_frames_in_folders_are_groups_when_asked(cli, nets, videos):
    arguments = ("--a", f"{nets}:net", "--b", f"{nets}:other", "--data", videos, "--metric", "cka_linear")
    meta, by_video, _ = study(cli, *arguments, "--groups", "folder")
    found = meta["inference"]["cka_linear:debiased=true"]
    assert found["n_groups"] == 6
    assert found["n_permutations"] == 719  # all of them
    assert "36 of 276 pairs within a group are left out" in found["notes"]
    _, by_frame, _ = study(cli, *arguments, out="T")
    assert (by_frame["value"] != by_video["value"]).all()
    _, all_pairs, _ = study(cli, *arguments, "--groups", "folder", "--pairs", "all", out="U")
    assert all_pairs["value"].to_numpy() == pytest.approx(by_frame["value"].to_numpy(), abs=1e-12)
    assert (all_pairs["p"] >= by_frame["p"]).all()


def test_two_conditions_of_one_encoder_are_tested_layer_by_layer(cli, nets, photos, tmp_path):
    for file in photos.rglob("*.png"):
        darker = tmp_path / "dark" / file.relative_to(photos)
        darker.parent.mkdir(parents=True, exist_ok=True)
        Image.open(file).point(lambda v: v // 3).save(darker)
    study(cli, "--a", f"{nets}:net", "--data", photos, "--data-b", tmp_path / "dark", "--permutations", "199")
    tests = pd.read_csv(tmp_path / "S" / "tests.csv", dtype={"layer_a": str})
    assert set(tests["test"]) == {"mantel", "mmd2", "energy", "sliced_wasserstein1"}
    assert tests.groupby("test").size().tolist() == [3, 3, 3, 3]
    energy = tests[(tests["test"] == "energy") & (tests["layer_a"] == "0.0")].iloc[0]
    encoder = ra.load_encoder(f"{nets}:net")
    sides = [load_sides(encoder, None, str(d), None, ra.Options())[0] for d in (photos, tmp_path / "dark")]
    alone = ra.two_sample(*(s.activations.layers["0.0"] for s in sides), "energy", n_permutations=0)
    assert energy["statistic"] == pytest.approx(alone.statistic, rel=1e-6)
    assert energy["p"] <= 0.05
    assert "MMD" in (tmp_path / "S/report.html").read_text()


def test_nothing_is_computed_that_was_not_asked_for(cli, nets, photos, tmp_path):
    _, frame, printed = study(
        cli, "--a", f"{nets}:net", "--data", photos, "--interval", "none", "--permutations", "0", "--no-stability"
    )
    assert frame[["se", "ci_low", "p", "q", "null_mean"]].isna().all(axis=None)
    assert not (tmp_path / "S" / "curves.csv").exists()
    assert not (tmp_path / "S" / "tests.csv").exists()
    assert "p adj." not in printed


MISTAKES = {
    "bootstrap": (["--interval", "bootstrap"], "two copies of one stimulus look alike.*use jackknife or half"),
    "interval": (["--interval", "normal"], "interval must be one of jackknife, half, none, not 'normal'"),
    "permutations": (["--permutations", "-3"], "permutations"),
    "groups": (["--groups", "video"], "unknown --groups 'video'"),
    "pairs": (["--pairs", "within"], "pairs must be one of between, all, not 'within'"),
    "pools": (["--pools", "mean,sum"], "unknown pooling 'sum'"),
    "metric option": (["--metric", "mutual_knn:k=ten"], "k takes a whole number, not 'ten'"),
    "k too large": (["--metric", "mutual_knn:k=12"], "12"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_one_line(mistake, cli, nets, photos, tmp_path):
    given, message = MISTAKES[mistake]
    code, out, err = cli("compare", "--a", f"{nets}:net", "--data", photos, "--out", "S", *given)
    assert (code, out) == (2, "")
    assert len(err.strip().splitlines()) == 1
    assert re.search(message, err), err
    assert not (tmp_path / "S").exists()
