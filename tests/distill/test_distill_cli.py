import json
import tomllib
from dataclasses import replace

import pytest
import torch
from lesson import write_pictures
from safetensors.torch import load_file

from repalign.distilling import settings as settings_module
from repalign.distilling.building import check_processes
from repalign.distilling.settings import Asked, check_same, decided, from_json, settle
from repalign.encoders import load_encoder
from repalign.encoders.finish import fingerprint
from repalign.errors import InputError

NETS = ("--teacher", "python:lesson_nets:teacher", "--student", "python:lesson_nets:student")
QUICK = ("--epochs", "2", "--batch-size", "16", "--lr", "0.01", "--no-diagnosis", "--device", "cpu")


@pytest.fixture(autouse=True)
def undrawn(request, monkeypatch):
    """Leave out the report of a run, which takes longer than the run, but in tests marked `drawn`."""
    if not request.node.get_closest_marker("drawn"):
        monkeypatch.setattr("repalign.distilling.flow.render", lambda folder: folder)


@pytest.fixture
def distill(cli, lesson):
    """`distill("--out", "run")` runs the command on the lesson's pictures."""
    return lambda *more, nets=NETS, quick=QUICK: cli("distill", "--data", lesson, *nets, *quick, *more)


def run_json(folder):
    return json.loads((folder / "run.json").read_text())


@pytest.mark.drawn
def test_a_run_leaves_everything_behind(distill, tmp_path):
    code, out, err = distill("--out", "run", "--gamma", "1.2", "--stages", "2")
    assert (code, err.count("epoch 2/2: loss")) == (0, 1), err
    for label in (
        "teacher",
        "student, last epoch",
        "student, best on validation",
        "validation (n = 6)",
        "test (n = 18)",
    ):
        assert label in out
    run = run_json(tmp_path / "run")
    assert run["state"] == "finished"
    assert run["configuration"]["options"] == {"gamma": 1.2, "stages": "2"}
    assert [stage["branch"] for stage in run["stages"]] == [False, True]
    assert run["added_parameters"] > 0
    assert {name: part["n"] for name, part in run["data"]["parts"].items()} == {
        "train": 54,
        "validation": 6,
        "test": 18,
    }
    results = run["results"]
    assert results["teacher"]["test_accuracy"] == 1
    assert results["last"]["epoch"] == 2
    assert results["last"]["test_n"] == 18
    assert results["before"]["test_disagreement"] > 0.3
    assert "after" not in {p.name for p in (tmp_path / "run").iterdir()}
    assert "<svg" in (tmp_path / "run/report.html").read_text()
    losses = json.loads((tmp_path / "run/log.jsonl").read_text().splitlines()[0])["losses"]
    assert set(losses) == {"ground_truth", "logits", "stage2"}


@pytest.mark.parametrize(("name", "method"), [("pocket:vit", "kd"), ("test_vit", "ce")])
def test_the_student_loads_by_its_name(distill, tmp_path, name, method):
    nets = ("--teacher", "python:lesson_nets:teacher", "--student", f"{name}@random")
    few = ("--epochs", "1", "--labels", "12", "--measure-every", "0")
    code, _, err = distill("--out", "run", "--method", method, *few, nets=nets)
    assert code == 0, err
    file = tmp_path / "run/student.safetensors"
    student = load_encoder(f"{name}@{file}")
    assert fingerprint(student.module) == run_json(tmp_path / "run")["trained_fingerprint"]
    assert student.module(torch.zeros(1, 3, *student.input_size)).shape == (1, 3)
    whole = load_encoder(f"{name}@{tmp_path}/run/checkpoints/last.pt")
    assert fingerprint(whole.module) == fingerprint(student.module)


def test_without_a_teacher_the_same_seed_gives_the_same_student(distill, tmp_path):
    found = []
    for name in ("a", "b"):
        code, _, err = distill("--out", name, "--seed", "1", nets=("--method", "ce", *NETS[2:]))
        assert code == 0, err
        found.append((tmp_path / name / "student.safetensors").read_bytes())
    assert found[0] == found[1]
    run = run_json(tmp_path / "a")
    assert run["teacher"] is None
    assert "teacher" not in run["results"]
    assert not (tmp_path / "a/alignment.jsonl").read_text()


