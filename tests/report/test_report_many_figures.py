import filecmp
import re
import shutil
import subprocess

import matplotlib as mpl
import pytest
from fake_many import fake_many
from PIL import Image
from rich.console import Console

from repalign.report import render
from repalign.report.many.figures import draw_many_figures
from repalign.report.many.folder import read_many
from repalign.report.many.page import many_page
from repalign.report.many.table import ranking_table

CHROMIUM = shutil.which("chromium")
THREE = {"CNN": ("resnet50", "convnext"), "ViT": ("vit_b",)}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = fake_many(
        tmp_path_factory.mktemp("many") / "s", families=THREE, conditions=1, metrics=1, layers=3, untrained=("vit_b",)
    )
    assert render(folder) == folder / "report.html"
    return folder


def test_a_figure_of_everything_as_png_and_svg(drawn):
    stems = {"ranking_cat60", "depth_cka_rbf_cat60", "heatmaps_cka_rbf_cat60", "controls_cka_rbf_cat60", "map_cka_rbf"}
    assert {p.name for p in (drawn / "figures").iterdir()} == {s + e for s in stems for e in (".png", ".svg")}
    for file in (drawn / "figures").glob("*.png"):
        with Image.open(file) as picture:
            assert min(picture.size) > 400
            assert min(picture.info["dpi"]) >= 150
    for file in (drawn / "figures").glob("*.svg"):
        text = file.read_text(encoding="utf-8")
        assert 'xlink:href="http' not in text
        assert "<dc:date>" not in text


def test_rendering_again_gives_the_same_bytes_whatever_the_user_set(drawn, tmp_path):
    before = shutil.copytree(drawn, tmp_path / "before")
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.hashsalt": "other"}):
        render(drawn)
    names = [p.relative_to(before).as_posix() for p in before.rglob("*") if p.is_file()]
    assert {p.relative_to(drawn).as_posix() for p in drawn.rglob("*") if p.is_file()} == set(names)
    match, mismatch, errors = filecmp.cmpfiles(before, drawn, names, shallow=False)
    assert (len(match), mismatch, errors) == (len(names), [], [])


def test_figures_of_one_encoder_without_a_score(tmp_path):
    folder = fake_many(
        tmp_path / "s", families={"$x$": ("$层_1$" * 9,)}, conditions=1, only=(3,), layers=1, undefined=("$层_1$" * 9,)
    )
    assert [f.stem for f in draw_many_figures(read_many(folder))[::2]] == [
        "ranking_cat60", "depth_procrustes_cat60", "heatmaps_procrustes_cat60", "controls_procrustes_cat60",
    ]  # fmt: skip


def test_the_terminal_table_ranks_and_warns(tmp_path):
    study = read_many(
        fake_many(
            tmp_path / "s",
            families=THREE,
            conditions=2,
            metrics=2,
            layers=2,
            undefined=("vit_b",),
            untrained=("vit_b",),
        )
    )
    console = Console(width=130, record=True, force_terminal=False)
    with console.capture() as captured:
        console.print(ranking_table(study))
    text = captured.get()
    rows = study.ranking["cat8", study.metrics[0].id]
    line = next(line for line in text.splitlines() if line.startswith((" 2", "2")))
    assert f"{study.ranking['cat60', study.metrics[0].id][1].mean.value:.2f} [" in line
    assert f"{rows[0].mean.value:.2f} [" in text
    assert re.search(r"3\s+vit_b \(untrained\)\s+undefined", text)
    assert "! regnety_032 failed: no weights in the cache" in text
    assert "against “cat, scene 8° wide”" in text
    assert text.rstrip().endswith("report.html")


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")
def test_nothing_is_wider_than_the_window_in_a_real_browser(drawn, tmp_path):
    probe = "document.body.dataset.wide = document.documentElement.scrollWidth - innerWidth"
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", many_page(read_many(drawn)))
    file = tmp_path / "page.html"
    file.write_text(page.replace("</body>", f"<script>{probe}</script></body>"), encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=500,900"]
    options += ["--enable-logging=stderr", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    run = subprocess.run(
        [str(CHROMIUM), *options, file.as_uri()], capture_output=True, text=True, timeout=90, check=False
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert "CONSOLE" not in run.stderr, run.stderr[-2000:]
    found = re.search(r'data-wide="(-?\d+)"', run.stdout)
    assert found
    assert int(found.group(1)) <= 0
