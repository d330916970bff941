"""A video file on disk: when each of its frames is shown, and whether the file can be read to its end."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from itertools import chain, dropwhile, islice
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from repalign.errors import InputError
from repalign.stimuli.truncation import missing_bytes

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

# Where one packet is one frame and both have the same time, so that nothing need be decoded to list the frames. Others
# hide frames (VP8), repeat them (MPEG-4 part 2) or leave times out (AVI, MPEG-PS).
EXACT_CODECS = frozenset({"h264", "hevc", "av1", "libdav1d", "vp9", "ffv1", "mjpeg", "prores"})
EXACT_FORMATS = ("mov", "matroska")
HEAD = 16  # frames decoded to see that the packets' times are the frames'
DECLARING_FORMATS = ("flv", "asf")  # they say how long they last, but not how many bytes they have
MOST_LOST_SECONDS = 1.0  # such lengths are rounded, and may count a sound track that ends later
HDR_TRANSFERS = (16, 18)  # PQ and HLG in ITU-T H.273, table 3


class BrokenVideoError(Exception):
    """Raised inside the reading of a video; the text is the reason, and who catches it names the file."""


@dataclass(frozen=True)
class Video:
    """A video that was read to its end, without its pictures.

    `name` is its relative POSIX path; `ticks (n,)` are the presentation times of its frames, ascending, in units of
    `time_base` seconds; with `exact` they are those of the packets, so that a reader may seek, else frames count from
    the first; `pixels` has one frame; `remarks` say what its pictures will not show as meant.
    """

    name: str
    path: Path
    ticks: NDArray[np.int64]
    time_base: Fraction
    exact: bool
    pixels: int
    remarks: tuple[str, ...] = ()

    def seconds(self) -> NDArray[np.float64]:
        """Give the time of each frame, in seconds from the first."""
        return (self.ticks - self.ticks[0]) * float(self.time_base)

    def ids(self) -> list[str]:
        """Name each frame by file and time to the millisecond, or the microsecond where that alone tells them apart."""
        times = self.seconds()
        names = [f"{self.name}@{t:.3f}s" for t in times]
        return names if len(set(names)) == len(names) else [f"{self.name}@{t:.6f}s" for t in times]


@cache
def pyav() -> ModuleType:
    """Import PyAV, and keep libav from writing to the terminal.

    Raises InputError when it is missing.
    """
    try:
        import av
        import av.logging
    except ImportError as error:
        raise InputError(
            f"videos need PyAV, which can't be imported ({error}): pip install 'repalign[video]'"
        ) from None
    av.logging.set_level(None)
    return av


@contextmanager
def opened(path: Path, threaded: bool = True) -> "Iterator[tuple[InputContainer, VideoStream]]":
    """Open a file with the video stream to be read, by one thread or several, and close it in the end.

    Raises BrokenVideoError for what libav can't read, in the body too. Files that name others (playlists) don't reach
    the network.
    """
    av = pyav()
    try:
        # an absolute path, as libav takes what stands before a colon for a protocol
        with av.open(
            str(path.absolute()), container_options={"protocol_whitelist": "file"}, metadata_errors="replace"
        ) as container:
            stream = _stream(container)
            stream.thread_type = "AUTO" if threaded else "NONE"
            yield container, stream
    except av.FFmpegError as error:
        raise BrokenVideoError(f"libav can't read it ({error.strerror})") from error


def shown(container: "InputContainer", stream: "VideoStream", threaded: bool = True) -> "Iterator[VideoFrame]":
    """Decode frames in the order in which they are shown, from the first whole one after a cut or a seek.

    Raises BrokenVideoError where decoding fails; with one thread, all frames before the damage are given first.
    """
    return dropwhile(lambda frame: frame.is_corrupt, _decoded(container, stream, threaded))


def shown_from(
    tick: int, container: "InputContainer", stream: "VideoStream", threaded: bool = True
) -> "Iterator[VideoFrame] | None":
    """Decode from a key frame at or before the time `tick`; None when the file leads to a later one only."""
    try:
        container.seek(tick, stream=stream)
    except pyav().FFmpegError:
        return None
    frames = shown(container, stream, threaded)
    first = next(frames, None)
    return None if first is None or first.pts is None or first.pts > tick else chain([first], frames)


def probe(path: Path, name: str) -> Video:
    """List the frames of a file and see that nothing is missing at its end.

    Packets are read, not decoded, where their times are the frames' (H.264, HEVC, AV1, VP9 and others, in MP4 or
    Matroska); elsewhere every frame is decoded. Found: a file whose container announces more bytes than there are, an
    index that is missing, a packet cut in two, an end long before the declared one (FLV, WMV), an undecodable frame
    where frames are decoded. Not found: what `missing_bytes` lists, and damage inside packets that are not decoded;
    that shows when the frame is loaded. Raises BrokenVideoError.
    """
    try:
        missing, size = missing_bytes(path), path.stat().st_size
    except OSError as error:
        raise BrokenVideoError(error.strerror or "it can't be opened") from error
    if size == 0:
        raise BrokenVideoError("it is empty")
    if missing:
        raise BrokenVideoError(f"it is cut off: {missing:,} bytes of those it announces are missing")
    ticks = _packet_ticks(path)
    exact = ticks is not None and _starts_with(path, ticks)
    if ticks is None or not exact:
        ticks = _frame_ticks(path)
    with opened(path) as (container, stream):
        _require_length(container, stream, ticks)
        pixels = stream.codec_context.width * stream.codec_context.height
        return Video(name, path, ticks, _time_base(stream), exact, pixels, _remarks(stream))


def _stream(container: "InputContainer") -> "VideoStream":
    """Choose the first video stream that has a frame rate, which a cover picture has not."""
    streams = sorted(container.streams.video, key=lambda stream: not stream.average_rate)
    if not streams:
        raise BrokenVideoError("it has no video stream")
    if streams[0].codec_context is None:
        raise BrokenVideoError("its video is in no format libav decodes, or its index is missing")
    return streams[0]


def _decoded(container: "InputContainer", stream: "VideoStream", threaded: bool) -> "Iterator[VideoFrame]":
    """Decode a stream, and at damage the frames that wait for their turn; with threads those may lie behind it."""
    packet = None
    try:
        for packet in container.demux(stream):
            yield from packet.decode()
    except pyav().FFmpegError as error:
        if packet is not None and not threaded:
            yield from (frame for frame in stream.decode(None) if frame.pts != packet.pts)
        raise BrokenVideoError(f"it is damaged ({error.strerror})") from error


def _time_base(stream: "VideoStream") -> Fraction:
    if not stream.time_base:
        raise BrokenVideoError("it has no unit of time")
    return stream.time_base


def _packet_ticks(path: Path) -> NDArray[np.int64] | None:
    """List the times of the packets that are shown, sorted; None where they need not be those of the frames."""
    with opened(path) as (container, stream):
        known = container.format.name.startswith(EXACT_FORMATS) and stream.codec_context.name in EXACT_CODECS
        if not known:
            return None
        packets = [p for p in container.demux(stream) if p.size and not p.is_discard]
        if any(p.is_corrupt for p in packets):
            raise BrokenVideoError("it is cut off within a frame")
        times = [p.pts for p in packets if p.pts is not None]
    ticks = np.unique(np.array(times, np.int64))
    return ticks if 0 < len(ticks) == len(packets) else None


def _starts_with(path: Path, ticks: NDArray[np.int64]) -> bool:
    """Tell whether the first frames that are decoded have the first of these times."""
    with opened(path) as (container, stream):
        return [frame.pts for frame in islice(shown(container, stream), HEAD)] == ticks[:HEAD].tolist()


def _frame_ticks(path: Path) -> NDArray[np.int64]:
    """Decode all frames and list their times; those come in order, even where the file has the times out of order."""
    times: list[int] = []
    with opened(path) as (container, stream):
        for frame in shown(container, stream):
            if frame.pts is None:
                raise BrokenVideoError(f"frame {len(times)} has no time; a copy with another container may have")
            if frame.is_corrupt:
                raise BrokenVideoError(f"frame {len(times)} is damaged")
            times.append(frame.pts)
        sound = bool(container.streams.audio)
    ticks = np.unique(np.array(times, np.int64))
    if len(ticks) < len(times):
        raise BrokenVideoError("two of its frames have the same time; a copy with another container may not")
    if not len(ticks) or (len(ticks) == 1 and sound):
        raise BrokenVideoError("it has no frames" if not len(ticks) else "it has no film, only sound with a picture")
    return ticks


def _require_length(container: "InputContainer", stream: "VideoStream", ticks: NDArray[np.int64]) -> None:
    """Raise BrokenVideoError when the frames of a format that declares its length end well before it."""
    if container.duration is None or container.format.name not in DECLARING_FORMATS:
        return
    declared, last = container.duration / pyav().time_base, float(ticks[-1] * _time_base(stream))
    gap = float(np.diff(ticks).max(initial=0) * _time_base(stream))
    if last + gap < declared - MOST_LOST_SECONDS:
        raise BrokenVideoError(f"it is cut off: it lasts {declared:.1f} s, but its last frame is at {last:.1f} s")


def _remarks(stream: "VideoStream") -> tuple[str, ...]:
    """Say what is not corrected in the pictures."""
    found = []
    if stream.codec_context.color_trc in HDR_TRANSFERS:
        found.append("HDR (PQ or HLG) that is not converted, so they look flat")
    if stream.sample_aspect_ratio not in (None, 0, 1):
        found.append("pixels that are not square, and are shown as stored")
    return tuple(found)
