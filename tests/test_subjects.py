"""Several subjects: joined by id, their group RDM and noise ceiling, and models compared over them."""

import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform

from repalign.errors import RepalignWarning
from repalign.metrics import make_metric
from repalign.subjects import group_rdm, load_subjects, model_comparison, noise_ceiling, subjects_from_arrays
from repalign.subjects.representation import averages, represent_subjects, score

IDS = tuple(f"im{i:02d}" for i in range(14))
COMPARED = {"spearman": "spearman", "pearson": "corr", "cosine": "cosine"}
DOCS = Path(__file__).parents[1] / "docs" / "subjects.md"


def responses(count, n=14, noise=1.0, seed=0):
    """Subjects who share a geometry of five dimensions, each read out by voxels of their own and with noise."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(n, 5))
    x = {f"s{k}": truth @ rng.normal(size=(5, 30 + k)) + noise * 3 * rng.normal(size=(n, 30 + k)) for k in range(count)}
    return truth, x


def rdms_of(x, distance="euclidean"):
    return {name: squareform(pdist(values, distance)) for name, values in x.items()}


def stacks(name):
    """RDMs (s, n(n-1)/2) in four regimes."""
    rng = np.random.default_rng(3)
    stack = np.array([pdist(v) for v in responses(6)[1].values()])
    match name:
        case "ties":
            return np.round(stack / stack.max() * 6)
        case "unequal scales and offsets":
            return stack * np.exp(3 * rng.normal(size=(6, 1))) + rng.exponential(size=(6, 1))
        case "heavy tails":
            return np.abs(rng.standard_t(1.5, size=stack.shape)) + stack / stack.max()
        case "two subjects":
            return stack[:2]
    return stack


@pytest.mark.parametrize("name", ["plain", "ties", "unequal scales and offsets", "heavy tails", "two subjects"])
@pytest.mark.parametrize("compare", COMPARED)
def test_noise_ceiling_is_rsatoolboxs(name, compare):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from rsatoolbox.inference.noise_ceiling import boot_noise_ceiling
        from rsatoolbox.rdm import RDMs

        stack = stacks(name)
        theirs = boot_noise_ceiling(RDMs(stack), method=COMPARED[compare])
    ours = noise_ceiling(subjects_from_arrays(dict(enumerate_names(stack)), rdms=True), compare=compare)
    assert (ours.lower, ours.upper) == pytest.approx(theirs, rel=1e-8)
    assert ours.lower <= ours.upper
    assert ours.n_subjects == len(stack) == len(ours.per_subject_lower)
    assert ours.lower == pytest.approx(ours.per_subject_lower.mean())


def enumerate_names(stack):
    return ((f"s{k}", row) for k, row in enumerate(stack))


@pytest.mark.parametrize("metric", ["cka_linear", "cka_rbf", "rsa:pearson", "rsa:cosine_cov"])
def test_no_other_average_fits_better(metric):
    """Of unit vectors, their mean has the largest mean cosine with them, so any change of it must lose."""
    name, _, compare = metric.partition(":")
    chosen = make_metric(name, **({"compare": compare, "rdm": "euclidean"} if compare else {}))
    members = represent_subjects(subjects_from_arrays(responses(5)[1]), "features", chosen)
    everyone, _ = averages(members)
    best = np.mean([score(m, everyone) for m in members])
    rng = np.random.default_rng(0)
    for _ in range(10):
        noise = rng.normal(size=everyone.geometry.shape) * 0.05 * float(everyone.geometry.abs().mean())
        other = type(everyone)(chosen, everyone.geometry + everyone.geometry.new_tensor(noise + noise.T))
        assert np.mean([score(m, other) for m in members]) < best


def test_bounds_contain_a_perfect_model_and_meet_without_noise():
    truth, x = responses(8, n=24)
    subjects = subjects_from_arrays(x)
    ceiling = noise_ceiling(subjects, "cka_linear")
    fit = model_comparison(subjects, {"true": truth}, "cka_linear", n_permutations=0).estimates.value[0]
    assert ceiling.lower < fit < ceiling.upper
    same = noise_ceiling(subjects_from_arrays(dict.fromkeys(x, truth)))
    assert (same.lower, same.upper) == pytest.approx((1, 1))


def save(folder, x, shuffle):
    folder.mkdir()
    rng = np.random.default_rng(7)
    for name, values in x.items():
        order = rng.permutation(len(IDS)) if shuffle else np.arange(len(IDS))
        np.savez(folder / f"{name}.npz", it=values[order], ids=np.array(IDS)[order])
    return folder


def test_files_are_joined_by_name_not_by_order(tmp_path):
    truth, x = responses(7)
    plain = load_subjects(f"features:{save(tmp_path / 'plain', x, False)}")
    mixed = load_subjects(f"features:{save(tmp_path / 'mixed', x, True)}/s*.npz")
    assert plain.names == mixed.names == tuple(x)
    assert set(mixed.ids) == set(IDS)
    assert mixed.ids != IDS
    one, other = noise_ceiling(plain), noise_ceiling(mixed)
    assert (one.lower, one.upper) == pytest.approx((other.lower, other.upper), rel=1e-12)
    a, b = (
        model_comparison(s, {"true": truth, "flat": truth[:, :1]}, ids=IDS, rdm="euclidean") for s in (plain, mixed)
    )
    assert a.scores == pytest.approx(b.scores, rel=1e-12)
    assert a.to_frame()["p_value"].to_numpy() == pytest.approx(b.to_frame()["p_value"].to_numpy(), nan_ok=True)
    assert a.estimates.se_stimuli == pytest.approx(b.estimates.se_stimuli, rel=1e-9)
    there = [mixed.ids.index(i) for i in IDS]
    assert group_rdm(plain) == pytest.approx(group_rdm(mixed)[there][:, there].numpy(), rel=1e-12)


def test_stimuli_that_some_lack_are_left_out_and_named():
    _, x = responses(3)
    ids = {"s0": IDS, "s1": IDS[::-1], "s2": (*IDS[2:], "new1", "new2")}
    with pytest.warns(RepalignWarning, match=r"4 of 16 stimuli are not in every subject and left out \(im00, im01, n"):
        subjects = subjects_from_arrays(x, ids=ids)
    assert subjects.ids == IDS[2:]
    assert "4 of 16 stimuli" in noise_ceiling(subjects).notes[0]
    assert np.array_equal(subjects.activations[1].layers["features"], x["s1"][::-1][2:])


def test_group_rdm_scales_each_subject_and_counts_only_those_who_have_the_pair():
    matrices = rdms_of(responses(3)[1])
    gap = matrices["s1"].copy()
    gap[0, 1] = gap[1, 0] = np.nan
    found = group_rdm(subjects_from_arrays({"a": matrices["s0"], "b": 1e9 * gap, "c": matrices["s2"]}, rdms=True))
    unit = {k: m / np.sqrt(np.nanmean(squareform(m, checks=False) ** 2)) for k, m in (matrices | {"s1": gap}).items()}
    assert found.numpy() == pytest.approx(np.nanmean(list(unit.values()), 0), rel=1e-12)
    assert found[0, 1].item() == pytest.approx((unit["s0"][0, 1] + unit["s2"][0, 1]) / 2)


@pytest.mark.parametrize("compare", COMPARED)
def test_missing_pairs_are_left_out_of_both_sides_and_counted(compare):
    truth, x = responses(6)
    matrices = rdms_of(x)
    matrices["s1"][2, 5] = matrices["s1"][5, 2] = matrices["s4"][0, 1] = matrices["s4"][1, 0] = np.nan
    matrices["s4"][3, 1] = matrices["s4"][1, 3] = np.nan
    subjects = subjects_from_arrays(matrices, rdms=True)
    found = model_comparison(subjects, {"true": truth}, rdm="euclidean", compare=compare)
    assert found.notes[0] == (
        "of 91 pairs of stimuli some are missing (NaN) in 2 subjects (s1: 1, s4: 2); "
        "each subject is compared on the pairs it has"
    )
    model, subject = pdist(truth), squareform(matrices["s4"], checks=False)
    there = np.isfinite(subject)
    import scipy.stats

    plain = {
        "spearman": lambda a, b: scipy.stats.spearmanr(a, b).statistic,
        "pearson": lambda a, b: scipy.stats.pearsonr(a, b).statistic,
        "cosine": lambda a, b: a @ b / np.linalg.norm(a) / np.linalg.norm(b),
    }[compare]
    assert found.scores[0, 4] == pytest.approx(plain(model[there], subject[there]), rel=1e-10)
    assert found.ceiling is not None
    assert found.ceiling.lower <= found.ceiling.upper
    assert np.isfinite(found.estimates.se).all()


def test_the_right_model_wins():
    truth, x = responses(9, n=20)
    rng = np.random.default_rng(5)
    models = {"true": truth, "half": truth[:, :2], "other": rng.normal(size=truth.shape)}
    found = model_comparison(subjects_from_arrays(x), models, rdm="euclidean", seed=1)
    value = dict(zip(found.models, found.estimates.value, strict=True))
    assert value["true"] > value["half"] > value["other"]
    p = dict(zip(found.between.pairs, found.between.p_values, strict=True))
    assert p["true", "other"] == 2 / 512
    assert found.between.estimates.ci_low[1] > 0
    assert found.exact
    assert found.n_flips == 511
    assert found.against_ceiling is not None
    assert found.against_ceiling.estimates.ci_high[2] < 0
    assert (found.between.q_values >= found.between.p_values).all()


def test_errors_are_the_jackknifes():
    s, n = 6, 9
    truth, x = responses(s, n)
    models = {"a": truth, "b": truth[:, :3]}
    found = model_comparison(subjects_from_arrays(x), models, "cka_linear")
    assert found.estimates.se_subjects == pytest.approx(found.scores.std(1, ddof=1) / np.sqrt(s))
    without = []
    for i in range(n):
        kept = np.arange(n) != i
        fewer = subjects_from_arrays({k: v[kept] for k, v in x.items()})
        without.append(model_comparison(fewer, {k: v[kept] for k, v in models.items()}, "cka_linear").estimates.value)
    without = np.array(without)
    plain = np.sqrt((n - 1) / n * ((without - without.mean(0)) ** 2).sum(0))
    assert found.estimates.se_stimuli == pytest.approx(plain, rel=1e-9)
    gap = without[:, 0] - without[:, 1]
    assert found.between.estimates.se_stimuli[0] == pytest.approx(
        np.sqrt((n - 1) / n * ((gap - gap.mean()) ** 2).sum()), rel=1e-9
    )
    assert found.estimates.se**2 == pytest.approx(found.estimates.se_subjects**2 + found.estimates.se_stimuli**2)
    half = (found.estimates.ci_high - found.estimates.ci_low) / 2
    assert half == pytest.approx(2.5705818 * found.estimates.se, rel=1e-6)  # t with 5 degrees of freedom


def test_groups_are_left_out_together():
    truth, x = responses(6)
    groups = dict(zip(IDS, "aabbccddeeffgg", strict=True))
    subjects = subjects_from_arrays(x, ids=IDS, groups=groups)
    named = model_comparison(subjects, {"a": truth}, ids=IDS)
    order = np.random.default_rng(0).permutation(len(IDS))
    given = model_comparison(
        subjects_from_arrays(x, ids=IDS),
        {"a": truth[order]},
        ids=np.array(IDS)[order].tolist(),
        groups=[groups[IDS[i]] for i in order],
    )
    single = model_comparison(subjects_from_arrays(x, ids=IDS), {"a": truth}, ids=IDS)
    assert named.n_units == given.n_units == 7
    assert named.estimates.se_stimuli == pytest.approx(given.estimates.se_stimuli, rel=1e-12)
    assert single.n_units == 14
    assert single.estimates.se_stimuli != pytest.approx(named.estimates.se_stimuli, rel=1e-3)


def grouped_layer(rng, groups):
    """Features (n, 6) that are alike within a group, and unrelated to any other layer's."""
    return rng.normal(size=(len(set(groups)), 6))[groups] + 0.5 * rng.normal(size=(len(groups), 6))


