import json
import math
import re
import shutil

import numpy as np
import pytest
from fake_diagnosis import RESNET, STAGES, VIT, edit_json, fake_diagnosis
from fake_distillation import fake_distillation
from test_report_html import EVIL, LOADS

from repalign.errors import InputError
from repalign.report import render
from repalign.report.chart import Box
from repalign.report.distillation.charts import (
    accuracy_chart,
    alignment_chart,
    epoch_ticks,
    loss_chart,
    nice,
    outcome_dots,
    rate_chart,
)
from repalign.report.distillation.compared import both, number_rows, probe_dots, similarity_dots
from repalign.report.distillation.figures import draw_distillation_figures
from repalign.report.distillation.folder import read_distillation
from repalign.report.distillation.maps import alignment_maps, card_data, shown_maps
from repalign.report.distillation.page import distillation_page


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One run that no test changes."""
    return fake_distillation(tmp_path_factory.mktemp("run") / "r")


@pytest.fixture(scope="module")
def page(folder):
    return distillation_page(read_distillation(folder))


def points(path):
    return [(float(x), float(y)) for x, y in re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", path)]


def edit_lines(file, change):
    lines = [change(json.loads(line)) for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines if line is not None))


def test_a_run_is_read_as_it_was_written(folder):
    run = read_distillation(folder)
    assert (run.method, run.stages, run.state, run.planned) == ("ofa", (3, 4), "finished", 30)
    assert [(one.name, one.epoch, one.validation, one.test) for one in run.outcomes] == [
        ("student before", 0, 0.452, 0.449), ("last epoch", 30, 0.702, 0.694),
        ("best on validation", 26, 0.718, 0.691), ("teacher", 0, 0.886, 0.881),
    ]  # fmt: skip
    assert run.parts == ("ground_truth", "logits", "stage3", "stage4")
    assert run.alignment.epochs == (0, 5, 10, 15, 20, 25, 30)
    assert (run.alignment.student, run.alignment.teacher) == (VIT, RESNET)
    np.testing.assert_allclose(run.alignment.values[0], STAGES)
    assert run.alignment.values[-1][0, 0] == pytest.approx(0.88 + 0.06)
    assert run.after.stages.matrix()[0, 0] == pytest.approx(0.96)


def test_lines_stand_at_their_epochs(folder):
    run = read_distillation(folder)
    loss, rate, accuracy = (draw(run) for draw in (loss_chart, rate_chart, accuracy_chart))
    assert [one.label for one in loss.series] == ["ground truth", "logits", "stage 3", "stage 4"]
    drawn = points(rate.series[0].line)
    assert [x for x, _ in drawn] == pytest.approx([1000 * k / 29 for k in range(30)], abs=0.1)
    assert [tick.text for tick in rate.y_ticks] == ["0", "2e−4", "4e−4", "6e−4", "8e−4", "1e−3"]
    box = Box(0.0, 1e-3)
    assert [y for _, y in drawn] == pytest.approx([box.y(epoch.rate) for epoch in run.epochs], abs=0.1)
    best = max(run.epochs, key=lambda epoch: epoch.accuracy)
    assert accuracy.series[0].peak == pytest.approx((100 * (best.number - 1) / 29, 100 * (1 - best.accuracy)), abs=0.01)
    assert {y for _, y in points(accuracy.series[1].line)} == {114.0}
    assert f"best {100 * best.accuracy:.1f} % after epoch {best.number}" in accuracy.alt


def test_alignment_lines_are_the_pairs_at_the_same_share_of_the_way(folder):
    run = read_distillation(folder)
    chart, maps = alignment_chart(run), alignment_maps(run)
    assert [one.said for one in chart.series] == [
        "0.88 → 0.94", "0.74 → 0.80", "0.49 → 0.55, with a branch", "0.47 → 0.53, with a branch",
    ]  # fmt: skip
    assert points(chart.series[3].line)[0] == (0.0, 530.0)
    titles = [one.metric.label for one in maps]
    assert titles == ["Before training", "After epoch 30", "The change"]
    np.testing.assert_allclose(np.diagonal(shown_maps(run.alignment)[2][2]), 0.06)
    assert [cell.text for cell in maps[2].numbers if cell.left == 0] == ["0.06", "0.00", "0.00", "−0.03"]
    assert card_data(run)[0]["metrics"][1]["value"][0] == 9400


def test_accuracies_have_intervals_of_their_standard_errors(folder):
    dots = outcome_dots(read_distillation(folder))
    last = dots.rows[1]
    assert (last.name, last.text, last.at) == ("last epoch", "70.2 % ± 1.3", 70.2)
    assert (last.low, last.width) == pytest.approx((70.2 - 1.96 * 0.64, 2 * 1.96 * 0.64), abs=0.01)
    assert [row.heading for row in dots.rows if row.heading] == ["validation pictures", "test pictures"]


def test_both_diagnoses_stand_beside_each_other(folder, tmp_path):
    found = both(read_distillation(folder))
    dots = similarity_dots(found)
    assert [(row.name, row.text) for row in dots.rows[:2]] == [
        ("before", "0.88 [0.82, 0.94]"),
        ("after", "0.96 [0.90, 1.02]"),
    ]
    assert [row.at for row in dots.rows[:2]] == pytest.approx([100 * 0.88 / 1.1, 100 * 0.96 / 1.1], abs=0.01)
    assert dots.rows[0].heading == "stage 1: blocks.0 and layer1.1"
    assert len(probe_dots(found).rows) == 8
    assert ("stages that “gap” would give a branch", "3, 4", "insufficient evidence") in number_rows(found)
    other = fake_distillation(tmp_path / "r", 2)
    shutil.rmtree(other / "after")
    fake_diagnosis(other / "after", np.array(STAGES)[:3], blocks=False)
    assert both(read_distillation(other)) is None


def test_question_answer_and_what_one_run_can_not_say(page):
    assert (
        "What did distilling pocket:resnet into pocket:vit with OFA-KD and branches at stages 3 and 4 change?" in page
    )
    answer = (
        "After the last epoch, 30, the student is right on 69.4 % of the test pictures, +24.5 points from 44.9 % "
        "before; its teacher on 88.1 %."
    )
    names = ("accuracies", "training", "alignment", "before-after", "made")
    places = [page.index(f'<h2 id="{name}"') for name in names]
    assert places == sorted(places)
    assert page.index(answer) < page.index('id="caveats"') < places[0]
    for said in ("that accuracy is optimistic", "One run with one seed says nothing beyond itself"):
        assert page.index(said) < places[0]
        assert said in page[places[0] : places[1]]
    assert page.count("one run, one seed") == 3
    assert 'href="before/report.html"' in page


def test_the_page_loads_nothing_from_outside(page):
    loads = {target for target in LOADS.findall(page) if not target.startswith(("data:", "#"))}
    assert loads == {"before/report.html", "after/report.html"}
    assert "default-src 'none'" in page
    assert "https://" not in page


def test_a_student_of_labels_alone_has_no_alignment_and_no_test(tmp_path):
    run = fake_distillation(tmp_path / "r", 3, method="ce", teacher=False, test=False, stages=())
    text = distillation_page(read_distillation(run))
    assert "What did training pocket:vit on labels alone change?" in text
    assert "70.2 % of the validation pictures" in text
    assert "There are no test pictures" in text
    assert "there is no teacher" in text
    assert "This run was not diagnosed." in text
    assert "looked at once" not in text
    assert not re.search(r'scope="col" class="num">test<', text)


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("running", "This run is not finished (11 of 30 epochs are done): it still runs, or it was interrupted"),
        (
            "stopped: epoch 12, batch 3: NaN.",
            "This run was stopped: epoch 12, batch 3: NaN (11 of 30 epochs are done).",
        ),
    ],
)
def test_a_run_that_is_not_finished_says_so_and_shows_what_there_is(tmp_path, state, said):
    folder = fake_distillation(tmp_path / "r", 11, planned=30, state=state)
    (folder / "log.jsonl").write_text((folder / "log.jsonl").read_text() + '{"epoch": 12, "lo')  # killed while writing
    text = distillation_page(read_distillation(folder))
    assert text.count(said) >= 5
    assert "So far, after epoch 11, the student is right on" in text
    assert "Networks are judged at the end of a run" in text
    assert "there is none after it yet" in text


def test_a_run_before_its_first_epoch(tmp_path):
    folder = fake_distillation(tmp_path / "r", 0, planned=30, state="running", diagnosed=False)
    for name in ("log.jsonl", "alignment.jsonl"):
        (folder / name).unlink()
    text = distillation_page(read_distillation(folder))
    assert "Nothing is known yet of how good the student is." in text
    assert "No epoch is done yet." in text
    assert "The alignment was not measured." in text


def test_what_is_not_a_number_leaves_a_gap(tmp_path):
    folder = fake_distillation(tmp_path / "r", 4, method="kd", stages=())
    edit_lines(folder / "log.jsonl", lambda line: {**line, "validation_accuracy": None if line["epoch"] == 2 else 0.5})
    edit_lines(folder / "alignment.jsonl", lambda row: {**row, "value": None if row["stage_student"] == 1 else 0.3})
    run = read_distillation(folder)
    assert math.isnan(run.epochs[1].accuracy)
    assert accuracy_chart(run).series[0].line.count("M") == 2
    assert alignment_chart(run).series[0].line == ""
    assert alignment_maps(run)[0].has_undefined
    assert "with KD change?" in distillation_page(run)


def test_one_epoch_stands_in_the_middle(tmp_path):
    run = read_distillation(fake_distillation(tmp_path / "r", 1))
    assert points(rate_chart(run).series[0].line)[0][0] == 500
    assert [(tick.at, tick.text) for tick in epoch_ticks(np.array([1]))] == [(50, "1")]
    assert loss_chart(run).series[0].dots
    assert f"best {100 * run.epochs[0].accuracy:.1f} % after epoch 1" in distillation_page(run)


@pytest.mark.parametrize(
    ("ends", "marks"),
    [((0.0, 1.0), [0, 0.2, 0.4, 0.6, 0.8, 1]), ((0.0, 2.3), [0, 0.5, 1, 1.5, 2, 2.5]), ((-3.0, 7.0), range(-4, 9, 2))],
)
def test_marks_are_round_and_span_what_is_drawn(ends, marks):
    found = nice(*ends)
    assert found[0] <= ends[0] <= ends[1] <= found[-1]
    assert found == pytest.approx(list(marks))
    assert nice(0.0, 3.7e-5)[-1] == pytest.approx(4e-5)


def test_whatever_a_user_wrote_is_escaped(tmp_path):
    folder = fake_distillation(tmp_path / "r", 2, diagnosed=False)
    meta = json.loads((folder / "run.json").read_text())
    meta["teacher"]["name"] = meta["configuration"]["data"] = meta["command"] = EVIL
    edit_json(folder / "run.json", **{**meta, "notes": [EVIL]})
    edit_lines(folder / "log.jsonl", lambda line: {**line, "losses": {EVIL: 1.0}})
    edit_lines(folder / "alignment.jsonl", lambda row: {**row, "layer_student": f"{EVIL}{row['stage_student']}"})
    text = distillation_page(read_distillation(folder))
    assert (text.count("<script"), text.count("</script>")) == (2, 2)


def _cut(folder):
    (folder / "log.jsonl").write_text("{\n")


def _backwards(folder):
    lines = (folder / "log.jsonl").read_text().splitlines()
    (folder / "log.jsonl").write_text("\n".join(lines[::-1]) + "\n")


def _alignment(change):
    return lambda folder: edit_lines(folder / "alignment.jsonl", change)


DAMAGE = {
    "no run": (lambda f: (f / "run.json").unlink(), "is no study folder"),
    "cut json": (lambda f: (f / "run.json").write_text("{"), r"run\.json is damaged .*distil again"),
    "format": (lambda f: edit_json(f / "run.json", format=9), "has format 9 and this repalign reads format 1"),
    "keys": (lambda f: edit_json(f / "run.json", recipe=None), "lacks recipe; distil again"),
    "layout": (lambda f: edit_json(f / "run.json", recipe={}), r"not laid out as a run \(KeyError\('epochs'\)\)"),
    "cut log": (_cut, r"log\.jsonl is damaged"),
    "order": (_backwards, r"log\.jsonl does not go forward from epoch to epoch"),
    "pairs": (
        _alignment(lambda row: row if row["stage_student"] < 4 or row["epoch"] else None),
        r"has 28 rows \(28 different\) for 2 epochs of 4 × 4 stages; distil again",
    ),
    "alignment": (_alignment(lambda row: {"epoch": row["epoch"]}), "not laid out as the alignment of a run"),
    "diagnosis": (lambda f: (f / "before" / "stages.csv").unlink(), r"before has no stages\.csv; diagnose again"),
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGE)
def test_what_is_damaged_is_named_with_a_remedy(tmp_path, what):
    damage, message = DAMAGE[what]
    folder = fake_distillation(tmp_path / "r", 2)
    damage(folder)
    with pytest.raises(InputError, match=message):
        render(folder)
    assert not (folder / "report.html").exists()


def test_figures_and_page_are_the_same_bytes_every_time(tmp_path, cli):
    folder = fake_distillation(tmp_path / "r", 2, method="ce", teacher=False, test=False, stages=())
    code, out, _ = cli("report", folder)
    assert (code, out.split()) == (0, ["report:", str(folder / "report.html")])
    files = sorted(folder.rglob("*.*"))
    assert [f.name for f in files if f.parent.name == "figures"] == [
        "accuracies.png", "accuracies.svg", "training.png", "training.svg",
    ]  # fmt: skip
    first = {file: file.read_bytes() for file in files}
    render(folder)
    assert {file: file.read_bytes() for file in sorted(folder.rglob("*.*"))} == first


def test_everything_there_is_has_a_figure(folder, monkeypatch):
    monkeypatch.setattr("repalign.report.figures.save", lambda figure, stem: figure.draw_without_rendering() or [stem])
    names = [file.name for file in draw_distillation_figures(read_distillation(folder))]
    assert names == ["accuracies", "training", "alignment", "alignment_maps", "before_after"]
