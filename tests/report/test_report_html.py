import json
import re

import numpy as np
import pytest
from fake_extras import everything
from fake_study import edit_meta, fake_study

from repalign.errors import InputError
from repalign.report import read_study, render
from repalign.report.html import page
from repalign.report.page_base import SCORE_PARTS

EVIL = "</script><script>document.body.dataset.evil='yes'</script>"
LOADS = re.compile(
    r"""(?:\b(?:src|href|poster|data|action|srcset)\s*=\s*["']?|url\(\s*["']?|@import\s+["']?)([^"'\s>)]+)"""
)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return page(read_study(fake_study(tmp_path_factory.mktemp("html") / "s", untrained="b", warnings=("w & w",))))


def cells_of(text):
    found = re.search(r'<script type="application/json" id="cells">(.*?)</script>', text, re.DOTALL)
    assert found
    return json.loads(found.group(1))


def test_the_page_loads_nothing_from_outside(plain):
    loads = {target for target in LOADS.findall(plain) if not target.startswith(("data:", "#"))}
    assert loads == set()
    assert "http://" not in plain.replace("http://www.w3.org", "")
    assert "https://" not in plain
    assert "default-src 'none'" in plain


def test_sections_stand_in_the_order_of_the_design(plain):
    places = [plain.index(f'id="{name}"') for name in ("by-layer", "by-depth", "stability", "stimuli", "made")]
    assert places == sorted(places)
    assert plain.index("<h1>") < plain.index('class="answer"') < plain.index('id="caveats"') < places[0]
    assert '<html lang="en">' in plain


def test_caveats_stand_at_the_headline_and_at_the_numbers(plain):
    assert plain.count("pocket:resnet: untrained, ") >= 4
    assert plain.count("w &amp; w") >= 4
    assert "This study holds point estimates without intervals." in plain


def test_an_untrained_encoder_is_named_so_everywhere(plain):
    visible = re.sub(r"<script.*?</script>|<pre.*?</pre>|<style.*?</style>", "", plain, flags=re.DOTALL)
    visible = visible[: visible.index('id="made"')]
    for found in re.finditer("pocket:resnet", visible):
        rest = re.sub("<[^>]+>", "", visible[found.end() : found.end() + 80]).strip()
        assert rest.startswith(("(untrained)", "untrained", ": untrained")), rest


def test_every_score_is_there_for_readers_without_a_mouse(plain):
    assert plain.count('<table class="scores"') == 3
    assert 'alt="Heatmap of Linear CKA, debiased: 10 layers of pocket:dino upwards by 12 layers' in plain
    assert "0.797" in plain


def test_the_data_for_cards_are_those_of_the_study(tmp_path):
    folder = fake_study(tmp_path / "s", 4, 3, undefined=True, intervals=True, metrics=2)
    study, cells = read_study(folder), cells_of(page(read_study(folder)))
    assert cells["a"]["layers"] == list(study.a.layers)
    metric = cells["metrics"][1]
    assert set(metric) == {"label", "higher", "value", "ci_low", "ci_high", "null_mean", "p", "q"}
    assert metric["value"][:3] == [None] * 3
    scores, p = (study.matrix(study.metrics[1], column) for column in ("value", "p"))
    assert metric["value"][4] / SCORE_PARTS == pytest.approx(scores[1, 1], abs=1e-4)
    assert [v for v in metric["p"] if v is not None] == [
        0 if v < 1e-3 else round(1e3 * v) for v in p[np.isfinite(p)].tolist()
    ]
    plain = cells_of(page(read_study(fake_study(tmp_path / "plain", 4, 3))))
    assert set(plain["metrics"][0]) == {"label", "higher", "value"}


def test_whatever_a_user_wrote_is_escaped(tmp_path):
    folder = fake_study(
        tmp_path / "s",
        layers_a=[EVIL, "<b>", "a&b"],
        lb=3,
        names=(EVIL, "pocket:resnet"),
        notes=(EVIL,),
        warnings=(EVIL, '"><img src=x onerror=alert(1)>'),
        undefined=True,
    )
    meta = json.loads((folder / "study.json").read_text())
    meta["thumbs"][0] |= {"id": f'" onload="{EVIL}', "group": EVIL}
    meta["config"]["x"] = [EVIL, {"y": EVIL}]
    meta["metrics"][0] |= {"label": EVIL, "reference": EVIL, "chance": EVIL}
    meta["command"] = f"repalign {EVIL}"
    edit_meta(folder, **meta)
    text = page(read_study(folder))
    assert text.count("<script") == 2
    assert text.count("</script>") == 2
    assert "<img src=x" not in text
    assert '" onload="' not in text
    assert cells_of(text)["a"]["layers"][0] == EVIL


