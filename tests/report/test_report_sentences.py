from itertools import pairwise

import pytest
from fake_study import edit_meta, fake_study

from repalign.report import read_study
from repalign.report.sentences import answer, caveats, precision, question
from repalign.report.wording import big, counted, interval, number, shorten, slug, ticks


def test_question_and_answer_of_two_encoders(tmp_path):
    study = read_study(fake_study(tmp_path / "s"))
    assert question(study) == "How alike are pocket:dino and pocket:resnet on 260 pictures of bundled:photos?"
    assert answer(study) == (
        "They are most alike at blocks.4 of pocket:dino and layer3.6 of pocket:resnet, where Linear CKA, debiased, "
        "gives 0.80; matched by depth they part most at patch_embed and stem, 0.43; chance gives 0 when independent."
    )
    assert precision(study) == "This study holds point estimates without intervals."


def test_untrained_is_said_wherever_the_encoder_is_named(tmp_path):
    study = read_study(fake_study(tmp_path / "s", untrained="ab"))
    for text in (question(study), answer(study)):
        assert text.count("pocket:dino") == text.count("pocket:dino (untrained)") == 1
        assert text.count("pocket:resnet") == text.count("pocket:resnet (untrained)") == 1
    assert caveats(study)[0] == "pocket:dino: untrained, its scores show what the architecture alone gives"


def test_intervals_and_the_null_enter_the_answer_when_the_study_has_them(tmp_path):
    study = read_study(fake_study(tmp_path / "s", intervals=True))
    assert "gives 0.80 [0.73, 0.86]; matched" in answer(study)
    assert answer(study).endswith("; chance gives 0.00 on average.")
    assert precision(study) == "Scores stand with their intervals in brackets."


def test_one_encoder_under_two_conditions_is_told_apart_by_its_stimuli(tmp_path):
    folder = fake_study(tmp_path / "s", 5, same=True, paired=True, names=("pocket:vit", "pocket:vit"))
    study = read_study(folder)
    assert question(study) == (
        "How alike are pocket:vit on bundled:photos and pocket:vit on cat/, over 260 matched pictures?"
    )
    assert answer(study).startswith("They are most alike at blocks.2, where")


def test_an_encoder_with_itself_is_asked_about_its_own_layers(tmp_path):
    folder = fake_study(tmp_path / "s", 5, same=True, names=("pocket:vit", "pocket:vit"))
    one = read_study(folder).meta["encoders"]["a"]
    edit_meta(folder, encoders={"a": one, "b": one})
    study = read_study(folder)
    assert (
        question(study) == "How alike are the layers of pocket:vit among themselves on 260 pictures of bundled:photos?"
    )
    assert answer(study).startswith("Two different layers are most alike at ")


def test_one_layer_each_makes_one_statement(tmp_path):
    study = read_study(fake_study(tmp_path / "s", layers_a=["V4"], layers_b=["IT"]))
    assert answer(study).startswith("At V4 of pocket:dino and IT of pocket:resnet Linear CKA, debiased, gives 0.43; ")


def test_nothing_defined_is_said(tmp_path):
    study = read_study(fake_study(tmp_path / "s", 3, 3, all_undefined=True))
    assert answer(study) == "No pair of layers has a defined score by Linear CKA, debiased; the warnings say why."


def test_caveats_hold_notes_warnings_and_what_was_left_out_once(tmp_path):
    folder = fake_study(tmp_path / "s", 3, 3, untrained="a", notes=("few groups",), warnings=("w1", "w1"))
    stimuli = read_study(folder).meta["stimuli"]["a"] | {"skipped": [[f"{k}.jpg", "cut short"] for k in range(7)]}
    edit_meta(folder, stimuli={"a": stimuli, "b": None})
    said = caveats(read_study(folder))
    assert said[0].startswith("pocket:dino: untrained, ")
    assert said[1] == "bundled:photos: few groups"
    assert said[2].startswith("7 pictures of bundled:photos could not be read and are left out: 0.jpg (cut short); ")
    assert said[2].endswith("4.jpg (cut short); and 2 more.")
    assert said[3:] == ["w1"]


@pytest.mark.parametrize(
    ("value", "text"), [(0.714, "0.71"), (-0.03, "−0.03"), (-0.001, "0.00"), (float("nan"), "undefined"), (1, "1.00")]
)
def test_numbers_have_a_true_minus_and_no_negative_zero(value, text):
    assert number(value) == text


def test_wording():
    assert interval(-0.1, 0.25) == "[−0.10, 0.25]"
    assert (counted(1, "group"), counted(1024, "picture")) == ("1 group", "1,024 pictures")
    assert [big(n) for n in (912, 701_466, 1_213_440, 86_000_000)] == ["912", "701 k", "1.2 M", "86 M"]
    assert slug("rsa:corr/spearman") == "rsa-corr-spearman"
    assert slug("../..") == "metric"


@pytest.mark.parametrize(
    ("name", "most", "short"),
    [
        ("blocks.3", 13, "blocks.3"),
        ("encoder.layer.11.output.dense", 24, "e.layer.11.output.dense"),
        ("encoder.layer.11.output.dense", 13, "…11.o.dense"),
        ("encoder.layer.11.output.dense.very.long", 13, "e.l.11.…"),
        ("a_layer_whose_name_has_no_dots_at_all", 13, "a_la…s_at_all"),
    ],
)
def test_long_names_keep_their_numbers(name, most, short):
    assert shorten(name, most) == short
    assert len(short) <= most


@pytest.mark.parametrize("n", [1, 2, 5, 12, 13, 33, 200])
@pytest.mark.parametrize("most", [2, 11, 24])
def test_ticks_are_few_even_and_hold_both_ends(n, most):
    kept = ticks(n, most)
    assert kept[0] == 0
    assert kept[-1] == n - 1
    assert len(kept) <= most
    steps = [b - a for a, b in pairwise(kept)]
    assert not steps or max(steps) - min(steps) <= 1
