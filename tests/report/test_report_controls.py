import io
import json
import re

import numpy as np
import pytest
from fake_conditions import CAT, CONTROLS, MANTEL_NOTE, edit_rows, fake_conditions
from fake_study import edit_meta, fake_study
from PIL import Image
from rich.console import Console

from repalign.report import condition_tables, read_study
from repalign.report.chart import Box
from repalign.report.control_charts import control_axis, control_panels, control_rows, control_ticks
from repalign.report.control_figure import control_figure
from repalign.report.figures import draw_figures
from repalign.report.html import page
from repalign.report.table import closing_table

EVIL = "</script><script>document.body.dataset.evil='yes'</script>"


@pytest.fixture(scope="module")
def paired(tmp_path_factory):
    return read_study(fake_conditions(tmp_path_factory.mktemp("controls") / "s"))


def text_of(html):
    return re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", html))


def test_dots_are_ordered_by_score_with_the_condition_among_them(paired):
    rows = control_rows(paired, paired.metrics[0])
    assert [row.value for row in rows] == sorted((row.value for row in rows), reverse=True)
    assert [row.name for row in rows if row.is_condition] == ["cat, scene 60° wide"]
    assert rows[2].name == "human protanope (0.41 × as strong)"
    panels = control_panels(paired)
    assert [panel.title for panel in panels] == [metric.label for metric in paired.metrics]
    for panel in panels:
        (own,) = [dot for dot in panel.dots.rows if dot.strong]
        assert panel.dots.rule == own.at
        assert all(dot.at is not None and 0 <= dot.at <= 100 for dot in panel.dots.rows)


def test_measures_with_the_same_bounds_share_an_axis_and_distances_have_their_own(tmp_path):
    folder = fake_conditions(tmp_path / "s", 3)
    meta = json.loads((folder / "study.json").read_text())
    meta["metrics"][2] |= {"higher_is_similar": False, "bounds": None}
    edit_meta(folder, **meta)
    edit_rows(folder / "controls.csv", lambda row: row | ({"value": "37.5"} if row["metric"] == "rsa" else {}))
    study = read_study(folder)
    first, second, third = (control_axis(study, metric) for metric in study.metrics)
    assert first == second
    assert first.high == 1.0
    assert third.high == 37.5
    assert control_panels(study)[2].direction == "lower is more alike"
    values = [row.value for row in control_rows(study, study.metrics[2])]
    assert values == sorted(values)


def test_a_short_axis_is_marked_every_tenth():
    marks = [tick.text for tick in control_ticks(Box(0.7, 1.0))]
    assert marks == ["0.7", "0.8", "0.9", "1.0"]
    assert [tick.text for tick in control_ticks(Box(-0.2, 0.1))] == ["−0.2", "−0.1", "0.0", "0.1"]
    assert len(control_ticks(Box(-1.0, 1.0))) == 11


def test_the_page_has_the_section_between_depth_and_tests(paired):
    html = page(paired)
    places = [html.index(f'id="{name}"') for name in ("by-depth", "conditions", "controls", "tests", "stability")]
    assert places == sorted(places)
    text = text_of(html)
    assert "with the same layer of pocket:dino through cat, scene 60° wide. Rings" in text
    assert "Above the original, below the same through cat, scene 60° wide." in text
    assert ", other side" not in html
    assert "red removal not matched red_removal comes no nearer" in text
    assert "cat:fov_deg=60 : Ringo et al. 1977" in text
    assert "summary.csv , controls.csv ." in text
    assert html.count('class="dots-row line-0 condition"') == 1


def test_mantels_note_is_shown_as_a_warning(paired):
    assert f'<ul class="again"><li>{MANTEL_NOTE}</li></ul>' in page(paired)


def test_facts_name_the_encoder_once_and_the_condition(paired):
    facts = page(paired).split('<dl class="facts">')[1].split("</dl>")[0]
    assert facts.count("<strong>pocket:dino</strong>") == 1
    assert "seen through" in facts
    assert "2.1 % of pixels cut" in facts
    assert "1 of another strength" in facts


def test_an_older_page_says_nothing_of_conditions(tmp_path):
    html = page(read_study(fake_study(tmp_path / "s", 3, 3, paired=True)))
    assert 'id="conditions"' not in html
    assert "nearest in relative depth" in html
    assert "controls.csv" not in html


