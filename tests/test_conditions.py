"""One encoder under two conditions: what a filter costs, beside what controls cost."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import repalign as ra
from repalign.align import against, prepare
from repalign.conditions import Conditions, costs, load_conditions
from repalign.controls import CONTROLS, controls, sample
from repalign.errors import InputError, RepalignWarning
from repalign.extract import Request, extract
from repalign.filters import linear_difference, load_filter
from repalign.filters.mtf import nyquist_transfer
from repalign.optics import optics_left, width_seen
from repalign.pooling import parse_pool
from repalign.sides import Options, load_sides
from repalign.stimuli import load_stimuli
from repalign.stimuli.paired import load_pair
from repalign.types import Activations

CAT = "cat:fov_deg=60"


@pytest.fixture
def sides(nets, photos):
    def load(**options):
        return load_sides(f"{nets}:net", None, str(photos), None, Options(**options))

    return load


def test_a_filter_acts_on_the_picture_before_the_encoder_resizes_it(nets, photos, sides):
    left, right = sides(filter=CAT)
    stimuli, f = load_stimuli(str(photos)), load_filter(CAT)
    shown = replace(stimuli, load=lambda i: f(stimuli.load(i)))
    (by_hand,) = extract([Request(right.encoder, right.layers, parse_pool("mean"))], shown)
    assert left.activations.filter == ""
    assert right.activations.filter == CAT
    for name, rows in by_hand.layers.items():
        assert torch.equal(rows, right.activations.layers[name])
        assert not torch.equal(rows, left.activations.layers[name])
    assert right.activations.meta["fingerprint"] == left.activations.meta["fingerprint"]
    assert 0 <= right.activations.meta["clipped"] < 1


def test_both_views_share_one_decoding(nets, photos):
    stimuli, loads = load_stimuli(str(photos)), []
    counted = replace(stimuli, load=lambda i: loads.append(i) or stimuli.load(i))
    load_sides(f"{nets}:net", None, counted, None, Options(filter="grey"))
    assert sorted(loads) == list(range(12))


def test_a_window_passes_the_filter_in_the_scale_of_its_scene(nets, photos):
    stimuli = load_stimuli(str(photos))
    small = replace(stimuli, extent=(0.1,) * 12)
    blurred = [
        load_sides(f"{nets}:net", None, one, None, Options(filter="blur:cpd=1,fov_deg=60"))[1].activations.layers["0.0"]
        for one in (stimuli, small)
    ]
    original = load_sides(f"{nets}:net", None, stimuli, None, Options())[0].activations.layers["0.0"]
    assert (blurred[1] - original).norm() > 5 * (blurred[0] - original).norm()  # its pixels are finer


def test_the_identity_scores_one(sides):
    left, right = sides(filter="identity")
    for metric in ("cka_linear", "cka_rbf", "rsa", "cka_linear:debiased=false"):
        scores = prepare(left.activations, right.activations, ra.parse_metric(metric)).alignment().scores
        assert np.abs(np.diagonal(scores) - 1).max() <= 1e-12


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--filter", "cat"), "fov_deg"),
        (("--filter", "cta"), "did you mean cat"),
        (("--filter", "grey", "--b", "python:tinynets:other"), "--filter-a and --filter-b"),
        (("--filter", "grey", "--filter-b", "grey"), "give one of them"),
        (("--filter", "grey", "--data-b", "photos"), "give one of them"),
        (("--filter", "grey", "--controls", "gray"), "did you mean grey"),
        (("--filter", "grey", "--tests", "mmd"), "mmd2"),
    ],
)
def test_filters_that_can_not_be_used_say_why(cli, nets, photos, tmp_path, arguments, words):
    code, _, err = cli("compare", "--a", f"{nets}:net", "--data", photos, *arguments, "--out", "S")
    assert code == 2
    assert words in err
    assert not (tmp_path / "S").exists()


def test_saved_features_can_not_be_filtered(cli, nets, photos, tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(12, 4)))
    code, _, err = cli("compare", "--a", "features:x.npy", "--b", f"{nets}:net", "--data", photos, "--filter-a", "grey")
    assert code == 2
    assert "needs an encoder" in err


def test_two_encoders_may_see_different_things(nets, photos):
    left, right = load_sides(f"{nets}:net", f"{nets}:other", str(photos), None, Options(filter_b="grey"))
    plain, _ = load_sides(f"{nets}:other", None, str(photos), None, Options())
    assert (left.activations.filter, right.activations.filter) == ("", "grey")
    assert not torch.equal(right.activations.layers["0.0"], plain.activations.layers["0.0"])


@pytest.fixture
def study(cli, nets, photos, tmp_path):
    code, out, err = cli(
        "compare", "--a", f"{nets}:net", "--data", photos, "--filter", CAT, "--controls", "identity,grey,noise",
        "--permutations", 99, "--no-stability", "--groups", "none", "--save-features", "--out", "S",
    )  # fmt: skip
    assert code == 0, err
    return tmp_path / "S", out


def test_a_study_of_two_conditions_holds_costs_and_controls(study):
    folder, out = study
    meta = json.loads((folder / "study.json").read_text())
    seen = meta["filters"]["b"]
    assert meta["filters"]["a"] is None
    assert seen["spec"] == CAT
    assert "Govardovskii" in seen["reference"]
    assert seen["transfer"][0]["at_nyquist"] == pytest.approx(nyquist_transfer(60.0, 16), abs=1e-4)
    assert [c["name"] for c in meta["controls"]] == ["identity", "grey", "noise"]
    assert [c["ratio"] for c in meta["controls"]] == pytest.approx([0, 1, 1], abs=0.05)

    alignment = pd.read_csv(folder / "alignment.csv")
    assert set(alignment["filter_b"]) == {CAT}
    assert alignment["filter_a"].isna().all()
    summary = pd.read_csv(folder / "summary.csv").set_index("metric")
    own = alignment[alignment["layer_a"] == alignment["layer_b"]]
    means = own.groupby("metric")["value"].mean()
    for metric, row in summary.iterrows():
        assert row["mean"] == pytest.approx(means[metric], rel=1e-12)
        assert row["mean_low"] < row["mean"] < row["mean_high"]
        assert row["peak"] == pytest.approx(own[own["metric"] == metric]["value"].max(), rel=1e-12)

    table = pd.read_csv(folder / "controls.csv")
    whole = table[table["layer"].isna()]
    assert len(whole) == 3 * 3
    assert len(table) == 3 * 3 * (1 + 3)
    assert np.abs(whole[whole["control"] == "identity"]["value"] - 1).max() <= 1e-12
    for _, row in whole.iterrows():
        assert row["difference"] == pytest.approx(means[row["metric"]] - row["value"], abs=1e-12)
        assert row["difference_low"] < row["difference"] < row["difference_high"]
        assert 0 < row["p"] <= 1

    tests = pd.read_csv(folder / "tests.csv")
    assert set(tests["test"]) == {"mantel", "mmd2", "energy", "sliced_wasserstein1"}
    assert tests[tests["test"] == "mantel"]["note"].str.contains("cannot rank encoders").all()
    assert all((folder / thumb["file_b"]).is_file() for thumb in meta["thumbs"])
    one = Image.open(folder / meta["thumbs"][0]["file_b"])
    red, green, _ = np.moveaxis(np.asarray(one).astype(int), 2, 0)
    assert np.abs(red - green).max() <= 1  # a dichromat's picture
    assert "cat" in out


def test_deleted_scores_are_those_of_the_comparison_without_each_stimulus(study, nets, photos):
    folder, _ = study
    deleted = pd.read_csv(folder / "deleted.csv")
    deleted = deleted[deleted["metric"].str.startswith("cka_linear")]
    left, right = load_sides(f"{nets}:net", None, str(photos), None, Options(filter=CAT))
    ids = left.activations.ids
    assert tuple(deleted["unit"]) == ids
    kept = [i for i in ids if i != ids[3]]
    again = prepare(left.activations.join(kept), right.activations.join(kept), ra.parse_metric("cka_linear"))
    assert deleted["value"].iloc[3] == pytest.approx(np.diagonal(again.alignment().scores).mean(), rel=1e-9)


def test_saved_features_are_read_again_with_their_ids(study, nets, photos):
    folder, _ = study
    left, _ = load_sides(f"{nets}:net", None, str(photos), None, Options())
    read = ra.load_encoder(f"features:{folder / 'features_a.safetensors'}")
    assert read.ids == left.activations.ids
    assert list(read.layers) == list(left.activations.layers)
    for name, rows in read.layers.items():
        assert torch.equal(rows, left.activations.layers[name])


def test_a_second_set_of_pictures_is_a_condition_with_controls_of_its_strength(cli, nets, photos, tmp_path):
    assert cli("filter", "grey", photos, "copies")[0] == 0
    code, _, err = cli(
        "compare", "--a", f"{nets}:net", "--data", photos, "--data-b", "copies", "--controls", "noise,blur",
        "--permutations", 0, "--no-stability", "--metric", "cka_linear", "--out", "S",
    )  # fmt: skip
    assert code == 0, err
    meta = json.loads((tmp_path / "S" / "study.json").read_text())
    assert meta["filters"] == {"a": None, "b": None}
    assert [c["ratio"] for c in meta["controls"]] == pytest.approx([1, 1], abs=0.05)
    by_data = pd.read_csv(tmp_path / "S" / "summary.csv")["mean"][0]
    left, right = load_sides(f"{nets}:net", None, str(photos), None, Options(filter="grey"))
    scores = prepare(left.activations, right.activations, ra.parse_metric("cka_linear")).alignment().scores
    assert by_data == pytest.approx(np.diagonal(scores).mean(), rel=1e-12)


def test_another_second_side_scores_as_a_comparison_of_its_own(nets, photos):
    left, right = load_sides(f"{nets}:net", None, str(photos), None, Options(filter="grey"))
    _, other = load_sides(f"{nets}:net", None, str(photos), None, Options(filter="red_removal"))
    for name in ("cka_linear", "cka_rbf", "rsa", "procrustes"):
        metric = ra.parse_metric(name)
        grouped = replace(left.activations, groups=tuple(f"g{k % 5}" for k in range(12)))
        first = prepare(grouped, replace(right.activations, groups=None), metric)
        swapped = against(first, replace(other.activations, groups=None)).alignment().scores
        alone = prepare(grouped, replace(other.activations, groups=None), metric).alignment().scores
        assert np.array_equal(swapped, alone)


def test_controls_are_as_strong_as_the_second_view_on_all_pictures():
    stimuli, f = load_stimuli("bundled:photos:colour").take(range(24)), load_filter(CAT)
    taken = sample(stimuli, stimuli.load, lambda i: f(stimuli.load(i), stimuli.extent[i]), seed=0)
    found = controls(("identity", "grey", "protan", "jpeg"), taken, f)
    assert [c.name for c in found] == ["identity", "grey", "protan", "jpeg"]
    assert found[0].ratio == 0
    assert found[1].ratio == pytest.approx(1, abs=0.05)
    assert found[2].filter.spec == "protan"
    assert found[3].filter is None
    assert "comes no nearer" in found[3].note
    whole = [stimuli.load(i) for i in range(24)]
    against_whole = linear_difference(found[1].filter, whole, stimuli.extent) / linear_difference(
        f, whole, stimuli.extent
    )
    assert against_whole == pytest.approx(1, abs=0.05)


def test_a_view_that_changes_nothing_has_no_controls_of_its_strength(photos):
    stimuli = load_stimuli(str(photos))
    found = controls(CONTROLS, sample(stimuli, stimuli.load, stimuli.load, 0), None)
    assert [c.name for c in found if c.filter] == ["identity", "protan", "deutan"]
    assert all("changes nothing" in c.note for c in found if not c.filter)


def test_views_of_other_sizes_have_no_difference(photos):
    stimuli = load_stimuli(str(photos))
    taken = sample(stimuli, stimuli.load, lambda i: stimuli.load(i).resize((20, 15)), 0)
    assert np.isnan(taken.difference)
    (one,) = controls(("noise",), taken, None)
    assert "differ in size" in one.note


def test_a_filtered_first_side_has_no_controls(sides):
    left, right = sides(filter_a="grey", filter_b="red_removal")
    found = load_conditions(left, right, CONTROLS, Options())
    assert found.controls == ()
    assert found.moved > 0


@pytest.mark.parametrize("crop", [1.0, 0.875, 0.5])
def test_the_width_an_encoder_sees_is_measured(nets, crop):
    from torchvision.transforms import v2

    steps = v2.Compose(
        [v2.PILToTensor(), v2.Resize([round(64 / crop)] * 2), v2.CenterCrop(64), v2.ToDtype(torch.float32, scale=True),
         v2.Normalize([0.5, 0.4, 0.3], [0.2, 0.3, 0.4])]
    )  # fmt: skip
    encoder = replace(ra.load_encoder(f"{nets}:net"), preprocess=steps, input_size=(64, 64))
    assert width_seen(encoder) == pytest.approx(crop, abs=0.011)
    (left,) = optics_left(load_filter("cat:fov_deg=8,jpeg:q=50"), encoder, 0.5)
    assert left["at_nyquist"] == pytest.approx(nyquist_transfer(8 * 0.5 * left["seen"], 64), abs=1e-4)
    assert optics_left(load_filter("grey"), encoder, 1.0) == []


def test_a_filter_that_can_not_take_a_picture_names_it(nets, photos):
    class Broken(type(load_filter("grey"))):
        def apply(self, x, extent=None):
            raise InputError("too small")

    encoder = ra.load_encoder(f"{nets}:net")
    wanted = Request(encoder, encoder.layers[:1], parse_pool("mean"), Broken())
    with pytest.raises(InputError, match=r"0\d\.png through grey: too small"):
        extract([wanted], load_stimuli(str(photos)))


def test_a_filters_difference_is_over_all_pictures(sides, photos):
    left, right = sides(filter_a="grey", filter_b="cat:fov_deg=60")
    stimuli = load_stimuli(str(photos))
    whole = [stimuli.load(i) for i in range(len(stimuli))]
    for side in (left, right):  # eight bits are what the encoder sees, and what is compared
        assert side.activations.meta["difference"] == pytest.approx(linear_difference(side.filter, whole), rel=2e-3)


def test_controls_keep_their_strength_over_all_pictures_whatever_the_sample(nets, monkeypatch):
    monkeypatch.setattr("repalign.controls.PIXELS", 120_000)  # a few pictures
    stimuli = load_stimuli("bundled:photos:colour").take(range(16))
    for seed in (0, 1):
        left, right = load_sides(f"{nets}:net", None, stimuli, None, Options(filter=CAT, seed=seed))
        known = {}
        found = load_conditions(left, right, ("grey", "noise"), Options(seed=seed), known=known)
        assert [c.ratio for c in found.controls] == pytest.approx([1, 1], abs=0.06)
        again = load_conditions(left, right, ("grey", "noise"), Options(seed=seed), known=known)
        assert again.controls == found.controls
        for control in found.controls:
            truth = linear_difference(control.filter, [stimuli.load(i) for i in range(16)], stimuli.extent)
            assert control.difference == pytest.approx(truth, rel=5e-3)


def test_a_mean_and_its_difference_are_over_the_layers_that_both_have():
    rng = np.random.default_rng(0)
    x = {name: torch.tensor(rng.normal(size=(20, 4))) for name in ("a", "b", "c")}

    def seen(noise, dead):
        layers = {name: v + noise * torch.tensor(rng.normal(size=v.shape)) for name, v in x.items() if name != dead}
        layers = {name: layers.get(name, torch.zeros(20, 4).double()) for name in x}
        return Activations("net", "s", tuple(map(str, range(20))), layers, dict.fromkeys(x, 0.0), filter=f"f{noise}")

    first, second, other = seen(0, ""), seen(0.5, "a"), seen(1.0, "b")
    with pytest.warns(RepalignWarning, match="same for every stimulus"):
        prepared = prepare(first, second, ra.parse_metric("cka_linear"))
    with pytest.warns(RepalignWarning, match="same for every stimulus"):
        table = costs(prepared, Conditions(1.0, (), {"f": other}), ra.Plan(n_permutations=0)).controls
    whole, layers = table[table["layer"] == ""].iloc[0], table[table["layer"] != ""].set_index("layer")
    assert whole["value"] == pytest.approx(layers["value"]["c"], rel=1e-12)
    assert whole["difference"] == pytest.approx(layers["difference"]["c"], rel=1e-12)
    assert np.isnan(layers["difference"][["a", "b"]]).all()


def test_groups_of_one_side_hold_for_both(cli, nets, photos, tmp_path):
    names = sorted(p.relative_to(tmp_path).as_posix() for p in photos.rglob("*.png"))
    rows = [f"{name},{k % 6}" for k, name in enumerate(names)]
    (tmp_path / "b.csv").write_text("\n".join(["path,group", *rows]) + "\n")
    (tmp_path / "a.csv").write_text("\n".join(["path", *names]) + "\n")
    for first, second in (("a.csv", "b.csv"), ("b.csv", "a.csv")):
        code, _, err = cli(
            "compare", "--a", f"{nets}:net", "--data", first, "--data-b", second, "--filter-b", "grey", "--controls",
            "noise", "--permutations", 99, "--no-stability", "--metric", "cka_linear", "--out", "S", "--force",
        )  # fmt: skip
        assert code == 0, err
        assert set(pd.read_csv(tmp_path / "S" / "tests.csv")["n_groups"]) == {6}
        assert list(pd.read_csv(tmp_path / "S" / "deleted.csv")["unit"]) == [0, 1, 2, 3, 4, 5]


def test_a_second_set_shows_the_same_scenes_in_the_same_scale(photos):
    a, b = (replace(load_stimuli(str(photos)), extent=extent) for extent in ((0.5,) * 12, None))
    for first, second in (load_pair(a, b), load_pair(b, a)):
        assert first.extent == second.extent == (0.5,) * 12


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--filter", ""), "filter"),
        (("--b", "python:tinynets:other", "--save-features", "--a", "rdm:r.npy"), "no features of its own"),
    ],
)
def test_more_that_can_not_be_used(cli, nets, photos, tmp_path, arguments, words):
    x = np.random.default_rng(0).normal(size=(12, 4))
    np.save(tmp_path / "r.npy", np.linalg.norm(x[:, None] - x[None], axis=-1))
    code, _, err = cli("compare", "--a", f"{nets}:net", "--data", photos, *arguments, "--out", "S")
    assert code == 2, err
    assert words in err
    assert not (tmp_path / "S").exists()


def test_without_intervals_there_are_none(cli, nets, photos, tmp_path):
    command = ("compare", "--a", f"{nets}:net", "--data", photos, "--filter", "grey", "--metric", "cka_linear")
    code, _, err = cli(
        *command, "--interval", "none", "--permutations", 0, "--no-stability", "--controls", "noise", "--out", "S"
    )
    assert code == 0, err
    for name in ("summary", "controls"):
        table = pd.read_csv(tmp_path / "S" / f"{name}.csv")
        ends = [c for c in table if c.endswith(("se", "_low", "_high"))]
        assert len(ends) >= 6
        assert table[ends].isna().all(axis=None)


def test_layers_that_differ_are_not_matched_and_that_is_said(cli, nets, photos, tmp_path):
    command = ("compare", "--a", f"{nets}:net", "--data", photos, "--filter", "grey", "--metric", "cka_linear")
    assert cli(*command, "--layers-b", "0.0", "--permutations", 0, "--no-stability", "--out", "S")[0] == 0
    assert not (tmp_path / "S" / "summary.csv").exists()
    assert "different layers" in json.loads((tmp_path / "S" / "study.json").read_text())["warnings"][0]
