"""Whether a file is as long as its own container says: MP4 and QuickTime, Matroska and WebM, AVI."""

import struct
from pathlib import Path
from typing import BinaryIO

# Boxes that stand at the top of a file (ISO/IEC 14496-12, table 1, and QuickTime's); junk at the end is none of them.
BOXES = frozenset(
    b"ftyp pdin moov moof mfra mdat free skip wide pnot meta meco styp sidx ssix prft uuid emsg".split()
)  # fmt: skip
EBML, SEGMENT = 0x1A45DFA3, 0x18538067  # RFC 8794, section 11.2.1; RFC 9559, section 5.1
RIFF_UNKNOWN = (0, 0xFFFFFFFF)  # left by a recording that was not finished


def missing_bytes(path: Path) -> int:
    """Count the bytes that a file announces and does not hold; 0 when it is whole or can't tell.

    The outermost elements of the container are added up; their content is not read, so damage inside goes unseen, as
    does a cut between two fragments of a fragmented MP4, and any cut of a recording that never learnt its length
    (live WebM, MPEG-TS, an unfinished AVI).
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(12)
        if start[4:8] in BOXES:
            end = _end_of_boxes(file, size)
        elif start[:4] == EBML.to_bytes(4, "big"):
            end = _end_of_segment(file)
        elif start[:4] == b"RIFF":
            end = _end_of_riff(file, size)
        else:
            return 0
    return max(0, end - size)


def _end_of_boxes(file: BinaryIO, size: int) -> int:
    """Give the place where the last box ends; a box of size 0 reaches to the end of the file."""
    end = 0
    while end < size:
        file.seek(end)
        head = file.read(16)
        if len(head) < 8 or head[4:8] not in BOXES:
            break
        (length,) = struct.unpack(">I", head[:4])
        if length == 1:  # the size follows in 64 bits
            if len(head) < 16:
                return end + 16
            (length,) = struct.unpack(">Q", head[8:])
        if length < 8:
            break
        end += length
    return end


def _end_of_segment(file: BinaryIO) -> int:
    """Give the place where the first segment of an EBML file ends; 0 when its length is unknown."""
    file.seek(0)
    while (name := _number(file, marked=True)) is not None:
        length = _number(file)
        if length is None:
            return 0
        end = file.tell() + length
        if name == SEGMENT:
            return end
        file.seek(end)
    return 0


def _number(file: BinaryIO, marked: bool = False) -> int | None:
    """Read one variable-length number; with `marked`, as an element's name, keep the bit that marks its length.

    None at the end of the file, and for the length "unknown", all ones (RFC 8794, sections 4 and 6.2).
    """
    first = file.read(1)
    if not first or first[0] == 0:
        return None
    width = 9 - first[0].bit_length()
    rest = file.read(width - 1)
    value = int.from_bytes(first + rest, "big")
    if len(rest) < width - 1:
        return None
    if marked:
        return value
    value &= (1 << 7 * width) - 1
    return None if value == (1 << 7 * width) - 1 else value


def _end_of_riff(file: BinaryIO, size: int) -> int:
    """Give the place where the last RIFF chunk ends; long AVI files have several."""
    end = 0
    while end < size:
        file.seek(end)
        head = file.read(8)
        if len(head) < 8 or head[:4] != b"RIFF":
            break
        (length,) = struct.unpack("<I", head[4:])
        if length in RIFF_UNKNOWN:
            break
        end += 8 + length
    return end
