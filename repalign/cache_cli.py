"""The commands over the cache: what it holds, make it smaller, empty it."""

import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from repalign.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from repalign.cache.files import File

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="List, shrink or empty the cache of what encoders gave; REPALIGN_CACHE moves it, REPALIGN_CACHE_SIZE caps it.",
)

SECONDS = {"h": 3600, "d": 86_400, "w": 7 * 86_400}


@app.command("ls")
def list_() -> None:
    """List what the cache holds, how large it is and when it was last used."""
    from rich.console import Console

    from repalign.cache.listing import cache_table, list_kept
    from repalign.cache.places import default_size

    root = _folder()
    Console().print(cache_table(list_kept(root), root, default_size(root)), highlight=False)


@app.command()
def prune(
    to: Annotated[
        str | None, typer.Option(help="Remove the longest unused until this much is left: 5GB; default: the cap.")
    ] = None,
    older_than: Annotated[str | None, typer.Option(help="Remove what was not used for so long: 12h, 30d, 4w.")] = None,
) -> None:
    """Remove entries: those unused for longest, down to a size, or all that were not used for a while."""
    from repalign.cache.files import look, remove, remove_dead_parts
    from repalign.cache.places import default_size
    from repalign.memory import parse_size

    root = _folder()
    cap = default_size(root)
    limit = time.time() - _seconds(older_than) if older_than else None
    size = parse_size(to) if to else None if older_than else cap
    held = look(root)
    remove_dead_parts(held)
    old = [f for f in held.entries if limit is not None and f.used < limit]
    removed = list(remove(old))
    if size is not None:
        rest = held.entries[len(old) :]
        removed += remove(rest, sum(f.size for f in rest) - size)
    _say(root, removed)


@app.command()
def clear(yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False) -> None:
    """Remove everything; runs that are at work go on and compute again what they miss."""
    from repalign.cache.files import in_words, look, remove, remove_empty

    root = _folder()
    held = look(root)
    if held.entries and not yes:
        what = f"{_entries(len(held.entries))} ({in_words(held.size)}) from {root}"
        if not sys.stdin.isatty():
            raise InputError(f"this would remove {what}; say so with --yes")
        if not typer.confirm(f"remove {what}?"):
            print("nothing was removed")
            return
    remove(held.parts)
    removed = remove(held.entries)
    remove_empty(root)
    _say(root, removed)


def _folder() -> Path:
    """Give the cache's folder. Raises InputError when something else has its place."""
    from repalign.cache.places import default_folder

    root = default_folder()
    if root.exists() and not root.is_dir():
        raise InputError(f"the cache {root} is a file and no folder; name a folder with REPALIGN_CACHE")
    return root


def _say(root: Path, removed: "Sequence[File]") -> None:
    from repalign.cache.files import in_words, look

    freed, left = sum(f.size for f in removed), look(root).size
    print(f"{_entries(len(removed))} removed ({in_words(freed)}); {in_words(left)} left in {root}")


def _entries(count: int) -> str:
    return "1 entry" if count == 1 else f"{count:,} entries"


def _seconds(age: str) -> float:
    """Read an age: a number and h, d or w. Raises InputError for anything else."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([hdw])", age.strip())
    if not found:
        raise InputError(
            f"--older-than {age!r} is no age; write a number and h, d or w (hours, days, weeks), as in 30d"
        )
    return float(found[1]) * SECONDS[found[2]]