def test_a_diagnosis_before_chooses_and_one_after_compares(distill, tmp_path):
    quick = ("--epochs", "1", "--batch-size", "16", "--device", "cpu", "--set", "validation=0.4")
    code, _, err = distill("--out", "run", "--stages", "auto", quick=quick)
    assert code == 0, err
    run = run_json(tmp_path / "run")
    advised = tomllib.loads((tmp_path / "run/before/distill.toml").read_text())
    assert run["configuration"]["method"] == advised["method"]
    assert run["configuration"]["options"] == advised["options"]
    assert run["configuration"]["evidence"]["student_fingerprint"] == run["student"]["fingerprint"]
    after = json.loads((tmp_path / "run/after/diagnosis.json").read_text())
    assert after["student"]["fingerprint"] == run["trained_fingerprint"]
    assert after["data"]["n"] == 24
    again = tomllib.loads((tmp_path / "run/after/distill.toml").read_text())
    assert again["student"].startswith("python:lesson_nets:student@")
    code, _, err = distill("--out", "plain", "--config", "run/before/distill.toml", "--no-diagnosis", quick=quick)
    assert code == 0, err
    students = [(tmp_path / name / "student.safetensors").read_bytes() for name in ("run", "plain")]
    assert students[0] == students[1]  # to look at a network changes nothing in it


def test_too_few_pictures_for_a_diagnosis_are_a_note(distill, tmp_path):
    quick = ("--epochs", "1", "--batch-size", "16", "--device", "cpu", "--set", "validation=0.01")
    code, out, err = distill("--out", "run", quick=quick)
    assert code == 0, err
    assert "note: no diagnosis before training:" in out
    assert "note: the alignment on the way is not measured: 3 pictures are too few, 4 are needed" in out


def test_a_configuration_is_read_and_the_command_line_goes_over_it(distill, cli, lesson, tmp_path):
    (tmp_path / "distill.toml").write_text(
        f'format = 1\nteacher = "python:lesson_nets:teacher"\nstudent = "python:lesson_nets:student"\n'
        f'data = "{lesson}"\nmethod = "ofa"\n[options]\nstages = [1]\ntemperature = 2.0\nvariant = "code"\n'
        "[recipe]\nepochs = 5\nbatch_size = 16\nlearning_rate = 0.02\n"
    )
    code, _, err = cli(
        "distill", "--config", "distill.toml", "--out", "run", "--epochs", "1", "--temperature", "3", "--set",
        "branches=0.5", "--set", "flip=0", "--labels", "30", "--no-diagnosis", "--device", "cpu",
    )  # fmt: skip
    assert code == 0, err
    run = run_json(tmp_path / "run")
    wanted = {"stages": [1], "temperature": 3.0, "variant": "code", "branches": 0.5}
    assert run["configuration"]["options"] == wanted
    assert (run["recipe"]["epochs"], run["recipe"]["learning_rate"], run["recipe"]["flip"]) == (1, 0.02, 0)
    assert run["data"]["parts"]["train"]["n"] == 30
    assert any("30 of 54 training pictures are used" in note for note in run["notes"])


