"""Digests of what a stimulus is made of: they cost far less than decoding it, and no picture is opened for them."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import final

DIGEST_BYTES = 16  # as few as make two of 10¹⁵ stimuli equal by chance once in 10⁸ sets


def digest_bytes(data: bytes) -> bytes:
    """Digest an encoded picture: equal bytes decode to equal pictures, wherever they lie."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


def digest_file(path: Path) -> bytes:
    """Digest the bytes of a picture's file, as `digest_bytes` does; raises OSError when it can't be read."""
    return digest_bytes(path.read_bytes())


def digest_parts(kind: str, *parts: bytes | str | int) -> bytes:
    """Digest several values in order, apart from any other `kind` and from the same bytes parted elsewhere.

    >>> digest_parts("window", b"ab", b"c") == digest_parts("window", b"a", b"bc")
    False
    """
    found = hashlib.blake2b(digest_size=DIGEST_BYTES, person=kind.encode())
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode()
        found.update(len(data).to_bytes(8, "big"))
        found.update(data)
    return found.digest()


@final
class FileDigests:
    """Digests large files, each once, in pieces, by whichever thread asks first; others wait for it."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._locks = [Lock() for _ in paths]
        self._found: dict[int, bytes] = {}

    def __getitem__(self, number: int) -> bytes:
        """Give the digest of the `number`-th file; raises OSError when it can't be read."""
        with self._locks[number]:
            if number not in self._found:
                with self._paths[number].open("rb") as file:
                    made = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=DIGEST_BYTES))
                self._found[number] = made.digest()
            return self._found[number]
