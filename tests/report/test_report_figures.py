import filecmp
import io
import json
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from fake_extras import add_stability, add_subjects
from fake_study import fake_study
from PIL import Image

from repalign.report import read_study
from repalign.report.colours import LINES, is_light, score_rgba, tail_end
from repalign.report.curve import curve_figure
from repalign.report.figures import draw_figures
from repalign.report.maps import paint
from repalign.report.stability_figure import stability_figure

EYES = {
    "all three cones": np.eye(3),
    "no green cones": np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]]),
    "no red cones": np.array([[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]]),
}
"""Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB."""

WHITE = np.array([0.9505, 1.0, 1.089])
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def seen(rgb, eye):
    linear = np.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    xyz = np.clip(linear @ EYES[eye].T, 0, 1) @ TO_XYZ.T / WHITE
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1)


def colours(values):
    return score_rgba(np.asarray(values, dtype=float)[None, :])[0, :, :3]


@pytest.mark.parametrize("eye", EYES)
def test_negative_scores_are_told_from_every_positive_one(eye):
    positive = seen(colours(np.linspace(0, 1, 101)), eye)
    for value, apart in ((-0.1, 12), (-0.2, 25), (-0.3, 35), (-0.5, 40), (-1.0, 30)):
        distance = np.linalg.norm(positive - seen(colours([value]), eye), axis=-1).min()
        assert distance > apart, (value, distance)


@pytest.mark.parametrize("eye", EYES)
def test_the_map_rises_evenly_in_lightness(eye):
    lightness = seen(colours(np.linspace(0, 1, 21)), eye)[:, 0]
    steps = np.diff(lightness)
    assert steps.min() > 0.6 * steps.mean()
    assert np.diff(seen(colours(np.linspace(0, -1, 21)), eye)[:, 0]).min() > 0


@pytest.mark.parametrize("eye", EYES)
def test_curves_differ_in_colour_or_dash(eye):
    rgb = np.array([mpl.colors.to_rgb(c) for c in LINES[:3]])
    lab = seen(rgb, eye)
    assert min(np.linalg.norm(lab[i] - lab[j]) for i in range(3) for j in range(i)) > 15


def test_the_scale_is_the_same_for_all_and_keeps_to_its_ends():
    assert np.array_equal(colours([1.0, -1.0]), colours([7.0, -3.0]))
    assert score_rgba(np.array([[np.nan]]))[0, 0, 3] == 0
    assert [tail_end(v) for v in (0.2, 0.0, -0.004, -0.21, -5.0)] == [0.0, 0.0, -0.1, pytest.approx(-0.3), -1.0]
    assert is_light(score_rgba(np.array([[0.0, 0.9]]))).tolist() == [[False, True]]


def test_muted_cells_are_grey():
    plain, muted = (score_rgba(np.array([[0.6]]), np.array([[m]]))[0, 0, :3] for m in (False, True))
    assert np.ptp(muted) < 0.4 * np.ptp(plain)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = fake_study(
        tmp_path_factory.mktemp("figures") / "s", 8, 9, metrics=2, intervals=True, undefined=True, untrained="b"
    )
    return folder, draw_figures(read_study(folder))


def test_a_heatmap_per_metric_and_a_curve_as_png_and_svg(drawn):
    folder, files = drawn
    names = ["heatmap_cka_linear", "heatmap_cka_rbf", "curve"]
    assert [f.name for f in files] == [n + s for n in names for s in (".png", ".svg")]
    assert sorted(p.name for p in (folder / "figures").iterdir()) == sorted(f.name for f in files)
    for file in files:
        if file.suffix == ".png":
            with Image.open(file) as picture:
                assert min(picture.info["dpi"]) >= 150
                assert min(picture.size) > 600


def test_svgs_are_pictures_of_cells_not_thousands_of_paths_and_load_nothing(drawn):
    text = Path(drawn[1][1]).read_text(encoding="utf-8")
    assert "data:image/png" in text
    assert 'xlink:href="http' not in text
    assert "<dc:date>" not in text