def test_stale_evidence_is_refused(cli, lesson, tmp_path):
    (tmp_path / "distill.toml").write_text(
        f'teacher = "python:lesson_nets:teacher"\nstudent = "python:lesson_nets:student"\ndata = "{lesson}"\n'
        '[evidence]\nteacher_fingerprint = "0123"\n'
    )
    arguments = ("distill", "--config", "distill.toml", "--out", "run", *QUICK, "--epochs", "1")
    code, _, err = cli(*arguments)
    assert code == 2
    assert "measured on other weights of the teacher than python:lesson_nets:teacher has now; diagnose again" in err
    assert not (tmp_path / "run").exists()
    assert cli(*arguments, "--ignore-evidence")[0] == 0


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--method", "ofakd"), "unknown method 'ofakd'; did you mean ofa"),
        (("--method", "kd", "--gamma", "1"), "method kd knows no gamma; its options: "),
        (("--method", "kd", "--stages", "all"), "method kd knows no stages"),
        (("--stages", "7"), "there is no stage 7; there are 1 (blocks.0"),
        (("--stages", "auto"), "--stages auto has a diagnosis choose them, so it can't go with --no-diagnosis"),
        (("--gamma", "much"), "--gamma 'much': give a number"),
        (("--gamma", "1,2"), "gamma has 2 values"),
        (("--variant", "other"), "unknown variant 'other'"),
        (("--epochs", "0"), "epochs must be at least 1, not 0"),
        (("--set", "epoch=3"), "unknown key of --set 'epoch'; did you mean epochs"),
        (("--set", "epochs"), "--set 'epochs' is no change; write key=value"),
        (("--set", "epochs=three"), "epochs must be a whole number, such as 30, not 'three'"),
        (("--optimiser", "adamww"), "unknown optimiser 'adamww'; did you mean adamw"),
        (("--labels", "2"), "--labels 2: give from 3 (one a class) to 54"),
        (("--amp", "fp16"), "amp fp16 needs a GPU"),
        (("--config", "none.toml"), "there is no configuration none.toml; `repalign diagnose --out DIR` writes one"),
        (("--student", "python:lesson_nets:four"), "gives 4 classes and the data have 3; build it with 3"),
        (("--teacher", "pocket:resnet"), "the teacher pocket:resnet tells 10 classes apart"),
        (("--teacher", "pocket:dino"), "teacher pocket:dino has no classifier"),
        (("--device", "cuda:77"), "device 'cuda:77' isn't there"),
    ],
)  # fmt: skip
def test_what_can_not_be_used_is_said_before_anything_is_written(distill, tmp_path, more, said):
    code, _, err = distill("--out", "run", *more)
    assert (code, said in err) == (2, True), err
    assert err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_what_is_missing_is_named(cli, lesson):
    student = ("--student", "python:lesson_nets:student")
    for given, missing in ((("--data", lesson), "teacher"), (("--data", lesson, *NETS[:2]), "student"), (NETS, "data")):
        code, _, err = cli("distill", *given)
        assert (code, f"no {missing} was named; give --{missing}" in err) == (2, True), err
    assert cli("distill", "--data", lesson, *student, "--method", "ofa")[0] == 2


def test_pictures_without_labels_are_refused(cli, lesson, tmp_path):
    flat = tmp_path / "flat"
    flat.mkdir()
    for k, file in enumerate(sorted(lesson.glob("test/red/*.png"))):
        (flat / f"{k}.png").write_bytes(file.read_bytes())
    code, _, err = cli("distill", "--data", "flat", *NETS, *QUICK)
    assert code == 2
    assert "flat/ (train) has no labels; give a folder with one sub-folder a class" in err


def test_a_run_that_diverges_keeps_its_last_good_checkpoint(distill, tmp_path):
    nets = ("--teacher", "python:lesson_nets:broken", *NETS[2:])
    code, _, err = distill("--out", "run", nets=nets)
    assert code == 2
    assert "epoch 1, batch 1: the teacher's logits are not finite (12 of the batch's 12 pictures: " in err
    assert "The last good checkpoint is run/checkpoints/last.pt, after epoch 0" in err
    assert "Traceback" not in err
    assert run_json(tmp_path / "run")["state"].startswith("stopped: epoch 1, batch 1: the teacher's logits")
    assert (tmp_path / "run/checkpoints/last.pt").is_file()


@pytest.fixture
def run(distill, tmp_path):
    """A finished run of one epoch."""
    assert distill("--out", "run", "--epochs", "1")[0] == 0
    return tmp_path / "run"


def test_a_run_is_not_overwritten_by_mistake(distill, run, tmp_path):
    code, _, err = distill("--out", "run")
    assert (code, "run holds a run; go on with --resume, choose another name, or --force" in err) == (2, True), err
    before = run_json(run)["created"], load_file(run / "student.safetensors")
    assert distill("--out", "run", "--force", "--seed", "3")[0] == 0
    assert run_json(run)["seed"] == 3
    assert not torch.equal(load_file(run / "student.safetensors")["head.weight"], before[1]["head.weight"])
    (tmp_path / "mine").mkdir()
    code, _, err = distill("--out", "mine", "--force")
    assert (code, "mine exists and is no run folder, so --force won't replace it" in err) == (2, True), err
    (tmp_path / "mine/run.json").write_text('{"kind": "of another program"}')
    assert "is no run of this version of repalign" in distill("--out", "mine", "--force")[2]


