"""From names to a diagnosis folder: the folder's contract, whole or not at all, and what is shown to the networks."""

import csv
import json
import tomllib
from dataclasses import replace

import numpy as np
import pytest
from coloured_nets import CLASSES, Net, coloured, encoder, write

import repalign as ra
from repalign.diagnosing import Ask, Settings, closing_lines, diagnose, diagnose_to_folder, load_shown, load_untrained
from repalign.distill.recipe import Recipe
from repalign.errors import InputError
from repalign.report.diagnosis.folder import read_diagnosis
from repalign.teaching import load_labelled, load_student

TEACHER, STUDENT, FIVE = (f"python:coloured_nets:{name}_net" for name in ("teacher", "student", "five"))
QUICK = Settings(permutations=19, tau=0.05, rule="gap")


def nothing(folder):
    """Draw no report."""


@pytest.fixture(autouse=True)
def quick_probes(monkeypatch):
    monkeypatch.setattr("repalign.diagnosis.probe.PENALTIES", (1.0, 0.01))


@pytest.fixture
def data(tmp_path):
    return write(tmp_path / "colours", coloured(120))


def rows(file):
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


def strict(text):
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_the_folder_holds_what_the_contract_says(data, tmp_path):
    out = tmp_path / "D"
    written = diagnose_to_folder(Ask(TEACHER, STUDENT, data, out, settings=QUICK, command="repalign …"), draw=nothing)
    assert written.folder == out
    assert sorted(p.name for p in out.iterdir()) == [
        "alignment.csv", "diagnosis.json", "distill.toml", "heads.csv", "probe.csv", "stages.csv",
    ]  # fmt: skip
    assert not list(tmp_path.glob(".*"))
    meta = strict((out / "diagnosis.json").read_text(encoding="utf-8"))
    assert {
        "format", "kind", "created", "command", "seed", "versions", "teacher", "student", "data", "pictures",
        "teacher_logits", "student_logits", "disagreement", "chance", "logits", "settings", "rules", "path", "verdict",
        "warnings", "timings",
    } <= set(meta)  # fmt: skip
    assert (meta["format"], meta["kind"], meta["command"], meta["seed"]) == (1, "diagnosis", "repalign …", 0)
    assert meta["data"] | {"fingerprint": ""} == {
        "name": f"{data}/", "n": 120, "labelled": True, "classes": list(CLASSES), "groups": None, "fingerprint": "",
    }  # fmt: skip
    assert meta["pictures"] == {"alignment": 120, "evaluated": 120, "probe_train": 60, "probe_test": 60}
    assert meta["teacher"]["classes"] == 3
    assert meta["teacher"]["input_size"] == [16, 16]
    assert meta["teacher_logits"]["accuracy"] > 0.9
    assert [rule["rule"] for rule in meta["rules"]] == ["gap", "lag", "knee"]
    assert set(meta["logits"]) == {
        "teacher_min", "teacher_max", "teacher_gap_max", "student_gap_max", "float16_overflow",
        "naive_log_softmax_overflow", "said",
    }  # fmt: skip
    alignment = rows(out / "alignment.csv")
    counted = {level: sum(r["level"] == level for r in alignment) for level in ("stage", "block", "penultimate")}
    assert counted == {"stage": 2 * 16, "block": 2 * 16, "penultimate": 2 * 4}
    assert {r["metric"] for r in alignment} == {"cka_linear", "rsa"}
    assert all(r["untrained_value"] == "" for r in alignment)  # nobody can build the user's own network untrained
    assert any("untrained student would score is unknown" in text for text in meta["warnings"])
    assert [r["stage"] for r in rows(out / "probe.csv")] == ["1", "2", "3", "4", "teacher"]
    assert [r["stage"] for r in rows(out / "heads.csv")] == ["1", "2", "3", "4"]
    assert [r["side"] for r in rows(out / "stages.csv")] == ["teacher"] * 4 + ["student"] * 4


def test_the_configuration_is_the_verdict(data, tmp_path):
    written = diagnose_to_folder(Ask(TEACHER, STUDENT, data, tmp_path / "D", settings=QUICK), draw=nothing)
    found, config = written.diagnosis, tomllib.loads((tmp_path / "D" / "distill.toml").read_text(encoding="utf-8"))
    assert (config["teacher"], config["student"], config["data"]) == (TEACHER, STUDENT, str(data))
    assert config["method"] == "ofa"
    assert config["options"] == {
        "stages": list(found.verdict.stages), "gamma": 1.0, "variant": "paper", "temperature": 1.0, "ground_truth": 1.0,
        "logits": 1.0, "branches": 1.0,
    }  # fmt: skip
    evidence = config["evidence"]
    assert evidence["student_fingerprint"] == found.student.encoder.fingerprint
    assert [one["number"] for one in evidence["stages"] if one["kept"]] == list(found.verdict.stages)
    values = [one["similarity"] for one in evidence["stages"]]
    assert values == np.diagonal(found.evidence.stages.value).tolist()
    from repalign.distilling.settings import read_config

    assert read_config(tmp_path / "D" / "distill.toml") == config


