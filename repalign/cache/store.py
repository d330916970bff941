"""A cache as a run sees it: entries in and out, none of it able to stop the run."""

import contextlib
import os
import threading
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, final

from repalign.cache.entry import DamagedError, Entry, decode, encode
from repalign.cache.files import file_of, in_words, look, remove, remove_dead_parts, write
from repalign.errors import RepalignWarning

if TYPE_CHECKING:
    from torch import Tensor

ROOM = 0.1  # of the cap that is freed at a time, and written between two walks over the folder


@final
class Cache:
    """Entries in the folder `root`, kept to `most` bytes by removing those unused for longest; None sets no cap.

    Several processes and threads may share a folder: entries appear by renaming, and one that another run removes
    is a miss. What this run has read, written or pinned it never removes, even where that alone exceeds the cap.
    """

    def __init__(self, root: Path, most: int | None = None) -> None:
        self.root, self.most = root, most
        self._needed: set[str] = set()
        self._used: set[str] = set()
        self._lock = threading.Lock()
        self._size, self._walk_above = 0, -1  # bytes: an estimate, and when to look; the first entry written looks
        self._stopped = self._said_small = False

    @property
    def full(self) -> bool:
        """Tell whether an entry could not be written, so that nothing more is kept."""
        return self._stopped

    def get(self, key: str) -> Entry | None:
        """Read the entry of `key`; None where there is none.

        A damaged one is removed with a RepalignWarning, and is None too.
        """
        path = file_of(self.root, key)
        try:
            entry = decode(path.read_bytes(), key)
        except FileNotFoundError:
            return None
        except OSError as error:  # too many open files, a drive that stalls: no word on the entry, which stays
            self._warn(path, error.strerror or str(error), "what it holds")
            return None
        except DamagedError as error:
            with contextlib.suppress(OSError):
                path.unlink()
            self._warn(path, str(error), "it is removed, and what it held")
            return None
        self._use(key, path)
        return entry

    def put(self, key: str, tensors: "Mapping[str, Tensor]", record: Mapping[str, object] = {}) -> None:
        """Keep tensors and a record of plain values under a key of `key_of`, all or nothing.

        When the disk is full, or the folder can't be written any more, one RepalignWarning says so and nothing more
        is kept in this run.
        """
        if self._stopped:
            return
        contents = encode(key, tensors, record)
        try:
            write(file_of(self.root, key), *contents)
        except FileNotFoundError:  # another run cleared the cache this moment
            return
        except OSError as error:
            self._stop(error)
            return
        self.pin([key])
        self._used.add(key)
        self._grow(sum(map(len, contents)))

    def pin(self, keys: Iterable[str]) -> None:
        """Keep entries that this run is about to need from being removed by it."""
        with self._lock:
            self._needed.update(keys)

    def _use(self, key: str, path: Path) -> None:
        """Note a use in the file's time, once in a run."""
        self.pin([key])
        if key not in self._used:
            self._used.add(key)
            with contextlib.suppress(OSError):  # gone this moment, or another user's
                os.utime(path)

    def _warn(self, path: Path, reason: str, what: str) -> None:
        warnings.warn(
            f"the cached {path} can't be used: {reason}; {what} is computed again", RepalignWarning, stacklevel=4
        )

    def _stop(self, error: OSError) -> None:
        """Say once that nothing more is kept."""
        with self._lock:
            first, self._stopped = not self._stopped, True
        if first:
            warnings.warn(
                f"the cache {self.root} can't be written any more ({error.strerror or error}), so this run goes on "
                "without keeping what it computes; make room (repalign cache prune --to SIZE), or name another folder "
                "with REPALIGN_CACHE",
                RepalignWarning,
                stacklevel=3,
            )

    def _grow(self, size: int) -> None:
        """Count what was written, and make room when it may be too much."""
        with self._lock:
            self._size += size
            if self.most is None or self._size <= self._walk_above:
                return
            needed = self._make_room(self.most)
            say, self._said_small = needed > self.most and not self._said_small, self._said_small or needed > self.most
        if say:
            warnings.warn(
                f"this run alone needs more than the {in_words(self.most)} that the cache {self.root} may have: "
                f"{in_words(needed)} so far; it goes on, and a later run removes what is too much. "
                "REPALIGN_CACHE_SIZE=SIZE allows more",
                RepalignWarning,
                stacklevel=3,
            )

    def _make_room(self, most: int) -> int:
        """Walk the folder, remove what is too much, and give the bytes that are left."""
        held = look(self.root)
        remove_dead_parts(held)
        left = held.size
        if left > most:
            left -= sum(f.size for f in remove(held.entries, left - int((1 - ROOM) * most), but=self._needed))
        later = left + int(ROOM * most)  # other runs write too, so look again before our own estimate reaches the cap
        self._size, self._walk_above = left, min(later, most) if left <= most else later
        return left
