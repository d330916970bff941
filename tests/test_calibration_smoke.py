"""The calibration experiment, in small: its simulations run, and what must fail there does."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import repalign as ra

FOLDER = Path(__file__).parents[1] / "experiments" / "calibration"
MODULES = ("calibrate", "intervals", "levels", "processes", "report", "summary")


@pytest.fixture(scope="module")
def simulated():
    """The experiment's modules by name."""
    sys.path.insert(0, str(FOLDER))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # thousands of small products: threads would only wait for each other
    try:
        yield {name: __import__(name) for name in MODULES}
    finally:
        torch.set_num_threads(threads)
        sys.path.remove(str(FOLDER))
        for name in MODULES:
            sys.modules.pop(name, None)


def rate(record, kind="p"):
    return np.mean(record["rejections"][kind])


def test_processes_have_the_variance_and_the_groups_they_claim(simulated):
    p = simulated["processes"]
    rng = np.random.default_rng(0)
    grouped = p.GROUPED.variables(rng, 4000, 1)[:, 0].reshape(4000, 10)
    assert grouped.var() == pytest.approx(1, abs=0.05)
    assert np.mean(grouped[:, 0] * grouped[:, 1]) == pytest.approx(p.SHARED, abs=0.05)
    assert p.GAUSSIAN.groups(5) is None
    assert [p.UNEVEN.groups(6).count(str(u)) for u in range(6)] == [2, 4, 8, 12, 24, 2]


def test_linear_cka_tends_to_the_limit_computed_from_covariances(simulated):
    p = simulated["processes"]
    left, right = p.GAUSSIAN.pair(np.random.default_rng(0), 2000)
    for name, strength in p.STRENGTHS.items():
        limit = p.linear_cka_limit(p.GAUSSIAN, strength)
        assert ra.similarity(left, right[name]) == pytest.approx(limit, abs=0.03), name


def test_equally_strong_but_unlike_sides_align_equally(simulated):
    p, levels = simulated["processes"], simulated["levels"]
    width, little = p.GAUSSIAN.width, p.NOISE
    w, r = p.mixture("a", width), p.mixture("reference", width)
    cka = [
        np.linalg.norm(strength * w.T @ r) ** 2 / np.linalg.norm(w.T @ w + noise**2 * np.eye(width))
        for strength, noise in zip(levels.equal_strengths(width), (little, 2 * little), strict=True)
    ]
    assert cka[0] == pytest.approx(cka[1], rel=1e-12)


def test_data_sets_that_share_a_call_are_scored_as_by_themselves(simulated):
    p, intervals = simulated["processes"], simulated["intervals"]
    cell = intervals.IntervalCell(p.GROUPED, 6, "cka_linear", "jackknife", 3, "all")
    metric = ra.metrics.make_metric("cka_linear")
    together = cell._batch(np.random.default_rng(5), metric, 3)
    rng = np.random.default_rng(5)
    drawn = [p.GROUPED.pair(rng, 6) for _ in range(3)]
    alone = [[ra.similarity(a, b[name]) for name in p.STRENGTHS] for a, b in drawn]
    np.testing.assert_allclose(together[:, 0], alone, rtol=1e-10)
    assert (together[:, 2] < together[:, 0]).all()
    assert (together[:, 0] < together[:, 3]).all()


@pytest.mark.parametrize("interval", ["jackknife", "half"])
def test_intervals_cover_and_wrong_ones_would_be_seen(simulated, interval, monkeypatch):
    monkeypatch.setattr("repalign.infer.matrix.HALVES", 20)
    p, s = simulated["processes"], simulated["summary"]
    cell = simulated["intervals"].IntervalCell(p.GAUSSIAN, 30, "cka_linear", interval, 20)
    record = {"key": cell.key, "chunk": 0, **cell.run(20, 0)}
    found = s.coverages([record])
    assert [c.strength for c in found] == list(p.STRENGTHS)
    assert all(c.of_mean.value >= 0.8 for c in found)
    narrow = {**record, "low": (np.array(record["scores"]) - 1e-6).tolist(), "high": record["scores"]}
    assert all(c.of_mean.misses(s.COVERAGE_AIM) for c in s.coverages([narrow]))


