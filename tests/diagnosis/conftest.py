"""A teacher that knows the colours, a student that knows less, and what they are shown."""

import pytest
from coloured_nets import Net, coloured, encoder, taught


@pytest.fixture(autouse=True)
def quick_probes(monkeypatch):
    """Two penalties in place of six, save where probes are the matter."""
    monkeypatch.setattr("repalign.diagnosis.probe.PENALTIES", (1.0, 0.01))


@pytest.fixture
def shown():
    return coloured()


@pytest.fixture
def teacher():
    return encoder("teacher", taught(Net(seed=0), coloured(300, seed=1)))


@pytest.fixture
def student():
    return encoder("student", taught(Net(seed=1), coloured(300, seed=1), share=0.7))
