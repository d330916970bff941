"""The members of a tar archive, from a file whose data is passed over or from a pipe that is read once.

`tarfile` takes a damaged header, and a file that was cut between two members, for the end of the archive, and needs
four times as long to list 200,000 members.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BufferedIOBase
from typing import final

BLOCK = 512
PIECE = 1 << 20  # bytes passed over at a time
EMPTY = bytes(BLOCK)
# kinds of members (POSIX.1-2024, pax, "ustar Interchange Format", typeflag; L and K are GNU's)
REGULAR = frozenset((b"0", b"\0", b"7"))
WITHOUT_DATA = frozenset((b"1", b"2", b"3", b"4", b"5", b"6"))
LONG_NAME, EXTENDED, SPARSE = b"L", b"x", b"S"


class DamagedTarError(Exception):
    """Raised inside the reading of an archive; the text is the reason with the byte, who catches it names the file."""


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file in an archive: where its bytes lie, and the bytes themselves where they were wanted."""

    name: str
    offset: int
    size: int
    data: bytes | None


def list_members(file: BufferedIOBase, wanted: Callable[[str], bool]) -> Iterator[Member]:
    """Visit the regular members of a file in order, by their headers; read the data of those that are `wanted`.

    Raises DamagedTarError when a header is damaged or the file ends before the archive's end mark.
    """
    length = file.seek(0, 2)
    file.seek(0)
    return _members(_Source(file.read, lambda at, count: min(file.seek(at + count), length) - at), wanted)


def read_members(read: Callable[[int], bytes], wanted: Callable[[str], bool]) -> Iterator[Member]:
    """Visit the regular members of what can be read once only, as `list_members` does, to the end of the pipe.

    `read(count)` gives the next bytes, fewer only at the end.
    """

    def skip(_at: int, count: int) -> int:
        left = count
        while left and (piece := read(min(left, PIECE))):
            left -= len(piece)
        return count - left

    yield from _members(_Source(read, skip), wanted)
    while read(PIECE):  # a sender that is not heard to the end ends with an error
        pass


@final
class _Source:
    """Counts the bytes taken and passed over; `skip(at, count)` gives how many of them there are."""

    def __init__(self, read: Callable[[int], bytes], skip: Callable[[int, int], int]) -> None:
        self.at = 0
        self._read, self._skip = read, skip

    def take(self, count: int) -> bytes:
        data = self._read(count)
        self.at += len(data)
        if len(data) < count:
            raise DamagedTarError(f"it is cut off: it ends at byte {self.at:,}, without the archive's end mark")
        return data

    def skip(self, count: int) -> None:
        passed = self._skip(self.at, count)
        self.at += passed
        if passed < count:
            raise DamagedTarError(f"it is cut off: it ends at byte {self.at:,}, inside a member")


def _members(source: _Source, wanted: Callable[[str], bool]) -> Iterator[Member]:
    name, size = "", None  # what an extension header says of the member after it
    while (head := source.take(BLOCK)) != EMPTY:
        kind, length = _checked(head, source.at - BLOCK)
        if kind == LONG_NAME:
            name = _text(_padded(source, length))
        elif kind == EXTENDED:
            records = _records(_padded(source, length), source.at)
            name = records.get("path", name)
            size = int(records["size"]) if "size" in records else size
        else:
            name, length = name or _name(head), length if size is None else size
            if kind in REGULAR and not name.endswith("/"):
                offset = source.at
                data = _padded(source, length) if wanted(name) else _passed(source, length)
                yield Member(name, offset, length, data)
            elif kind not in WITHOUT_DATA:
                _passed(source, length)
            name, size = "", None


def _checked(head: bytes, at: int) -> tuple[bytes, int]:
    """Give the kind and size that a header states.

    Raises DamagedTarError when it is no header, by its checksum, or that of a sparse file.
    """
    try:
        stated, size = _number(head[148:156]), _number(head[124:136])
    except ValueError:
        raise _no_header(at) from None
    if stated != sum(head) - sum(head[148:156]) + 8 * ord(" "):
        raise _no_header(at)
    if head[156:157] == SPARSE:
        raise DamagedTarError(f"the member at byte {at:,} is a sparse file, which is not supported")
    return head[156:157], size


def _no_header(at: int) -> DamagedTarError:
    return DamagedTarError(f"at byte {at:,} a member's header is expected, and what stands there is none")


def _number(field: bytes) -> int:
    """Read an octal number, or GNU's binary one, which a set highest bit marks.

    >>> _number(b"00000001750 "), _number(bytes([128, 0, 0, 1, 0]))
    (1000, 256)
    """
    if field[0] & 0x80:
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    return int(field.strip(b" \0") or b"0", 8)


def _padded(source: _Source, length: int) -> bytes:
    """Take the data of a member, and pass over what fills its last block."""
    data = source.take(length)
    source.skip(-length % BLOCK)
    return data


def _passed(source: _Source, length: int) -> None:
    """Pass over the data of a member."""
    source.skip(-(-length // BLOCK) * BLOCK)


def _name(head: bytes) -> str:
    """Join the two parts of a name; GNU's older headers have other things where the first part lies."""
    name = _text(head[:100])
    prefix = _text(head[345:500]) if head[257:263] == b"ustar\0" else ""
    return f"{prefix}/{name}" if prefix else name


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode(errors="replace")


def _records(data: bytes, at: int) -> dict[str, str]:
    """Read the records `length key=value` of an extended header."""
    records: dict[str, str] = {}
    try:
        while data:
            length = int(data.split(b" ", 1)[0])
            key, _, value = data[:length].split(b" ", 1)[1].removesuffix(b"\n").partition(b"=")
            records[key.decode()] = value.decode(errors="replace")
            data = data[max(length, 1) :]
        int(records.get("size", "0"))
    except (ValueError, IndexError):
        raise DamagedTarError(f"the extended header before byte {at:,} is damaged") from None
    return records
