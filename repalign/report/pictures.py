"""The strip of pictures: what the study kept of its stimuli, with their twins, and counts of groups and labels."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from repalign.errors import InputError
from repalign.report.conditions import condition_name, is_paired
from repalign.report.saved import Study
from repalign.report.wording import ticks

SHOWN_PICTURES = 48
SHOWN_GROUPS = 24

PICTURE_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp"}


@dataclass(frozen=True)
class Thumb:
    """A picture of the strip with its words; `copy` is its filtered or paired twin, if the study keeps one."""

    picture: str
    name: str
    group: str
    copy: str = ""


@dataclass(frozen=True)
class Strip:
    """Pictures shown, and counts of groups and labels: a title, rows of name, count and per cent, how many more.

    `copy_name` says what the twins are, and `said` which of the two is which.
    """

    thumbs: tuple[Thumb, ...]
    counts: tuple[tuple[str, tuple[tuple[str, int, float], ...], int], ...]
    copy_name: str = "other side"
    said: str = ""


def picture_strip(study: Study) -> Strip:
    """Read the pictures that the study kept and count groups and labels.

    Raises InputError when a picture is missing, is no picture a page can show, or lies outside the study.
    """
    kept = study.meta.get("thumbs") or []
    chosen = [kept[k] for k in ticks(len(kept), SHOWN_PICTURES)] if kept else []
    thumbs = tuple(
        Thumb(
            picture=picture_uri(study.path, str(one["file"])),
            name=str(one.get("id") or ""),
            group=str(one.get("group") or one.get("label") or ""),
            copy=picture_uri(study.path, str(one["file_b"])) if one.get("file_b") else "",
        )
        for one in chosen
    )
    counts = []
    for key in ("a", "b"):
        stimuli = study.meta["stimuli"].get(key)
        for what in ("groups", "labels"):
            if stimuli and stimuli.get(what):
                counts.append(_counted(f"{what} of {stimuli['name']}", stimuli[what]))
    if not is_paired(study):
        return Strip(thumbs, tuple(counts))
    name = condition_name(study)
    through = f"through {name}" if study.b.filter == name else name
    twins = any(thumb.copy for thumb in thumbs)
    first = f"{study.a.stimuli} through {study.a.filter}" if study.a.filter else "the original"
    return Strip(thumbs, tuple(counts), through, f"Above {first}, below the same {through}." if twins else "")


def _counted(title: str, counts: Mapping[str, int]) -> tuple[str, tuple[tuple[str, int, float], ...], int]:
    most = max(counts.values())
    shown = tuple((str(name), int(n), 100 * n / most) for name, n in list(counts.items())[:SHOWN_GROUPS])
    return title, shown, len(counts) - len(shown)


def picture_uri(folder: Path, name: str) -> str:
    """Read a picture of a study as a data URI.

    Raises InputError when it is missing, is no picture a page can show, or lies outside the study.
    """
    file = (folder / name).resolve()
    if not file.is_relative_to(folder.resolve()):
        raise InputError(f"{folder / 'study.json'} names a picture outside its folder ({name}); run the study again")
    if file.suffix.lower() not in PICTURE_TYPES:
        raise InputError(f"{file} is no picture a page can show ({', '.join(PICTURE_TYPES)}); run the study again")
    if not file.is_file():
        raise InputError(f"{file} is missing and study.json lists it; put it back or run the study again")
    encoded = base64.b64encode(file.read_bytes()).decode("ascii")
    return f"data:{PICTURE_TYPES[file.suffix.lower()]};base64,{encoded}"
