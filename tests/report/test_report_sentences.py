from itertools import pairwise

import pytest
from fake_extras import add_columns, add_inference, add_shares
from fake_study import edit_meta, fake_study

from repalign.report import read_study
from repalign.report.certainty import certainty_notes, how_sure
from repalign.report.sentences import answer, caveats, question
from repalign.report.wording import (
    big,
    counted,
    interval,
    listed,
    number,
    per_cent,
    probability,
    shorten,
    significant,
    slug,
    ticks,
)


def test_question_and_answer_of_two_encoders(tmp_path):
    study = read_study(fake_study(tmp_path / "s"))
    assert question(study) == "How alike are pocket:dino and pocket:resnet on 260 pictures of bundled:photos?"
    assert answer(study) == (
        "They are most alike at blocks.4 of pocket:dino and layer3.6 of pocket:resnet, where Linear CKA, debiased, "
        "gives 0.80; matched by depth they part most at patch_embed and stem, 0.43; chance gives 0 when independent."
    )
    assert how_sure(study) == ["This study holds point estimates without intervals."]


def test_untrained_is_said_wherever_the_encoder_is_named(tmp_path):
    study = read_study(fake_study(tmp_path / "s", untrained="ab"))
    for text in (question(study), answer(study)):
        assert text.count("pocket:dino") == text.count("pocket:dino (untrained)") == 1
        assert text.count("pocket:resnet") == text.count("pocket:resnet (untrained)") == 1
    assert caveats(study)[0] == "pocket:dino: untrained, its scores show what the architecture alone gives"


def test_intervals_and_the_null_enter_the_answer_when_the_study_has_them(tmp_path):
    study = read_study(fake_study(tmp_path / "s", intervals=True))
    assert "gives 0.80 [0.73, 0.86] against 0.00 by chance; matched" in answer(study)
    assert answer(study).endswith(", 0.43 [0.38, 0.49] against 0.00.")
    assert how_sure(study)[0] == "Scores stand with their intervals in brackets."
    assert "picked for its score" in how_sure(study)[1]


def test_the_adjusted_p_and_what_independent_features_give_enter_the_answer(tmp_path):
    folder = fake_study(tmp_path / "s", intervals=True, metrics=1)
    make = {"p_adjusted": lambda row: "0.0004" if row["layer_a"] == "blocks.4" else "0.0312"}
    add_columns(folder, make)
    assert "gives 0.80 [0.73, 0.86] against 0.00 by chance (adjusted p < 0.001); matched" in answer(read_study(folder))
    assert answer(read_study(folder)).endswith("against 0.00 (adjusted p = 0.031).")
    add_columns(folder, {"independent": lambda row: "0.61"})
    assert "against 0.61 for independent features of the same n and d (adjusted" in answer(read_study(folder))


def test_how_sure_is_said_once_for_measures_that_share_it(tmp_path):
    folder = fake_study(tmp_path / "s", 4, 3, intervals=True)
    ids = ["cka_linear", "cka_rbf", "rsa"]
    add_inference(folder, ids, n_groups=None, interval="half", notes=("ranks are kept",))
    study = read_study(folder)
    assert how_sure(study)[0] == (
        "Brackets hold 95 % intervals from half-sampling without replacement over 260 pictures; "
        "p comes from 999 permutations of pictures."
    )
    assert certainty_notes(study) == ["Linear CKA, debiased: ranks are kept"]
    add_inference(folder, ids[:2], n_groups=1, notes=())
    first, second, _ = how_sure(read_study(folder))
    assert first.startswith("Linear CKA, debiased and RBF CKA, debiased: Brackets hold 95 % intervals from a delete-gr")
    assert second.startswith("RSA, Spearman of correlation distances: Scores stand with")


def test_layers_that_one_channel_dominates_are_named(tmp_path):
    folder = fake_study(tmp_path / "s", 8, 3)
    add_shares(folder, loud=["blocks.0"])
    assert caveats(read_study(folder))[-1] == (
        "pocket:dino: one channel carries 83 % of the variance of blocks.0, and linear CKA hears mostly that one"
    )
    add_shares(folder, loud=[f"blocks.{k}" for k in range(6)])
    said = caveats(read_study(folder))[-1]
    assert "83 % of the variance of blocks.3 and more than half of it in 2 more layers, and linear" in said
    add_shares(folder)
    assert not any("channel" in text for text in caveats(read_study(folder)))


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
    assert said[2].startswith("7 files of bundled:photos could not be read and are left out: 0.jpg (cut short); ")
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
    assert [probability(p) for p in (0.0009, 0.001, 0.05, float("nan"))] == ["<0.001", "0.001", "0.050", ""]
    assert [significant(v) for v in (-0.01234, 27.18, float("nan"))] == ["−0.0123", "27.2", "undefined"]
    assert (per_cent(0.834), per_cent(float("nan"))) == ("83 %", "")
    assert [listed(["a", "b", "c"][:k]) for k in range(4)] == ["", "a", "a and b", "a, b and c"]
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
