"""What a cache holds, for people: one row for each encoder, pooling, filter and precision."""

import json
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repalign.cache.entry import read_header
from repalign.cache.files import File, in_words, look

if TYPE_CHECKING:
    from rich.console import RenderableType

ABOUT = ("encoder", "pool", "filter", "precision")
MOST_NAMES = 2  # of sets of stimuli in one row


@dataclass(frozen=True)
class Kept:
    """Entries that go together: `layers` of one encoder over `rows` stimuli of the sets `stimuli`.

    `rows` counts those of the layer that has most. `size` is in bytes, `used` in seconds since 1970. Entries whose
    record says nothing of what they are have no encoder.
    """

    encoder: str
    pool: str
    filter: str
    precision: str
    layers: tuple[str, ...]
    stimuli: tuple[str, ...]
    rows: int
    files: int
    size: int
    used: float


def list_kept(root: Path) -> list[Kept]:
    """Group the entries of a cache by what their records say `about` them, the last used first."""
    groups: dict[tuple[str, str, str, str], list[tuple[File, Mapping[str, Any], int]]] = defaultdict(list)
    for file in look(root).entries:
        about, rows = _describe(file.path)
        encoder, pool, filter_, precision = (str(about.get(name) or "") for name in ABOUT)
        groups[encoder, pool, filter_, precision].append((file, about, rows))
    return sorted((_kept(*about, files) for about, files in groups.items()), key=lambda kept: -kept.used)


def cache_table(kept: list[Kept], root: Path, most: int) -> "RenderableType":
    """Show what a cache holds, its size and its cap."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    if not kept:
        return Text(f"the cache {root} is empty; it may take up to {in_words(most)}")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("encoder", "pool", "filter", "precision", "stimuli"):
        table.add_column(heading, overflow="fold")
    for heading in ("layers", "size"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("last used", no_wrap=True)
    for one in kept:
        names = [one.encoder or "(of no encoder)", one.pool, one.filter, one.precision]
        cells = [*names, _stimuli(one), str(len(one.layers)) if one.layers else "", in_words(one.size), _when(one.used)]
        table.add_row(*map(Text, cells))
    files, size = sum(one.files for one in kept), sum(one.size for one in kept)
    entries = "1 entry" if files == 1 else f"{files:,} entries"
    return Group(table, Text(f"{entries}, {in_words(size)} of at most {in_words(most)}, in {root}"))


def _describe(path: Path) -> tuple[Mapping[str, Any], int]:
    """Read from an entry's header what it is about and how many rows it has; the checksum is left to the reader."""
    header: Any = read_header(path) or {}
    try:
        about = json.loads(header["__metadata__"]["record"])["about"]
        rows = max((tensor["shape"][0] for name, tensor in header.items() if name != "__metadata__"), default=0)
    except (KeyError, IndexError, TypeError, ValueError):
        return {}, 0
    return (about, rows) if isinstance(about, dict) else ({}, 0)


def _kept(
    encoder: str, pool: str, filter_: str, precision: str, files: list[tuple[File, Mapping[str, Any], int]]
) -> Kept:
    rows = defaultdict[str, int](int)
    for _, about, count in files:
        rows[str(about.get("layer") or "")] += count
    return Kept(
        encoder, pool, filter_, precision,
        layers=tuple(sorted(name for name in rows if name)),
        stimuli=tuple(sorted({str(about["stimuli"]) for _, about, _ in files if about.get("stimuli")})),
        rows=max(rows.values()),
        files=len(files),
        size=sum(file.size for file, _, _ in files),
        used=max(file.used for file, _, _ in files),
    )  # fmt: skip


def _stimuli(kept: Kept) -> str:
    names = ", ".join(kept.stimuli[:MOST_NAMES]) + (", …" if len(kept.stimuli) > MOST_NAMES else "")
    return " of ".join(filter(None, (f"{kept.rows:,}" if kept.rows else "", names)))


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