def test_a_finished_run_is_shown_again(cli, run):
    file = run / "student.safetensors"
    when = file.stat().st_mtime_ns
    code, out, _ = cli("distill", "--out", "run", "--resume")
    assert (code, "student, last epoch" in out) == (0, True)
    assert file.stat().st_mtime_ns == when
    code, _, err = cli("distill", "--out", "run", "--resume", "--lr", "0.5")
    assert (code, "with learning_rate 0.01 and not 0.5" in err) == (2, True), err
    code, _, err = cli("distill", "--resume")
    assert (code, "none was named; name it with --out" in err) == (2, True), err


def test_a_report_that_was_not_drawn_is_drawn_when_a_run_is_shown_again(cli, run, monkeypatch):
    drawn = []
    monkeypatch.setattr("repalign.distilling.flow.render", drawn.append)
    assert cli("distill", "--out", run, "--resume")[0] == 0
    assert drawn == [run]
    (run / "report.html").touch()
    assert cli("distill", "--out", run, "--resume")[0] == 0
    assert drawn == [run]


def test_a_picture_that_can_not_be_read_is_found_before_anything_is_written(distill, lesson, tmp_path):
    own = write_pictures(tmp_path / "own")
    file = own / "test/red/00.png"
    file.write_bytes(file.read_bytes()[:200])
    code, _, err = distill("--out", "run", "--data", own)
    assert (code, "1 pictures can't be decoded" in err, "00.png" in err) == (2, True, True), err
    assert not (tmp_path / "run").exists()


def test_what_nobody_foresaw_is_written_down(distill, tmp_path, monkeypatch):
    def fails(*_):
        raise RuntimeError("the disk fell off")

    monkeypatch.setattr("repalign.distilling.flow.judge", fails)
    assert distill("--out", "run", "--epochs", "1")[0] != 0
    assert run_json(tmp_path / "run")["state"] == "stopped: RuntimeError: the disk fell off"


def test_what_several_processes_can_not_share_is_said(cli, distill, run, monkeypatch):
    meta = run_json(run)
    assert meta["processes"] == 1
    (run / "run.json").write_text(json.dumps(meta | {"state": "running"}))
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, _, err = cli("distill", "--out", "run", "--resume", "--device", "cpu")
    assert (code, "started with 1 processes, and now there are 2; go on without torchrun" in err) == (2, True), err
    code, _, err = distill("--out", "other", "--device", "cuda:0")
    assert (code, "all 2 processes share one device; give --device cuda" in err) == (2, True), err
    meta["configuration"]["method"] = "crd"
    with pytest.raises(InputError, match="run it without torchrun"):
        check_processes(from_json(meta), 2)


def test_a_run_goes_on_as_it_was_started(cli, lesson, run):
    meta = run_json(run)
    (run.parent / "other.toml").write_text("[options]\ntemperature = 3.0\n")
    (run / "run.json").write_text(json.dumps(meta | {"state": "running"}))
    for more, said in (
        (("--lr", "0.5"), "with learning_rate 0.01 and not 0.5; leave the option out"),
        (("--stages", "1"), "with stages 'all' and not '1'"),
        (("--set", "flip=0.1"), "with flip 0.5 and not 0.1"),
        (("--method", "kd"), "with method 'ofa' and not 'kd'"),
        (("--set", "stages=[1]"), "with stages 'all' and not [1]"),
        (("--set", "workers=two"), "workers must be a whole number, such as 0, not 'two'"),
        (("--config", "other.toml"), "with temperature None and not 3.0"),
    ):
        code, _, err = cli("distill", "--out", "run", "--resume", *more)
        assert (code, said in err) == (2, True), err
    code, _, err = cli("distill", "--out", "run", "--resume", "--lr", "0.01", "--workers", "1", "--device", "cpu")
    assert code == 0, err
    assert run_json(run)["results"] == meta["results"]
    assert run_json(run)["recipe"]["workers"] == 1