@pytest.mark.parametrize(
    ("test", "options"),
    [
        ("permutation", {"permutations": 19}),
        ("mantel", {"permutations": 19}),
        ("two_sample paired", {"permutations": 19}),
        ("two_sample unpaired", {"permutations": 19}),
    ],
)
def test_frames_taken_one_by_one_reject_what_is_true_and_whole_groups_do_not(simulated, test, options):
    cell, process = simulated["levels"].LevelCell, simulated["processes"].GROUPED
    right = cell(test, process, 8, 12, options).run(12, 0)
    wrong = cell(test, process, 8, 12, {**options, "grouped": False}).run(12, 0)
    assert rate(right) < 0.3 < rate(wrong)


@pytest.mark.parametrize("options", [{}, {"unlike": True}, {"test": "within"}])
def test_differences_of_nothing_are_seldom_significant(simulated, options):
    cell = simulated["levels"].LevelCell("difference", simulated["processes"].GROUPED, 10, 25, options)
    record = cell.run(25, 0)
    assert rate(record) < 0.25
    assert rate(record, "interval without 0") < 0.25


def test_models_that_mirror_each_other_differ_seldom(simulated):
    cell = simulated["levels"].LevelCell("model_comparison", simulated["processes"].GAUSSIAN, 8, 6)
    assert rate(cell.run(6, 0)) <= 0.5


def test_false_discoveries_are_counted_among_what_was_found(simulated):
    cell = simulated["levels"].LevelCell("permutation", simulated["processes"].GAUSSIAN, 60, 3, {"aligned": 4})
    record = cell.run(3, 0)
    assert set(record["rejections"]) == {"p", "max-T", "q"}
    assert all(0 <= share <= 1 for shares in record["rejections"].values() for share in shares)


def test_groups_lift_a_score_unless_their_own_pairs_are_left_out(simulated):
    p, cell = simulated["processes"], simulated["intervals"].IntervalCell
    metric = ra.metrics.make_metric("cka_linear")
    lifted, level = (
        cell(p.GROUPED, 8, "cka_linear", "jackknife", 20, pairs)._batch(np.random.default_rng(1), metric, 20)
        for pairs in ("all", "between")
    )
    assert lifted[:, 0, 0].mean() > 0.15 > abs(level[:, 0, 0].mean()) + 0.05


def test_a_share_has_wilsons_interval(simulated):
    from scipy.stats import binomtest

    found = simulated["summary"].share(np.repeat([1.0, 0.0], [7, 93]))
    wilson = binomtest(7, 100).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((wilson.low, wilson.high), rel=1e-9)


def test_a_run_stops_resumes_and_is_drawn(simulated, tmp_path, monkeypatch):
    c, p = simulated["calibrate"], simulated["processes"]
    cells = [
        simulated["intervals"].IntervalCell(p.GAUSSIAN, 10, "cka_linear", "jackknife", 10),
        simulated["intervals"].PopulationCell(p.GAUSSIAN, "cka_linear", 10),
        simulated["levels"].LevelCell("mantel", p.GAUSSIAN, 10, 10, {"permutations": 19}),
    ]
    monkeypatch.setattr(c, "all_cells", lambda: cells)
    path = tmp_path / "runs" / "chunks.jsonl"
    c.run(path, np.inf, only="mantel")
    assert len(c.read(path)) == c.CHUNKS
    c.run(path, np.inf, only="")
    first = path.read_text()
    assert len(c.read(path)) == c.CHUNKS * len(cells)
    c.run(path, np.inf, only="")
    assert path.read_text() == first
    simulated["report"].draw(c.read(path), tmp_path)
    assert "| `cka_linear` | jackknife | Gaussian | 10 | 10 |" in (tmp_path / "table.md").read_text()
    assert (tmp_path / "figure.png").stat().st_size > 1000
    assert '"coverage' not in (tmp_path / "results.json").read_text()


def test_every_cell_has_a_name_of_its_own(simulated):
    keys = [cell.key for cell in simulated["calibrate"].all_cells()]
    assert len(keys) == len(set(keys))
