"""How much memory there is, and how much of it work may take."""

import os
import re
from pathlib import Path

from repalign.errors import InputError

SHARE = 0.6  # of the machine's memory that one thing may take
QUARTER = 4  # the part of what is free that work takes unless told otherwise
HALF = 2  # what counts as free where the machine doesn't say
UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?\s*", re.IGNORECASE)
MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")


def free() -> int:
    """Count the bytes that this process can still take: what the machine has available, and its container allows."""
    return min(_available(), _allowed())


def budget(asked: int | None) -> int:
    """Give the bytes that work may take: those asked for, else a quarter of what is free.

    Raises InputError unless at least one byte is asked for.
    """
    if asked is None:
        return free() // QUARTER
    if asked < 1:
        raise InputError(f"memory must be a positive number of bytes, not {asked}; try 4GB")
    return asked


def parse_size(text: str) -> int:
    """Read a number of bytes, with or without a unit of thousands (kB … TB) or of 1,024s (KiB … TiB).

    Raises InputError for anything else, and for less than one byte.

    >>> parse_size("4GB"), parse_size("1.5 GiB"), parse_size("123")
    (4000000000, 1610612736, 123)
    """
    found = SIZE.fullmatch(text)
    size = int(float(found[1]) * UNITS[(found[2] or "").lower()]) if found else 0
    if size < 1:
        raise InputError(f"memory must be a size such as 4GB, 600MB or 1.5GiB, not {text!r}")
    return size


def check_memory(need: int, what: str, remedy: str) -> None:
    """Raise InputError when `need` bytes for `what` are more than this machine can spare."""
    have = _whole()
    if need > SHARE * have:
        raise InputError(f"{what} need {need / 1e9:.0f} GB, and this machine has {have / 1e9:.0f} GB; use {remedy}")


def _whole() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _available() -> int:
    """Read what Linux could give without swapping; elsewhere take half of the machine's memory."""
    try:
        lines = MEMINFO.read_text(encoding="ascii").splitlines()
    except OSError:
        return _whole() // HALF
    kilobytes = next((line.split()[1] for line in lines if line.startswith("MemAvailable:")), None)
    return _whole() // HALF if kilobytes is None else int(kilobytes) * 1024


def _allowed() -> int:
    """Read what the container's control group (version 2) leaves, its file pages counted as free; all without one."""
    try:
        limit = (CGROUP / "memory.max").read_text(encoding="ascii").strip()
        used = int((CGROUP / "memory.current").read_text(encoding="ascii"))
        pages = dict(line.split() for line in (CGROUP / "memory.stat").read_text(encoding="ascii").splitlines())
    except (OSError, ValueError):
        return _whole()
    if limit == "max":
        return _whole()
    return max(0, int(limit) - used + int(pages.get("inactive_file", 0)))
