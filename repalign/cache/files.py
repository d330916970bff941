"""The folder of a cache: which files it has, how they come to be, and which go first."""

import contextlib
import os
import time
import uuid
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ENTRY, PART = ".safetensors", ".part"
TAG = "CACHEDIR.TAG"
TAG_TEXT = (
    "Signature: 8a477f597d28d172789f06886806bc55\n"  # fixed by https://bford.info/cachedir/; backups leave such out
    "# Results that repalign can compute again; see: repalign cache --help\n"
)
# A part is written in one go, so one this old (seconds) belongs to a run that was killed. Should its run only have
# slept, the run finds it gone and does without that entry.
DEAD_AFTER = 3600.0


@dataclass(frozen=True)
class File:
    """One file of a cache: its size in bytes and when it was last used, in seconds since 1970."""

    path: Path
    size: int
    used: float

    @property
    def key(self) -> str:
        """Give the key of an entry's file."""
        return self.path.name.removesuffix(ENTRY)


@dataclass(frozen=True)
class Held:
    """What a cache's folder holds: entries, longest unused first, and parts that were never finished."""

    entries: tuple[File, ...]
    parts: tuple[File, ...]

    @property
    def size(self) -> int:
        """Add the entries' bytes."""
        return sum(file.size for file in self.entries)


def file_of(root: Path, key: str) -> Path:
    """Say where the entry of `key` lies."""
    return root / key[:2] / f"{key}{ENTRY}"


def write(path: Path, *contents: bytes | memoryview) -> None:
    """Write a file under another name and rename it, so that it is there as a whole or not at all.

    It is not forced to the disk: what a power cut leaves of it fails its checksum.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.stem}.{uuid.uuid4().hex}{PART}")
    try:
        with part.open("xb") as file:
            for content in contents:
                file.write(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def look(root: Path) -> Held:
    """List the files of a cache; those that vanish meanwhile are left out, those that are not ours too."""
    files = list(_files(root))
    entries = sorted((f for f in files if f.path.name.endswith(ENTRY)), key=lambda f: (f.used, f.path.name))
    return Held(tuple(entries), tuple(f for f in files if f.path.name.endswith(PART)))


def remove(files: Sequence[File], at_least: int | None = None, but: Collection[str] = ()) -> Sequence[File]:
    """Remove files in order, all or until they made `at_least` bytes, keys in `but` excepted; give those removed."""
    removed, freed = [], 0
    for file in files:
        if at_least is not None and freed >= at_least:
            break
        if file.key not in but:
            with contextlib.suppress(OSError):  # gone already, or not ours to remove
                file.path.unlink()
                removed.append(file)
                freed += file.size
    return removed


def remove_dead_parts(held: Held) -> None:
    """Remove what runs that were killed left half-written."""
    remove([part for part in held.parts if time.time() - part.used > DEAD_AFTER])


def remove_empty(root: Path) -> None:
    """Remove the folders of a cache that is empty, and it itself where nothing of others is in it."""
    for folder in _folders(root):
        with contextlib.suppress(OSError):
            folder.rmdir()
    with contextlib.suppress(OSError):
        if {p.name for p in root.iterdir()} <= {TAG}:
            (root / TAG).unlink(missing_ok=True)
            root.rmdir()


def in_words(size: int) -> str:
    """Write a number of bytes for people, in powers of ten.

    >>> in_words(123), in_words(204_800), in_words(20_000_000_000)
    ('123 B', '205 kB', '20.0 GB')
    """
    for unit, bytes_ in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= bytes_:
            return f"{size / bytes_:.{0 if size >= 100 * bytes_ else 1}f} {unit}"
    return f"{size} B"


def _files(root: Path) -> Iterator[File]:
    for folder in _folders(root):
        with contextlib.suppress(FileNotFoundError), os.scandir(folder) as found:
            for file in found:
                name = file.name
                if name.startswith((folder.name, f".{folder.name}")) and name.endswith((ENTRY, PART)):
                    with contextlib.suppress(FileNotFoundError):
                        facts = file.stat()
                        yield File(Path(file.path), facts.st_size, facts.st_mtime)


def _folders(root: Path) -> list[Path]:
    """List the folders that hold entries: those named by two hexadecimal digits."""
    names = {f"{i:02x}" for i in range(256)}
    return [p for p in root.iterdir() if p.name in names] if root.is_dir() else []
