"""WebDataset shards from URLs and commands, read once from front to back."""

import gzip
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from typing import Any

from repalign.errors import InputError
from repalign.stimuli.shards import Spec, expand, is_wanted, key_of, names_of, parse, several
from repalign.stimuli.stream import Item, Skipped, Stream, decoded, missing_library, share
from repalign.stimuli.tar import DamagedTarError, Member, read_members

REMOTE = re.compile(r"pipe:|\w[\w+.-]*://")


def is_remote(spec: str) -> bool:
    """Say whether shards come from URLs or commands, so that they can only be streamed.

    >>> is_remote("https://host/{0..9}.tar"), is_remote("pipe:cat 0.tar"), is_remote("shards/0.tar")
    (True, True, False)
    """
    return REMOTE.match(spec) is not None


def load(spec: str, skipped: Skipped | None = None) -> Stream:
    """Read shards from `URL[:ext=ENDING]` or `pipe:COMMAND[:ext=ENDING]`, with braces for several.

    The `webdataset` library opens what is named: `https://` through curl, `gs://` and others through commands of their
    own, `pipe:` through the shell; a name that ends in `.gz` is unpacked. Samples and ids are those of shards on disk,
    but a sample's members must stand side by side. Order is that of the shards.

    Raises InputError when the library is missing, and while reading when a shard can't be opened, is damaged (with the
    byte), or has several pictures in a sample and no `ext`.
    """
    wanted = parse(spec)
    places = expand(wanted.place)
    names = names_of(places)
    opener = _opener()

    def read(number: int) -> Iterator[Item]:
        return _items(opener, places[number], names[number], wanted)

    return Stream(f"wds:{spec}", lambda rank, world: decoded(share(len(places), read, rank, world), skipped))


@cache
def _opener() -> Callable[[str], Any]:
    try:
        from webdataset.gopen import gopen
    except ImportError as error:
        raise missing_library("wds", "webdataset", error) from None
    return gopen


def _items(opener: Callable[[str], Any], place: str, name: str, wanted: Spec) -> Iterator[Item]:
    """Read one shard, and see that what sends it ends well; who stops half-way does not ask."""
    key, ending = "", ""
    for member in _members(opener, place, wanted):
        parted = key_of(member.name)
        if parted is None or member.data is None:
            continue
        if parted[0] == key:
            raise several(name, key, [ending, parted[1]])
        key, ending = parted
        yield Item(f"{name}/{key}.{ending}", _given(member.data))


def _given(data: bytes) -> Callable[[], bytes]:
    return lambda: data


def _members(opener: Callable[[str], Any], place: str, wanted: Spec) -> Iterator[Member]:
    def is_picture(name: str) -> bool:
        parted = key_of(name)
        return parted is not None and is_wanted(parted[1], wanted.endings)

    source = None
    try:
        source = opener(place)
        pipe = gzip.GzipFile(fileobj=source) if place.endswith(".gz") else source
        yield from read_members(pipe.read, is_picture)
        source.close()
    except (DamagedTarError, OSError, EOFError, ValueError) as error:
        raise InputError(f"wds: {place} can't be read: {error}; check the shard and the way to it") from error
    finally:
        if source is not None:
            with suppress(OSError):  # a sender that is not heard to the end may call that an error
                source.close()
