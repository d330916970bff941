"""Where caches are: the user's own, which stays, and one that ends with its run."""

import contextlib
import errno
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from repalign.cache.files import TAG, TAG_TEXT
from repalign.cache.store import Cache
from repalign.errors import InputError

FOLDER_VARIABLE, SIZE_VARIABLE = "REPALIGN_CACHE", "REPALIGN_CACHE_SIZE"
LARGEST = 20_000_000_000  # bytes, unless more is asked for
SHARE_OF_DISK = 0.1
FULL = (errno.ENOSPC, errno.EDQUOT)
TEMPORARY, LOCK = ".repalign-temporary-", "in-use.lock"
SETTLED = 60.0  # seconds after which the run that made a temporary folder surely holds its lock


def open_cache(folder: Path | None = None, most: int | None = None) -> Cache:
    """Open the cache in `folder`, by default where REPALIGN_CACHE or else the platform says, of at most `most` bytes.

    Raises InputError when the folder can't be written or REPALIGN_CACHE_SIZE is no size.
    """
    root = folder or default_folder()
    try:
        root.mkdir(parents=True, exist_ok=True)
        if not (root / TAG).exists():
            (root / TAG).write_text(TAG_TEXT)
        if not os.access(root, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        if error.errno not in FULL:  # a full disk may still have what earlier runs kept; writing to it will warn
            raise _unwritable(root, error) from error
    return Cache(root, default_size(root) if most is None else most)


def default_folder() -> Path:
    """Give the folder of REPALIGN_CACHE, or where this platform keeps caches."""
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        return Path(named).expanduser().absolute()
    from platformdirs import user_cache_path

    return user_cache_path("repalign", appauthor=False)


def default_size(root: Path) -> int:
    """Give the bytes of REPALIGN_CACHE_SIZE, or the smaller of 20 GB and a tenth of the disk.

    Raises InputError when the variable holds no size.
    """
    named = os.environ.get(SIZE_VARIABLE)
    if named:
        from repalign.memory import parse_size

        try:
            return parse_size(named)
        except InputError as error:
            raise InputError(f"{SIZE_VARIABLE}: {error}") from None
    there = next(p for p in (root, *root.absolute().parents) if p.is_dir())
    return min(LARGEST, int(SHARE_OF_DISK * shutil.disk_usage(there).total))


@contextmanager
def temporary_cache(beside: Path | None = None) -> Iterator[Cache]:
    """Open a cache without a cap in a new folder in `beside`, by default among temporary files, for the block alone.

    Folders that killed runs left in the same place are removed first. Give `beside` where much is kept: on some
    machines temporary files lie in memory.

    Raises InputError when no folder can be made there.
    """
    home = beside or Path(tempfile.gettempdir())
    remove_abandoned(home)
    try:
        folder = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=home))
    except OSError as error:
        raise _unwritable(home, error) from error
    try:
        with _held(folder):
            yield Cache(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_abandoned(home: Path) -> None:
    """Remove the temporary folders in `home` whose run has ended.

    A run holds a lock in its folder; the system lets it go however the run ends, also in a container where process
    numbers say nothing to us.
    """
    from filelock import Timeout

    for folder in home.glob(f"{TEMPORARY}*"):
        with contextlib.suppress(Timeout, OSError):  # at work, gone this moment, or another user's
            if time.time() - folder.stat().st_mtime > SETTLED:
                with _held(folder):
                    shutil.rmtree(folder, ignore_errors=True)


def _held(folder: Path) -> contextlib.AbstractContextManager[object]:
    """Hold the lock of a folder; raises filelock.Timeout at once when someone else does."""
    from filelock import FileLock

    return FileLock(folder / LOCK, timeout=0, thread_local=False)


def _unwritable(folder: Path, error: OSError) -> InputError:
    return InputError(
        f"the cache folder {folder} can't be written ({error.strerror or error}); name another one with "
        f"{FOLDER_VARIABLE}, or go on without a cache: --no-cache"
    )
