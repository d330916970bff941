import json
import math

import pytest
from fake_conditions import CAT, CONTROLS, edit_rows, fake_conditions
from fake_study import edit_meta, fake_study

from repalign.errors import InputError
from repalign.report import condition_tables, read_study
from repalign.report.condition_tables import control_notes, control_table, layer_scores, summary_table
from repalign.report.conditions import condition_difference, said_of_filters, strength, verdict
from repalign.report.saved_conditions import Conditions, Control, Effect
from repalign.report.sentences import answer, caveats, described, question, sides
from repalign.report.wording import share


def test_an_older_study_has_no_conditions(tmp_path):
    study = read_study(fake_study(tmp_path / "s", 3, 3))
    assert study.conditions == Conditions()
    assert (said_of_filters(study), summary_table(study), control_table(study), layer_scores(study)) == ([], [], [], [])


def test_a_filter_asks_whether_geometry_is_kept_and_controls_say_what_strength_alone_costs(tmp_path):
    study = read_study(fake_conditions(tmp_path / "s"))
    assert question(study) == (
        "Does pocket:dino keep its geometry when 260 pictures of bundled:photos are seen through cat, scene 60° wide?"
    )
    assert answer(study) == (
        "Averaged over its 10 layers Linear CKA, debiased, is 0.81 [0.76, 0.85]; at blocks.0, the best layer on one "
        "half of the groups, it is 0.90 [0.83, 0.96] on the other half. Beside controls, of the same strength unless "
        "said, that is lower than with grey (0.91) and protan (0.88, 0.41 × as strong) and higher than with blur "
        "(0.62), jpeg (0.71) and noise (0.55)."
    )
    assert sides(study) == ("pocket:dino", "pocket:dino through cat, scene 60° wide")
    assert "cat: no tapetum was asked for" in caveats(study)


def test_a_second_set_of_pictures_is_what_the_first_is_shown_as(tmp_path):
    study = read_study(fake_conditions(tmp_path / "s", second_set=True, untrained="ab"))
    assert question(study) == (
        "Does pocket:dino (untrained) keep its geometry when 260 pictures of bundled:photos are shown as cat/?"
    )
    assert control_table(study)[0].label == "cat/"
    assert condition_difference(study) == pytest.approx(0.0817, rel=0.01)


def test_controls_of_the_same_strength_are_counted_and_need_intervals_to_be_told_apart(tmp_path):
    folder = fake_conditions(tmp_path / "s", controls=CONTROLS[1:3])
    assert "Beside 2 controls of the same strength that is lower than with grey (0.91) and higher than with blur" in (
        answer(read_study(folder))
    )
    edit_rows(folder / "controls.csv", lambda row: row | {"p": "0.06"})
    assert answer(read_study(folder)).endswith("strength that is not told apart from grey (0.91) and blur (0.62).")
    edit_rows(folder / "controls.csv", lambda row: row | {"difference_low": "", "difference_high": ""})
    assert answer(read_study(folder)).endswith("on the other half.")


def test_an_answer_without_an_honest_peak_says_where_its_number_comes_from(tmp_path):
    folder = fake_conditions(tmp_path / "s", controls=(), intervals=False)
    assert ", is 0.81; at blocks.0, the best layer on one half of the groups, it is 0.90 on the other half. " in (
        answer(read_study(folder))
    )
    empty = {"held": "", "held_layer": "", "held_share": "", "note": "3 groups are too few for two halves"}
    edit_rows(folder / "summary.csv", lambda row: row | empty)
    study = read_study(folder)
    assert "; its best layer, blocks.0, reaches 0.92, picked and measured on the same pictures. " in answer(study)
    first = summary_table(study)[0]
    assert (first.held, first.held_interval, first.share, first.peak) == ("", "", "", "0.92")
    assert first.note == "3 groups are too few for two halves"
    edit_rows(folder / "summary.csv", lambda row: row | {"mean": ""})
    assert answer(read_study(folder)).startswith("No layer has a defined score by Linear CKA, debiased; ")


