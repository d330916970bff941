import json
import shutil

import numpy as np
import pandas as pd
import pytest
from fake_many import edit_many, fake_many

from repalign.errors import InputError
from repalign.report import read_study, render
from repalign.report.many.folder import read_many

TWO = {"CNN": ("resnet50", "convnext"), "ViT": ("vit_b",)}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return fake_many(tmp_path_factory.mktemp("many") / "s", families=TWO, metrics=2, layers=4, undefined=("vit_b",))


def test_everything_is_read_and_ranked_best_first(saved):
    study = read_many(saved)
    assert [e.described for e in study.encoders] == ["resnet50", "convnext", "vit_b"]
    assert [c.id for c in study.conditions] == ["cat60", "cat8"]
    assert study.conditions[0].strengths[3].matched is False
    rows = study.ranking["cat60", "rsa" if len(study.metrics) > 2 else study.metrics[0].id]
    assert [row.rank for row in rows] == [1, 2, 3]
    assert np.isnan(rows[-1].mean.value)
    assert rows[0].mean.text.count("[") == 1
    table = pd.read_csv(saved / "alignment.csv")
    one = table[(table["encoder"] == "convnext") & (table["condition"] == "cat8") & (table["metric"] == rows[0].metric)]
    one = one[one["layer_a"] == one["layer_b"]]
    value, low, high = study.curve(study.conditions[1], study.encoders[1], study.metrics[0])
    np.testing.assert_allclose(value, one["value"])
    np.testing.assert_allclose(low, one["ci_low"])
    np.testing.assert_allclose(high, one["ci_high"])
    effects = study.effects["cat60", "resnet50"]
    assert {e.layer for e in effects} == {""}
    assert len(effects) == 8
    similarity = study.similarity[study.metrics[0].id]
    assert np.isnan(similarity[0, 2])
    assert (np.diag(similarity) == 1).all()


def test_what_is_optional_may_be_missing(tmp_path):
    study = read_many(fake_many(tmp_path / "s", families=TWO, conditions=1, metrics=1, layers=2, optional=False))
    assert (study.effects, study.tests, study.similarity) == ({}, {}, {})
    assert study.pictures == "stimuli"


def test_an_encoder_without_a_part_under_a_condition_is_not_there(tmp_path):
    folder = fake_many(tmp_path / "s", families=TWO, metrics=1, layers=2)
    for name in ("alignment", "ranking", "controls", "tests"):
        table = pd.read_csv(folder / f"{name}.csv", keep_default_na=False)
        table[(table["encoder"] != "vit_b") | (table["condition"] != "cat8")].to_csv(
            folder / f"{name}.csv", index=False
        )
    study = read_many(folder)
    assert len(study.seen_under(study.conditions[0])) == 3
    assert "vit_b" not in {one.id for one in study.seen_under(study.conditions[1])}


def _cut(name, keep):
    def damage(folder):
        lines = (folder / name).read_text().splitlines(keepends=True)
        (folder / name).write_text("".join(keep(lines)))

    return damage


def _renamed(name, old, new):
    def damage(folder):
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))

    return damage


DAMAGES = [
    (lambda f: (f / "study.json").write_text("{"), "study.json is damaged"),
    (lambda f: edit_many(f, kind="diagnose"), "is of kind 'diagnose'"),
    (lambda f: edit_many(f, kind="compare"), "'study' was asked for"),
    (lambda f: edit_many(f, format=9), "format 9"),
    (lambda f: edit_many(f, encoders=[{"name": "x"}]), "not laid out as a study of many encoders"),
    (lambda f: edit_many(f, stimuli={"a": {"name": "x", "n": "many"}}), "not laid out as a study of many encoders"),
    (lambda f: edit_many(f, conditions=[]), "lists no conditions"),
    (lambda f: edit_many(f, metrics=2 * json.loads((f / "study.json").read_text())["metrics"]), "more than once"),
    (lambda f: (f / "study.json").write_text('{"format": 1, "kind": "study"}'), "lacks title, command, config"),
    (lambda f: (f / "ranking.csv").unlink(), "has no ranking.csv"),
    (_cut("ranking.csv", lambda rows: rows[:-1]), "ranking.csv and alignment.csv disagree"),
    (_cut("ranking.csv", lambda rows: [*rows, rows[-1]]), "stands there twice"),
    (_cut("alignment.csv", lambda rows: rows[:-1]), "35 rows .35 different. of one measure for 6 × 6 layers"),
    (_cut("alignment.csv", lambda rows: [*rows, rows[-1]]), "37 rows .36 different."),
    (_renamed("alignment.csv", "blocks.1", "block1"), "has layers that layers.csv lacks .block1."),
    (_renamed("layers.csv", "vit_b,", "vit_c,"), "layers.csv lacks the layers of vit_b"),
    (_renamed("layers.csv", ",0.8,", ",,"), "has no depth"),
    (_renamed("layers.csv", "blocks.2", "blocks.1"), "has a layer more than once"),
    (_renamed("controls.csv", "cat60", "dog60"), "controls.csv: the condition dog60 is not listed"),
    (_renamed("map.csv", "vit_b", "vit_c"), "map.csv: the encoder vit_c is not listed"),
    (_renamed("tests.csv", "statistic", "stat"), "tests.csv lacks the columns statistic"),
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    families = {"ViT": ("vit_a", "vit_b", "x")}
    return fake_many(tmp_path_factory.mktemp("whole") / "s", families=families, conditions=1, metrics=1, layers=4)


@pytest.mark.parametrize(("damage", "message"), DAMAGES)
def test_damage_is_named_with_the_file_and_what_to_do(whole, tmp_path, damage, message):
    folder = shutil.copytree(whole, tmp_path / "s", ignore=shutil.ignore_patterns("parts", "thumbs"))
    damage(folder)
    with pytest.raises(InputError, match=message):
        read_many(folder)


def test_a_study_of_another_kind_is_not_mistaken(saved, tmp_path):
    with pytest.raises(InputError, match="is of kind 'study', and a study of kind 'compare' was asked for"):
        read_study(saved)
    folder = shutil.copytree(saved, tmp_path / "s")
    edit_many(folder, kind="other")
    with pytest.raises(InputError, match="draws reports of kind 'compare' and 'study'"):
        render(folder)
