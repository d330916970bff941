"""A CSV file that lists images, and what is known about them, one a row."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repalign.errors import InputError
from repalign.stimuli.checks import existing, some
from repalign.stimuli.content import digest_file
from repalign.stimuli.image import open_rgb
from repalign.types import Stimuli

COLUMNS = ("path", "path_b", "id", "group", "label")


@dataclass(frozen=True)
class Manifest:
    """The known columns of a manifest, each with a value for every row; `folder` is where paths start."""

    name: str
    folder: Path
    columns: dict[str, tuple[str, ...]]

    def stimuli(self, column: str, name: str) -> Stimuli:
        """Give the images of one path column.

        Raises InputError counting and naming the files that do not exist.
        """
        paths = self.columns[column]
        missing = [path for path in paths if not (self.folder / path).is_file()]
        if missing:
            raise InputError(
                f"{self.name}: {len(missing)} of {len(paths)} files in column {column} do not exist "
                f"({some(missing)}); paths start at the manifest's folder, {self.folder.resolve()}"
            )
        return Stimuli(
            name=name,
            ids=self.columns.get("id", self.columns["path"]),
            load=lambda i: open_rgb(self.folder / paths[i]),
            groups=self.columns.get("group"),
            labels=self.columns.get("label"),
            content=lambda i: digest_file(self.folder / paths[i]),
        )


def load(spec: str | Path) -> Stimuli:
    """Read the first side of a manifest with the columns `path[,path_b][,id][,group][,label]`.

    Paths are relative to the manifest's folder; `ids` default to the paths; other columns are ignored.
    Raises InputError when the file can't be read, has no column `path` or no row, leaves a cell empty or names
    a file that does not exist.
    """
    return _read(spec).stimuli("path", str(spec))


def load_second(spec: str | Path) -> Stimuli | None:
    """Read the second side, column `path_b`, under the same ids; None when there is no such column."""
    manifest = _read(spec)
    return manifest.stimuli("path_b", f"{spec}:path_b") if "path_b" in manifest.columns else None


def _read(spec: str | Path) -> Manifest:
    """Read and validate the cells, without a look at the images."""
    path = existing(spec, "manifest")
    try:
        # utf-8-sig: spreadsheets begin the file with a byte-order mark
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            header = [name.strip() for name in reader.fieldnames or ()]
            reader.fieldnames = header
            _require_path(spec, header)
            rows = [_cells(spec, reader.line_num, row, header) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{spec} can't be read as a manifest: {error}; save it as CSV in UTF-8") from error
    if not rows:
        raise InputError(f"{spec} has a header but no row; list at least one image")
    columns = {name: tuple(row[name] for row in rows) for name in COLUMNS if name in header}
    return Manifest(str(spec), path.parent, columns)


def _require_path(spec: str | Path, header: list[str]) -> None:
    """Raise InputError when the header has no column `path` or one of the known columns twice."""
    if "path" not in header:
        found = ", ".join(header) or "none"
        raise InputError(f"{spec} has no column path (columns found: {found}); name it in the first line")
    twice = [name for name in COLUMNS if header.count(name) > 1]
    if twice:
        raise InputError(f"{spec} has the column {twice[0]} more than once; keep one")


def _cells(spec: str | Path, line: int, row: Mapping[str | None, Any], header: list[str]) -> dict[str, str]:
    """Give the known cells of one row, stripped.

    Raises InputError naming the line when one is empty or the row is too long.
    """
    if None in row:
        raise InputError(
            f"{spec}, line {line}: more cells than columns ({len(header)}); quote a cell with a comma in it"
        )
    cells = {name: (row[name] or "").strip() for name in COLUMNS if name in header}
    empty = [name for name, cell in cells.items() if not cell]
    if empty:
        raise InputError(f"{spec}, line {line}: {' and '.join(empty)} is empty; fill every row or drop the column")
    return cells
