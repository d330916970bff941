"""The command line end to end: studies, and one clear line for every mistake with nothing half-written."""

import json
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest


def left_over(folder):
    return [p.name for p in folder.iterdir() if p.name.endswith((".part", ".old"))]


@pytest.fixture
def study(cli, nets, photos, tmp_path):
    code, out, err = cli("compare", "--a", f"{nets}:net", "--b", f"{nets}:other", "--data", photos, "--out", "S")
    assert code == 0, err
    return tmp_path / "S", out


def test_compare_writes_a_whole_study_and_prints_its_table(study, tmp_path):
    folder, out = study
    meta = json.loads((folder / "study.json").read_text())
    frame = pd.read_csv(folder / "alignment.csv")
    assert len(frame) == 3 * 3 * 3
    assert set(frame["metric"]) == {m["id"] for m in meta["metrics"]}
    assert frame["value"].notna().all()
    assert meta["command"].startswith("repalign compare --a python:tinynets:net")
    assert meta["stimuli"]["a"]["n"] == 12
    assert meta["stimuli"]["a"]["labels"] == {"cats": 6, "dogs": 6}
    assert meta["encoders"]["a"]["fingerprint"] != meta["encoders"]["b"]["fingerprint"]
    assert len(meta["thumbs"]) == 12
    assert all((folder / t["file"]).is_file() for t in meta["thumbs"])
    layers = pd.read_csv(folder / "layers.csv")
    assert (layers["participation_ratio"] >= 1).all()
    assert {p.suffix for p in (folder / "figures").iterdir()} == {".png", ".svg"}
    assert (folder / "report.html").stat().st_size > 10_000
    assert "S/report.html" in out
    assert not left_over(tmp_path)


def test_the_same_command_gives_the_same_numbers(study, cli, nets, photos, tmp_path):
    folder, _ = study
    assert cli("compare", "--a", f"{nets}:net", "--b", f"{nets}:other", "--data", photos, "--out", "T")[0] == 0
    assert (tmp_path / "T" / "alignment.csv").read_bytes() == (folder / "alignment.csv").read_bytes()


def test_report_draws_the_same_page_again(study, cli):
    folder, _ = study
    before = (folder / "report.html").read_bytes()
    (folder / "report.html").unlink()
    assert cli("report", folder)[0] == 0
    assert (folder / "report.html").read_bytes() == before


def test_an_existing_out_is_kept_without_force(study, cli, nets, photos, tmp_path):
    folder, _ = study
    before = (folder / "alignment.csv").read_bytes()
    arguments = ("compare", "--a", f"{nets}:net", "--data", photos, "--out", "S")
    code, _, err = cli(*arguments)
    assert (code, "exists" in err, "--force" in err) == (2, True, True)
    assert (folder / "alignment.csv").read_bytes() == before
    assert cli(*arguments, "--force")[0] == 0
    assert (folder / "alignment.csv").read_bytes() != before
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("work")
    code, _, err = cli("compare", "--a", f"{nets}:net", "--data", photos, "--out", "precious", "--force")
    assert code == 2
    assert "is no study folder" in err
    assert (tmp_path / "precious" / "thesis.txt").read_text() == "work"


def test_a_dead_layer_is_warned_of_once_and_stands_in_the_study(cli, nets, photos, tmp_path):
    code, out, err = cli("compare", "--a", f"{nets}:dead", "--data", photos, "--out", "S")
    assert code == 0, err
    warnings = json.loads((tmp_path / "S" / "study.json").read_text())["warnings"]
    assert len([w for w in warnings if "'0.1'" in w]) == 1
    assert "'0.1'" in out
    frame = pd.read_csv(tmp_path / "S" / "alignment.csv")
    assert frame.loc[frame["layer_a"] == "0.1", "value"].isna().all()


@pytest.mark.drawn
def test_untrained_stands_in_every_file_and_table(cli, nets, photos, tmp_path):
    code, out, err = cli("compare", "--a", f"{nets}:net@random", "--b", f"{nets}:net", "--data", photos, "--out", "S")
    assert code == 0, err
    assert set(pd.read_csv(tmp_path / "S" / "alignment.csv")["untrained"]) == {"a"}
    layers = pd.read_csv(tmp_path / "S" / "layers.csv")
    assert list(layers.groupby("side")["untrained"].all()) == [True, False]
    assert json.loads((tmp_path / "S" / "study.json").read_text())["encoders"]["a"]["untrained"]
    for text in (
        out,
        *(f.read_text() for f in (tmp_path / "S").rglob("*.svg")),
        (tmp_path / "S/report.html").read_text(),
    ):
        assert "untrained" in text


def test_skipped_pictures_are_recorded(cli, nets, photos, tmp_path):
    (photos / "cats" / "03.png").write_bytes(b"")
    assert cli("compare", "--a", f"{nets}:net", "--data", photos, "--out", "S")[0] == 2
    assert not (tmp_path / "S").exists()
    assert cli("compare", "--a", f"{nets}:net", "--data", photos, "--out", "S", "--skip-unreadable")[0] == 0
    meta = json.loads((tmp_path / "S" / "study.json").read_text())
    assert meta["stimuli"]["a"]["n"] == 11
    assert meta["stimuli"]["a"]["skipped"][0][0] == "cats/03.png"


