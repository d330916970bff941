"""Random access to chosen frames of many videos, by several threads, with each stretch decoded once."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from threading import Lock
from typing import TYPE_CHECKING, final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from repalign.errors import InputError
from repalign.stimuli.video_file import BrokenVideoError, Video, opened, shown, shown_from
from repalign.stimuli.video_picture import Painter

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

MOST_AHEAD = 32  # wanted frames decoded at a time
FEWEST_AHEAD = 4  # even of the largest pictures
AHEAD_BYTES = 64 << 20  # RGB of one stretch
WAITING_BYTES = 512 << 20  # RGB of all frames that were decoded and not asked for yet
MOST_OPEN = 8  # videos, as many as threads ask


def pictures(video: Video, frames: NDArray[np.intp]) -> Iterator[Image.Image]:
    """Decode the frames at these ascending indices, one after the other.

    Raises BrokenVideoError at one that can't be decoded.
    """
    with closing(Cursor(video, frames, ahead=1)) as cursor:
        for place in range(len(frames)):
            yield cursor.read(place)[place]


@final
class FrameReader:
    """Gives the `place`-th wanted frame of the `number`-th video to any thread.

    A video is decoded forwards, up to 32 wanted frames at a time (fewer of large pictures, 64 MiB), by whichever thread
    asks first; others that ask for the same video wait for it. What was decoded ahead waits, at most 512 MiB of it,
    until it is asked for, and is given out once. So frames in order are decoded about once; a frame out of order costs
    a seek to the key frame before it. Up to 8 videos are open; one is closed after its last wanted frame.
    """

    def __init__(self, videos: Sequence[Video], frames: Sequence[NDArray[np.intp]]) -> None:
        self._videos, self._frames = videos, frames
        self._lock = Lock()  # of what follows; never held while decoding or while waiting for a cursor
        self._cursors: OrderedDict[int, Cursor] = OrderedDict()
        self._waiting: OrderedDict[tuple[int, int], Image.Image] = OrderedDict()
        self._bytes = 0

    def load(self, number: int, place: int) -> Image.Image:
        """Give one picture; raises InputError naming the file and the time of a frame that can't be decoded."""
        cursor = self._cursor(number)
        with cursor.lock:
            picture = self._take(number, place)
            if picture is not None:
                return picture
            try:
                found = cursor.read(place)
            except BrokenVideoError as error:
                video = self._videos[number]
                seconds = video.seconds()[self._frames[number][place]]
                raise InputError(
                    f"{video.path}: the frame at {seconds:.3f} s can't be decoded: {error}; "
                    "mend the file, or go on without the frame with --skip-unreadable"
                ) from error
            picture = found.pop(place)
            self._keep(number, found)
            return picture

    def _cursor(self, number: int) -> "Cursor":
        """Find or make the cursor of a video, and close the one that was not used for longest."""
        with self._lock:
            cursor = self._cursors.get(number)
            if cursor is None:
                cursor = self._cursors[number] = Cursor(self._videos[number], self._frames[number])
            self._cursors.move_to_end(number)
            oldest = self._cursors.popitem(last=False)[1] if len(self._cursors) > MOST_OPEN else None
        if oldest is not None:
            oldest.retire()
        return cursor

    def _take(self, number: int, place: int) -> Image.Image | None:
        with self._lock:
            picture = self._waiting.pop((number, place), None)
            self._bytes -= _bytes(picture)
        return picture

    def _keep(self, number: int, found: dict[int, Image.Image]) -> None:
        """Let pictures wait, and drop those that waited longest when they are too many."""
        with self._lock:
            for place, picture in found.items():
                self._bytes += _bytes(picture) - _bytes(self._waiting.get((number, place)))
                self._waiting[number, place] = picture
            while self._bytes > WAITING_BYTES:
                self._bytes -= _bytes(self._waiting.popitem(last=False)[1])