@pytest.mark.parametrize("metric", ["cka_linear", "cka_rbf", "rsa", "rsa:compare=kendall_b", "distance_correlation"])
def test_pairs_within_groups_do_not_count(metric):
    """Frames of a video are alike for everybody, so with them unrelated subjects and models score 0.3."""
    from repalign.api import infer_arrays
    from repalign.infer.matrix import Plan

    rng, groups = np.random.default_rng(1), np.repeat(np.arange(8), 5)
    x = {f"s{k}": grouped_layer(rng, groups) for k in range(6)}
    model = {"m": grouped_layer(rng, groups)}
    found = model_comparison(subjects_from_arrays(x), model, metric, groups=groups, n_permutations=0)
    plan = Plan("none", n_permutations=0)
    plain = infer_arrays(x, model, [metric], groups=groups, plan=plan)[metric].alignment.scores
    assert found.scores[0] == pytest.approx(plain[:, 0], abs=1e-12)
    every_pair = model_comparison(subjects_from_arrays(x), model, metric, n_permutations=0)
    assert abs(found.estimates.value[0]) < 0.1 < every_pair.estimates.value[0]
    assert found.notes[0] == "80 of 780 pairs within a group are left out"
    assert found.ceiling is not None
    assert every_pair.ceiling is not None
    assert found.ceiling.lower < 0.1 < every_pair.ceiling.lower
    assert np.isfinite(found.estimates.se).all()


