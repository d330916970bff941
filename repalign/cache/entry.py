"""The file of one entry: a safetensors file whose metadata hold a record and a checksum over the whole file."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = "repalign-cache-1"
LENGTH_BYTES = 8  # of the header, in front of every safetensors file
CHECKSUM_BYTES = 16
BLANK = b"0" * (2 * CHECKSUM_BYTES)
# Inside a string of the header every quotation mark has a backslash before it, so this is found nowhere else.
CHECKSUM = re.compile(rb'"checksum":"([0-9a-f]{%d})"' % len(BLANK))
LONGEST_HEADER = 100_000_000  # bytes; what safetensors itself allows


class DamagedError(Exception):
    """Raised when a file is not, byte for byte, an entry that was written under its key."""


@dataclass(frozen=True)
class Entry:
    """What is kept under one key: tensors by name, and a record of plain values as JSON gives them back."""

    tensors: "Mapping[str, Tensor]"
    record: Mapping[str, object]


def encode(key: str, tensors: "Mapping[str, Tensor]", record: Mapping[str, object]) -> tuple[bytes, memoryview]:
    """Write an entry as the two parts of its file: the header with the checksum, and the numbers.

    The checksum is blake2b over every byte of the file, its own digits taken as zeros.
    """
    from safetensors.torch import save

    metadata = {"format": FORMAT, "key": key, "record": json.dumps(record), "checksum": BLANK.decode()}
    file = save(_owned(tensors), metadata)
    start = LENGTH_BYTES + int.from_bytes(file[:LENGTH_BYTES], "little")
    header, numbers = file[:start], memoryview(file)[start:]
    return CHECKSUM.sub(b'"checksum":"%s"' % _digest(header, numbers), header), numbers


def decode(file: bytes, key: str) -> Entry:
    """Read an entry.

    Raises DamagedError when the file is cut off, was changed, or is no entry of `key`.
    """
    from safetensors.torch import load

    start = LENGTH_BYTES + int.from_bytes(file[:LENGTH_BYTES], "little")
    header = file[:start]
    found = CHECKSUM.findall(header)
    if len(found) != 1 or len(header) < start:
        raise DamagedError("it is cut off, or was never an entry")
    if _digest(CHECKSUM.sub(b'"checksum":"%s"' % BLANK, header), memoryview(file)[start:]) != found[0]:
        raise DamagedError("its checksum is wrong")
    metadata = json.loads(header[LENGTH_BYTES:])["__metadata__"]
    if (metadata.get("format"), metadata.get("key")) != (FORMAT, key):
        raise DamagedError(f"it is {metadata.get('format')} for {metadata.get('key')}, not {FORMAT} for {key}")
    return Entry(load(file), json.loads(metadata["record"]))


def read_header(path: Path) -> Mapping[str, object] | None:
    """Read a safetensors file's header alone, unchecked; None where there is none."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(LENGTH_BYTES), "little")
            header = json.loads(file.read(length)) if 0 < length <= LONGEST_HEADER else None
    except (OSError, ValueError):
        return None
    return header if isinstance(header, dict) else None


def _digest(header: bytes, numbers: memoryview) -> bytes:
    digest = hashlib.blake2b(header, digest_size=CHECKSUM_BYTES)
    digest.update(numbers)
    return digest.hexdigest().encode()


def _owned(tensors: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
    """Copy what safetensors refuses: views of a larger tensor, and one tensor under two names."""
    owned, seen = dict[str, "Tensor"](), set[int]()
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        storage = tensor.untyped_storage()
        if storage.data_ptr() in seen or storage.nbytes() != tensor.nbytes:
            tensor = tensor.clone()
        seen.add(tensor.untyped_storage().data_ptr())
        owned[name] = tensor
    return owned
