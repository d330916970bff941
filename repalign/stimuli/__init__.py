"""Stimuli from a folder of images, videos, shards, a manifest, an array or the bundled photographs; and streams."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from repalign.errors import InputError, unknown
from repalign.stimuli import array, bundled, folder, hf_stream, manifest, torchvision_data, video, wds, wds_stream
from repalign.stimuli.checks import existing, one_image, require_enough
from repalign.stimuli.image import is_image
from repalign.stimuli.paired import load_pair
from repalign.stimuli.stream import Skipped, Stream
from repalign.types import Stimuli

STIMULI: dict[str, Callable[[str], Stimuli]] = {
    "array": array.load,
    "bundled": bundled.load,
    "folder": folder.load,
    "manifest": manifest.load,
    "torchvision": torchvision_data.load,
    "video": video.load,
    "wds": wds.load,
}
MENDABLE = {
    "video": video.load,
    "wds": wds.load,
}  # those of STIMULI that find what is broken before anything is decoded
STREAMS: dict[str, Callable[[str, Skipped | None], Stream]] = {"hfdata": hf_stream.load, "wds": wds_stream.load}
SUFFIXES = {".csv": "manifest", ".npy": "array", ".npz": "array", ".tar": "wds"}
ACCEPTED = (
    "a folder of images or of videos, a manifest (.csv with a column path), an array of pictures (.npy, .npz), "
    "WebDataset shards (.tar, wds:PATH), bundled photographs (bundled:photos, bundled:photos:colour) or a data set of "
    "torchvision (torchvision:CIFAR10)"
)


def load_stimuli(spec: str | Path | Stimuli, skip_unreadable: bool = False) -> Stimuli:
    """Load at least 4 stimuli from a folder, a `.csv`, a `.npy` or `.npz`, or a name such as `bundled:photos`.

    A prefix of STIMULI chooses the kind by hand, as in `manifest:list.txt`; videos and shards take options
    behind theirs, as in `video:clips:fps=2`. With `skip_unreadable`, videos and shards that are broken are listed in
    `skipped`; broken pictures show when they are loaded. Raises InputError that names what is accepted, and for a
    stream, which `load_stream` reads.
    """
    return require_enough(read_stimuli(spec, skip_unreadable))


def read_stimuli(spec: str | Path | Stimuli, skip_unreadable: bool = False) -> Stimuli:
    """Load any number of stimuli, as `load_stimuli` does."""
    if isinstance(spec, Stimuli):
        return spec
    kind, rest = _kind(str(spec))
    loader = partial(MENDABLE[kind], skip_unreadable=skip_unreadable) if kind in MENDABLE else STIMULI[kind]
    return loader(rest)


def load_stimuli_pair(
    spec: str | Path | Stimuli, spec_b: str | Path | Stimuli | None = None, skip_unreadable: bool = False
) -> tuple[Stimuli, Stimuli | None]:
    """Load both sides of a paired comparison, with the same ids in the same order.

    The second side is `spec_b`, else the column `path_b` of a manifest, else None. With `skip_unreadable`, a video
    that is broken on one side is left out of both. Raises InputError when the sides do not pair up.
    """
    first = load_stimuli(spec, skip_unreadable)
    if spec_b is not None:
        second = load_stimuli(spec_b, skip_unreadable)
        return load_pair(video.without_broken(first, second), video.without_broken(second, first))
    if isinstance(spec, Stimuli):
        return first, None
    kind, rest = _kind(str(spec))
    return first, manifest.load_second(rest) if kind == "manifest" else None


def load_stream(spec: str | Path | Stimuli, skipped: Skipped | None = None) -> Stream | None:
    """Open pictures that are read once, from front to back; None when `spec` names stimuli that `load_stimuli` loads.

    Streams are `hfdata:NAME[:SPLIT][:COLUMN]`, and `wds:` with URLs or `pipe:`. Pictures that can't be decoded are
    counted in `skipped`; without one the first of them ends the reading. Raises InputError when a stream can't be
    opened, or its library is missing.
    """
    head, _, rest = str(spec).partition(":")
    return STREAMS[head](rest, skipped) if _is_stream(head, rest) else None


def _is_stream(head: str, rest: str) -> bool:
    return head in STREAMS and (head not in STIMULI or wds_stream.is_remote(rest))


def _kind(spec: str) -> tuple[str, str]:
    """Find the kind of stimuli `spec` names, and what its loader shall be given."""
    head, colon, rest = spec.partition(":")
    if _is_stream(head, rest):
        raise InputError(
            f"{spec} is a stream, which is read once from front to back, and here pictures are needed in any order; "
            f"give {ACCEPTED}"
        )
    if colon and head in STIMULI:
        return head, rest
    path = Path(spec).expanduser()
    if spec and path.is_dir():
        return "video" if video.holds_videos_only(path) else "folder", spec
    if path.is_file() and video.is_video(path):
        return "video", spec
    if path.suffix.lower() in SUFFIXES:
        return SUFFIXES[path.suffix.lower()], spec
    if not spec:
        raise InputError(f"no stimuli were named; give {ACCEPTED}")
    if len(head) > 1 and colon and not path.exists():  # one letter is a Windows drive
        raise unknown("kind of stimuli", head, {**STIMULI, **STREAMS})
    existing(spec, "file or folder", f"give {ACCEPTED}")
    raise one_image(spec) if is_image(spec) else InputError(f"{spec} is of no kind repalign reads; give {ACCEPTED}")
