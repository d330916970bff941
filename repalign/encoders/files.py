"""Files that the user names: found, or refused with what stands beside them."""

import difflib
from pathlib import Path

from repalign.errors import InputError


def find_file(text: str, what: str, error: type[InputError] = InputError) -> Path:
    """Find the file `text`, `~` expanded.

    Raises `error` naming near matches in the same folder when there is no such file.
    """
    path = Path(text).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        raise error(f"{what} {text} is a folder; name a file inside it{_listed(path, '')}")
    if not path.parent.is_dir():
        raise error(f"there is no {what} {text}: the folder {path.parent} does not exist")
    raise error(f"there is no {what} {text}{_listed(path.parent, path.name)}")


def _listed(folder: Path, name: str) -> str:
    """List files of `folder`: those named like `name`, or the first few."""
    names = sorted(p.name for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    near = difflib.get_close_matches(name, names, n=5, cutoff=0.5)
    if near:
        return f"; did you mean {', '.join(near)}?"
    return f"; the folder {folder} has {', '.join(names[:5]) + (' …' if len(names) > 5 else '') or 'no files'}"
