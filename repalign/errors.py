"""Every error repalign raises on purpose; the command line prints the message and ends with `exit_code`."""

import difflib
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

MOST_LISTED = 40  # names in one message


class RepalignError(Exception):
    """Base of all of them; `exit_code` 1 means the fault is ours or the machine's, 2 the user's."""

    exit_code = 1


class InputError(RepalignError, ValueError):
    """Raised when a name, an option, an array or a file the user gave can't be used as asked."""

    exit_code = 2


class UnreadableImagesError(InputError):
    """Raised when pictures can't be decoded; `skipped` lists `(id, reason)`."""

    def __init__(self, message: str, skipped: tuple[tuple[str, str], ...]) -> None:
        super().__init__(message)
        self.skipped = skipped


class HubError(InputError):
    """Raised when weights are neither cached nor within reach."""


class WeightsError(InputError):
    """Raised when a checkpoint can't be read or does not fit the encoder."""


class LayerError(InputError):
    """Raised when a layer does not exist, runs more than once or gives nothing to compare."""


class RepalignWarning(UserWarning):
    """Base of every warning repalign gives; studies record the text beside the number it concerns."""


def unknown(kind: str, name: str, known: Iterable[str]) -> InputError:
    """Build the error for a name that is not in `known`: near matches first, then what exists."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=5, cutoff=0.5)
    if near:
        return InputError(f"unknown {kind} {name!r}; did you mean {', '.join(near)}?")
    known_ones = (
        f"known: {', '.join(names)}" if len(names) <= MOST_LISTED else f"{len(names):,} are known, none like it"
    )
    return InputError(f"unknown {kind} {name!r}; {known_ones}")


@contextmanager
def collected_warnings() -> Iterator[list[str]]:
    """Collect repalign's own warnings as messages; others pass on as they are."""
    messages: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RepalignWarning)
        yield messages
    for warning in caught:
        if issubclass(warning.category, RepalignWarning):
            messages.append(str(warning.message))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
