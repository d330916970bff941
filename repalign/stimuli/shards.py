"""Which shards a name means, what they are called, and what lies in them: WebDataset's conventions."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from repalign.errors import InputError
from repalign.stimuli.checks import existing, some
from repalign.stimuli.image import image_suffixes

MOST_SHARDS = 1_000_000
BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}|\{([^{}]*,[^{}]*)\}")
CHOICE = re.compile(r"(?P<place>.+):ext=(?P<endings>[\w.,]+)")
NAME = re.compile(r"((?:.*/)?[^./]+)\.([^/]+)")  # as webdataset parts names: the key ends at the first dot
HIDDEN = re.compile(r"(.*/)?(\.|__MACOSX/|__[^/]*__(/|$))")


@dataclass(frozen=True)
class Spec:
    """The shards that are named, and the endings of the pictures wanted; empty where any picture is."""

    place: str
    endings: frozenset[str]


def parse(spec: str) -> Spec:
    """Part the shards' names from `:ext=ENDING[,ENDING…]`.

    >>> parse("train-{0..9}.tar:ext=jpg").place
    'train-{0..9}.tar'
    """
    found = CHOICE.fullmatch(spec)
    if found is None:
        return Spec(spec, frozenset())
    return Spec(found["place"], frozenset(found["endings"].lower().split(",")))


def expand(spec: str) -> list[str]:
    """Write out the braces of a name, numbers from one to another, padded as given, or a list.

    Raises InputError when there are over a million.

    >>> expand("{a,b}-{08..10}.tar")
    ['a-08.tar', 'a-09.tar', 'a-10.tar', 'b-08.tar', 'b-09.tar', 'b-10.tar']
    """
    found = BRACES.search(spec)
    if found is None:
        return [spec]
    low, high, listed = found.groups()
    if listed is None and abs(int(high) - int(low)) >= MOST_SHARDS:
        raise InputError(f"{spec} names over {MOST_SHARDS:,} shards; name fewer")
    middles = listed.split(",") if listed is not None else _numbers(low, high)
    ends = expand(spec[found.end() :])
    starts = (found.string[: found.start()] + middle for middle in middles)
    return list(chain.from_iterable(expand(start + end) for start in starts for end in ends))


def _numbers(low: str, high: str) -> list[str]:
    width = max(len(low), len(high)) if low.startswith("0") or high.startswith("0") else 0
    step = 1 if int(low) <= int(high) else -1
    return [f"{number:0{width}d}" for number in range(int(low), int(high) + step, step)]


def find(spec: str) -> list[Path]:
    """List the shards on disk that a name means: a folder of them, one file, braces and globs.

    Raises InputError when one does not exist, is named twice, or there is none.
    """
    whole = Path(spec).expanduser()
    if whole.is_dir():
        found = sorted(whole.glob("*.tar"))
    else:
        found = list(chain.from_iterable(map(_matches, [spec] if whole.exists() else expand(spec))))
    if not found:
        raise InputError(f"wds: {spec} names no shard; give .tar files: a folder of them, {{000..009}} or *")
    _require_once([str(path) for path in found])
    return found


def _matches(name: str) -> list[Path]:
    path = Path(name).expanduser()
    if path.exists() or not re.search(r"[*?\[]", name):
        return [existing(name, "shard")]
    anchor = Path(path.anchor)
    return sorted(anchor.glob(path.relative_to(anchor).as_posix()))


def _require_once(places: Sequence[str]) -> None:
    twice = sorted({place for place in places if places.count(place) > 1}) if len(set(places)) < len(places) else []
    if twice:
        raise InputError(f"wds: {some(twice)} is named more than once; name each shard once")


def names_of(places: Sequence[str]) -> list[str]:
    """Call each shard by its path below the folder that all share, without its suffix.

    Raises InputError when one is named twice.

    >>> names_of(["/data/a/0.tar", "/data/b/0.tar"]), names_of(["https://host/train-0.tar"])
    (['a/0', 'b/0'], ['train-0'])
    """
    _require_once(places)
    shared = os.path.commonprefix(list(places)).rpartition("/")  # noqa: RUF071  up to the last / in it
    start = len(shared[0]) + len(shared[1])
    return [place[start:].removesuffix(".gz").removesuffix(".tar") for place in places]


def key_of(name: str) -> tuple[str, str] | None:
    """Part a member's name into the sample's key and what follows its first dot; None for what is hidden.

    >>> key_of("./cats/a.b/tom.left.jpg"), key_of("__MACOSX/._tom.jpg")
    (('cats/a.b/tom', 'left.jpg'), None)
    """
    name = name.removeprefix("./")
    found = None if HIDDEN.match(name) else NAME.fullmatch(name)
    return None if found is None else (found[1], found[2].lower())


def is_wanted(ending: str, endings: frozenset[str]) -> bool:
    """Say whether a member is one of the pictures asked for, by what follows its key."""
    return ending in endings if endings else f".{ending.rpartition('.')[2]}" in image_suffixes()


def several(shard: str, key: str, endings: Sequence[str]) -> InputError:
    """Build the error for a sample with more than one picture."""
    return InputError(
        f"wds: {shard}: the sample {key} has several pictures ({some(sorted(endings))}); say which is meant, as in "
        f"wds:PATH:ext={sorted(endings)[0]}"
    )