@final
class Cursor:
    """A place in one video from which its wanted frames are decoded forwards; `lock` is for its user to hold."""

    def __init__(self, video: Video, frames: NDArray[np.intp], ahead: int | None = None) -> None:
        fitting = AHEAD_BYTES // max(3 * video.pixels, 1)
        self.lock = Lock()
        self._video, self._wanted = video, frames
        self._ahead = ahead or min(max(fitting, FEWEST_AHEAD), MOST_AHEAD)
        self._next = 0  # the wanted frame that comes next
        self._stack = ExitStack()
        self._shown: Iterator[VideoFrame] | None = None  # None while the file is closed
        self._passed = 0  # frames taken from it
        self._damaged = False  # whether the last of them can't be trusted
        self._painter = Painter()
        self._threaded = True  # until a frame fails: libav's threads lose good frames before a damaged one too
        self._retired = False

    def read(self, place: int) -> dict[int, Image.Image]:
        """Decode the wanted frame at `place`, and others ahead of it when it lies just ahead itself.

        A frame far away, or behind, is decoded alone after a seek. Raises BrokenVideoError when this very frame can't
        be decoded; others that can't are left for their own turn.
        """
        near = self._next <= place < self._next + self._ahead
        stretch = (
            range(self._next, min(self._next + self._ahead, len(self._wanted))) if near else range(place, place + 1)
        )
        found: dict[int, Image.Image] = {}
        for at in stretch:
            try:
                found[at] = self._picture(at, seek=at == stretch.start and not near)
            except BrokenVideoError:
                again, self._threaded = self._threaded, False
                self._close_at(at if again else at + 1)
                if place in found:
                    return found
                if at == place and not again:
                    raise
                return found | self.read(place)
        if stretch.stop == len(self._wanted) or self._retired:
            self._close_at(stretch.stop % len(self._wanted))  # from the first again after the last
        return found

    def retire(self) -> None:
        """Close the file as soon as nobody reads it; who still holds the cursor may read on, a stretch at a time."""
        with self.lock:
            self._retired = True
            self.close()

    def close(self) -> None:
        """Close the file; the next read opens it again."""
        self._shown = None
        self._stack.close()

    def _close_at(self, place: int) -> None:
        self.close()
        self._next = place

    def _picture(self, place: int, seek: bool) -> Image.Image:
        """Go on to one wanted frame, or `seek` it, and convert it."""
        if seek or self._shown is None:
            self._open(int(self._wanted[place]))
        frame = self._advance(int(self._wanted[place]))
        if frame is None:
            raise BrokenVideoError("it is missing")
        if self._damaged:
            raise BrokenVideoError("it is damaged")
        self._next = place + 1
        return self._painter.paint(frame)

    def _open(self, frame: int) -> None:
        """Open the file so that this frame is still to come, from the key frame before it where times allow."""
        self.close()
        tick = int(self._video.ticks[frame])
        container, stream = self._stack.enter_context(opened(self._video.path, self._threaded))
        self._passed, self._damaged = 0, False
        if self._video.exact and frame > 0:
            self._shown = shown_from(tick, container, stream, self._threaded)
            if self._shown is not None:
                return
            self.close()  # the seek went too far, so from the start
            container, stream = self._stack.enter_context(opened(self._video.path, self._threaded))
        self._shown = shown(container, stream, self._threaded)

    def _advance(self, frame: int) -> "VideoFrame | None":
        """Decode up to one frame, by its time, or its number where times are not exact; None when it is missing."""
        tick = int(self._video.ticks[frame])
        for found in self._shown or ():
            self._passed += 1
            # what is predicted from a damaged frame is damaged too
            self._damaged = found.is_corrupt or (self._damaged and not found.key_frame)
            if not self._video.exact:
                if self._passed > frame:
                    return found
            elif found.pts is not None and found.pts >= tick:
                return found if found.pts == tick else None
        return None


def _bytes(picture: Image.Image | None) -> int:
    return 0 if picture is None else 3 * picture.width * picture.height
