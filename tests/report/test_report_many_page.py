import html
import re

import numpy as np
import pandas as pd
import pytest
from fake_many import edit_many, fake_many, many_families

from repalign.errors import InputError
from repalign.report.many.folder import read_many
from repalign.report.many.page import many_page
from repalign.report.many.sentences import answer, question

EVIL = "</style></script><script>document.body.dataset.evil='yes'</script>"
LOADS = re.compile(r"""(?:\b(?:src|poster|data|action|srcset)\s*=\s*["']?|url\(\s*["']?|@import\s+["']?)([^"'\s>)]+)""")
THREE = {"CNN": ("resnet50", "convnext"), "ViT": ("vit_b",)}
SECTIONS = ("ranking", "by-depth", "by-layer", "map", "controls", "optics", "stimuli", "tests", "made")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return fake_many(tmp_path_factory.mktemp("many") / "s", families=THREE, layers=5, untrained=("vit_b",))


@pytest.fixture(scope="module")
def text(folder):
    return many_page(read_many(folder))


def seen(text):
    return html.unescape(
        re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", re.sub(r"<style>.*?</style>", "", text, flags=re.S)))
    )


def test_sections_stand_in_the_order_of_the_design(text):
    places = [text.index(f'id="{name}"') for name in SECTIONS]
    assert places == sorted(places)
    head = [text.index(mark) for mark in ("<h1>", 'class="answer"', 'id="failed"', 'id="caveats"', 'class="facts"')]
    assert head == sorted(head)
    assert head[-1] < places[0]


def test_the_page_loads_nothing_and_runs_nothing(text):
    assert all(target.startswith("data:") for target in LOADS.findall(text))
    assert "<script" not in text
    assert "https://" not in text
    links = set(re.findall(r'href="([^"]+)"', text)) - {"data:,"}
    assert "parts/resnet50/cat60/report.html" in links
    assert all(re.fullmatch(r"parts/[\w.-]+/\w+/report\.html|#\w+", link) for link in links)


def test_what_must_be_said_stands_at_the_top_and_at_every_figure(text):
    assert "regnety_032 (CNN) failed and is nowhere below: no weights in the cache" in seen(text)
    assert text.count("paper-style, not a reproduction") >= 5
    assert text.count("untrained: vit_b") >= 5
    assert text.count("intervals over so few groups are illustrative") >= 6
    assert text.count('<em class="flag">untrained</em>') == 2
    assert "can&#39;t rank encoders here" in text


def test_the_ranking_has_every_number(folder, text):
    row = pd.read_csv(folder / "ranking.csv").query("condition == 'cat8' and metric == 'rsa'").iloc[1]
    shown = seen(text)
    assert f"{row['mean']:.2f} [{row['mean_low']:.2f}, {row['mean_high']:.2f}]" in shown
    gap = f"{row['difference']:.2f} [{row['difference_low']:.2f}, {row['difference_high']:.2f}]".replace("-", "−")
    assert gap.replace("[", " [").replace("  ", " ") in shown
    assert (
        f"peak {row['held']:.2f} [{row['held_low']:.2f}, {row['held_high']:.2f}] at blocks.1 (65 % of splits)" in shown
    )
    assert f"as picked {row['peak']:.2f} at blocks.2" in shown
    assert shown.count("the best") >= 6


def test_controls_are_counted_and_their_strength_said(text):
    shown = seen(text)
    assert "0.62 times as much as the condition, so its strength is not the condition’s" in shown
    assert "red_removal is not here: its strongest setting" in shown
    assert re.search(r"geometry is kept (less|more) in \d", shown)
    assert "cat, scene 60° wide cat:fov_deg=60 : Bonds 1972" in shown