def test_the_same_folder_gives_the_same_bytes_whatever_the_user_set(drawn, tmp_path):
    folder, files = drawn
    before = tmp_path / "before"
    before.mkdir()
    for file in files:
        (before / file.name).write_bytes(file.read_bytes())
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.hashsalt": "other"}):
        draw_figures(read_study(folder))
        assert mpl.rcParams["font.size"] == 30
    match, mismatch, errors = filecmp.cmpfiles(before, folder / "figures", [f.name for f in files], shallow=False)
    assert (len(match), mismatch, errors) == (len(files), [], [])


@pytest.mark.parametrize("kinds", [("stimuli",), ("split_half",), ("pool",), ("stimuli", "split_half", "pool")])
def test_stability_is_drawn_from_whatever_there_is(tmp_path, kinds):
    folder = fake_study(tmp_path / "s", 3, 3, intervals=True)
    add_stability(folder, ["cka_linear", "cka_rbf", "rsa"], ("norm", "norm"), kinds=kinds)
    figure = stability_figure(read_study(folder))
    with _drawn(figure) as picture:
        assert picture.width > 400
        assert np.asarray(picture).std() > 10
    assert len(figure.axes) == 2 * ("stimuli" in kinds) + ("split_half" in kinds) + ("pool" in kinds)


def test_stability_stands_beside_the_other_figures_and_ceilings_in_the_curve(tmp_path):
    folder = fake_study(tmp_path / "s", 3, 3, metrics=1, intervals=True)
    add_stability(folder, ["cka_linear"], ("norm", "norm"))
    plain = np.asarray(_drawn(curve_figure(read_study(folder))))
    add_subjects(folder, "a", "cka_linear", ["patch_embed", "blocks.0", "norm"])
    assert _drawn(curve_figure(read_study(folder))).size != plain.shape[1::-1]
    assert [f.stem for f in draw_figures(read_study(folder))[::2]] == ["heatmap_cka_linear", "curve", "stability"]


def _drawn(figure):
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=60, bbox_inches="tight")
    return Image.open(drawn)


@pytest.mark.parametrize(
    "shape",
    [
        {"la": 1, "lb": 1},
        {"la": 200, "lb": 150},
        {"layers_a": ["$x_1$", "层", "a" * 200], "lb": 2},
        {"la": 3, "lb": 3, "all_undefined": True},
    ],
    ids=["one", "many", "odd names", "undefined"],
)
def test_figures_of_every_size_and_name(tmp_path, shape):
    files = draw_figures(read_study(fake_study(tmp_path / "s", metrics=1, **shape)))
    assert len(files) == 4
    assert all(2_000 < f.stat().st_size < 2_000_000 for f in files)


def test_files_are_named_by_metric_and_never_meet(tmp_path):
    folder = fake_study(tmp_path / "s", 2, 2)
    meta = json.loads((folder / "study.json").read_text())
    table = (folder / "alignment.csv").read_text()
    for one, spec in zip(meta["metrics"], ("rsa:rdm=x", "cka:x", "cka/x"), strict=True):
        table = table.replace(f",{one['id']},", f",{spec},")
        one |= {"id": spec, "name": spec if spec != "rsa:rdm=x" else "rsa"}
    (folder / "alignment.csv").write_text(table)
    (folder / "study.json").write_text(json.dumps(meta))
    names = {f.stem for f in draw_figures(read_study(folder))}
    assert names == {"heatmap_rsa", "heatmap_cka-x_1", "heatmap_cka-x_2", "curve"}


def test_cells_on_the_page_lie_deep_up_struck_hatched_and_apart():
    scores = np.array([[0.0, 1.0], [np.nan, 0.5]])
    muted = np.array([[True, False], [False, False]])
    cells = np.asarray(paint(scores, muted))
    size = len(cells) // 2
    assert cells.shape == (2 * size, 2 * size, 4)
    assert (cells[0, :, 3] == 0).all()
    middle = cells[size // 2 :: size, size // 2 :: size] / 255
    np.testing.assert_allclose(middle[1, 1], score_rgba(np.array([[1.0]]))[0, 0], atol=0.01)
    np.testing.assert_allclose(middle[0, 1], score_rgba(np.array([[0.5]]))[0, 0], atol=0.01)
    undefined, at_chance = cells[:size, :size], cells[size:, :size]
    assert {tuple(c) for c in undefined.reshape(-1, 4) if c[3]} == {(128, 136, 144, 50), (128, 136, 144, 190)}
    assert len({tuple(c) for c in at_chance.reshape(-1, 4) if c[3]}) == 2
