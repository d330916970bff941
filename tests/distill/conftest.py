"""What the tests of the trainer share: pictures, networks, and a job ready to train."""

import sys

import pytest
from lesson import write_module, write_pictures

from repalign.distill.recipe import Recipe


@pytest.fixture(scope="session")
def drawn_pictures(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("lesson") / "colours")


@pytest.fixture
def lesson(drawn_pictures, tmp_path, monkeypatch):
    """A folder to work in, with `python:lesson_nets:student` and others, and the data set's path."""
    write_module(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    yield drawn_pictures
    sys.modules.pop("lesson_nets", None)


@pytest.fixture
def quick():
    """A recipe for tests: `quick(epochs=3)`."""

    def make(**changes):
        plain = {"epochs": 2, "batch_size": 16, "learning_rate": 0.01, "warmup_epochs": 0.0, "measure_every": 1}
        return Recipe(**{**plain, "crop_padding": 1, **changes})

    return make
