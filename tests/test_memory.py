"""How much memory work may take, and how a person writes it."""

import pytest

from repalign import memory
from repalign.errors import InputError


@pytest.mark.parametrize(
    ("text", "size"),
    [("4GB", 4 * 10**9), ("600MB", 6 * 10**8), ("1.5 GiB", 3 * 2**29), ("123", 123), ("2k", 2000), (" 1tib ", 2**40)],
)
def test_sizes_are_read_with_their_units(text, size):
    assert memory.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "4 apples", "0", "1e9", "nan"])
def test_what_is_no_size_is_refused_by_name(text):
    with pytest.raises(InputError, match=r"such as 4GB, 600MB or 1\.5GiB, not"):
        memory.parse_size(text)


def test_the_default_is_a_quarter_of_what_is_free(monkeypatch):
    monkeypatch.setattr(memory, "free", lambda: 4000)
    assert memory.budget(None) == 1000
    assert memory.budget(77) == 77
    with pytest.raises(InputError, match="positive number of bytes, not 0"):
        memory.budget(0)


def test_free_reads_what_the_machine_and_its_container_leave(monkeypatch, tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable: 5000 kB\n")
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    assert memory.free() == 5000 * 1024
    for name, text in {"max": "3000000", "current": "2500000", "stat": "anon 9\ninactive_file 1000000\n"}.items():
        (tmp_path / f"memory.{name}").write_text(text)
    assert memory.free() == 1_500_000
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.free() == 5000 * 1024


def test_a_machine_that_does_not_say_has_half_free(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "none")
    monkeypatch.setattr(memory, "CGROUP", tmp_path / "none")
    monkeypatch.setattr(memory, "_whole", lambda: 8000)
    assert memory.free() == 4000
