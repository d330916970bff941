import html
import json
import random
import re
import shutil

import numpy as np
import pytest
from fake_diagnosis import STAGES, edit_csv, edit_json, fake_diagnosis
from test_report_browser import CHROMIUM, dump
from test_report_html import EVIL, LOADS

from repalign.errors import InputError
from repalign.report import render
from repalign.report.diagnosis.charts import chips, gap_dots, head_rows, knee_chart, probe_dots
from repalign.report.diagnosis.figures import draw_diagnosis_figures
from repalign.report.diagnosis.folder import read_diagnosis
from repalign.report.diagnosis.maps import stage_maps, way_points
from repalign.report.diagnosis.page import diagnosis_page

WARNED = "the student is untrained & similarities mislead"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One diagnosis that no test changes."""
    return fake_diagnosis(tmp_path_factory.mktemp("diagnosis") / "d", untrained="student", warnings=(WARNED,))


@pytest.fixture(scope="module")
def page(folder):
    return diagnosis_page(read_diagnosis(folder))


def test_a_diagnosis_is_read_as_it_was_written(folder):
    found = read_diagnosis(folder)
    assert found.student.layers == ("blocks.0", "blocks.1", "blocks.3", "blocks.5")
    assert (found.student.untrained, found.teacher.untrained) == (True, False)
    np.testing.assert_array_equal(found.stages.matrix(), STAGES)
    assert found.stages.matrix("ci_low")[2, 2] == pytest.approx(0.43)
    assert [(grid.level, grid.metric.name) for grid in found.grids] == [
        ("stage", "cka_linear"), ("stage", "rsa"), ("block", "cka_linear"), ("block", "rsa"),
        ("penultimate", "cka_linear"),
    ]  # fmt: skip
    assert found.ways == ((1, 1), (2, 2), (3, 2), (4, 4))
    assert found.rule("gap").kept == (3, 4)
    assert (found.tau, found.pictures, found.probes[-1].stage, found.heads[0].flops) == (0.4, 1000, 0, 31e6)


def test_scores_stand_at_their_layers_in_whatever_order_rows_come(tmp_path):
    folder = fake_diagnosis(tmp_path / "d")
    before = read_diagnosis(folder)
    edit_csv(folder / "alignment.csv", lambda rows: random.Random(0).sample(rows, len(rows)))
    edit_csv(folder / "stages.csv", lambda rows: rows[::-1])
    after = read_diagnosis(folder)
    for level in ("stage", "penultimate"):
        for one, other in zip(before.level(level), after.level(level), strict=True):
            np.testing.assert_array_equal(one.matrix(), other.matrix())


def test_cells_whose_interval_holds_the_null_are_muted(folder):
    found = read_diagnosis(folder)
    assert np.argwhere(found.stages.muted).tolist() == [[3, 0]]
    first, second = stage_maps(found)[:2]
    assert first.has_muted
    assert [(cell.left, cell.top) for cell in first.best] == [(0, 75), (25, 50), (50, 25), (75, 0)]
    assert first.path
    assert (second.path, second.best) == ("", ())


def test_the_way_passes_through_its_cells_and_never_through_their_middle():
    points = way_points(((1, 1), (2, 3), (3, 3)))
    assert np.floor(points[::3]).tolist() == [[0, 0], [2, 1], [2, 2]]
    assert (np.diff(points, axis=0) >= 0).all()
    along_border = (np.diff(points, axis=0) == 0).any(axis=1)
    assert along_border.all()
    assert (np.abs(points % 1 - 0.5) > 0.3).all()
    assert way_points(()).shape == (0, 2)


def test_gaps_stand_where_their_numbers_are(folder):
    dots = gap_dots(read_diagnosis(folder))
    assert [row.at for row in dots.rows] == pytest.approx([12, 26, 51, 53])
    assert [(row.low, row.width) for row in dots.rows[2:]] == [(45, 12), (47, 12)]
    assert [row.strong for row in dots.rows] == [False, False, True, True]
    assert dots.rule == 40
    assert dots.rows[2].text == "0.51 [0.45, 0.57]"


def test_probes_knee_and_heads_say_what_the_tables_say(folder):
    found = read_diagnosis(folder)
    probe, knee, heads = probe_dots(found), knee_chart(found), head_rows(found)
    assert [row.text for row in probe.rows][:2] == ["38.0 % ± 2.2", "47.0 % ± 2.2"]
    assert (probe.rows[-1].name, probe.rows[-1].strong, probe.rule) == ("the teacher's penultimate layer", True, 10)
    assert knee.series[0].said == "knee at stage 3"
    assert knee.series[0].peak[0] == pytest.approx(66.7, abs=0.1)
    assert [row.parameters for row in heads] == ["412 k", "301 k", "198 k", "99 k", "1 M"]
    assert (heads[0].parameters_bar, heads[3].flops_bar) == (100, pytest.approx(100 * 0.9 / 31))


def test_chips_say_kept_left_or_undecided(tmp_path, folder):
    found = read_diagnosis(folder)
    assert [chip.state for chip in chips(found, found.rule("gap"))] == ["left", "left", "kept", "kept"]
    assert chips(found, found.rule("gap"))[2].reason.startswith("1 − CKA = 0.51 [0.45, 0.57], surely above")
    few = read_diagnosis(fake_diagnosis(tmp_path / "d", np.array(STAGES)[:3], half=0.5))
    assert {chip.state for rule in few.rules if rule.name != "lag" for chip in chips(few, rule)} == {"open"}
    assert few.verdict.method == "insufficient"
    text = diagnosis_page(few)
    assert "The verdict does not rest on them" in text
    assert '<em class="flag">set aside</em>' in text


def test_question_verdict_warnings_and_sections_stand_in_order(page):
    assert "<h1>Where do pocket:resnet and pocket:vit (untrained) part, and which stages deserve a branch?</h1>" in page
    names = ("by-stage", "by-block", "which", "networks", "scores", "made")
    places = [page.index(f'<h2 id="{name}"') for name in names]
    assert places == sorted(places)
    warned = html.escape(WARNED)
    assert page.index("<h1>") < page.index("Distil with OFA-KD") < page.index(warned) < places[0]
    assert page.count(warned) >= 5
    assert "0.51 [0.45, 0.57]" in page[: places[0]]
    assert "88.6 % ± 1.0" in page
    assert "18.4 points of accuracy [15.1, 21.7]" in page


def test_the_page_loads_nothing_and_can_be_used_without_seeing_it(page):
    markup = re.sub(r"<code>.*?</code>", "", page, flags=re.DOTALL)  # a configuration has a key "data"
    assert {target for target in LOADS.findall(markup) if not target.startswith(("data:", "#"))} == set()
    assert "default-src 'none'" in page
    assert "https://" not in page
    assert page.count('<table class="scores"') == 4
    assert 'alt="Heatmap of Linear CKA, debiased: 4 stages of pocket:vit (untrained) upwards by 4 of' in page
    assert 'aria-label="1 − CKA: stage 1: blocks.0 and layer1.1 0.12 [0.06, 0.18]; ' in page
    assert page.count("no branch") >= 4


def test_the_configuration_and_the_next_command_are_there_to_copy(page, tmp_path):
    assert "student = &#34;pocket:vit@warm/student.safetensors&#34;" in page
    assert "diagnosis/distill.toml</span> <span>--out</span> <span>RUN" in page
    inside = fake_diagnosis(tmp_path / "d")
    edit_json(inside / "diagnosis.json", command="part of run")
    assert "Next: train" not in diagnosis_page(read_diagnosis(inside))


@pytest.mark.parametrize(
    "shape",
    [
        {"labels": False},
        {"intervals": False, "blocks": False, "penultimate": False},
        {"scores": [[0.4]]},
        {"scores": np.array(STAGES)[:2]},
        {"scores": np.array(STAGES)[:, :3]},
        {"scores": [[np.nan] * 4, *STAGES[1:]]},
        {"scores": -np.array(STAGES)},
    ],
    ids=["no labels", "bare", "one stage", "two stages", "three of the teacher", "undefined", "negative"],
)
def test_pages_of_every_shape(tmp_path, shape):
    text = diagnosis_page(read_diagnosis(fake_diagnosis(tmp_path / "d", **shape)))
    assert ("What a linear probe reads" in text) == shape.get("labels", True)
    assert ("negative log-likelihood" in text) == shape.get("labels", True)
    assert ('id="by-block"' in text) == shape.get("blocks", True)
    assert 'class="plot" data-map="0"' in text


def test_an_untrained_twin_has_a_map_unless_the_student_is_untrained_itself(tmp_path, page):
    assert "untrained student" not in page
    trained = diagnosis_page(read_diagnosis(fake_diagnosis(tmp_path / "d")))
    assert "Linear CKA, debiased, untrained student" in trained


def test_whatever_a_user_wrote_is_escaped(tmp_path):
    folder = fake_diagnosis(tmp_path / "d", warnings=(EVIL,))
    meta = json.loads((folder / "diagnosis.json").read_text())
    meta["teacher"]["name"] = meta["data"]["name"] = meta["verdict"]["sentences"][0] = EVIL
    edit_json(folder / "diagnosis.json", **{**meta, "command": f"repalign {EVIL}"})
    (folder / "distill.toml").write_text(EVIL)
    edit_csv(
        folder / "stages.csv", lambda rows: [{**row, "layer": row["layer"].replace("blocks.0", EVIL)} for row in rows]
    )
    edit_csv(
        folder / "alignment.csv",
        lambda rows: [{**row, "layer_student": row["layer_student"].replace("blocks.0", EVIL)} for row in rows],
    )
    text = diagnosis_page(read_diagnosis(folder))
    assert (text.count("<script"), text.count("</script>")) == (2, 2)


def _drop(file, keep):
    return lambda folder: edit_csv(folder / file, lambda rows: [row for row in rows if keep(row)])


def _set(file, **values):
    return lambda folder: edit_csv(folder / file, lambda rows: [{**row, **values} for row in rows])


def _rule(**values):
    def change(folder):
        rules = json.loads((folder / "diagnosis.json").read_text())["rules"]
        edit_json(folder / "diagnosis.json", rules=[{**rules[0], **values}])

    return change


DAMAGE = {
    "no tables": (lambda f: (f / "alignment.csv").unlink(), r"has no alignment\.csv; diagnose again"),
    "cut json": (lambda f: (f / "diagnosis.json").write_text("{"), r"diagnosis\.json is damaged .*diagnose again"),
    "format": (lambda f: edit_json(f / "diagnosis.json", format=9), "has format 9 and this repalign reads format 1"),
    "kind": (lambda f: edit_json(f / "diagnosis.json", kind="x"), "is of kind 'x'; .* reports of kind 'diagnosis'"),
    "keys": (lambda f: edit_json(f / "diagnosis.json", verdict=None), "lacks verdict; diagnose again"),
    "layout": (lambda f: edit_json(f / "diagnosis.json", rules=[3]), "not laid out as a diagnosis"),
    "a pair": (_drop("alignment.csv", lambda row: row["layer_teacher"] != "layer2.1"), "12 rows .* for 4 × 4"),
    "stage rows": (_drop("alignment.csv", lambda row: row["level"] != "stage"), "no rows of level 'stage'"),
    "level": (_set("alignment.csv", level="cell"), "rows of level cell; a diagnosis has stage, block, penultimate"),
    "layer": (_set("alignment.csv", layer_student="x"), "x stands at level stage and not in stages.csv"),
    "numbers": (_set("alignment.csv", value="many"), "column value holds something that is no number"),
    "stages": (_drop("stages.csv", lambda row: row["stage"] != "2"), r"lists the stages \[1, 3, 4\] of the teacher"),
    "kept": (_rule(kept=[5]), "rule gap names stage 5 of a student with 4"),
    "reasons": (_rule(reasons=["one"]), "rule gap has 1 reasons for 4 stages"),
    "path": (lambda f: edit_json(f / "diagnosis.json", path=[[1, 9]]), "path names stage 9 of a teacher with 4"),
    "probe": (_set("probe.csv", stage="7"), "probe.csv names stage 7 of a student with 4"),
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGE)
def test_what_is_damaged_is_named_with_a_remedy(tmp_path, folder, what):
    damage, message = DAMAGE[what]
    copied = tmp_path / "d"
    shutil.copytree(folder, copied)
    damage(copied)
    with pytest.raises(InputError, match=message):
        read_diagnosis(copied)


def test_figures_and_page_are_the_same_bytes_every_time(tmp_path, cli):
    folder = fake_diagnosis(tmp_path / "d", [[0.4]], blocks=False)
    code, out, _ = cli("report", folder)
    assert (code, out.split()) == (0, ["report:", str(folder / "report.html")])
    files = sorted(folder.rglob("*.*"))
    assert [f.name for f in files if f.parent.name == "figures"] == [
        "evidence.png", "evidence.svg", "stages.png", "stages.svg",
    ]  # fmt: skip
    first = {file: file.read_bytes() for file in files}
    assert "<dc:date>" not in (folder / "figures" / "stages.svg").read_text(encoding="utf-8")
    render(folder)
    assert {file: file.read_bytes() for file in sorted(folder.rglob("*.*"))} == first


def test_a_damaged_diagnosis_leaves_the_old_report_as_it_was(tmp_path, folder):
    copied = tmp_path / "d"
    shutil.copytree(folder, copied)
    (copied / "report.html").write_text("old")
    DAMAGE["a pair"][0](copied)
    with pytest.raises(InputError, match="12 rows"):
        render(copied)
    assert (copied / "report.html").read_text() == "old"
    assert not (copied / "figures").exists()


def test_blocks_have_a_figure_and_bare_diagnoses_are_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr("repalign.report.figures.save", lambda figure, stem: figure.draw_without_rendering() or [stem])
    bare = fake_diagnosis(tmp_path / "d", [[np.nan]], intervals=False, labels=False, penultimate=False, warnings=("w",))
    assert [file.name for file in draw_diagnosis_figures(read_diagnosis(bare))] == ["stages", "blocks", "evidence"]


PROBE = """
const said = {};
const card = (k) => document.querySelectorAll(".card")[k];
const over = (map, x, y) => { const box = map.getBoundingClientRect(); map.dispatchEvent(new PointerEvent("pointermove",
  {clientX: box.left + box.width * x, clientY: box.top + box.height * y, bubbles: true, pointerType: "mouse"})); };
over(document.querySelector("[data-map]"), 0.1, 0.1);
said.stage = card(0).hidden ? "" : card(0).innerText;
over(document.querySelector("[data-group]"), 0.99, 0.99);
said.block = card(1).hidden ? "" : card(1).innerText;
said.buttons = document.querySelectorAll(".command button").length;
said.wide = document.documentElement.scrollWidth > innerWidth;
document.body.dataset.said = JSON.stringify(said);
"""


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")
def test_cards_show_stages_and_blocks_in_a_real_browser(tmp_path, page):
    open_page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    (tmp_path / "p.html").write_text(open_page.replace("</body>", f"<script>{PROBE}</script></body>"), encoding="utf-8")
    dom = dump(tmp_path / "p.html", tmp_path)
    assert 'data-ready="yes"' in dom
    assert "data-error" not in dom
    said = json.loads(html.unescape(re.search(r'data-said="([^"]*)"', dom).group(1)))
    for part in ("blocks.5", "layer1.1", "0.040", "[−0.02, 0.10]", "RSA"):
        assert part in said["stage"], part
    for part in ("blocks.0", "layer4.1"):
        assert part in said["block"], part
    assert (said["buttons"], said["wide"]) == (3, False)