@pytest.mark.parametrize(("la", "lb"), [(1, 1), (5, 5), (200, 3)])
def test_pages_of_every_shape(tmp_path, la, lb):
    text = page(read_study(fake_study(tmp_path / "s", la, lb, metrics=2)))
    assert text.count('class="plot" data-map') == 2
    assert text.count('class="points"') == (2 if la > 36 else 0)


def test_two_hundred_layers_stay_small_enough(tmp_path):
    text = page(read_study(everything(fake_study(tmp_path / "s", 200, 200, metrics=1, intervals=True))))
    assert len(text.encode()) < 2_500_000
    assert '<table class="scores"' not in text


def test_rendering_again_gives_the_same_bytes_and_leaves_nothing_else(tmp_path):
    folder = fake_study(tmp_path / "s", 4, 3, metrics=1)
    file = render(folder)
    assert file == folder / "report.html"
    first = file.read_bytes()
    assert render(folder).read_bytes() == first
    names = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and "thumbs" not in p.parts}
    figures = {f"figures/{n}.{s}" for n in ("heatmap_cka_linear", "curve") for s in ("png", "svg")}
    assert names == {"study.json", "alignment.csv", "layers.csv", "report.html"} | figures


def test_a_damaged_study_leaves_the_old_report_as_it_was(tmp_path):
    folder = fake_study(tmp_path / "s", 3, 3, metrics=1)
    (folder / "report.html").write_text("old")
    (folder / "thumbs" / "000.png").unlink()
    with pytest.raises(InputError, match=r"000\.png is missing and study\.json lists it"):
        render(folder)
    assert (folder / "report.html").read_text() == "old"
    assert not (folder / "figures").exists()


@pytest.mark.parametrize(
    ("file", "message"), [("../secret.png", "outside its folder"), ("study.json", "no picture a page can show")]
)
def test_only_pictures_of_the_study_are_shown(tmp_path, file, message):
    (tmp_path / "secret.png").write_bytes(b"x")
    folder = fake_study(tmp_path / "s", 2, 2, metrics=1)
    edit_meta(folder, thumbs=[{"file": file, "id": "x", "group": None, "label": None}])
    with pytest.raises(InputError, match=message):
        page(read_study(folder))


def test_twins_of_pictures_stand_below_them(tmp_path):
    folder = fake_study(tmp_path / "s", 2, 2, metrics=1, paired=True)
    edit_meta(folder, thumbs=[{"file": "thumbs/000.png", "file_b": "thumbs/001.png", "id": "x", "group": None}])
    assert 'alt="x, other side"' in page(read_study(folder))


def variables(style, start):
    block = style[style.index(start) :]
    return dict(re.findall(r"--([\w-]+):\s*(#[0-9a-f]{6})\b", block[: block.index("}")]))


def luminance(colour):
    rgb = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [((c + 0.055) / 1.055) ** 2.4 if c > 0.04045 else c / 12.92 for c in rgb]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("start", [":root {", "(prefers-color-scheme: dark)"])
def test_text_stands_out_by_day_and_by_night(plain, start):
    shades = variables(plain[plain.index("<style>") :], start)
    pairs = [("ink", "page"), ("quiet", "page"), ("quiet", "panel"), ("accent", "page")]
    pairs += [("warn-ink", "warn-page"), ("warn-ink", "page")]
    for ink, ground in pairs:
        dark, light = sorted((luminance(shades[ink]), luminance(shades[ground])))
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (ink, ground)


def test_a_study_without_participation_ratios_or_pictures_says_so(tmp_path):
    folder = fake_study(tmp_path / "s", 3, 2, metrics=1)
    header, *rows = (folder / "layers.csv").read_text().splitlines()
    emptied = [",".join([*row.split(",")[:7], "", row.split(",")[8]]) for row in rows]
    (folder / "layers.csv").write_text("\n".join([header, *emptied]))
    edit_meta(folder, thumbs=[])
    text = page(read_study(folder))
    assert "This study holds no participation ratios." in text
    assert "260 stimuli of bundled:photos." in text


def test_scores_beyond_one_and_lower_is_more_alike_are_said(tmp_path):
    folder = fake_study(tmp_path / "s", 3, 2, metrics=1)
    header, first, *rows = (folder / "alignment.csv").read_text().splitlines()
    cells = first.rsplit(",", 7)
    (folder / "alignment.csv").write_text("\n".join([header, ",".join([cells[0], "37.5", *cells[2:]]), *rows]))
    meta = json.loads((folder / "study.json").read_text())
    meta["metrics"][0] |= {"higher_is_similar": False, "bounds": None}
    (folder / "study.json").write_text(json.dumps(meta))
    text = page(read_study(folder))
    assert "scores above 1 take the colour of 1" in text
    assert text.count("lower is more alike") == 2
    assert render(folder).is_file()
