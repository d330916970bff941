"""Write pictures as seen through a filter, a sheet to look at and a record."""

import json
import platform
import tempfile
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from PIL.Image import Image

from repalign.filtering.places import KIND, check_apart, check_new, file_names
from repalign.filtering.result import Filtering
from repalign.filtering.sheet import Shown, draw_sheet, spread
from repalign.filtering.work import Work
from repalign.filters import Filter, load_filter
from repalign.folder import new_folder
from repalign.progress import Track, silent
from repalign.stimuli import read_stimuli
from repalign.stimuli.image import is_image, open_rgb
from repalign.types import Stimuli
from repalign.viewing import drawn

FORMAT = 1
LIBRARIES = ("repalign", "torch", "numpy", "pillow")


def filter_pictures(
    spec: str | Filter, data: str | Path | Stimuli, out: Path, force: bool = False, skip_unreadable: bool = False,
    limit: int | None = None, seed: int = 0, track: Track = silent, command: str = "",
) -> Filtering:  # fmt: skip
    """Write every stimulus through a filter into the new folder `out`, and a sheet and a record beside it.

    `out` holds one PNG a stimulus under its own relative name, and nothing else, so that `repalign compare --data …
    --data-b OUT` pairs them. PNG loses nothing; JPEG would be a second filter behind the first. `OUT.png` shows up to
    twelve of the pictures with their originals; `OUT.json` holds the filter, its sources and notes, and every
    picture's size, clipped share and difference. `limit` and `seed` draw the subset that `compare` draws. All three
    appear when everything is done, or nothing does.

    Raises InputError for a filter, stimuli or ids that can't be used, and unless `out` is new or, with `force`, was
    written by this function; UnreadableImagesError naming and counting the pictures that can't be decoded, unless
    `skip_unreadable` leaves them out.
    """
    filter_ = load_filter(spec)
    check_new(out, force)
    check_apart(data, out)
    stimuli = _load(data, skip_unreadable)
    index = drawn(len(stimuli), limit, seed, fewest=1)
    stimuli = stimuli if index is None else stimuli.take(index)
    names = file_names(stimuli)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", suffix=".part", dir=out.parent) as aside:
        sheet, record = Path(aside, "sheet.png"), Path(aside, "record.json")
        with new_folder(out, force) as folder:
            work = Work(filter_, stimuli, names, folder, strict=not skip_unreadable)
            done = replace(work.run(track), folder=out)
            _draw(done, stimuli, folder).save(sheet)
            _write_record(record, done, stimuli, {"command": command, "limit": limit, "seed": seed})
        sheet.replace(done.sheet)
        record.replace(done.record)
    return done


def _load(data: str | Path | Stimuli, skip_unreadable: bool) -> Stimuli:
    """Load stimuli of any kind, or a single picture; a comparison needs four, a filter one."""
    if isinstance(data, Stimuli):
        return data
    path = Path(data).expanduser()
    if path.is_file() and is_image(path):
        return Stimuli(str(data), (path.name,), lambda _: open_rgb(path))
    return read_stimuli(data, skip_unreadable)


def _draw(done: Filtering, stimuli: Stimuli, folder: Path) -> Image:
    """Draw the sheet from the pictures as they were written, spread over the groups or labels of the stimuli."""
    place = {own: i for i, own in enumerate(stimuli.ids)}
    parts = stimuli.groups or stimuli.labels or ("",) * len(stimuli)
    chosen = [done.pictures[k] for k in spread([parts[place[p.id]] for p in done.pictures])]
    shown = (Shown(p.id, stimuli.load(place[p.id]), open_rgb(folder / p.file)) for p in chosen)
    facts = (f"{done.n} {'picture' if done.n == 1 else 'pictures'} of {stimuli.name}", *done.facts)
    return draw_sheet(done.filter.label, " · ".join(facts), shown, len(chosen))


def _write_record(path: Path, done: Filtering, stimuli: Stimuli, asked: dict[str, object]) -> None:
    """Write how the pictures were made, as JSON."""
    meta = asked | {
        "format": FORMAT,
        "kind": KIND,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "spec": done.filter.spec,
        "label": done.filter.label,
        "reference": done.filter.reference,
        "notes": list(done.notes),
        "clipped": done.clipped,
        "difference": done.difference,
        "stimuli": {"name": stimuli.name, "n": done.n, "notes": list(stimuli.notes)},
        "skipped": [list(item) for item in done.skipped],
        "versions": {name: version(name) for name in LIBRARIES} | {"python": platform.python_version()},
        "pictures": [asdict(picture) for picture in done.pictures],
    }
    text = json.dumps(meta, indent=1, ensure_ascii=False) + "\n"
    # a file name of bytes that are no text becomes \udc.., which JSON reads back
    path.write_text(text, encoding="utf-8", errors="backslashreplace")
