"""Frames of videos at a chosen rate: a folder of them, searched recursively, or one file."""

import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from repalign.errors import MOST_LISTED, InputError, UnreadableImagesError
from repalign.stimuli.checks import FEWEST_STIMULI, existing
from repalign.stimuli.content import FileDigests, digest_parts
from repalign.stimuli.folder import labels_of, walk
from repalign.stimuli.image import is_image
from repalign.stimuli.video_file import BrokenVideoError, probe, pyav
from repalign.stimuli.video_reader import FrameReader
from repalign.stimuli.video_sampling import Sample, Sampling, parse, sample
from repalign.types import Stimuli

# fmt: off
SUFFIXES = frozenset({
    ".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogv",
    ".ts", ".vob", ".webm", ".wmv",
})
# fmt: on


def is_video(path: str | Path) -> bool:
    """Say by its suffix whether a file is a video; the file is not opened.

    >>> is_video("clips/Tom.MP4"), is_video("Tom.gif")
    (True, False)
    """
    return Path(path).suffix.lower() in SUFFIXES


def holds_videos_only(folder: Path) -> bool:
    """Tell whether a folder has videos and no image; the search ends at the first image."""
    found = False
    try:
        for path in walk(folder, frozenset()):
            if is_image(path):
                return False
            found = found or is_video(path)
    except OSError:  # the loader says what can't be listed
        return False
    return found


def load(spec: str | Path, skip_unreadable: bool = False) -> Stimuli:
    """List frames of every video below a folder, or of one file: `PATH[:key=value,…]`.

    Options: `fps=F`, the first frame at or after every 1/F seconds of presentation time, counted from the first frame
    (default 1; a fraction such as 30000/1001, or `all`); `thin=R`, drop frames that differ by less than R from the
    last one kept, as RMS difference of 32×32 grey copies on the sRGB scale 0..1; `max=N` frames a video, evenly spread
    over what is left. Thinning depends on the pictures, so it would break pairs of two sets (`--data-b`).

    `ids` are `path@seconds`, the same whatever the options; `groups` are the videos' relative paths, `labels` as for a
    folder of images. `notes` say the rate and what was thinned, `skipped` lists files that are no videos.
    What is found to be broken, and what is not, stands at `probe`; how frames are read, at `FrameReader`; what is
    assumed of colours, at `Painter`.

    Raises UnreadableImagesError naming all broken videos with the reason, unless `skip_unreadable` puts them into
    `skipped` whole; InputError for an unknown option, when there is no video, too few frames, or no PyAV.
    """
    path, sampling = parse(str(spec))
    place = existing(path, "video or folder of videos")
    root = place if place.is_dir() else place.parent
    files = _list(place, path)
    pyav()
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        found = list(threads.map(partial(_sample, root, sampling), files.videos))
    samples = [one for one in found if isinstance(one, Sample)]
    broken = tuple((name, one) for name, one in zip(files.videos, found, strict=True) if isinstance(one, str))
    if broken and not (skip_unreadable and samples):
        raise _unreadable(path, broken, len(found))
    name = f"{path.rstrip('/')}/" if place.is_dir() else path
    return _stimuli(name, sampling, samples, files.others + broken)


def without_broken(stimuli: Stimuli, other: Stimuli) -> Stimuli:
    """Leave out the videos that the other side of a pair skipped, and list them."""
    gone = sorted({name for name, _ in other.skipped}.intersection(stimuli.groups or ()))
    if not gone or stimuli.groups is None:
        return stimuli
    kept = stimuli.take([i for i, name in enumerate(stimuli.groups) if name not in gone])
    return replace(kept, skipped=kept.skipped + tuple((name, f"{other.name} has it, unreadable") for name in gone))


@dataclass(frozen=True)
class _Files:
    videos: tuple[str, ...]
    others: tuple[tuple[str, str], ...]


def _list(place: Path, path: str) -> _Files:
    """Sort the files of a folder, by relative path, into videos and others with a reason; or take the one file."""
    if not place.is_dir():
        return _Files((place.name,), ())
    try:
        names = sorted(file.relative_to(place).as_posix() for file in walk(place, frozenset()))
    except OSError as error:
        raise InputError(f"{error.filename} can't be listed: {error.strerror}; give a readable folder") from error
    videos = tuple(name for name in names if is_video(name))
    if not videos:
        raise InputError(f"{path} holds {len(names)} files but no video; give a folder of .mp4, .mkv, .webm or others")
    return _Files(videos, tuple((name, "by its suffix it is no video") for name in names if not is_video(name)))


def _sample(root: Path, sampling: Sampling, name: str) -> Sample | str:
    """Choose frames of one video; a reason when it can't be read."""
    try:
        return sample(probe(root / name, name), sampling)
    except BrokenVideoError as error:
        return str(error)


def _stimuli(name: str, sampling: Sampling, samples: Sequence[Sample], skipped: tuple[tuple[str, str], ...]) -> Stimuli:
    """Lay the frames of all videos in one row."""
    places = [(number, place) for number, one in enumerate(samples) for place in range(len(one.frames))]
    if len(places) < FEWEST_STIMULI:
        raise InputError(
            f"{name} gives {len(places)} frames ({sampling}), but similarity needs at least {FEWEST_STIMULI} stimuli; "
            "raise fps, relax thin or max, or add videos"
        )
    ids = tuple(f for one in samples for f in np.array(one.video.ids())[one.frames].tolist())
    videos = [one.video for one in samples]
    groups = tuple(videos[number].name for number, _ in places)
    reader = FrameReader(videos, [one.frames for one in samples])
    digests = FileDigests([video.path for video in videos])

    def content(i: int) -> bytes:
        number, place = places[i]
        frame = int(samples[number].frames[place])
        return digest_parts("frame", digests[number], frame, int(videos[number].ticks[frame]))

    return Stimuli(
        name=name,
        ids=ids,
        load=lambda i: reader.load(*places[i]),
        groups=groups,
        labels=labels_of(groups),
        content=content,
        notes=_notes(sampling, samples, len(ids)),
        skipped=tuple(sorted(skipped)),
    )


def _notes(sampling: Sampling, samples: Sequence[Sample], n: int) -> tuple[str, ...]:
    """Say how the frames were chosen, and what the pictures don't show as meant."""
    notes = [f"{n} frames of {len(samples)} videos: {sampling}"]
    if sampling.thin is not None:
        dropped = sum(one.dropped for one in samples)
        whole = dropped + sum(len(one.frames) for one in samples)
        notes.append(f"thinned: {dropped} of {whole} frames dropped, less than {sampling.thin:g} (RMS of grey) from "
                     "the last one kept")  # fmt: skip
    if sampling.most is not None:
        notes.append(f"at most {sampling.most} frames a video, evenly spread")
    remarks = Counter(remark for one in samples for remark in one.video.remarks)
    return (*notes, *(f"{count} videos have {remark}" for remark, count in remarks.items()))


def _unreadable(path: str, broken: tuple[tuple[str, str], ...], total: int) -> UnreadableImagesError:
    """Build the error that lists every broken video with its reason."""
    listed = "; ".join(f"{name} ({reason})" for name, reason in broken[:MOST_LISTED])
    more = f"; and {len(broken) - MOST_LISTED} more" if len(broken) > MOST_LISTED else ""
    remedy = "mend or remove them" if len(broken) == total else "mend or remove them, or go on with --skip-unreadable"
    return UnreadableImagesError(
        f"{path}: {len(broken)} of {total} videos can't be read: {listed}{more}; {remedy}", broken
    )
