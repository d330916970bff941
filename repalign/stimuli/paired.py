"""Two sets of stimuli matched by name, the same scene on both sides of each pair."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import PurePosixPath

from repalign.errors import InputError
from repalign.stimuli.checks import some
from repalign.stimuli.image import is_image
from repalign.types import Stimuli


def load_pair(a: Stimuli, b: Stimuli) -> tuple[Stimuli, Stimuli]:
    """Match two sets by id and give both the same ids, in the order of `a`.

    Equal ids match first; of the rest, two match when only their image suffix differs, and the shared stem
    becomes their id. Raises InputError when a stimulus on either side has no partner or could have several.
    """
    shared = set(a.ids) & set(b.ids)
    stems_a = _by_stem(a, (name for name in a.ids if name not in shared))
    stems_b = _by_stem(b, (name for name in b.ids if name not in shared))
    alone_a = [name for stem, name in stems_a.items() if stem not in stems_b]
    alone_b = [name for stem, name in stems_b.items() if stem not in stems_a]
    if alone_a or alone_b:
        raise _unmatched(a, b, alone_a, alone_b)
    ids = tuple(name if name in shared else _stem(name) for name in a.ids)
    partners = (name if name in shared else stems_b[_stem(name)] for name in a.ids)
    place = {name: i for i, name in enumerate(b.ids)}
    first, second = replace(a, ids=ids), replace(b.take([place[name] for name in partners]), ids=ids)
    extent = first.extent or second.extent  # the same scenes: what one side knows of their width holds for both
    return replace(first, extent=first.extent or extent), replace(second, extent=second.extent or extent)


def _stem(name: str) -> str:
    """Drop an image's suffix; any other name stays whole, so that `scan.001` and `scan.002` differ.

    >>> _stem("cat/1.png"), _stem("scan.001")
    ('cat/1', 'scan.001')
    """
    return PurePosixPath(name).with_suffix("").as_posix() if is_image(name) else name


def _by_stem(stimuli: Stimuli, names: Iterable[str]) -> dict[str, str]:
    """Map each stem to its name.

    Raises InputError when two names share a stem: which of them is meant can't be known.
    """
    found: dict[str, str] = {}
    for name in names:
        other = found.setdefault(_stem(name), name)
        if other != name:
            raise InputError(
                f"{stimuli.name} holds both {other} and {name}, and the other side has neither by its full name; "
                "rename or remove one of them"
            )
    return found


def _unmatched(a: Stimuli, b: Stimuli, alone_a: list[str], alone_b: list[str]) -> InputError:
    """Build the error that counts and names what has no partner on each side."""

    def side(stimuli: Stimuli, alone: list[str]) -> str:
        named = f" ({some(alone)})" if alone else ""
        return f"{len(alone)} of {len(stimuli)} in {stimuli.name}{named}"

    return InputError(
        f"{a.name} and {b.name} do not pair up; without a partner: {side(a, alone_a)}, {side(b, alone_b)}; "
        "give both the same relative file names (suffixes may differ) or remove what stands alone"
    )
