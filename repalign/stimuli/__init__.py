"""Stimuli from a folder, a manifest, an array or the bundled photographs."""

from collections.abc import Callable
from pathlib import Path

from repalign.errors import InputError, unknown
from repalign.stimuli import array, bundled, folder, manifest
from repalign.stimuli.checks import existing, one_image, require_enough
from repalign.stimuli.image import is_image
from repalign.stimuli.paired import load_pair
from repalign.types import Stimuli

STIMULI: dict[str, Callable[[str], Stimuli]] = {
    "array": array.load,
    "bundled": bundled.load,
    "folder": folder.load,
    "manifest": manifest.load,
}
SUFFIXES = {".csv": "manifest", ".npy": "array", ".npz": "array"}
ACCEPTED = (
    "a folder of images, a manifest (.csv with a column path), an array of pictures (.npy, .npz) "
    "or bundled photographs (bundled:photos, bundled:photos:colour)"
)


def load_stimuli(spec: str | Path | Stimuli) -> Stimuli:
    """Load at least 4 stimuli from a folder, a `.csv`, a `.npy` or `.npz`, or a name such as `bundled:photos`.

    A prefix of STIMULI chooses the kind by hand, as in `manifest:list.txt`. Raises InputError that names what is
    accepted.
    """
    if isinstance(spec, Stimuli):
        return require_enough(spec)
    kind, rest = _kind(str(spec))
    return require_enough(STIMULI[kind](rest))


def load_stimuli_pair(
    spec: str | Path | Stimuli, spec_b: str | Path | Stimuli | None = None
) -> tuple[Stimuli, Stimuli | None]:
    """Load both sides of a paired comparison, with the same ids in the same order.

    The second side is `spec_b`, else the column `path_b` of a manifest, else None. Raises InputError when the sides
    do not pair up.
    """
    first = load_stimuli(spec)
    if spec_b is not None:
        return load_pair(first, load_stimuli(spec_b))
    if isinstance(spec, Stimuli):
        return first, None
    kind, rest = _kind(str(spec))
    return first, manifest.load_second(rest) if kind == "manifest" else None


def _kind(spec: str) -> tuple[str, str]:
    """Find the kind of stimuli `spec` names, and what its loader shall be given."""
    head, colon, rest = spec.partition(":")
    if colon and head in STIMULI:
        return head, rest
    path = Path(spec).expanduser()
    if spec and path.is_dir():
        return "folder", spec
    if path.suffix.lower() in SUFFIXES:
        return SUFFIXES[path.suffix.lower()], spec
    if not spec:
        raise InputError(f"no stimuli were named; give {ACCEPTED}")
    if len(head) > 1 and colon and not path.exists():  # one letter is a Windows drive
        raise unknown("kind of stimuli", head, STIMULI)
    existing(spec, "file or folder", f"give {ACCEPTED}")
    raise one_image(spec) if is_image(spec) else InputError(f"{spec} is of no kind repalign reads; give {ACCEPTED}")