def test_a_report_reads_it(data, tmp_path):
    ask = Ask(TEACHER, STUDENT, data, tmp_path / "D", settings=QUICK)
    found = diagnose_to_folder(ask, draw=nothing).diagnosis
    read = read_diagnosis(tmp_path / "D")
    assert np.array_equal(read.level("stage")[0].matrix(), found.evidence.stages.value)
    assert read.verdict.sentences == found.verdict.sentences
    assert [probe.accuracy for probe in read.probes] == [probe.accuracy for probe in found.probes.values()]


def test_the_same_ask_gives_the_same_numbers(tmp_path):
    data = coloured(40)
    for name in "AB":
        diagnose_to_folder(Ask(TEACHER, STUDENT, data, tmp_path / name, settings=QUICK), draw=nothing)
    for file in ("alignment.csv", "probe.csv", "heads.csv", "stages.csv", "distill.toml"):
        assert (tmp_path / "A" / file).read_bytes() == (tmp_path / "B" / file).read_bytes()


def test_nothing_half_written_stays(tmp_path):
    data = coloured(24)

    def broken(folder):
        raise RuntimeError("no ink")

    before = sorted(p.name for p in tmp_path.iterdir())
    with pytest.raises(RuntimeError, match="no ink"):
        diagnose_to_folder(Ask(TEACHER, STUDENT, data, tmp_path / "D", settings=QUICK), draw=broken)
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_force_replaces_a_diagnosis_and_nothing_else(tmp_path):
    data = coloured(24)
    ask = Ask(TEACHER, STUDENT, data, tmp_path / "D", settings=QUICK)
    first = diagnose_to_folder(ask, draw=nothing).folder
    with pytest.raises(InputError, match="exists; choose another name, or give --force"):
        diagnose_to_folder(ask, draw=nothing)
    (first / "mark").touch()
    diagnose_to_folder(replace(ask, force=True), draw=nothing)
    assert not (first / "mark").exists()
    (tmp_path / "S").mkdir()
    (tmp_path / "S" / "study.json").touch()
    with pytest.raises(InputError, match="is no diagnosis folder, so --force won't replace it"):
        diagnose_to_folder(replace(ask, out=tmp_path / "S", force=True), draw=nothing)
    with pytest.raises(InputError, match="does not exist; make it first"):
        diagnose_to_folder(replace(ask, out=tmp_path / "no" / "D"), draw=nothing)


