import json
import random

import numpy as np
import pytest
from fake_extras import add_stability, add_subjects, everything
from fake_study import edit_meta, fake_study

from repalign.errors import InputError
from repalign.report import read_study
from repalign.report.saved import Certainty


def test_a_study_is_read_as_it_was_written(tmp_path):
    study = read_study(fake_study(tmp_path / "s", 5, 4, undefined=True, untrained="b"))
    first = study.metrics[0]
    assert (study.n, study.pictures) == (260, "pictures")
    assert study.a.layers == ("patch_embed", "blocks.0", "blocks.1", "blocks.2", "norm")
    assert (study.a.untrained, study.b.untrained) == (False, True)
    assert study.b.depths.tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert study.a.ratios[1] == 1.4
    scores = study.matrix(first)
    assert scores.shape == (5, 4)
    assert np.isnan(scores[0]).all()
    assert not np.isnan(scores[1]).any()
    assert not study.has("ci_low")


def test_every_score_stands_at_its_layers_in_whatever_order_the_rows_come(tmp_path):
    folder = fake_study(tmp_path / "s", 6, 4, metrics=2)
    before = read_study(folder)
    header, *rows = (folder / "alignment.csv").read_text().splitlines()
    first_row_and_column = [r for r in rows if "patch_embed" in r or ",stem," in r]
    rest = [r for r in rows if r not in first_row_and_column]
    random.Random(0).shuffle(rest)
    (folder / "alignment.csv").write_text("\n".join([header, *first_row_and_column, *rest]))
    after = read_study(folder)
    for metric in after.metrics:
        for i, a in enumerate(after.a.layers):
            for j, b in enumerate(after.b.layers):
                place = before.a.layers.index(a), before.b.layers.index(b)
                assert after.matrix(metric)[i, j] == before.matrix(metric)[place]


def test_names_that_look_like_missing_values_or_numbers_stay_names(tmp_path):
    names = ["NA", "nan", "None", "1e5", ""]
    study = read_study(fake_study(tmp_path / "s", layers_a=names, layers_b=["007", "7"], metrics=1))
    assert study.a.layers == tuple(names)
    assert study.b.layers == ("007", "7")


def test_without_pictures_one_speaks_of_stimuli(tmp_path):
    folder = fake_study(tmp_path / "s", 3, 3)
    edit_meta(folder, thumbs=[])
    assert read_study(folder).pictures == "stimuli"


def test_a_study_made_before_intervals_is_still_read(tmp_path):
    study = read_study(fake_study(tmp_path / "s", 3, 4))
    for column in ("p_adjusted", "independent"):
        assert np.isnan(study.matrix(study.metrics[0], column)).all()
    assert np.isnan(study.a.shares).all()
    assert (study.certainty, study.points, study.tests, study.a.subjects) == ({}, (), (), 0)
    assert np.isnan(study.a.ceiling(study.metrics[0])).all()


def test_what_a_study_knows_of_its_certainty_is_read(tmp_path):
    folder = everything(fake_study(tmp_path / "s", 4, 3, intervals=True))
    add_subjects(folder, "b", "rsa", ["norm"], band=(0.4, None))
    study = read_study(folder)
    assert study.certainty["cka_rbf"] == Certainty("jackknife", 0.95, 8, 999, 0)
    assert study.matrix(study.metrics[2], "independent").tolist() == [[0.31] * 3] * 4
    assert study.a.shares[1] == 0.83
    first = study.points[0]
    assert (first.metric, first.kind, first.layer_a, first.n, first.draws) == ("cka_linear", "stimuli", "", 16, 50)
    assert (study.tests[0].test, study.tests[0].n_groups) == ("mmd2", 8)
    assert study.b.subjects == 12
    assert np.isnan(study.b.ceiling(study.metrics[2])).all()
    add_subjects(folder, "b", "rsa", ["norm"])
    assert read_study(folder).b.ceiling(study.metrics[2])[:, -1].tolist() == [0.41, 0.55]


def _foreign_curve(folder):
    add_stability(folder, ["cka_other"], ("norm", "norm"))


def _short_tests(folder):
    (folder / "tests.csv").write_text("test,layer_a\nmmd2,norm\n")


def _odd_inference(folder):
    edit_meta(folder, inference={"rsa": {"level": "high"}})


