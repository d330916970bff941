import numpy as np
import pytest
from fake_many import fake_many, many_families
from scipy.cluster.hierarchy import cophenet, linkage
from scipy.optimize import minimize
from scipy.spatial.distance import pdist, squareform

from repalign.report.colours import LINES
from repalign.report.many.depth import TOGETHER, depth_curves
from repalign.report.many.encoder_map import average_tree, classical_scaling, dissimilarity, encoder_map
from repalign.report.many.folder import read_many
from repalign.report.many.layout import beside, fitted_box, fitted_ticks, signed, spread
from repalign.report.many.looks import SHAPES, family_looks, looks_of


@pytest.fixture
def rng():
    return np.random.default_rng(4)


def test_scaling_finds_points_in_a_plane_again(rng):
    points = rng.standard_normal((9, 2))
    found = classical_scaling(squareform(pdist(points)))
    np.testing.assert_allclose(pdist(found.points), pdist(points), atol=1e-12)
    assert found.share == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(classical_scaling(1e150 * squareform(pdist(points))).points, 1e150 * found.points)


def test_the_share_is_that_of_the_squared_distances(rng):
    points = rng.standard_normal((12, 5))
    found = classical_scaling(squareform(pdist(points)))
    assert found.share == pytest.approx((pdist(found.points) ** 2).sum() / (pdist(points) ** 2).sum(), abs=1e-12)
    assert 0.4 < found.share < 0.9


def test_dissimilarities_that_are_no_distances_lower_the_share():
    unlike = np.array([[0, 1, 1, 3], [1, 0, 1, 1], [1, 1, 0, 1], [3, 1, 1, 0]], dtype=float)
    assert classical_scaling(unlike).share < 0.95
    same = classical_scaling(np.zeros((3, 3)))
    assert np.isnan(same.share)
    assert (same.points == 0).all()


def test_the_tree_has_the_heights_of_average_linkage(rng):
    unlike = squareform(pdist(rng.standard_normal((8, 3))))
    tree = average_tree(unlike)
    heights = linkage(squareform(unlike), "average")[:, 2]
    np.testing.assert_allclose(np.sort(tree.distances[:, 1]), np.sort(heights))
    assert sorted(tree.leaves) == list(range(8))
    assert tree.places.min() == 0
    assert tree.places.max() <= 7
    joined = np.array([tree.leaves.index(k) for k in range(8)])
    nearest = squareform(cophenet(linkage(squareform(unlike), "average"))) + 9 * np.eye(8)
    pair = np.unravel_index(nearest.argmin(), nearest.shape)
    assert abs(joined[pair[0]] - joined[pair[1]]) == 1


def test_dissimilarity_is_symmetric_and_never_negative():
    np.testing.assert_allclose(
        dissimilarity(np.array([[1.0, 0.2], [0.4, 1.0]]), True), np.array([[0, 0.7], [0.7, 0]]), atol=1e-15
    )
    assert dissimilarity(np.array([[1.0, 1.01], [1.01, 1.0]]), True).min() == 0
    assert dissimilarity(np.array([[1.0, 0.3], [0.3, 1.0]]), False)[0, 1] == 0.3


def test_an_encoder_without_similarity_is_left_out_and_two_make_no_map(tmp_path):
    study = read_many(
        fake_many(
            tmp_path / "s", families={"A": ("a", "b", "c", "d")}, conditions=1, metrics=1, layers=2, undefined=("b",)
        )
    )
    found = encoder_map(study, study.metrics[0])
    assert found is not None
    assert [one.id for one in found.encoders] == ["a", "c", "d"]
    assert [one.id for one in found.left_out] == ["b"]
    study = read_many(fake_many(tmp_path / "two", families={"A": ("a", "b")}, conditions=1, metrics=1, layers=2))
    found = encoder_map(study, study.metrics[0])
    assert found is not None
    assert found.scaled is None
    assert found.tree is None


