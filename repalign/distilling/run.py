"""The folder of a run: made with its first file in it, held by one run at a time, its state always readable."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, final

from filelock import FileLock, Timeout

from repalign.description import versions
from repalign.distill.log import known
from repalign.distilling.settings import Asked, Settings, from_json
from repalign.errors import InputError
from repalign.folder import check_out, new_folder

FORMAT = 1
KIND = "distillation"
FILE = "run.json"
RUNNING, FINISHED = "running", "finished"
LONGEST_NAME = 80


@final
class Run:
    """A run's folder and what `run.json` says, which `update` writes anew."""

    def __init__(self, folder: Path, meta: Mapping[str, Any]) -> None:
        self.folder, self.meta = folder, dict(meta)

    @property
    def settings(self) -> Settings:
        """Give the settings that the run was started with."""
        return from_json(self.meta)

    @property
    def finished(self) -> bool:
        """Tell whether nothing is left to do."""
        return self.meta["state"] == FINISHED

    def update(self, **values: object) -> None:
        """Change entries of `run.json`, which is whole at any time."""
        self.meta |= values
        write(self.folder / FILE, self.meta)

    def hold(self) -> Any:  # noqa: ANN401  a context manager
        """Keep other runs out of the folder for as long as this one lives.

        Raises InputError when another one is at work there.
        """
        try:
            return FileLock(self.folder / ".lock", timeout=0).acquire()
        except Timeout:
            raise InputError(f"another run works on {self.folder}; wait for it, or choose another --out") from None


def start(folder: Path, force: bool, settings: Settings, command: str, entries: Mapping[str, object]) -> Run:
    """Make a run's folder, which appears with its `run.json`; with `force` in the place of an older run.

    Raises InputError as `check_new` does.
    """
    check_new(folder, force)
    meta = {
        "format": FORMAT, "kind": KIND, "state": RUNNING, "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command, "seed": settings.recipe.seed, "versions": versions(), **settings.to_json(), **entries,
        "results": {},
    }  # fmt: skip
    with new_folder(folder, force) as part:
        write(part / FILE, meta)
    return Run(folder, meta)


def check_new(folder: Path, force: bool) -> None:
    """Raise InputError unless `folder` is free for a new run, or `force` may replace one there that is at rest."""
    if folder.exists() and not force and (folder / FILE).is_file():
        raise InputError(f"--out {folder} holds a run; go on with --resume, choose another name, or --force a new one")
    check_out(folder, force, "run")
    if folder.exists():
        with read_run(folder).hold():  # nothing may be at work in what is to be replaced
            pass


def read_run(folder: Path) -> Run:
    """Read a run's folder. Raises InputError when it is none, or damaged."""
    file = folder / FILE
    if not file.is_file():
        raise InputError(f"{folder} holds no run to go on with (it has no {FILE}); leave out --resume to start one")
    try:
        meta = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{file} is damaged ({error}); start the run again with another --out") from error
    if not isinstance(meta, dict) or meta.get("kind") != KIND or meta.get("format") != FORMAT:
        raise InputError(f"{file} is no run of this version of repalign; choose another --out")
    return Run(folder, meta)


def write(file: Path, meta: Mapping[str, Any]) -> None:
    """Write JSON in one step; NaN and infinity become null."""
    part = file.with_name(f".{file.name}.part")
    part.write_text(f"{json.dumps(known(meta), indent=1, ensure_ascii=False, allow_nan=False)}\n", encoding="utf-8")
    part.replace(file)


def folder_of(asked: Asked, settings: Settings) -> Path:
    """Give the folder that was asked for, or a new name after method and student."""
    if asked.out is not None:
        return asked.out
    text = f"repalign-distill-{settings.method}-{settings.student}"
    stem = "".join(c if c.isalnum() or c in "-._" else "-" for c in text)[:LONGEST_NAME]
    names = (Path(stem if k == 1 else f"{stem}-{k}") for k in range(1, 10**6))
    return next(name for name in names if not name.exists())