def test_from_python(data, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    found = diagnose(TEACHER, STUDENT, data, permutations=0, rule="logits")
    assert sorted(tmp_path.iterdir()) == before
    assert found.verdict.method == "kd"
    assert np.isnan(found.evidence.stages.p).all()
    with pytest.raises(InputError, match="known: all, gap, knee, lag, logits"):
        diagnose(TEACHER, STUDENT, data, rule="no-such")
    own = diagnose(encoder("t", Net(seed=0)), encoder("s", Net(seed=1)), coloured(30), permutations=0)
    assert (own.teacher.encoder.name, own.stimuli.name) == ("t", "coloured")


def test_a_new_name_each_time(data, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    ask = Ask("pocket:vit@a/b.safetensors", "hf:org/name", data)
    assert ask.folder.name == "repalign-diagnosis-pocket-vit-a-b.safetensors-hf-org-name"
    ask.folder.mkdir()
    assert ask.folder.name.endswith("-2")


def test_pictures_that_distill_sets_aside_are_used_where_they_suffice(tmp_path, monkeypatch):
    home = tmp_path / "parts"
    write(home / "train", coloured(60, seed=0))
    monkeypatch.setattr("repalign.diagnosing.VERY_FEW", 6)
    shown = load_shown(Ask(TEACHER, STUDENT, home))
    assert set(shown.stimuli.ids) == set(load_labelled(home, validation=Recipe.validation).validation.ids)
    assert any(note.startswith("validation pictures are used") for note in shown.stimuli.notes)


def test_test_pictures_are_never_looked_at(tmp_path):
    home = tmp_path / "parts"
    write(home / "train", coloured(24, seed=0))
    write(home / "test", coloured(12, seed=1))
    for file in (home / "test").rglob("*.png"):
        file.write_bytes(file.read_bytes()[:60] + file.name.encode())  # a signature and nothing after it
    shown = load_shown(Ask(TEACHER, STUDENT, home))
    assert len(shown.stimuli) == 24
    assert "training pictures are used, the test pictures are not looked at" in shown.stimuli.notes
    diagnosed = diagnose(TEACHER, STUDENT, home, permutations=0)
    assert diagnosed.n == 24
    write(home / "val", coloured(9, seed=2))
    shown = load_shown(Ask(TEACHER, STUDENT, home))
    assert (len(shown.stimuli), shown.classes) == (9, CLASSES)
    assert any("validation pictures are used" in note for note in shown.stimuli.notes)


def test_labels_that_are_no_classes_are_left_aside(tmp_path):
    bare = write(tmp_path / "bare", coloured(12, labelled=False))
    assert load_shown(Ask(TEACHER, STUDENT, bare)).classes is None
    mixed = write(write(tmp_path / "mixed", coloured(12, labelled=False)), coloured(12))
    shown = load_shown(Ask(TEACHER, STUDENT, mixed))
    assert (shown.classes, shown.stimuli.labels) == (None, None)
    assert "labels are left aside: some pictures lie in no folder of a class" in shown.stimuli.notes
    one = replace(coloured(12), labels=("red",) * 12)
    shown = load_shown(Ask(TEACHER, STUDENT, one))
    assert (shown.classes, shown.stimuli.notes) == (None, ("labels are left aside: all are 'red'",))


def test_unlabelled_pictures_are_compared(tmp_path):
    bare = write(tmp_path / "bare", coloured(24, labelled=False))
    diagnose_to_folder(Ask(TEACHER, STUDENT, bare, tmp_path / "D", settings=QUICK), draw=nothing)
    meta = strict((tmp_path / "D" / "diagnosis.json").read_text(encoding="utf-8"))
    assert (meta["teacher_logits"], meta["chance"], meta["data"]["classes"]) == (None, None, None)
    assert meta["pictures"]["probe_test"] == 0
    assert not (tmp_path / "D" / "probe.csv").exists()
    assert read_diagnosis(tmp_path / "D").probes == ()


def test_order_of_classes_and_groups_are_the_askers():
    shown = load_shown(Ask(TEACHER, STUDENT, coloured(12), groups="label", classes=("red", "green", "blue")))
    assert shown.classes == ("red", "green", "blue")
    assert shown.stimuli.groups == shown.stimuli.labels
    with pytest.raises(InputError, match="classes that are not listed: green"):
        load_shown(Ask(TEACHER, STUDENT, coloured(12), classes=("red", "blue")))


def test_a_student_of_other_classes_is_taken_as_it_is(data):
    found = diagnose(TEACHER, FIVE, data, permutations=0)
    assert found.verdict.method == "ce"
    assert any("teacher 3, student 5, data 3" in text for text in found.verdict.sentences)


@pytest.mark.parametrize("student", ["pocket:dino", load_student("pocket:dino", 3)], ids=["name", "encoder"])
def test_a_fresh_classifier_is_not_judged(student):
    found = diagnose(TEACHER, student, coloured(24), permutations=0)
    assert found.student.classes == 3  # the name's classifier is built for the data's classes
    assert found.competence.student is None
    assert any("the student's classifier is untrained" in text for text in found.warnings)


def test_untrained_twins():
    twin, note = load_untrained(ra.load_encoder("pocket:vit"))
    assert (twin.name, twin.untrained, note) == ("pocket:vit@random", True, "")
    assert load_untrained(twin) == (None, "")
    twin, note = load_untrained(encoder("mine", Net()))
    assert twin is None
    assert "mine can't be built without its weights" in note
    odd = replace(ra.load_encoder("pocket:vit"), source="pocket:mixer")
    assert "is not laid out as pocket:mixer" in load_untrained(odd)[1]


def test_pocket_networks_have_their_null(photos, tmp_path):
    diagnose_to_folder(Ask("pocket:resnet", "pocket:vit", photos, tmp_path / "D", settings=QUICK), draw=nothing)
    alignment = rows(tmp_path / "D" / "alignment.csv")
    assert all(r["untrained_value"] for r in alignment)
    x = ra.compare("pocket:resnet", "pocket:vit@random", str(photos), ["rsa"], layers="stages", precision="fp32")["rsa"]
    stage = [float(r["untrained_value"]) for r in alignment if (r["level"], r["metric"]) == ("stage", "rsa")]
    assert np.allclose(np.array(stage).reshape(4, 4).T, x.scores, atol=1e-6)


def test_saved_numbers_are_no_networks(data, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((120, 3)))
    with pytest.raises(InputError, match="holds saved numbers and no network"):
        diagnose(f"features:{tmp_path / 'x.npy'}", STUDENT, data)


def test_closing_lines_say_each_thing_once(data, tmp_path):
    written = diagnose_to_folder(Ask(FIVE, STUDENT, data, tmp_path / "D", settings=QUICK), draw=nothing)
    lines = closing_lines(written)
    assert sum("the numbers of classes differ" in line.lower() for line in lines) == 1
    assert lines[-1] == f"next: repalign distill --config {tmp_path / 'D' / 'distill.toml'}"
