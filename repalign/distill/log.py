"""What a training run says while it runs: a line of JSON an epoch, and TensorBoard's events where it is installed."""

import json
from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any, final

LOG, ALIGNMENT, TENSORBOARD = "log.jsonl", "alignment.jsonl", "tensorboard"
NO_TENSORBOARD = "no TensorBoard events: the package tensorboard is not installed (pip install 'repalign[train]')"


@final
class Log:
    """The logs in a run's folder; of a run that goes on after epoch `done`, what lies behind it is dropped first."""

    def __init__(self, folder: Path, done: int = -1) -> None:
        self.folder = folder
        for name in (LOG, ALIGNMENT):
            _keep(folder / name, done)
        self._board = _open_board(folder / TENSORBOARD, done)

    @property
    def notes(self) -> tuple[str, ...]:
        """Say what is missing."""
        return () if self._board is not None else (NO_TENSORBOARD,)

    def epoch(self, values: Mapping[str, Any]) -> None:
        """Add an epoch's line."""
        _append(self.folder / LOG, [values])
        scalars = {k: v for k, v in values.items() if k != "epoch"}
        losses = scalars.pop("losses", {})
        self._draw(int(values["epoch"]), scalars | {f"losses/{name}": value for name, value in losses.items()})

    def alignment(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add the alignment of student and teacher, a line a pair of stages."""
        _append(self.folder / ALIGNMENT, rows)
        for row in rows:
            name = f"alignment/student{row['stage_student']}_teacher{row['stage_teacher']}"
            self._draw(int(row["epoch"]), {name: row["value"]})

    def close(self) -> None:
        """Write what TensorBoard still holds."""
        if self._board is not None:
            self._board.close()

    def _draw(self, epoch: int, scalars: Mapping[str, Any]) -> None:
        if self._board is None:
            return
        for name, value in scalars.items():
            if value is not None:
                self._board.add_scalar(name, value, epoch)


def read_lines(file: Path) -> list[dict[str, Any]]:
    """Read a file of JSON lines; a last line that a kill cut short is left out, and no file has no lines."""
    if not file.is_file():
        return []
    whole = file.read_text(encoding="utf-8").rpartition("\n")[0]
    return [json.loads(line) for line in whole.splitlines()]


def known(value: Any) -> Any:  # noqa: ANN401  anything JSON holds
    """Put null in the place of NaN and infinity, which JSON does not have."""
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, Mapping):
        return {k: known(v) for k, v in value.items()}
    return [known(v) for v in value] if isinstance(value, list | tuple) else value


def _append(file: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    text = "".join(json.dumps(known(row), ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    with file.open("a", encoding="utf-8") as opened:
        opened.write(text)


def _keep(file: Path, done: int) -> None:
    """Keep the lines of epochs up to `done`."""
    kept = [row for row in read_lines(file) if row["epoch"] <= done]
    part = file.with_name(f".{file.name}.part")
    part.unlink(missing_ok=True)
    _append(part, kept)
    part.replace(file)


def _open_board(folder: Path, done: int) -> Any:  # noqa: ANN401  a SummaryWriter, or None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=done + 1 if done >= 0 else None)
