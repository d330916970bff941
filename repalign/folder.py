"""A folder that appears when everything in it is there, or not at all."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from repalign.errors import InputError


def check_out(out: Path, force: bool, kind: str = "study") -> None:
    """Raise InputError unless `out` can become a folder of that kind, whose main file is `KIND.json`."""
    if not out.parent.is_dir():
        raise InputError(f"--out {out}: the folder {out.parent} does not exist; make it first")
    if not out.exists():
        return
    if not force:
        raise InputError(f"--out {out} exists; choose another name, or give --force to replace it")
    if not (out / f"{kind}.json").is_file():
        raise InputError(f"--out {out} exists and is no {kind} folder, so --force won't replace it; choose another")


@contextmanager
def new_folder(out: Path, force: bool) -> Iterator[Path]:
    """Fill a hidden folder beside `out` and rename it at the end; whatever stops it, nothing half-written stays."""
    folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".part", dir=out.parent))
    folder.chmod(0o755)
    try:
        yield folder
        if force and out.exists():
            previous = folder.with_suffix(".old")
            out.replace(previous)
            folder.replace(out)
            shutil.rmtree(previous)
        else:
            check_out(out, force=False)
            folder.replace(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Remove what runs that were killed left half-written anywhere below `folder`; nobody may be at work there."""
    for left in (*folder.rglob(".*.part"), *folder.rglob(".*.old")):
        shutil.rmtree(left, ignore_errors=True)
