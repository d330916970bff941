"""The strip of pictures: originals, and below each its copy under every condition."""

from dataclasses import dataclass

from repalign.report.many.saved import ManyStudy
from repalign.report.pictures import picture_uri
from repalign.report.wording import ticks

SHOWN = 12
"""At most so many pictures beside each other."""


@dataclass(frozen=True)
class StripRow:
    """One row of pictures as data URIs, "" where a copy is missing."""

    label: str
    pictures: tuple[str, ...]


@dataclass(frozen=True)
class ManyStrip:
    """Rows of the same pictures: the originals, then their copies by condition; names and groups below."""

    names: tuple[str, ...]
    groups: tuple[str, ...]
    rows: tuple[StripRow, ...]


def many_strip(study: ManyStudy) -> ManyStrip | None:
    """Read the pictures that the study kept, None without any.

    Raises InputError when a picture is missing, is no picture a page can show, or lies outside the study.
    """
    kept = study.meta.get("thumbs") or []
    chosen = [kept[k] for k in ticks(len(kept), SHOWN)] if kept else []
    if not chosen:
        return None
    rows = [StripRow("originals", tuple(picture_uri(study.path, str(one["file"])) for one in chosen))]
    for condition in study.conditions:
        files = [(one.get("copies") or {}).get(condition.id) for one in chosen]
        if any(files):
            rows.append(StripRow(condition.label, tuple(picture_uri(study.path, str(f)) if f else "" for f in files)))
    names = tuple(str(one.get("id") or "") for one in chosen)
    return ManyStrip(names, tuple(str(one.get("group") or one.get("label") or "") for one in chosen), tuple(rows))