def test_one_layer_and_a_distance_are_worded_so(tmp_path):
    folder = fake_conditions(tmp_path / "s", layers_a=["V4"], metrics=1)
    meta = json.loads((folder / "study.json").read_text())
    meta["metrics"][0] |= {"higher_is_similar": False, "bounds": None}
    edit_meta(folder, **meta)
    study = read_study(folder)
    assert answer(study).startswith("At its one layer Linear CKA, debiased, is 0.81 [0.76, 0.85] (lower is more alike)")
    assert summary_table(study)[0].direction == "lower is more alike"
    assert [row.label for row in control_table(study)][1] == "noise, SD 0.0873 of white"


def effect(low, high, p):
    nan = math.nan
    return Effect("grey", "rsa", "", "", nan, nan, nan, nan, nan, nan, low, high, p)


@pytest.mark.parametrize(
    ("low", "high", "p", "found"),
    [
        (0.01, 0.2, 0.01, "above"),
        (0.01, 0.2, math.nan, "above"),
        (-0.2, -0.01, 0.049, "below"),
        (-0.2, -0.01, 0.05, "level"),
        (-0.1, 0.1, 0.01, "level"),
        (0.0, 0.0, 1.0, "level"),
        (math.nan, 0.1, 0.01, ""),
    ],
)
def test_scores_are_apart_only_when_interval_and_p_agree(low, high, p, found):
    assert verdict(effect(low, high, p), 0.05) == found


@pytest.mark.parametrize(
    ("difference", "ratio", "said"),
    [(0.08, 1.049, ""), (0.08, 0.951, ""), (0.09, 1.06, "1.1 × as strong"), (0.03, 0.406, "0.41 × as strong"),
     (0.08, math.nan, "strength unknown"), (0.0, 0.0, "changes nothing")],
)  # fmt: skip
def test_another_strength_is_said(difference, ratio, said):
    assert strength(Control("grey", "grey", "grey", difference, ratio, 0.0, "")) == said


@pytest.mark.parametrize(
    ("left", "said"),
    [(0.9917, "leave 0.99 of the contrast, so in what this encoder can see the optics hardly show and colour"),
     (0.66, "leave 0.66 of the contrast, and more of every coarser one; at 1 the optics would hide nothing"),
     (0.0001, "leave 0.00 of the contrast, so the finest details that this encoder could see are gone")],
)  # fmt: skip
def test_what_the_optics_leave_is_said_with_what_follows(tmp_path, left, said):
    transfer = [{"fov_deg": 60.0, "pixels": 224, "seen": 1.0, "at_nyquist": left}]
    study = read_study(fake_conditions(tmp_path / "s", 2, controls=(), filter_=CAT | {"transfer": transfer}))
    (told,) = said_of_filters(study)
    assert told.startswith("pocket:dino sees each of the pictures through cat, scene 60° wide. It changes linear light")
    assert "by 0.0817 RMS (white is 1) and leaves 2.1 % of the pixels outside sRGB, where they are cut. At the" in told
    assert f"224 pixels across 60° can carry, the optics {said}" in told


def test_what_an_encoder_is_shown_of_the_scene_counts(tmp_path):
    transfer = [{"fov_deg": 60.0, "pixels": 224, "seen": 0.875, "extent": 0.5, "at_nyquist": 0.1}]
    study = read_study(fake_conditions(tmp_path / "s", 2, controls=(), filter_=CAT | {"transfer": transfer}))
    assert "224 pixels across 26.2° can carry (what it is shown of 60°), the optics" in said_of_filters(study)[0]


def test_filters_of_two_encoders_are_described_without_a_summary(tmp_path):
    folder = fake_study(tmp_path / "s", 3, 3)
    edit_meta(folder, filters={"a": CAT | {"difference": None, "clipped": None, "transfer": []}, "b": None})
    study = read_study(folder)
    assert said_of_filters(study) == ["pocket:dino sees each of the pictures through cat, scene 60° wide."]
    assert question(study).startswith("How alike are pocket:dino through cat, scene 60° wide and pocket:resnet on ")


def test_long_labels_are_cut_where_sides_are_named_and_whole_in_the_question(tmp_path):
    label = "cat, scene 60° wide, slit pupil 2 D out of focus, blurrier off centre + JPEG, quality 50"
    study = read_study(fake_conditions(tmp_path / "s", 2, controls=(), filter_=CAT | {"label": label}))
    assert label in question(study)
    assert len(described(study.b)) <= len("pocket:dino through ") + 48