@pytest.mark.parametrize(
    "kind",
    [
        {"controls": (), "intervals": False},
        {"controls": CONTROLS[:1]},
        {"controls": CONTROLS[-1:]},
        {"second_set": True},
        {"la": 1},
        {"undefined": True},
    ],
    ids=["bare", "identity", "unmatched", "data-b", "one layer", "undefined"],
)
def test_pages_and_figures_of_every_kind(tmp_path, kind):
    study = read_study(fake_conditions(tmp_path / "s", **kind))
    text, controls = page(study), kind.get("controls", CONTROLS)
    assert 'id="conditions"' in text
    assert ('id="controls"' in text) == bool(controls)
    assert (control_figure(study) is not None) == any(spec for spec, *_ in controls)
    assert "Scores of every layer under" not in text


def test_too_many_scores_stay_in_their_file(paired, monkeypatch):
    monkeypatch.setattr(condition_tables, "TABLED", 200)
    assert "Scores of every layer under every control are in <code>controls.csv</code>." in page(paired)


def test_scores_that_are_missing_leave_gaps(tmp_path):
    folder = fake_conditions(tmp_path / "s", 3)
    names = ("value", "ci_low", "ci_high", "difference", "difference_low", "difference_high", "p")
    edit_rows(
        folder / "controls.csv",
        lambda row: row | (dict.fromkeys(names, "") if row["control"].startswith(("grey", "blur")) else {}),
    )
    edit_rows(folder / "summary.csv", lambda row: row | {"mean": "", "mean_low": "", "mean_high": ""})
    study = read_study(folder)
    assert "undefined" in page(study)
    assert len(control_rows(study, study.metrics[0])) == 4
    assert all(panel.dots.rule is None for panel in control_panels(study))
    assert "undefined" in printed(study)


def test_whatever_a_filter_is_called_is_escaped(tmp_path):
    controls = (("x" + EVIL, EVIL, EVIL, 0.08, 0.4, 0.1, EVIL, 0.9), ("", EVIL, EVIL, None, None, None, EVIL, None))
    filter_ = CAT | {"label": EVIL, "reference": EVIL, "notes": [EVIL]}
    text = page(read_study(fake_conditions(tmp_path / "s", 2, controls=controls, filter_=filter_)))
    assert text.count("<script") == text.count("</script>") == 2


def test_the_figure_has_a_panel_a_measure(paired, tmp_path):
    figure = control_figure(paired)
    assert figure is not None
    assert len(figure.axes) == 3
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=60, bbox_inches="tight")
    assert np.asarray(Image.open(drawn)).std() > 10
    assert control_figure(read_study(fake_study(tmp_path / "old", 3, 3))) is None


def test_figures_of_controls_are_files_with_the_same_bytes_again(tmp_path):
    folder = fake_conditions(tmp_path / "s", 1, metrics=1)
    (folder / "curves.csv").unlink()
    files = [file for file in draw_figures(read_study(folder)) if file.stem == "controls"]
    assert [file.suffix for file in files] == [".png", ".svg"]
    first = [file.read_bytes() for file in files]
    draw_figures(read_study(folder))
    assert [file.read_bytes() for file in files] == first


def printed(study, width=100):
    console = Console(width=width, force_terminal=False)
    with console.capture() as captured:
        console.print(closing_table(study))
    return captured.get()


@pytest.mark.parametrize("width", [80, 120])
def test_the_closing_table_names_the_controls_that_cost_least_and_most(paired, width):
    text = printed(paired, width)
    assert max(map(len, text.splitlines())) <= width
    words = " ".join(text.split())
    assert "over layers, peak on" in words
    for part in ("0.81 [0.76, 0.85]", "0.90 [0.83, 0.96]", "0.91 [0.86, 0.96] grey", "0.55 [0.50, 0.60] noise"):
        assert part in words, part
    assert "unchanged" not in words


def test_a_closing_table_without_controls_has_no_column_for_them(tmp_path):
    text = printed(read_study(fake_conditions(tmp_path / "s", 3, controls=())))
    assert "peak on another half" in text
    assert "cost least" not in text


def test_a_peak_that_no_other_half_measured_is_said_to_be_optimistic(tmp_path):
    folder = fake_conditions(tmp_path / "s", 3, controls=())
    edit_rows(folder / "summary.csv", lambda row: row | {"held": "", "held_layer": ""})
    assert "peak on the same pictures 0.77 blocks.0" in " ".join(printed(read_study(folder), 120).split())
