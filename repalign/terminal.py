"""What the commands share on a terminal: a progress bar, and the command as it was typed.

Heavy imports happen inside the functions, so that `repalign --help` answers at once.
"""

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def track(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar with rate and time left on a terminal, nothing when the output is piped."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(label, total=total or None, rate="")

        def advance(count: int) -> None:
            progress.advance(task, count)
            speed = progress.tasks[0].speed
            progress.update(task, rate=f"{speed:.0f}/s" if speed else "")

        yield advance


def command_line() -> str:
    """Give the command as it was typed."""
    return shlex.join(["repalign", *sys.argv[1:]])
