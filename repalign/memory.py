"""What fits into this machine."""

import os

from repalign.errors import InputError

SHARE = 0.6  # of the machine's memory that one thing may take


def check_memory(need: int, what: str, remedy: str) -> None:
    """Raise InputError when `need` bytes for `what` are more than this machine can spare."""
    have = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if need > SHARE * have:
        raise InputError(f"{what} need {need / 1e9:.0f} GB, and this machine has {have / 1e9:.0f} GB; use {remedy}")