def test_labels_move_apart_as_little_as_possible(rng):
    wanted = np.array([0.5, 0.52, 0.1, 0.51, 0.9])
    placed = spread(wanted, 0.08, 0.0, 1.0)
    order = np.argsort(wanted)
    assert (np.argsort(placed) == order).all()
    assert np.diff(placed[order]).min() >= 0.08 - 1e-12
    best = minimize(
        lambda y: ((y - wanted[order]) ** 2).sum(),
        wanted[order],
        constraints=[{"type": "ineq", "fun": lambda y: np.diff(y) - 0.08}],
        tol=1e-12,
    )
    np.testing.assert_allclose(placed[order], best.x, atol=1e-5)
    crowded = spread(rng.random(40), 0.1, 0.0, 1.0)
    assert crowded.min() >= -1e-12
    assert crowded.max() <= 1 + 1e-12
    assert np.diff(np.sort(crowded)).min() == pytest.approx(1 / 39)
    edge = spread(np.array([0.99, 1.0, 1.0]), 0.1, 0.0, 1.0)
    np.testing.assert_allclose(np.sort(edge), [0.8, 0.9, 1.0])
    assert spread(np.array([]), 0.1, 0.0, 1.0).size == 0


def test_labels_around_points_keep_off_marks_and_inside():
    assert beside(np.array([[10.0, 50.0], [95.0, 50.0]]), [4, 4], (100.0, 100.0), 5.0) == ["right", "left"]
    stacked = beside(np.array([[50.0, 50.0], [62.0, 50.0]]), [3, 3], (120.0, 100.0), 5.0)
    assert stacked[0] != "right"


def test_axes_of_dots_fit_what_they_show():
    box = fitted_box(np.array([0.52, 0.6, np.nan]))
    assert (box.low, box.high) == (pytest.approx(0.4), pytest.approx(0.6))
    assert [tick.text for tick in fitted_ticks(box)] == ["0.4", "0.5", "0.6"]
    assert len(fitted_ticks(fitted_box(np.array([-3.0, 55.0])))) <= 8
    assert fitted_box(np.array([np.nan])).high == 1
    assert fitted_box(np.array([0.72, 1.0])).high == 1
    assert [signed(v) for v in (0.004, 0.05, -0.05, -0.001)] == ["0.00", "+0.05", "−0.05", "0.00"]


def test_no_two_families_or_encoders_look_alike(tmp_path):
    families = {f"family {k}": ("a", "b") for k in range(24)}
    families = {name: tuple(f"{name[7:]}{x}" for x in those) for name, those in families.items()}
    study = read_many(fake_many(tmp_path / "s", families=families, conditions=1, metrics=1, layers=1, optional=False))
    seen = [(look.colour, look.shape) for _, look in family_looks(study)]
    assert len(set(seen)) == 24
    assert len({look.code for look in looks_of(study).values()}) == 48
    first = [look for _, look in family_looks(study)][: len(LINES)]
    assert len({look.colour for look in first}) == len({look.shape for look in first}) == len(LINES)


def test_shapes_are_about_as_large_as_each_other():
    def area(corners):
        x, y = corners.T
        return abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2

    areas = [area(shape) for shape in SHAPES]
    assert max(areas) / min(areas) < 2.3


@pytest.mark.parametrize("count", [TOGETHER, TOGETHER + 1])
def test_more_encoders_than_fit_one_panel_get_one_a_family(tmp_path, count):
    folder = fake_many(tmp_path / "s", families=many_families(count), conditions=1, metrics=1, layers=2, optional=False)
    study = read_many(folder)
    panels = depth_curves(study, study.conditions[0], study.metrics[0]).panels
    assert len(panels) == (1 if count == TOGETHER else 5)
    assert sum(len(panel.curves) for panel in panels) == count
    if count > TOGETHER:
        assert all(len(panel.curves) + len(panel.others) == count for panel in panels)
