"""What many tests share: pictures on disk, a small encoder, the command line in process."""

import os
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from many_design import DESIGN
from PIL import Image

os.environ.setdefault("NUMBA_DISABLE_JIT", "1")  # peers give values here, not speed; LLVM once aborted a worker
torch.set_num_threads(1)  # the tests compute little; threads that wait for each other cost more

MODULE = """
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, a, b):
        super().__init__()
        self.one, self.two = nn.Conv2d(a, b, 3, 2, 1), nn.Conv2d(b, b, 3, 1, 1)

    def forward(self, x):
        return self.two(torch.relu(self.one(x)))


def preprocess(picture):
    from torchvision.transforms.functional import pil_to_tensor, resize
    return resize(pil_to_tensor(picture), [16, 16]).float() / 255


def net(seed=0, dead=False):
    torch.manual_seed(seed)
    blocks = nn.Sequential(Block(3, 8), Block(8, 12), Block(12, 16))
    model = nn.Sequential(blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    if dead:
        for p in model[0][1].parameters():
            nn.init.zeros_(p)
    return model, preprocess


def other():
    return net(1)


def dead():
    return net(2, dead=True)
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Every test keeps features in a place of its own."""
    monkeypatch.setenv("REPALIGN_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(autouse=True)
def stand_ins(request, monkeypatch):
    """Write one pixel in place of each figure, whose drawing takes a third of a command.

    Tests of reports, those that take the fixture `study`, and those marked `drawn` draw theirs.
    """
    of_reports = "report" in request.path.name
    if of_reports or "study" in request.fixturenames or request.node.get_closest_marker("drawn"):
        return

    def save(figure, stem):
        files = [stem.with_name(stem.name + suffix) for suffix in (".png", ".svg")]
        Image.new("RGB", (1, 1)).save(files[0])
        files[1].write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
        return files

    for module in ("repalign.report.figures", "repalign.report.many.figures"):
        monkeypatch.setattr(f"{module}.save", save)


@pytest.fixture
def photos(tmp_path):
    """Twelve pictures in two folders."""
    rng = np.random.default_rng(0)
    for k in range(12):
        folder = tmp_path / "photos" / ("cats" if k % 2 else "dogs")
        folder.mkdir(parents=True, exist_ok=True)
        smooth = rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)
        Image.fromarray(smooth).resize((40, 30), Image.Resampling.BICUBIC).save(folder / f"{k:02d}.png")
    return tmp_path / "photos"


@pytest.fixture
def nets(tmp_path, monkeypatch):
    """A module `tinynets` with encoders net, other and dead, importable as python:tinynets:net."""
    (tmp_path / "tinynets.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    yield "python:tinynets"
    sys.modules.pop("tinynets", None)


@pytest.fixture
def cli(capsys, monkeypatch):
    """Run the command line in this process: `cli("compare", …)` gives the exit code, output and error output."""

    def run(*arguments):
        from repalign.cli import main

        monkeypatch.setattr(sys, "argv", ["repalign", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        out, err = capsys.readouterr()
        return stopped.value.code, out, err

    return run


@pytest.fixture
def design(nets, photos, tmp_path):
    (tmp_path / "who.toml").write_text(DESIGN)
    return tmp_path / "who.toml"


@pytest.fixture(scope="session")
def finished():
    """Where the first test leaves the study that it computed."""
    return {}


@pytest.fixture
def study(design, tmp_path, finished, tmp_path_factory):
    """A study of two networks under two conditions, computed once and copied for every test."""
    from repalign.design import read_design
    from repalign.many import run_study

    if not finished:
        home = tmp_path_factory.mktemp("finished") / "S"
        finished["done"] = run_study(read_design(design), home, command="repalign study who.toml")
    shutil.copytree(finished["done"].folder, tmp_path / "S")
    return replace(finished["done"], folder=tmp_path / "S")
