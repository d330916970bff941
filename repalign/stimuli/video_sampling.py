"""Which frames of a video are wanted: a rate in presentation time, thinning of near copies, a largest number."""

import re
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from math import sqrt
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from repalign.errors import InputError, unknown
from repalign.stimuli.video_file import Video
from repalign.stimuli.video_reader import pictures

OPTIONS = re.compile(r"[a-z_]+=[^,=]*(,[a-z_]+=[^,=]*)*")
MOST_FPS = 1_000_000
GREY_SIDE = 32  # of the copies that thinning compares: small enough for grain and coding noise to average out
MOST_LATE, LEAST_LATE = 1e-3, 1e-6  # seconds that rounding may take from a time: a tick of the stream, within these


@dataclass(frozen=True)
class Sampling:
    """Which frames of a video are wanted; `fps` None is every frame, `thin` and `most` None are no limit."""

    fps: Fraction | None = Fraction(1)
    thin: float | None = None
    most: int | None = None

    def __str__(self) -> str:
        return "every frame" if self.fps is None else f"{float(self.fps):.6g} a second of video time"


@dataclass(frozen=True)
class Sample:
    """The indices of the frames wanted of one video, and how many thinning dropped."""

    video: Video
    frames: NDArray[np.intp]
    dropped: int


def parse(spec: str) -> tuple[str, Sampling]:
    """Part a path from its options; a path that exists has none, whatever characters it holds.

    Raises InputError for an unknown option or a value that is out of range.

    >>> parse("clips:2024/a=b:fps=1/2,max=8")
    ('clips:2024/a=b', Sampling(fps=Fraction(1, 2), thin=None, most=8))
    """
    path, _, last = spec.rpartition(":")
    if not OPTIONS.fullmatch(last) or Path(spec).expanduser().exists():
        path, last = spec, ""
    if not path:
        raise InputError("video: names no file; give a video or a folder of videos, video:PATH[:key=value,…]")
    given = [option.split("=") for option in last.split(",") if option]
    known = {"fps": _fps, "thin": _thin, "max": _most}
    for key, count in Counter(key for key, _ in given).items():
        if key not in known:
            raise unknown("option of video", key, known)
        if count > 1:
            raise InputError(f"video: {key} is given {count} times in {last}; give it once")
    values = {"most" if key == "max" else key: known[key](value) for key, value in given}
    return path, Sampling(**values)  # type: ignore[arg-type]


def sample(video: Video, sampling: Sampling) -> Sample:
    """Choose frames by rate, then thin them, then spread the largest number evenly.

    Raises BrokenVideoError when a frame that thinning looks at can't be decoded.
    """
    frames = at_rate(video, sampling.fps)
    kept = frames if sampling.thin is None else _thinned(video, frames, sampling.thin)
    dropped = len(frames) - len(kept)
    if sampling.most is not None and len(kept) > sampling.most:
        kept = kept[np.linspace(0, len(kept) - 1, sampling.most).round().astype(np.intp)]
    return Sample(video, kept, dropped)


def at_rate(video: Video, fps: Fraction | None) -> NDArray[np.intp]:
    """Choose the first frame at or after every k/fps seconds from the first frame; each once."""
    if fps is None:
        return np.arange(len(video.ticks))
    late = min(max(float(video.time_base), LEAST_LATE), MOST_LATE)
    # a frame is the first after some k/fps when a whole number lies between its time and that of the one before
    reached = np.floor((video.seconds() + late) * float(fps))
    return np.flatnonzero(np.diff(reached, prepend=-1) > 0)


def _thinned(video: Video, frames: NDArray[np.intp], least: float) -> NDArray[np.intp]:
    """Keep the first frame and each that differs enough from the last one kept."""
    kept: list[int] = []
    last: NDArray[np.float64] | None = None
    for at, picture in zip(frames.tolist(), pictures(video, frames), strict=True):
        grey = _small_grey(picture)
        if last is None or sqrt(np.mean((grey - last) ** 2)) >= least:
            kept.append(at)
            last = grey
    return np.array(kept, np.intp)


def _small_grey(picture: Image.Image) -> NDArray[np.float64]:
    small = picture.convert("L").resize((GREY_SIDE, GREY_SIDE), Image.Resampling.BOX)
    return np.asarray(small) / 255


def _fps(value: str) -> Fraction | None:
    if value == "all":
        return None
    try:
        fps = Fraction(value)
    except (ValueError, ZeroDivisionError):
        fps = Fraction(0)
    if not 0 < fps <= MOST_FPS:
        raise InputError(f"video: fps takes frames a second above 0 and up to {MOST_FPS:,}, or all, not {value!r}")
    return fps


def _thin(value: str) -> float:
    try:
        thin = float(value)
    except ValueError:
        thin = 0.0
    if not 0 < thin <= 1:
        raise InputError(f"video: thin takes an RMS difference above 0 and up to 1, such as 0.02, not {value!r}")
    return thin


def _most(value: str) -> int:
    if not (value.isdecimal() and int(value) > 0):
        raise InputError(f"video: max takes a number of frames above 0, not {value!r}")
    return int(value)