def test_lower_is_more_alike_turns_every_sentence(tmp_path):
    folder = fake_many(tmp_path / "s", families=THREE, conditions=1, only=(3,), layers=3)
    study = read_many(folder)
    assert "the least and so the most alike of 3 encoders" in answer(study)
    assert re.search(r"follows with 0\.\d\d \[−?0\.\d\d, 0\.\d\d\] more", answer(study))
    page = many_page(study)
    assert "lower is more alike" in page
    assert "A dark diagonal" in page
    table = pd.read_csv(folder / "controls.csv")
    table[["difference", "difference_low", "difference_high"]] = [0.2, 0.1, 0.3]
    table.to_csv(folder / "controls.csv", index=False)
    assert "geometry is kept less in 3 of 3 encoders" in seen(many_page(read_many(folder)))


def _ranking(folder, **columns):
    table = pd.read_csv(folder / "ranking.csv")
    for name, values in columns.items():
        table[name] = values
    table.to_csv(folder / "ranking.csv", index=False)
    return answer(read_many(folder))


def test_the_answer_says_only_what_the_tests_support(tmp_path):
    folder = fake_many(tmp_path / "s", families=THREE, conditions=1, metrics=1, layers=2)
    nan = np.nan
    apart = {"difference_low": [0, -0.3, -0.4], "difference_high": [0, -0.1, -0.2]}
    assert _ranking(folder, p_adjusted=[nan, 0.01, 0.01], **apart).endswith(
        "and the lead over every other is more than luck (the interval leaves out 0, with an adjusted p below 0.05)."
    )
    none = "and no lead can be told from luck (no interval leaves out 0 with an adjusted p below 0.05)"
    assert none in _ranking(folder, p_adjusted=[nan, 0.2, 0.3])
    across = {"difference_low": [0, -0.3, -0.4], "difference_high": [0, 0.1, 0.2]}
    assert none in _ranking(folder, p_adjusted=[nan, 0.01, 0.01], **across)
    assert 'class="beaten"' not in many_page(read_many(folder))
    _ranking(folder, **apart)
    assert 'class="beaten"' in many_page(read_many(folder))
    assert "the lead over 1 of 2 others" in _ranking(folder, p_adjusted=[nan, 0.2, 0.01])
    assert _ranking(folder, p_adjusted=[nan] * 3).endswith(
        "no p-value says whether such differences are more than luck."
    )
    said = _ranking(folder, note=["", "a; no p: 5 groups are too few; 6 are needed", ""])
    assert said.endswith("are more than luck: 5 groups are too few; 6 are needed.")
    said = _ranking(
        folder, difference=[0, -0.1, -0.2], difference_low=[0, -0.14, -0.3], difference_high=[0, -0.07, -0.1]
    )
    assert "follows with 0.10 [0.07, 0.14] less" in said
    assert "no encoder has a defined score" in _ranking(folder, mean=[nan] * 3)


def test_a_mean_over_fewer_layers_is_said_to_be(tmp_path):
    folder = fake_many(tmp_path / "s", families=THREE, conditions=1, metrics=1, layers=4)
    assert "over the layers of" in _ranking(folder)
    said = _ranking(folder, layers=[1, 2, 1])
    assert re.search(r"averages [^;]*\] over 1 of \d layers of", said)
    assert re.search(r"follows over 2 of \d layers with", said)
    assert seen(many_page(read_many(folder))).count("over 1 of") >= 3


def test_sections_without_data_are_left_out(tmp_path):
    folder = fake_many(tmp_path / "s", families=THREE, conditions=1, metrics=1, layers=2, optional=False, failed=False)
    page = many_page(read_many(folder))
    there = [name for name in SECTIONS if f'id="{name}"' in page]
    assert there == ["ranking", "by-depth", "by-layer", "made"]
    assert 'id="failed"' not in page


@pytest.mark.parametrize(
    "shape",
    [
        {"families": {"CNN": ("a",)}, "conditions": 6, "metrics": 4, "layers": 1},
        {"families": {"CNN": ("a", "b")}, "undefined": ("a", "b"), "layers": 3},
        {"families": many_families(40), "conditions": 1, "metrics": 1, "layers": 6, "undefined": ("CNN_3", "cnn_3")},
    ],
    ids=["one", "undefined", "forty"],
)
def test_pages_of_every_shape(tmp_path, shape):
    study = read_many(fake_many(tmp_path / "s", **shape))
    page = many_page(study)
    assert page.count('class="small-maps"') == len(study.conditions)
    assert "nan" not in re.sub("[A-Za-z0-9+/=]{200,}", "", seen(page)).lower().split()
    for path in re.findall(r' d="([^"]*)"', page):
        assert "nan" not in path
        assert "inf" not in path


