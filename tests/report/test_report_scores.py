import json

import numpy as np
import pytest
from fake_extras import add_columns
from fake_study import fake_study

from repalign.align import matched
from repalign.report import read_study
from repalign.report.scores import (
    at_chance,
    best_matches,
    chance_level,
    diagonal,
    least_pair,
    matched_curve,
    matched_layers,
    null_bands,
    top_pairs,
)


def test_layers_match_by_nearest_depth_and_same_layers_by_the_diagonal(tmp_path):
    study = read_study(fake_study(tmp_path / "s", 5, 3))
    assert matched_layers(study.a, study.b).tolist() == [0, 0, 1, 1, 2]
    same = read_study(fake_study(tmp_path / "same", 6, same=True))
    assert matched_layers(same.a, same.b).tolist() == list(range(6))
    np.testing.assert_array_equal(matched_curve(same, same.metrics[1]), np.diag(same.matrix(same.metrics[1])))


def test_best_matches_skip_rows_without_a_score(tmp_path):
    study = read_study(fake_study(tmp_path / "s", 5, 4, undefined=True))
    best = best_matches(study, study.metrics[0])
    assert best[0] == -1
    assert best[1:].tolist() == np.nanargmax(study.matrix(study.metrics[0])[1:], axis=1).tolist()


def test_pairs_and_the_diagonal_are_those_of_the_matrix(tmp_path):
    study = read_study(fake_study(tmp_path / "s", 6, 6, same=True, undefined=True, intervals=True))
    metric = study.metrics[0]
    scores = study.matrix(metric)
    pairs = top_pairs(study, metric, 3)
    assert [p.value for p in pairs] == sorted(scores[np.isfinite(scores)])[::-1][:3]
    assert pairs[0].has_interval
    assert pairs[0].ci_low < pairs[0].value < pairs[0].ci_high
    along = diagonal(study, metric)
    assert along is not None
    assert along.mean == pytest.approx(np.nanmean(np.diag(scores)))
    assert along.peak.value == np.nanmax(np.diag(scores))
    assert along.lowest.value == np.nanmin(np.diag(scores))
    assert along.peak_depth == study.a.depths[study.a.layers.index(along.peak.layer_a)]
    assert all(p.layer_a != p.layer_b for p in top_pairs(study, metric, 30, skip_same=True))


def test_where_lower_is_more_alike_the_lowest_is_best(tmp_path):
    folder = fake_study(tmp_path / "s", 5, 4, metrics=1)
    meta = json.loads((folder / "study.json").read_text())
    meta["metrics"][0]["higher_is_similar"] = False
    (folder / "study.json").write_text(json.dumps(meta))
    study = read_study(folder)
    metric, scores = study.metrics[0], study.matrix(study.metrics[0])
    assert top_pairs(study, metric, 1)[0].value == scores.min()
    least = least_pair(study, metric)
    assert least is not None
    assert least.value == scores.max()
    assert best_matches(study, metric).tolist() == scores.argmin(axis=1).tolist()


def test_cells_at_chance_need_intervals(tmp_path):
    plain = read_study(fake_study(tmp_path / "plain", 6, 6))
    assert not at_chance(plain, plain.metrics[0]).any()
    sure = read_study(fake_study(tmp_path / "sure", 6, 6, intervals=True))
    scores, muted = sure.matrix(sure.metrics[0]), at_chance(sure, sure.metrics[0])
    assert muted.any()
    assert np.abs(scores[muted]).max() < 0.07 < np.abs(scores[~muted]).max()


def test_cells_of_a_biased_measure_are_at_chance_where_independent_features_are(tmp_path):
    folder = fake_study(tmp_path / "s", 6, 6, metrics=1, intervals=True)
    add_columns(folder, {"independent": lambda row: "0.5"})
    study = read_study(folder)
    metric = study.metrics[0]
    assert (chance_level(study, metric) == study.matrix(metric, "null_mean")).all()
    add_columns(folder, {"null_mean": lambda row: ""})
    study = read_study(folder)
    scores, muted = study.matrix(metric), at_chance(study, metric)
    assert muted.any()
    assert np.abs(scores[muted] - 0.5).max() < 0.07


def test_nulls_far_apart_make_two_bands(tmp_path):
    folder = fake_study(tmp_path / "s", 4, 4, intervals=True)
    levels = {"cka_linear": "0.01", "cka_rbf": "-0.02", "rsa": "0.7"}
    add_columns(folder, {"null_mean": lambda row: levels[row["metric"]]})
    bands = null_bands(read_study(folder))
    assert [(low.min(), high.max()) for low, high in bands] == [(-0.02, 0.01), (0.7, 0.7)]
    assert null_bands(read_study(fake_study(tmp_path / "plain", 4, 4))) == []


def test_ties_in_depth_but_for_rounding_go_to_the_shallower():
    half = np.array([1 / 3, 2 / 3])
    assert matched(np.array([0.5]), half, same=False).tolist() == [0]
    assert matched(np.array([0.5 + 1e-12]), half, same=False).tolist() == [0]
    assert matched(np.array([0.5 + 1e-6]), half, same=False).tolist() == [1]
    assert matched(np.array([0.9, 0.1]), half, same=True).tolist() == [0, 1]


def test_a_study_in_which_nothing_is_defined_has_no_pairs(tmp_path):
    study = read_study(fake_study(tmp_path / "s", 1, 3, metrics=1, all_undefined=True))
    assert top_pairs(study, study.metrics[0]) == []
    assert diagonal(study, study.metrics[0]) is None
    assert least_pair(study, study.metrics[0]) is None
    assert (study.lowest(), study.highest()) == (0.0, 0.0)