def test_controls_stand_from_most_alike_to_least_with_those_that_could_not_be_matched_last(tmp_path):
    folder = fake_conditions(tmp_path / "s")
    edit_rows(folder / "controls.csv", lambda row: row | {"note": "8 groups" * row["control"].startswith("jpeg")})
    study = read_study(folder)
    rows = control_table(study)
    assert [(row.label, row.flag) for row in rows] == [
        ("cat, scene 60° wide", ""), ("unchanged", "changes nothing"), ("0.941 of the way to grey", ""),
        ("human protanope", "0.41 × as strong"), ("JPEG, quality 3", ""),
        ("blur, half contrast at 0.41 cycles/°, scene 60° wide", ""), ("noise, SD 0.0873 of white", ""),
        ("red removal", "not matched"),
    ]  # fmt: skip
    grey = rows[2].scores[0]
    assert (grey.value, grey.interval, grey.difference, grey.p, grey.apart) == (
        "0.91", "[0.86, 0.96]", "−0.10", "0.008", "lower",
    )  # fmt: skip
    assert rows[-1].note.startswith("red_removal comes no nearer")
    assert control_notes(study) == ["JPEG, quality 3: 8 groups"]
    edit_rows(folder / "controls.csv", lambda row: row | {"note": "no p"})
    assert control_notes(read_study(folder)) == ["no p"]


def test_every_layer_is_tabled_until_there_are_too_many(tmp_path, monkeypatch):
    study = read_study(fake_conditions(tmp_path / "s"))
    (first, *rest) = layer_scores(study)
    assert len(rest) == 2
    assert first.heads[:3] == ("cat, scene 60° wide", "unchanged", "0.941 of the way to grey")
    assert first.rows[0][0] == "norm"
    assert first.rows[0][1][:2] == (("0.69", "[0.64, 0.73]"), ("1.00", "−0.31 [−0.37, −0.25]"))
    monkeypatch.setattr(condition_tables, "TABLED", 209)  # 3 measures × 10 layers × 7
    assert layer_scores(study) == []


@pytest.mark.parametrize(
    ("part", "text"), [(0.0213, "2.1 %"), (0.416, "42 %"), (0.0, "0 %"), (3e-5, "<0.01 %"), (math.nan, "")]
)
def test_small_shares_keep_two_digits(part, text):
    assert share(part) == text


def damaged(folder, what):
    match what:
        case "no summary":
            (folder / "summary.csv").unlink()
        case "no controls":
            (folder / "controls.csv").unlink()
        case "unknown control":
            edit_meta(folder, controls=[])
        case "unknown layer":
            edit_rows(folder / "controls.csv", lambda row: row | {"layer": row["layer"] and "x"})
        case "unknown metric":
            edit_rows(folder / "summary.csv", lambda row: row | {"metric": "x" + row["metric"]})
        case "twice":
            edit_rows(folder / "summary.csv", lambda row: row | {"metric": "rsa"})
        case "word":
            edit_rows(folder / "summary.csv", lambda row: row | {"mean": "much"})
        case "filter":
            edit_meta(folder, filters={"a": None, "b": {"label": "cat"}})
        case "filters":
            edit_meta(folder, filters=["cat"])


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("no summary", r"has controls\.csv but no summary\.csv"),
        ("no controls", r"controls\.csv is missing and study\.json lists controls; put it back or run"),
        ("unknown control", r"controls\.csv is about blur.* \(control\), which the study does not have"),
        ("unknown layer", r"controls\.csv is about x \(layer\)"),
        ("unknown metric", r"summary\.csv is about xcka_linear.* \(metric\)"),
        ("twice", r"summary\.csv has more than one row of a measure"),
        ("word", r"summary\.csv: column mean holds something that is no number"),
        ("filter", r"study\.json: filters or controls are not laid out as in a study \(KeyError\('spec'\)\); run"),
        ("filters", r"study\.json: filters or controls are not laid out"),
    ],
)
def test_what_is_damaged_is_named(tmp_path, what, message):
    folder = fake_conditions(tmp_path / "s", 3)
    damaged(folder, what)
    with pytest.raises(InputError, match=message):
        read_study(folder)