MISTAKES = {
    "unknown encoder": (["--a", "resnet81"], r"unknown .*'resnet81'; did you mean"),
    "unknown pocket encoder": (["--a", "pocket:resent"], "did you mean resnet"),
    "unknown source": (["--a", "pokcet:vit"], "unknown encoder source 'pokcet'; did you mean pocket"),
    "unknown layer": (["--layers", "0.9"], "unknown layer or glob '0.9'"),
    "metric with a typo": (["--metric", "cka_liner"], "unknown metric 'cka_liner'; did you mean cka_linear"),
    "metric twice": (["--metric", "rsa", "--metric", "rsa"], "asked for twice"),
    "device": (["--device", "cuda:9"], "device 'cuda:9' isn't there"),
    "pool": (["--pool", "meen"], "unknown pooling 'meen'; did you mean mean"),
    "no such data": (["--data", "nowhere/"], "nowhere"),
    "out in no folder": (["--out", "no/such/S"], "the folder no/such does not exist"),
    "unknown option": (["--datta", "x"], "datta"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_one_line_exit_2_and_leave_nothing(mistake, cli, nets, photos, tmp_path):
    given, message = MISTAKES[mistake]
    arguments = {"--a": f"{nets}:net", "--data": str(photos), "--out": "S"}
    pairs = [*zip(given[::2], given[1::2], strict=True)]
    line = [x for k, v in arguments.items() if k not in given for x in (k, v)] + [x for p in pairs for x in p]
    code, out, err = cli("compare", *line)
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert err.startswith("repalign: ")
    assert __import__("re").search(message, err), err
    assert out == ""
    assert not (tmp_path / "S").exists()
    assert not left_over(tmp_path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda d: None, "empty"),
        (lambda d: (d / "notes.txt").write_text("x"), "no image"),
        (lambda d: __import__("PIL.Image").Image.new("RGB", (8, 8)).save(d / "a.png"), "at least 4"),
    ],
)
def test_folders_without_enough_pictures(make, message, cli, nets, tmp_path):
    (tmp_path / "few").mkdir()
    make(tmp_path / "few")
    code, _, err = cli("compare", "--a", f"{nets}:net", "--data", tmp_path / "few", "--out", "S")
    assert code == 2
    assert message in err


def test_unmatched_pairs_say_how_many_and_which(cli, nets, photos, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    for name in ("x.png", "y.png", "z.png", "w.png"):
        (other / name).write_bytes((photos / "cats" / "01.png").read_bytes())
    code, _, err = cli("compare", "--a", f"{nets}:net", "--data", photos, "--data-b", other, "--out", "S")
    assert code == 2
    assert "12" in err
    assert "x.png" in err


def test_our_own_fault_is_exit_1_and_debug_shows_it(cli, nets, photos, monkeypatch):
    def broken(*_):
        raise KeyError("surprise")

    monkeypatch.setattr("repalign.study.render", broken)
    arguments = ("compare", "--a", f"{nets}:net", "--data", photos, "--out", "S")
    code, _, err = cli(*arguments)
    assert code == 1
    assert "KeyError: 'surprise' (our fault; --debug shows where)" in err
    monkeypatch.setattr(sys, "argv", ["repalign", *map(str, arguments), "--debug"])
    from repalign.cli import main

    with pytest.raises(KeyError):
        main()


SLOW = """
import pathlib, time
import tinynets


def slow():
    module, preprocess = tinynets.net()

    def late(picture):
        pathlib.Path("started").touch()
        time.sleep(1)
        return preprocess(picture)

    return module, late
"""


def test_ctrl_c_leaves_nothing(nets, photos, tmp_path):
    (tmp_path / "slow.py").write_text(SLOW)
    options = ["--a", "python:slow:slow", "--data", str(photos), "--out", "S", "--workers", "1"]
    # a shell that runs the tests in the background has its children ignore Ctrl-C
    heed = "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    process = subprocess.Popen(
        [sys.executable, "-c", f"{heed}; runpy.run_module('repalign', run_name='__main__')", "compare", *options],
        cwd=tmp_path, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while process.poll() is None and not (tmp_path / "started").exists():
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.strip() == "repalign: interrupted; nothing was written"
    assert not (tmp_path / "S").exists()
    assert not left_over(tmp_path)


def test_ctrl_c_while_the_study_is_written_leaves_nothing(cli, nets, photos, tmp_path, monkeypatch):
    def interrupted(folder):
        assert left_over(tmp_path) == [folder.name]
        raise KeyboardInterrupt

    monkeypatch.setattr("repalign.study.render", interrupted)
    code, _, err = cli("compare", "--a", f"{nets}:net", "--data", photos, "--out", "S")
    assert (code, err.strip()) == (130, "repalign: interrupted; nothing was written")
    assert not (tmp_path / "S").exists()
    assert not left_over(tmp_path)


def test_layers_lists_without_weights(cli, nets):
    code, out, _ = cli("layers", f"{nets}:net")
    assert code == 0
    assert "0.2" in out
    assert "16×2×2" in out
    assert "3 layers" in out


def test_models_lists_pocket_encoders_and_short_names(cli):
    code, out, _ = cli("models")
    assert code == 0
    for name in ("pocket:resnet", "pocket:dino", "dino_vitb16", "vit_base_patch16_224.dino"):
        assert name in out


def test_help_imports_nothing_heavy():
    code = "import sys, repalign.cli; print([m for m in ('torch', 'numpy', 'timm', 'PIL') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