def test_a_run_does_not_go_on_with_other_pictures(cli, run, tmp_path):
    meta = run_json(run)
    other = write_pictures(tmp_path / "other", seed=5)
    meta["configuration"]["data"] = str(other)
    (run / "run.json").write_text(json.dumps(meta | {"state": "running"}))
    code, _, err = cli("distill", "--out", "run", "--resume", "--device", "cpu")
    assert (code, "the pictures are not those with which this run started" in err) == (2, True), err


def test_a_run_at_work_is_left_alone(cli, distill, run):
    from filelock import FileLock

    meta = run_json(run)
    (run / "run.json").write_text(json.dumps(meta | {"state": "running"}))
    with FileLock(run / ".lock", thread_local=False):
        again, _, err = cli("distill", "--out", "run", "--resume")
        anew, _, err_anew = distill("--out", "run", "--force")
    for code, said in ((again, err), (anew, err_anew)):
        assert (code, "another run works on run; wait for it" in said) == (2, True), said
    assert run_json(run)["state"] == "running"


def test_to_go_on_with_nothing_is_to_start(distill, tmp_path):
    assert distill("--out", "run", "--resume", "--epochs", "1")[0] == 0
    (tmp_path / "empty").mkdir()
    code, _, err = distill("--out", "empty", "--resume")
    assert (code, "empty holds no run to go on with" in err) == (2, True), err


def test_settings_read_back_what_they_hold():
    asked = Asked("t", "s", "d", options={"gamma": [1.0, 2.0]}, recipe={"epochs": 3}, changes=("crop_scale=[0.2, 1]",))
    found = settle(asked)
    assert from_json(json.loads(json.dumps(found.to_json()))) == found
    assert found.options["stages"] == settings_module.DEFAULT_STAGES
    assert check_same(asked, found) == found


def test_stages_are_the_same_as_a_text_and_as_a_list(tmp_path):
    (tmp_path / "d.toml").write_text("[options]\nstages = [1, 2]\n[recipe]\ncrop_scale = [0.2, 1]\n")
    asked = Asked("t", "s", "d", config=tmp_path / "d.toml")
    found = settle(asked)
    assert check_same(asked, found) == check_same(Asked(stages="1,2"), found) == found
    assert check_same(asked, settle(replace(asked, config=None, stages="1,2", recipe={"crop_scale": [0.2, 1]})))
    with pytest.raises(InputError, match=r"with stages \[1, 2\] and not '1,3'"):
        check_same(Asked(stages="1,3"), found)


@pytest.mark.parametrize(
    ("advised", "method", "wanted"),
    [
        ({"method": "ofa", "options": {"stages": [2], "gamma": 1.0}}, None, ("ofa", {"stages": [2], "gamma": 1.3})),
        ({"method": "kd", "options": {"logits": 1.0}}, None, ("kd", {"logits": 1.0})),
        ({"method": "kd", "options": {"logits": 1.0}}, "ofa", ("ofa", {"stages": "none", "gamma": 1.3})),
        ({"method": "ce"}, None, ("ce", {})),
    ],
)  # fmt: skip
def test_the_diagnosis_decides(tmp_path, advised, method, wanted):
    from repalign.diagnosis.toml import to_toml

    (tmp_path / "distill.toml").write_text(to_toml(advised | {"evidence": {"rule": "gap"}}))
    asked = Asked("t", "s", "d", method=method, stages="auto", options={"gamma": 1.3})
    found = decided(settle(asked), tmp_path / "distill.toml", method)
    assert (found.method, found.options) == wanted
    assert found.evidence == {"rule": "gap"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("metod = 'kd'", "unknown key 'metod'; did you mean method"),
        ("method = 3", "method must be a str, not 3"),
        ("options = 3", "options must be a table, not 3"),
        ("format = 2", "has format 2, and this version reads 1"),
        ("method = ", "can't be read as TOML"),
    ],
)
def test_a_wrong_configuration_is_named(tmp_path, text, said):
    (tmp_path / "d.toml").write_text(text)
    with pytest.raises(InputError, match=rf"d.toml.*{said}"):
        settle(Asked("t", "s", "d", config=tmp_path / "d.toml"))
