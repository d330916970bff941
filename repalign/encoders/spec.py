"""Names of encoders: `[source:]name[@weights]`."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from repalign.errors import InputError, unknown

DEFAULT_SOURCE = "timm"
RANDOM = "random"
WITHOUT_WEIGHTS = ("features", "rdm")
_SOURCE = re.compile(r"([A-Za-z][\w-]+):(.*)", re.DOTALL)  # two letters or more: C:\ is a Windows drive


@dataclass(frozen=True)
class Spec:
    """What an encoder's name says; `text` is the name as it was typed, `weights` a path, `random` or None."""

    text: str
    source: str
    name: str
    weights: str | None = None

    def __str__(self) -> str:
        return self.text

    @property
    def untrained(self) -> bool:
        """Tell whether untrained weights were asked for."""
        return self.weights == RANDOM

    @property
    def path(self) -> str | None:
        """Give the checkpoint's path, or None where none was named."""
        return None if self.untrained else self.weights


def parse_spec(text: str, sources: Iterable[str]) -> Spec:
    """Split `[source:]name[@weights]`; without a source it is timm's.

    A file name (`features:`, `rdm:`) and an existing folder (`hf:`) may contain `@`.

    Raises InputError for an unknown source, an empty name and empty weights.

    >>> parse_spec("hf:org/name@random", ["timm", "hf"])
    Spec(text='hf:org/name@random', source='hf', name='org/name', weights='random')
    """
    typed = text.strip()
    before_weights = typed.partition("@")[0]
    found = _SOURCE.fullmatch(before_weights)
    source = found.group(1) if found else DEFAULT_SOURCE
    if source not in sources:
        raise unknown("encoder source", source, sources)
    rest = typed[len(source) + 1 :] if found else typed
    name, at, weights = rest.partition("@")
    if source in WITHOUT_WEIGHTS or (source == "hf" and Path(rest).expanduser().is_dir()):
        name, at, weights = rest, "", ""
    if not name:
        raise InputError(f"{text!r} names no encoder; write [source:]name[@weights], as in resnet50 or pocket:vit")
    if at and not weights:
        raise InputError(f"{text!r} names no weights after '@'; give a path or 'random', or leave the '@' out")
    return Spec(typed, source, name, weights or None)