def test_all_failed_is_said(tmp_path):
    folder = fake_many(tmp_path / "s", families={"CNN": ("a",)}, conditions=1, metrics=1, layers=1, optional=False)
    edit_many(folder, encoders=[])
    for name in ("alignment", "ranking", "layers"):
        head = (folder / f"{name}.csv").read_text().splitlines()[0]
        (folder / f"{name}.csv").write_text(head + "\n")
    page = many_page(read_many(folder))
    assert "No encoder gave any numbers" in page


def test_whatever_a_user_wrote_is_escaped(tmp_path):
    folder = fake_many(tmp_path / "s", families=THREE, conditions=1, metrics=1, layers=2)
    study = read_many(folder)
    meta = dict(study.meta)
    for one in meta["encoders"]:
        one |= {"name": EVIL, "family": EVIL, "notes": [EVIL], "source": EVIL}
        one["report"] = {"cat60": "javascript:alert(1)"}
    meta["conditions"][0] |= {"label": EVIL, "notes": [EVIL], "spec": EVIL}
    meta["metrics"][0] |= {"label": EVIL, "reference": EVIL}
    meta["stimuli"]["a"] |= {"name": EVIL, "notes": [EVIL], "skipped": [[EVIL, EVIL]]}
    meta["failed"] = [{"name": EVIL, "family": EVIL, "error": EVIL}]
    meta["thumbs"][0] |= {"id": f'" onload="{EVIL}', "group": EVIL}
    edit_many(
        folder, **{**meta, "families": [EVIL], "title": EVIL, "choices": [EVIL], "command": EVIL, "notes": [EVIL]}
    )
    page = many_page(read_many(folder))
    assert "<script" not in page
    assert page.count("</style>") == 1
    assert "javascript:" not in page
    assert 'onload="' not in page


@pytest.mark.parametrize("report", ["../secret.html", "/etc/hostname", "parts/none/report.html", ""])
def test_only_reports_of_the_study_are_linked(tmp_path, report):
    (tmp_path / "secret.html").write_text("x")
    folder = fake_many(tmp_path / "s", families={"CNN": ("a",)}, conditions=1, metrics=1, layers=1)
    encoders = read_many(folder).meta["encoders"]
    encoders[0]["report"] = {"cat60": report}
    edit_many(folder, encoders=encoders)
    assert "<a href" not in many_page(read_many(folder))


@pytest.mark.parametrize(
    ("file", "message"),
    [("../secret.png", "outside its folder"), ("study.json", "no picture a page can show"), ("no.png", "is missing")],
)
def test_only_pictures_of_the_study_are_shown(tmp_path, file, message):
    folder = fake_many(tmp_path / "s", families={"CNN": ("a",)}, conditions=1, metrics=1, layers=1)
    edit_many(folder, thumbs=[{"file": "thumbs/000.png", "id": "x", "group": "", "copies": {"cat60": file}}])
    with pytest.raises(InputError, match=message):
        many_page(read_many(folder))


def test_questions_name_one_condition_or_count_them(tmp_path):
    families = {"CNN": ("a",)}
    one = read_many(fake_many(tmp_path / "one", families=families, conditions=1, metrics=1, layers=1))
    assert question(one) == (
        "Does a keep its geometry when 256 pictures of bundled:photos:colour are set against “cat, scene 60° wide”?"
    )
    two = read_many(fake_many(tmp_path / "two", families=THREE, metrics=1, layers=1))
    assert question(two).startswith("Which of 3 encoders keeps most of its geometry when 256 pictures")
    assert question(two).endswith("are set against 2 conditions?")
