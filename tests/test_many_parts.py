"""The parts of a study: what is kept, computed again or refused when a study goes on."""

import json
import shutil

import pytest
from many_design import DESIGN, SLUGS, refuse
from PIL import Image

from repalign.design import read_design
from repalign.errors import InputError, RepalignError
from repalign.many import run_study


def _edit(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("encoders", {"fingerprint": "other"}, "computed with other weights of python:tinynets:dead than"),
        ("stimuli", {"fingerprint": "other"}, "computed on other pictures than"),
        ("stimuli", {"n": 5}, "computed on other pictures than"),
    ],
)
def test_parts_that_do_not_fit_together_are_both_named(study, design, name, value, words):
    folder = study.folder / "parts" / SLUGS[1] / "red"
    meta = json.loads((folder / "study.json").read_text())
    meta[name]["a"] |= value
    (folder / "study.json").write_text(json.dumps(meta))
    with pytest.raises(InputError, match=words) as raised:
        run_study(read_design(design), study.folder)
    assert str(folder) in str(raised.value)
    assert str(study.folder / "parts" / SLUGS[name == "encoders"]) in str(raised.value).split("than")[1]
    assert "--force" in str(raised.value)


@pytest.fixture
def second(photos, tmp_path, design):
    """A second set of pictures, one of which is broken, as the second condition."""
    shutil.copytree(photos, tmp_path / "second")
    next((tmp_path / "second").rglob("*.png")).write_bytes(b"broken")
    design.write_text(
        "skip_unreadable = true\nstability = false\n"
        + DESIGN.replace('filter = "red_removal:amount=0.5"', 'data_b = "second"').replace('"identity", ', "")
    )
    return tmp_path / "second"


@pytest.fixture
def paired(second, design, tmp_path):
    """The study of the filter and of the second set."""
    return run_study(read_design(design), tmp_path / "P").folder


def test_a_second_set_may_lack_pictures_but_not_change(paired, second, design):
    meta = json.loads((paired / "study.json").read_text())
    assert [c["n"] for c in meta["conditions"]] == [12, 11]
    assert "11 stimuli, where cat60 has 12" in meta["conditions"][1]["notes"]
    for thumb in meta["thumbs"]:
        assert (paired / thumb["file"]).is_file()
    shutil.rmtree(paired / "parts" / SLUGS[1] / "red")
    Image.new("RGB", (40, 30), "red").save(sorted(second.rglob("*.png"))[-1])
    with pytest.raises(InputError, match="other pictures of data_b than"):
        run_study(read_design(design), paired)


def test_a_forced_run_that_is_stopped_leaves_no_old_part(study, design, monkeypatch):
    def stop(comparison, track, known):
        raise KeyboardInterrupt

    monkeypatch.setattr("repalign.many.run", stop)
    with pytest.raises(KeyboardInterrupt):
        run_study(read_design(design), study.folder, force=True)
    assert not list((study.folder / "parts").glob("*/*"))


@pytest.mark.parametrize("damage", ["no study.json", "cut study.json", "no summary.csv", "no alignment.csv"])
def test_a_damaged_part_is_computed_again(study, design, damage, monkeypatch):
    how, name = damage.split()
    file = study.folder / "parts" / SLUGS[0] / "red" / name
    file.unlink() if how == "no" else file.write_text(file.read_text()[:300])
    ran = []

    def note(comparison, track, known):
        assert not comparison.folder.exists()
        ran.append(comparison.folder)
        raise RepalignError("no")

    monkeypatch.setattr("repalign.many.run", note)
    assert run_study(read_design(design), study.folder).kept == 3
    assert file.parent in ran


@pytest.mark.parametrize(
    ("name", "kept", "words"),
    [
        ("alignment", -9, "alignment.csv can't be read: its last line is cut"),
        ("alignment", "line", r"alignment.csv has 8 rows of rsa\S*, not 9"),
        ("layers", "line", r"alignment.csv has 9 rows of \S+, not 6"),
        ("summary", "line", r"summary.csv has 0 rows of rsa"),
    ],
)
def test_a_table_that_is_cut_is_named_with_its_part(study, design, name, kept, words):
    file = study.folder / "parts" / SLUGS[0] / "red" / f"{name}.csv"
    text = file.read_text()
    file.write_text(text[:kept] if isinstance(kept, int) else "".join(text.splitlines(keepends=True)[:-1]))
    with pytest.raises(InputError, match=words) as raised:
        run_study(read_design(design), study.folder)
    assert f"{file.parent} is damaged" in str(raised.value)
    assert "remove that folder" in str(raised.value)


def test_a_filter_may_be_spelled_in_another_way(study, design, monkeypatch):
    _edit(design, "cat:fov_deg=60", "cat: fov_deg=60.0")
    monkeypatch.setattr("repalign.many.run", refuse)
    assert run_study(read_design(design), study.folder).kept == 4


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('data = "photos"', 'data = "nowhere"', "nowhere"),
        ('data = "photos"', 'data = "photos"\nlimit = 2', "limit"),
        ('filter = "red_removal:amount=0.5"', 'data_b = "nowhere"', "nowhere"),
    ],
)
def test_a_study_that_is_refused_leaves_no_folder(design, tmp_path, old, new, words):
    _edit(design, old, new)
    with pytest.raises(InputError, match=words):
        run_study(read_design(design), tmp_path / "S")
    assert not (tmp_path / "S").exists()
