"""The command, whole: options in, words and a folder with its report out."""

import subprocess
import sys

import pytest
import typer
from coloured_nets import coloured, write

from repalign.diagnose_cli import diagnose
from repalign.errors import InputError

ASK = ("--teacher", "python:coloured_nets:teacher_net", "--student", "python:coloured_nets:student_net")


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Run the command in this process: `run("--rule", …)` gives what it prints."""
    monkeypatch.setattr("repalign.diagnosis.probe.PENALTIES", (1.0, 0.01))
    monkeypatch.chdir(tmp_path)
    app = typer.Typer()
    app.command()(diagnose)
    data = write(tmp_path / "colours", coloured(120))

    def command(*arguments):
        app([*ASK, "--data", str(data), "--permutations", "19", *arguments], standalone_mode=False)
        return capsys.readouterr().out

    return command


def test_the_command_writes_a_report_and_says_what_to_do(run, tmp_path):
    said = run("--out", "D", "--rule", "gap", "--tau", "0.05")
    assert said.startswith("Distil by OFA-KD, with branches at student stage")
    assert "by the rule gap (τ = 0.05)" in said
    assert "warning: 120 pictures are few" in said
    assert "report: D/report.html" in said
    assert said.endswith("next: repalign distill --config D/distill.toml\n")
    assert "by the rule gap" in (tmp_path / "D" / "report.html").read_text(encoding="utf-8")


def test_a_name_is_found_without_out(run, tmp_path):
    said = run("--rule", "logits", "--pictures", "30")
    (folder,) = tmp_path.glob("repalign-diagnosis-*")
    assert f"report: {folder.name}/report.html" in said


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("--rule", "gp"), "unknown rule 'gp'"), (("--pictures", "2"), "--pictures 2 leaves too few"),
        (("--device", "tpu9"), "device 'tpu9' isn't there"), (("--groups", "who"), "unknown --groups"),
        (("--tau", "-1"), "tau must lie between"), (("--out", "no/where"), "make it first"),
    ],
)  # fmt: skip
def test_bad_options_leave_nothing(run, tmp_path, given, words):
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match=words):
        run(*given)
    assert sorted(tmp_path.iterdir()) == before


def test_the_command_costs_nothing_to_import():
    code = "import sys, repalign.diagnose_cli; print({'torch', 'numpy', 'pandas', 'timm'} & set(sys.modules))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "set()"
