"""Runs of the real command in processes of their own: killed without warning, and shared by two."""

import json
import os
import signal
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from torchrun import together

from repalign.distill.log import read_lines

ARGUMENTS = (
    "--teacher", "python:lesson_nets:teacher", "--student", "python:lesson_nets:student", "--epochs", "6",
    "--batch-size", "16", "--measure-every", "2", "--ema", "0.9", "--mixup", "0.2", "--augment", "rand-m5",
    "--no-diagnosis", "--device", "cpu",
)  # fmt: skip
SEVERAL = """
import sys
from repalign.cli import main
from repalign.distilling import flow
flow.render = lambda folder: folder  # a report takes longer than a run
for line in sys.argv[1].splitlines():
    sys.argv = ["repalign", *line.split()]
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise
"""


def start(*commands):
    """Run commands one after another in one process."""
    lines = "\n".join(" ".join(map(str, ("distill", *command))) for command in commands)
    return subprocess.Popen(
        [sys.executable, "-c", SEVERAL, lines], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip


def test_a_killed_run_comes_to_the_same_weights(lesson, tmp_path):
    both = [("--data", lesson, "--out", name, *ARGUMENTS) for name in ("whole", "part")]
    process = start(*both)
    said = []
    for line in process.stdout:
        said.append(line)
        if "".join(said).count("epoch 3/6") == 2:
            break
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, "".join(said)
    assert json.loads((tmp_path / "part/run.json").read_text())["state"] == "running"
    (tmp_path / "part/checkpoints/.last.pt.part").write_bytes(b"a write that was cut short")

    process = start((*both[1], "--resume"))
    said, _ = process.communicate(timeout=200)
    assert process.returncode == 0, said
    assert "student, last epoch" in said
    assert "epoch 3/6" not in said  # it went on, and did not begin again
    for name in ("student.safetensors", "student_best.safetensors", "alignment.csv"):
        assert (tmp_path / "part" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    ends = [json.loads((tmp_path / name / "run.json").read_text()) for name in ("part", "whole")]
    assert ends[0]["state"] == "finished"
    assert ends[0]["results"] == ends[1]["results"]


def test_two_processes_do_what_one_does(lesson, cli, tmp_path, monkeypatch):
    monkeypatch.setattr("repalign.distilling.flow.render", lambda folder: folder)
    asked = (
        "distill", "--data", lesson, "--teacher", "python:lesson_nets:teacher", "--student", "python:lesson_nets:plain",
        "--method", "kd", "--epochs", "3", "--batch-size", "16", "--lr", "0.01", "--no-diagnosis", "--device", "cpu",
    )  # fmt: skip
    done = together(2, *asked, "--out", "two", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("student, last epoch") == 1
    assert cli(*asked, "--out", "one")[0] == 0
    two, one = (load_file(tmp_path / name / "student.safetensors") for name in ("two", "one"))
    for name, weights in one.items():
        assert torch.allclose(weights, two[name], atol=1e-5), name
    logs = [read_lines(tmp_path / name / "log.jsonl") for name in ("one", "two")]
    for a, b in zip(*logs, strict=True):
        assert a["train_loss"] == pytest.approx(b["train_loss"], rel=1e-4)
        assert a["validation_accuracy"] == b["validation_accuracy"]