def _no_json(folder):
    (folder / "study.json").unlink()


def _cut_json(folder):
    text = (folder / "study.json").read_text()
    (folder / "study.json").write_text(text[: len(text) // 2])


def _cut_csv(folder):
    lines = (folder / "alignment.csv").read_text().splitlines()
    (folder / "alignment.csv").write_text("\n".join(lines[:-2]))


def _twice(folder):
    lines = (folder / "alignment.csv").read_text().splitlines()
    (folder / "alignment.csv").write_text("\n".join([*lines[:-1], lines[1]]))


def _no_column(folder):
    text = (folder / "alignment.csv").read_text()
    (folder / "alignment.csv").write_text(text.replace("null_mean", "null"))


def _no_number(folder):
    text = (folder / "alignment.csv").read_text()
    (folder / "alignment.csv").write_text(text.replace(",260,", ",many,", 1))


def _no_layers(folder):
    lines = (folder / "layers.csv").read_text().splitlines()
    (folder / "layers.csv").write_text("\n".join(lines[:-1]))


def _no_depth(folder):
    lines = (folder / "layers.csv").read_text().splitlines()
    cells = lines[1].split(",")
    cells[5] = ""
    (folder / "layers.csv").write_text("\n".join([lines[0], ",".join(cells), *lines[2:]]))


def _other_pair(folder):
    lines = (folder / "alignment.csv").read_text().splitlines()
    (folder / "alignment.csv").write_text("\n".join([*lines[:-1], lines[-1].replace("pocket:dino", "pocket:vit")]))


def _empty(folder):
    (folder / "alignment.csv").write_text((folder / "alignment.csv").read_text().splitlines()[0] + "\n")


DAMAGE = [
    (_no_json, "is no study folder .*no study.json.* give the folder that --out named"),
    (_cut_json, "study.json is damaged .*run the study again"),
    (lambda f: edit_meta(f, format=2), "has format 2 and this repalign reads format 1; use the repalign that wrote it"),
    (lambda f: edit_meta(f, kind="diagnose"), "is of kind 'diagnose'"),
    (lambda f: (f / "study.json").write_text('{"format": 1}'), "lacks kind, command, config"),
    (lambda f: (f / "study.json").write_text("[1]"), "has format None"),
    (lambda f: edit_meta(f, encoders={"a": {}}), "is not laid out as a study"),
    (lambda f: edit_meta(f, metrics=[]), r"disagree about the metrics \(cka_linear, cka_rbf, rsa\)"),
    (lambda f: (f / "alignment.csv").unlink(), "has no alignment.csv"),
    (lambda f: (f / "layers.csv").write_text(""), "layers.csv can't be read"),
    (_empty, "alignment.csv has no rows"),
    (_cut_csv, r"rsa has 7 rows \(7 different\) for 3 × 3 layers, which makes 9"),
    (_twice, "disagree about|cka_linear has 10 rows"),
    (_no_column, "lacks the columns null_mean"),
    (_no_number, "column n holds something that is no number .*many"),
    (_no_layers, r"lacks 1 layers of side b that alignment.csv has \(norm\)"),
    (_no_depth, "patch_embed of side a has no depth"),
    (_foreign_curve, "curves.csv is about cka_other, which study.json does not list; run the study again"),
    (_short_tests, "tests.csv lacks the columns layer_b, metric, note, statistic"),
    (_odd_inference, "is not laid out as a study .*high"),
    (_other_pair, r"holds 2 values of encoder_a \(pocket:dino, pocket:vit\)"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGE)
def test_a_damaged_study_is_named_with_its_remedy(tmp_path, damage, message):
    folder = fake_study(tmp_path / "s", 3, 3)
    damage(folder)
    with pytest.raises(InputError, match=message):
        read_study(folder)


def test_a_folder_that_is_not_there_is_no_study(tmp_path):
    with pytest.raises(InputError, match="nowhere is no study folder"):
        read_study(tmp_path / "nowhere")


def test_the_fake_study_keeps_to_the_contract(tmp_path):
    meta = json.loads((fake_study(tmp_path / "s", 2, 2) / "study.json").read_text())
    assert {"format", "kind", "created", "command", "config", "versions", "encoders", "stimuli", "metrics"} <= set(meta)
