"""One side of a comparison is several subjects: means over them, their errors, their ceiling."""

import json
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import pdist, squareform
from scipy.stats import t as student

import repalign as ra
from repalign.align import prepare
from repalign.errors import InputError, RepalignWarning
from repalign.infer.matrix import infer
from repalign.infer.stability import stability
from repalign.measuring import prepare_sides
from repalign.sides import load_sides
from repalign.subjects.aligned import ceilings

COUNT = 5
LAYERS = ("v1", "it")
IDS = tuple(f"im{k:02d}" for k in range(14))
RSA = "rsa:rdm=euclidean,compare=pearson"


def responses(n=14, seed=0):
    """Subjects with two regions, read out by voxels of their own number and with noise."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(n, 4))
    return truth, {
        f"s{k}": {v: truth @ rng.normal(size=(4, 20 + k)) + 2 * rng.normal(size=(n, 20 + k)) for v in LAYERS}
        for k in range(COUNT)
    }


def save(folder, people, ids, kind="rdm", shuffled=(), gaps=None, **extra):
    """Write one file a subject and give the pattern that names them all."""
    folder.mkdir()
    for k, (name, regions) in enumerate(people.items()):
        order = np.random.default_rng(k).permutation(len(ids)) if name in shuffled else np.arange(len(ids))
        found = {}
        for region, x in regions.items():
            found[region] = squareform(pdist(x)) if kind == "rdm" else x
            for i, j in (gaps or {}).get(name, ()):
                found[region][i, j] = found[region][j, i] = np.nan
            found[region] = found[region][order][:, order] if kind == "rdm" else x[order]
        extras = {key: np.array(values)[order] for key, values in extra.items()}
        np.savez(folder / f"{name}.npz", **found, **extras, ids=np.array(ids)[order])
    return f"{kind}:{folder}/*.npz"


def save_model(path, truth, ids=IDS, **extra):
    rng = np.random.default_rng(9)
    layers = {f"l{k}": truth @ rng.normal(size=(4, 9)) + k * rng.normal(size=(len(truth), 9)) for k in range(3)}
    np.savez(path, **layers, ids=np.array(ids), **extra)
    return f"features:{path}"


@pytest.fixture
def saved(tmp_path):
    """Subjects and a model as files, and what they hold."""
    truth, people = responses()
    patterns = {kind: save(tmp_path / kind, people, IDS, kind) for kind in ("rdm", "features")}
    return patterns, save_model(tmp_path / "model.npz", truth), people


def singles(pattern):
    return [pattern.replace("*", name) for name in (f"s{k}" for k in range(COUNT))]


def sides_of(a, b):
    return load_sides(a, b, None, None, ra.Options())


@pytest.mark.parametrize(("kind", "metric"), [("rdm", "rsa"), ("features", "cka_linear")])
def test_the_study_holds_means_over_subjects(cli, nets, photos, tmp_path, kind, metric):
    ids = ra.load_stimuli(str(photos)).ids
    pattern = save(tmp_path / "people", responses(len(ids))[1], ids, kind)
    code, _, err = cli(
        "compare", "--a", pattern, "--b", f"{nets}:net", "--data", photos, "--metric", metric, "--out", tmp_path / "out"
    )
    assert code == 0, err
    found = pd.read_csv(tmp_path / "out" / "alignment.csv")
    assert set(found["encoder_a"]) == {pattern}
    each = [ra.compare(one, f"{nets}:net", str(photos), [metric])[metric] for one in singles(pattern)]
    assert found["layer_a"].tolist() == [name for name in each[0].layers_a for _ in each[0].layers_b]
    assert found["value"].to_numpy() == pytest.approx(np.mean([x.scores for x in each], axis=0).ravel(), abs=1e-12)
    together = ra.compare(pattern, f"{nets}:net", str(photos), [metric])[metric]
    assert together.scores.ravel() == pytest.approx(found["value"].to_numpy(), abs=1e-12)
    assert (found["ci_low"] < found["value"]).all()
    assert (found["value"] < found["ci_high"]).all()
    assert np.isfinite(found["p"]).all()
    said = json.loads((tmp_path / "out" / "study.json").read_text(encoding="utf-8"))
    notes = next(iter(said["inference"].values()))["notes"]
    assert "scores are means over 5 subjects" in notes
    assert "errors add those of stimuli and of subjects" in notes
    subjects = said["encoders"]["a"]["subjects"]
    assert (subjects["n"], subjects["names"]) == (5, [f"s{k}" for k in range(COUNT)])
    assert "subjects" not in said["encoders"]["b"]
    [(_, bounds)] = subjects["ceiling"].items()
    assert list(bounds) == list(LAYERS)
    assert all(lower <= upper for lower, upper in bounds.values())
    assert "noise ceiling" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    layers = pd.read_csv(tmp_path / "out" / "layers.csv").set_index("layer")
    if kind == "rdm":
        assert layers.loc[list(LAYERS), "participation_ratio"].isna().all()
    else:
        assert layers.loc["v1", "shape"] == "20…24"
        assert 1 <= layers.loc["v1", "participation_ratio"] <= len(ids) - 1
    curves = pd.read_csv(tmp_path / "out" / "curves.csv")
    last = curves[(curves["kind"] == "stimuli") & (curves["n"] == len(ids)) & curves["layer_a"].notna()]
    assert last["value"].item() == pytest.approx(found["value"].max(), abs=1e-12)


def test_stimuli_are_joined_by_name_in_every_file(cli, nets, photos, tmp_path):
    ids = ra.load_stimuli(str(photos)).ids
    people = responses(len(ids))[1]
    patterns = [save(tmp_path / "plain", people, ids), save(tmp_path / "mixed", people, ids, shuffled=("s0", "s3"))]
    found = []
    for pattern in patterns:
        left, right = load_sides(f"{nets}:net", pattern, str(photos), None, ra.Options())
        found.append(infer(prepare_sides(left, right, ra.parse_metric("rsa")), ra.Plan(n_permutations=99)))
    plain, mixed = found
    assert np.array_equal(plain.alignment.scores, mixed.alignment.scores)
    assert np.array_equal(plain.se, mixed.se)
    assert np.array_equal(plain.p_values, mixed.p_values)
    code, _, err = cli("compare", "--a", f"{nets}:net", "--b", patterns[1], "--data", photos)
    assert code == 2
    assert "cka_linear needs features, but this layer is a dissimilarity matrix of 12 stimuli" in err


@pytest.mark.parametrize(
    "metric", ["linear_predictivity", "procrustes", "mutual_knn", "cka_rbf", "rsa:compare=kendall_a"]
)
@pytest.mark.parametrize("first", [True, False])
def test_every_metric_averages_on_either_side(saved, metric, first):
    patterns, model, _ = saved
    order = slice(None, None, 1 if first else -1)
    found = ra.compare(*(patterns["features"], model)[order], metrics=[metric])[metric]
    each = [ra.compare(*(one, model)[order], metrics=[metric])[metric] for one in singles(patterns["features"])]
    assert (
        (found.layers_a, found.layers_b) == (each[0].layers_a, each[0].layers_b) == (LAYERS, ("l0", "l1", "l2"))[order]
    )
    assert found.scores == pytest.approx(np.mean([x.scores for x in each], axis=0), abs=1e-12)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("metric", ["cka_linear", RSA])
def test_errors_and_chance_are_those_of_the_mean(saved, metric, first):
    patterns, model, people = saved
    chosen, n = ra.parse_metric(metric), len(IDS)
    orders = np.array([np.random.default_rng(k).permutation(n) for k in range(19)])
    plan = ra.Plan(permutations=orders)
    found = infer(prepare_sides(*sides_of(*(patterns["features"], model)[:: 1 if first else -1]), chosen), plan)
    layers = {k: v for k, v in np.load(model.removeprefix("features:")).items() if k != "ids"}

    def scores(rows, moved=slice(None)):
        """Score each subject on some stimuli, those of one side rearranged, `(s, la, lb)`."""
        them = [{k: v[rows] for k, v in one.items()} for one in people.values()]
        us = {k: v[rows][moved] for k, v in layers.items()}
        return np.stack([ra.compare_arrays(one, us, [chosen])[chosen.spec].scores for one in them])

    each = scores(np.arange(n))
    without = np.stack([scores(np.delete(np.arange(n), i)).mean(0) for i in range(n)])
    squares = (without - without.mean(0)) ** 2
    of_stimuli = np.sqrt((n - 1) / n * squares.sum(0))
    se = np.sqrt(of_stimuli**2 + each.var(0, ddof=1) / COUNT)
    mine = {k: getattr(found, k) if first else getattr(found, k).T for k in ("se", "ci_low", "null_mean", "p_values")}
    assert mine["se"] == pytest.approx(se, rel=1e-9)
    carried = squares.sum(0) ** 2 / (squares**2).sum(0)
    degrees = np.minimum(2 * n * carried / (n - carried), COUNT - 1)
    assert mine["ci_low"] == pytest.approx(each.mean(0) - student.ppf(0.975, degrees) * se, rel=1e-9)
    # moving the subjects' stimuli is moving the model's the other way round
    null = np.stack([scores(np.arange(n), order if first else np.argsort(order)).mean(0) for order in orders])
    assert mine["null_mean"] == pytest.approx(null.mean(0), rel=1e-9, abs=1e-12)
    assert mine["p_values"] == pytest.approx((1 + (null >= each.mean(0) - 1e-10).sum(0)) / 20)


def test_chance_of_a_biased_measure_is_that_of_all_subjects(saved):
    patterns, model, _ = saved
    metric = ra.make_metric("cka_linear", debiased=False)
    plan = ra.Plan("none", n_permutations=0)
    found = infer(prepare_sides(*sides_of(patterns["features"], model), metric), plan).independent
    each = [
        infer(prepare_sides(*sides_of(one, model), metric), plan).independent for one in singles(patterns["features"])
    ]
    assert found == pytest.approx(np.mean(each, axis=0), abs=0.1)
    assert (found > 0.3).all()


def test_curves_are_of_the_mean(saved):
    patterns, model, _ = saved
    metric = ra.parse_metric("cka_linear")
    found = stability(prepare_sides(*sides_of(patterns["features"], model), metric), {})
    each = [stability(prepare_sides(*sides_of(one, model), metric), {}) for one in singles(patterns["features"])]
    matched = [curve[(curve["kind"] == "stimuli") & (curve["layer_a"] == "")] for curve in (found, *each)]
    assert len(matched[0]) > 2
    assert matched[0]["value"].to_numpy() == pytest.approx(np.mean([x["value"] for x in matched[1:]], axis=0))


def test_half_samples_add_the_subjects_too(saved):
    patterns, model, _ = saved
    metric, plan = ra.parse_metric(RSA), ra.Plan("half", n_permutations=0)
    compared = prepare_sides(*sides_of(patterns["features"], model), metric)
    found = infer(compared, plan)
    between = compared.between_subjects()
    assert (found.se > between).all()
    one = infer(prepare_sides(*sides_of(singles(patterns["features"])[0], model), metric), plan)
    assert not any("subjects" in note for note in one.notes)


def test_a_subject_who_lacks_pairs_is_scored_on_the_others(tmp_path):
    truth, people = responses()
    model = save_model(tmp_path / "model.npz", truth)
    pattern = save(tmp_path / "people", people, IDS, gaps={"s1": [(0, 3)], "s4": [(2, 5), (7, 8)]})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RepalignWarning)
        compared = prepare_sides(*sides_of(pattern, model), ra.parse_metric("rsa"))
        each = [ra.compare(one, model, metrics=["rsa"])["rsa"].scores for one in singles(pattern)]
    assert f"1 of 91 pairs of stimuli are missing (NaN) in {pattern} (s1) and left out" in str(caught[0].message)
    assert compared.names == (("s0", "s2", "s3"), ("s1",), ("s4",))
    assert compared.alignment().scores == pytest.approx(np.mean(each, axis=0), abs=1e-12)
    assert np.isfinite(infer(compared, ra.Plan(n_permutations=99)).se).all()


def test_the_ceiling_is_of_the_pairs_that_are_scored(tmp_path):
    truth, people = responses()
    groups = [f"g{k // 2}" for k in range(len(IDS))]
    for regions in people.values():  # everybody sees the two stimuli of a group alike
        for x in regions.values():
            x += np.repeat(x[::2], 2, axis=0)
    pattern = save(tmp_path / "people", people, IDS, "features", groups=groups)
    left, right = sides_of(pattern, save_model(tmp_path / "model.npz", truth, groups=np.array(groups)))
    every, between = (
        ceilings(left.subjects, prepare_sides(left, right, ra.parse_metric(RSA), pairs)) for pairs in ("all", "between")
    )
    assert list(every) == list(between) == list(LAYERS)
    plain = ra.noise_ceiling(left.subjects, "rsa", "it", rdm="euclidean", compare="pearson")
    assert (between["it"].lower, between["it"].upper) == pytest.approx((plain.lower, plain.upper), rel=1e-9)
    assert every["it"].lower != pytest.approx(plain.lower, rel=1e-3)
    assert between["it"].lower < between["it"].upper
    other = np.array(groups)[:, None] != groups
    rdms = [squareform(pdist(one["it"]))[other] for one in people.values()]
    rdms = np.array([(x - x.mean()) / x.std() for x in rdms])
    assert between["it"].upper == pytest.approx(np.mean([np.corrcoef(x, rdms.mean(0))[0, 1] for x in rdms]), rel=1e-9)
    procrustes = prepare_sides(left, right, ra.parse_metric("procrustes"))
    assert ceilings(left.subjects, procrustes) == {}, "procrustes has no average"


def test_a_subject_without_anything_to_compare_is_named(saved, tmp_path):
    _, model, people = saved
    people["s2"]["v1"] = np.ones((len(IDS), 3))
    pattern = save(tmp_path / "people", people, IDS, "features")
    with pytest.warns(RepalignWarning, match=r"layer 'v1 of s2' of features:.* has no score"):
        found = ra.compare(pattern, model, metrics=["cka_linear"])["cka_linear"]
    assert np.isnan(found.scores[0]).all()
    assert np.isfinite(found.scores[1]).all()
    assert list(found.undefined) == ["v1 of s2"]


def test_subjects_in_memory_and_files_of_one_subject(saved, tmp_path):
    patterns, model, people = saved
    subjects = ra.load_subjects(patterns["rdm"])
    got, wanted = (ra.compare(a, model, metrics=["rsa"])["rsa"].scores for a in (subjects, patterns["rdm"]))
    assert np.array_equal(got, wanted)
    stack = np.stack([squareform(pdist(one["it"])) for one in people.values()])
    np.savez(tmp_path / "stack.npz", it=stack, ids=np.array(IDS))
    stacked = ra.compare(f"rdm:{tmp_path}/stack.npz", model, metrics=["rsa"])["rsa"].scores
    assert stacked[0] == pytest.approx(wanted[1], abs=1e-12)
    alone = save(tmp_path / "alone", {"s0": people["s0"]}, IDS, "features")
    one = ra.compare(alone, model, metrics=["cka_linear"])["cka_linear"].scores
    assert np.array_equal(one, ra.compare(alone.replace("*", "s0"), model, metrics=["cka_linear"])["cka_linear"].scores)


def test_rows_known_by_order_take_the_models_ids(nets, photos, tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "people").mkdir()
    for k in range(3):
        np.save(tmp_path / "people" / f"s{k}.npy", rng.normal(size=(12, 5 + k)))
    found = ra.compare(f"features:{tmp_path}/people", f"{nets}:net", str(photos), ["cka_linear"])["cka_linear"]
    each = [
        ra.compare(f"features:{tmp_path}/people/s{k}.npy", f"{nets}:net", str(photos), ["cka_linear"])["cka_linear"]
        for k in range(3)
    ]
    assert found.scores == pytest.approx(np.mean([x.scores for x in each], axis=0), abs=1e-12)


def test_what_several_subjects_can_not_do(saved, tmp_path):
    patterns, model, _ = saved
    with pytest.raises(InputError) as caught:
        ra.compare(patterns["rdm"], patterns["features"], metrics=["rsa"])
    assert f"both sides are several subjects, {patterns['rdm']} (5) and {patterns['features']} (5)" in str(caught.value)
    assert "name one subject's file, or save ra.group_rdm" in str(caught.value)
    with pytest.raises(InputError, match="both sides are several subjects"):
        ra.compare(patterns["rdm"], metrics=["rsa"])
    with pytest.raises(InputError, match=r"rdm:.*layer 'v1 of s0': cka_linear needs features"):
        ra.compare(patterns["rdm"], model, metrics=["cka_linear"])
    more = save_model(tmp_path / "more.npz", np.ones((15, 4)), ids=(*IDS, "new"))
    with pytest.raises(InputError, match=r"features:.*: 1 of 15 stimuli are missing \(new\)"):
        ra.compare(more, patterns["features"], metrics=["cka_linear"])


def test_one_side_without_subjects_is_prepared_as_ever(saved):
    _, model, _ = saved
    left, right = sides_of(model, model)
    metric = ra.parse_metric("cka_linear")
    found, plain = prepare_sides(left, right, metric), prepare(left.activations, right.activations, metric)
    assert type(found) is type(plain)
    assert np.array_equal(found.alignment().scores, plain.alignment().scores)
