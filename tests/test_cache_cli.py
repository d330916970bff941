"""repalign cache: what it lists, what it removes, and what it says when asked wrongly."""

import os
import time

import pytest
import torch

from repalign import cli as cli_module
from repalign.cache import key_of, open_cache
from repalign.cache.files import TAG, file_of, look
from repalign.cache_cli import app as cache_app

DAY = 86_400


@pytest.fixture
def root(tmp_path, monkeypatch):
    """An empty cache; the command is added where the command line does not have it yet."""
    monkeypatch.setenv("REPALIGN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("REPALIGN_CACHE_SIZE", "2GB")
    monkeypatch.setenv("COLUMNS", "200")
    if not any(group.name == "cache" for group in cli_module.app.registered_groups):
        monkeypatch.setattr(cli_module.app, "registered_groups", [])
        cli_module.app.add_typer(cache_app, name="cache")
    return tmp_path / "cache"


@pytest.fixture
def filled(root):
    """Two layers of one encoder over 300 stimuli, another encoder, and a record; used 1, 2, … days ago."""
    cache = open_cache()
    shared = {"pool": "mean", "filter": "cat:fov_deg=60", "precision": "fp32", "stimuli": "photos"}
    entries = [
        (256, shared | {"encoder": "pocket:vit", "layer": "blocks.0"}),
        (44, shared | {"encoder": "pocket:vit", "layer": "blocks.0"}),
        (256, shared | {"encoder": "pocket:vit", "layer": "blocks.1"}),
        (10, shared | {"encoder": "resnet50", "layer": "layer4", "filter": "", "precision": "bf16"}),
    ]
    for k, (rows, about) in enumerate(entries):
        cache.put(key_of(k), {"rows": torch.zeros(rows, 10)}, {"about": about})
        ago = time.time() - (k + 1) * DAY
        os.utime(file_of(root, key_of(k)), (ago, ago))
    cache.put(key_of("record"), {}, {"digests": ["a"]})
    return root


def cells(out):
    return [line.split() for line in out.splitlines()]


def test_an_empty_cache_is_said_to_be_empty(cli, root):
    code, out, err = cli("cache", "ls")
    assert (code, out.strip(), err) == (0, f"the cache {root} is empty; it may take up to 2.0 GB", "")
    assert cli("cache", "clear")[:2] == (0, f"0 entries removed (0 B); 0 B left in {root}\n")
    assert cli("cache", "prune")[0] == 0
    assert not root.exists()


def test_ls_groups_entries_and_adds_them_up(cli, filled):
    day = time.strftime("%Y-%m-%d", time.localtime(time.time() - DAY))
    code, out, _ = cli("cache", "ls")
    assert code == 0
    rows = cells(out)
    size = look(filled).size
    vit = sum(file_of(filled, key_of(k)).stat().st_size for k in range(3))
    row = ["pocket:vit", "mean", "cat:fov_deg=60", "fp32", "300", "of", "photos", "2", f"{vit / 1e3:.1f}", "kB", day]
    assert row in [r[:11] for r in rows]
    assert any(r[:7] == ["resnet50", "mean", "bf16", "10", "of", "photos", "1"] for r in rows)
    assert any(r[:3] == ["(of", "no", "encoder)"] for r in rows)
    assert f"5 entries, {size / 1e3:.1f} kB of at most 2.0 GB, in {filled}" in " ".join(out.split())


def test_ls_lists_damaged_and_foreign_files_without_failing(cli, filled):
    for k, damage in enumerate((b"", b"\xff" * 100, b"\x05" + bytes(7) + b"[1,2]", b"\x02" + bytes(7) + b"{}")):
        file_of(filled, key_of(k)).write_bytes(damage)
    code, out, err = cli("cache", "ls")
    assert (code, err) == (0, "")
    assert "5 entries" in out


def test_prune_removes_what_was_unused_for_longest(cli, filled):
    assert "0 entries removed" in cli("cache", "prune")[1]  # down to the cap
    keep = sum(file_of(filled, key_of(k)).stat().st_size for k in (0, 1, "record"))
    code, out, _ = cli("cache", "prune", "--to", keep)
    assert (code, out.startswith("2 entries removed (1")) == (0, True)
    assert {f.key for f in look(filled).entries} == {key_of(k) for k in (0, 1, "record")}


def test_prune_removes_what_is_old(cli, filled):
    code, out, _ = cli("cache", "prune", "--older-than", "60h")
    assert (code, out.startswith("2 entries removed")) == (0, True)
    assert {f.key for f in look(filled).entries} == {key_of(k) for k in (0, 1, "record")}
    keep = file_of(filled, key_of("record")).stat().st_size
    assert cli("cache", "prune", "--older-than", "1.5d", "--to", keep)[1].startswith("2 entries removed")
    assert {f.key for f in look(filled).entries} == {key_of("record")}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("prune", "--older-than", "a while"), "--older-than 'a while' is no age; write a number and h, d or w"),
        (("prune", "--to", "little"), "'little'"),
        (("clear",), r"this would remove 5 entries \(.* kB\) from .*; say so with --yes"),
    ],
)
def test_what_can_t_be_done_is_one_line(cli, filled, arguments, message):
    import re

    code, out, err = cli("cache", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert re.search(message, err)
    assert len(look(filled).entries) == 5


def test_clear_removes_everything_of_ours_alone(cli, filled):
    (filled / "thesis.txt").write_text("work")
    code, out, _ = cli("cache", "clear", "--yes")
    assert (code, out.startswith("5 entries removed (")) == (0, True)
    assert {p.name for p in filled.iterdir()} == {"thesis.txt", TAG}


@pytest.mark.parametrize(("answer", "left"), [(True, 0), (False, 5)])
def test_clear_asks_at_a_terminal(cli, filled, monkeypatch, answer, left):
    asked = []
    monkeypatch.setattr("repalign.cache_cli.sys.stdin", type("Terminal", (), {"isatty": lambda self: True})())
    monkeypatch.setattr("repalign.cache_cli.typer.confirm", lambda text: asked.append(text) or answer)
    code, out, _ = cli("cache", "clear")
    assert code == 0
    assert asked[0].startswith("remove 5 entries (")
    assert len(look(filled).entries) == left
    assert ("nothing was removed" in out) == (not answer)


def test_a_file_in_the_caches_place_is_named(cli, root):
    root.write_text("")
    for command in ("ls", "prune", "clear"):
        code, _, err = cli("cache", command)
        assert (code, f"the cache {root} is a file and no folder" in err) == (2, True)