@pytest.mark.parametrize("compare", ["spearman", "pearson", "cosine"])
def test_a_ceiling_without_pairs_within_groups_is_that_of_rdms_that_lack_them(compare):
    _, x = responses(5)
    groups = dict(zip(IDS, "aabbccddeefggg", strict=True))
    codes = np.array(list(groups.values()))
    within = (codes[:, None] == codes) & ~np.eye(len(codes), dtype=bool)
    matrices = {k: np.where(within, np.nan, m) for k, m in rdms_of(x).items()}
    subjects = subjects_from_arrays(x, ids=IDS, groups=groups)
    ours = noise_ceiling(subjects, rdm="euclidean", compare=compare)
    given = noise_ceiling(subjects_from_arrays(matrices, rdms=True), compare=compare)
    assert (ours.lower, ours.upper) == pytest.approx((given.lower, given.upper), rel=1e-12)
    assert ours.notes == ("8 of 91 pairs within a group are left out",)
    assert "some are missing (NaN) in 5 subjects (s0: 8" in given.notes[0]
    assert group_rdm(subjects).isfinite().all()  # an RDM shows all pairs


def test_a_metric_that_counts_pairs_within_groups_says_so():
    _, x = responses(6)
    groups = [i // 2 for i in range(14)]
    said = "so pairs within a group count too, which lifts all scores: compare models, not a score with 0"
    subjects = subjects_from_arrays(x)
    assert (
        f"procrustes can't leave out pairs, {said}"
        in model_comparison(subjects, {"m": x["s0"]}, "procrustes", groups=groups).notes
    )
    few = model_comparison(subjects, {"m": x["s0"]}, "rsa", groups=[i // 5 for i in range(14)])
    assert f"3 groups are too few to compare between groups only (4 are needed), {said}" in few.notes
    assert not any(said in note for note in model_comparison(subjects, {"m": x["s0"]}, "procrustes").notes)


def test_few_groups_have_no_error_from_stimuli():
    truth, x = responses(6, n=20)
    subjects = subjects_from_arrays(x)
    four, five = (
        model_comparison(subjects, {"m": truth}, "cka_linear", groups=np.arange(20) % count) for count in (4, 5)
    )
    assert "no error from stimuli: 4 groups are too few; at least 5 are needed" in four.notes
    assert np.isnan(four.estimates.se).all()
    assert np.isfinite(four.estimates.se_subjects).all()
    assert np.isfinite(five.estimates.se).all()


@pytest.mark.parametrize("metric", ["cka_linear", "cka_linear:debiased=false", "rsa:rdm=euclidean,compare=pearson"])
def test_a_model_does_not_differ_from_its_copy(metric):
    truth, x = responses(7, n=20)
    turned = truth @ np.linalg.qr(np.random.default_rng(0).normal(size=(5, 5)))[0]
    models = {"m": truth, "scaled": 3 * truth, "turned": turned + 7, "other": truth[:, :2]}
    found = model_comparison(subjects_from_arrays(x), models, metric).between
    copies = [set(pair) <= {"m", "scaled", "turned"} for pair in found.pairs]
    assert found.p_values[copies].tolist() == [1.0] * 3
    assert not found.estimates.se[copies].any()
    assert (found.p_values[~np.array(copies)] < 1).all()


def test_a_p_can_be_reproduced_from_explicit_signs():
    truth, x = responses(7)
    signs = np.random.default_rng(4).choice([1, -1], size=(499, 7))
    models = {"a": truth, "b": truth[:, :4]}
    found = model_comparison(subjects_from_arrays(x), models, signs=signs, rdm="euclidean")
    gaps = found.scores[0] - found.scores[1]
    extreme = np.abs((signs * gaps).mean(1)) >= abs(gaps.mean()) * (1 - 1e-10)
    assert found.between.p_values[0] == (extreme.sum() + 1) / 500
    assert (found.n_flips, found.exact) == (499, False)
    from scipy.stats import permutation_test

    every = permutation_test((gaps,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert model_comparison(subjects_from_arrays(x), models, rdm="euclidean").between.p_values[0] == every.pvalue


def test_too_few_subjects_get_no_p():
    truth, x = responses(5)
    found = model_comparison(subjects_from_arrays(x), {"a": truth, "b": truth[:, :2]})
    assert np.isnan(found.between.p_values).all()
    assert np.isnan(found.between.q_values).all()
    assert any("at least 6 subjects are needed" in note for note in found.notes)
    assert np.isfinite(found.between.estimates.se).all()


def test_a_frame_lists_models_ceiling_and_differences():
    truth, x = responses(6)
    frame = model_comparison(subjects_from_arrays(x), {"a": truth, "b": truth[:, :2]}).to_frame()
    assert frame["kind"].tolist() == ["model"] * 2 + ["ceiling"] * 2 + ["difference"] + ["against_ceiling"] * 2
    assert frame["b"].tolist()[-1] == "lower noise ceiling"
    row = frame.iloc[4]
    assert row["value"] == pytest.approx(frame["value"][0] - frame["value"][1])
    assert frame["value"][6] == pytest.approx(frame["value"][1] - frame["value"][2])


def test_a_metric_without_an_average_compares_models_without_a_ceiling():
    truth, x = responses(6)
    found = model_comparison(subjects_from_arrays(x), {"a": truth}, "procrustes")
    assert found.ceiling is None
    assert found.against_ceiling is None
    assert "no noise ceiling: procrustes compares features, which have no average" in found.notes


def test_a_constant_model_is_nan_and_named():
    truth, x = responses(6)
    with pytest.warns(RepalignWarning, match="model 'flat' has no score"):
        found = model_comparison(subjects_from_arrays(x), {"a": truth, "flat": truth * 0 + 1}, rdm="euclidean")
    assert np.isnan(found.scores[1]).all()
    assert np.isfinite(found.estimates.se[0])
    assert np.isnan(found.between.p_values).all()


def test_models_may_be_rdms_and_subjects_repeats():
    truth, x = responses(6)
    rng = np.random.default_rng(2)
    repeats = {k: v + rng.normal(size=(3, *v.shape)) for k, v in x.items()}
    subjects = subjects_from_arrays(repeats)
    assert subjects.geometry == "repeats"
    averaged = subjects_from_arrays({k: v.mean(0) for k, v in repeats.items()})
    model = {"m": squareform(pdist(truth))}
    ours = model_comparison(subjects, model, models_are_rdms=True, rdm="euclidean")
    assert ours.scores == pytest.approx(model_comparison(averaged, {"m": truth}, rdm="euclidean").scores, rel=1e-10)


def test_the_pages_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL):
        exec(block, names)
    assert names["found"].models == ("shape", "colour")
