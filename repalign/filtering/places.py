"""Where filtered pictures go: a folder whose names pair with the stimuli, a sheet and a record beside it."""

import json
import os
from pathlib import Path, PurePosixPath

from repalign.errors import InputError
from repalign.stimuli import STIMULI
from repalign.stimuli.checks import some
from repalign.stimuli.image import is_image
from repalign.types import Stimuli

KIND = "filter"
SUFFIX = ".png"
LONGEST_NAME = 255  # bytes, on every common file system


def sheet_of(out: Path) -> Path:
    """Name the sheet of the folder `out`, beside it."""
    return out.parent / f"{out.name}.png"  # with_suffix would cut a name such as v1.2


def record_of(out: Path) -> Path:
    """Name the record of the folder `out`, beside it."""
    return out.parent / f"{out.name}.json"


def check_new(out: Path, force: bool) -> None:
    """Raise InputError unless folder, sheet and record are new, or with `force` are our own work."""
    if not out.parent.is_dir():
        raise InputError(f"OUT {out}: the folder {out.parent} does not exist; make it first")
    taken = [str(path) for path in (out, sheet_of(out), record_of(out)) if os.path.lexists(path)]
    if not taken:
        return
    there = f"{', '.join(taken)} {'exists' if len(taken) == 1 else 'exist'}"
    if not force:
        raise InputError(f"OUT {out}: {there}; choose another name, or give --force to replace what is there")
    if not _is_ours(record_of(out)) or not (out.is_dir() or not out.exists()):
        raise InputError(
            f"OUT {out}: {there}, and {record_of(out)} is no record of repalign filter, so --force won't replace "
            "anything; choose another name"
        )


def check_apart(data: str | Path | Stimuli, out: Path) -> None:
    """Raise InputError when the output would be among the stimuli the next time, or would replace them now."""
    given = None if isinstance(data, Stimuli) else _place(str(data))
    if given is not None and (given.is_relative_to(out.resolve()) or out.resolve().is_relative_to(given)):
        raise InputError(f"OUT {out} and the stimuli {data} lie in one another; choose a folder beside the stimuli")


def file_names(stimuli: Stimuli) -> tuple[str, ...]:
    """Name the PNG of every stimulus, relative to the folder, so that `load_pair` matches the two.

    Raises InputError for ids that would lead out of the folder or be passed over in it, and for two ids of one name.
    """
    names = tuple(_file_name(own) for own in stimuli.ids)
    bad = [repr(own) for own, name in zip(stimuli.ids, names, strict=True) if not _is_plain(name)]
    if bad:
        raise InputError(
            f"{stimuli.name}: {len(bad)} of {len(names)} ids can't name a file below OUT ({some(bad)}): they are "
            "absolute, lead upwards, are too long, or have a hidden or empty part; give others, in a manifest by a "
            "column id"
        )
    owners: dict[str, str] = {}
    for own, name in zip(stimuli.ids, names, strict=True):
        other = owners.setdefault(name, own)
        if other != own:
            raise InputError(f"{stimuli.name}: {other} and {own} would both be {name}; rename or remove one of them")
    for name, own in owners.items():
        above = next((str(p) for p in PurePosixPath(name).parents if str(p) in owners), None)
        if above is not None:
            raise InputError(f"{stimuli.name}: {own} needs a folder {above}, which is {owners[above]}; rename one")
    return names


def _file_name(own: str) -> str:
    """Give an image the suffix .png instead of its own, and add it to any other name.

    >>> _file_name("cat/a.b.jpg"), _file_name("clip.mp4@1.000s")
    ('cat/a.b.png', 'clip.mp4@1.000s.png')
    """
    return (PurePosixPath(own).with_suffix("").as_posix() if is_image(own) else own) + SUFFIX


def _is_plain(name: str) -> bool:
    """Say whether a relative name stays below its folder, and is seen by what lists that."""
    path = Path(name)
    seen = all(not p.startswith(".") and p != "__MACOSX" and len(os.fsencode(p)) <= LONGEST_NAME for p in path.parts)
    return seen and not path.anchor and path.as_posix() == name and "\0" not in name


def _is_ours(record: Path) -> bool:
    try:
        found = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("kind") == KIND


def _place(data: str) -> Path | None:
    """Find the file or folder that a name of stimuli means, behind its prefix and before its options."""
    head, colon, rest = data.partition(":")
    if head == "bundled":
        return None
    named = rest if colon and head in STIMULI else data
    places = (Path(text).expanduser() for text in (named, named.rpartition(":")[0]) if text)
    return next((place.resolve() for place in places if place.exists()), None)
