import socket

import pytest
from huggingface_hub import constants


@pytest.fixture
def no_network(monkeypatch):
    """Fail on any look-up of a name and on any connection; return what was asked for."""
    asked = []

    def refuse(*args, **kwargs):
        asked.append(args)
        raise socket.gaierror("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return asked


@pytest.fixture
def hub_cache(monkeypatch, tmp_path):
    """Give an empty hub cache, and a function that lays a file into it as the hub's client would."""
    cache = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))

    def put(repository, name, write):
        folder = cache / f"models--{repository.replace('/', '--')}"
        snapshot = folder / "snapshots" / "abc123"
        snapshot.mkdir(parents=True, exist_ok=True)
        (folder / "refs").mkdir(exist_ok=True)
        (folder / "refs" / "main").write_text("abc123")
        write(snapshot / name)

    put.folder = cache
    return put
