"""Pictures in WebDataset shards on disk, tar archives, read where they lie and in any order."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from repalign.errors import MOST_LISTED, InputError, UnreadableImagesError
from repalign.stimuli.content import digest_bytes
from repalign.stimuli.image import open_rgb
from repalign.stimuli.shards import Spec, find, is_wanted, key_of, names_of, parse, several
from repalign.stimuli.tar import DamagedTarError, Member, list_members
from repalign.types import Stimuli

LABELS = ("cls", "json")  # endings of a sample's class and of its record
PACKED = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz", b"\x28\xb5": "zstd"}


@dataclass(frozen=True, slots=True)
class Picture:
    """Where the bytes of a picture lie, what it is called, and its label when it has one."""

    id: str
    shard: Path
    offset: int
    size: int
    label: str | None

    def read(self) -> bytes:
        """Read the encoded picture through a file handle of its own; raises OSError when it is not there."""
        with self.shard.open("rb") as file:
            file.seek(self.offset)
            data = file.read(self.size)
        if len(data) < self.size:
            raise OSError(f"{self.shard} ends before {self.id} does: it became shorter since its headers were read")
        return data


@dataclass(frozen=True)
class Shard:
    """What the headers of one shard say: its pictures in order, what has none, and why it was not read to its end."""

    name: str
    pictures: list[Picture]
    others: list[tuple[str, str]]
    damage: str


def load(spec: str | Path, skip_unreadable: bool = False) -> Stimuli:
    """List the pictures of shards: `PATH[:ext=ENDING]`, where PATH is a `.tar`, a folder of them, or has braces or `*`.

    Only headers are read, and no library is needed. A sample is what shares a name up to the first dot; `ids` are
    `shard/key.ending`, `labels` come from its `.cls` or from `label` in its `.json`, None unless every picture has one;
    `groups` are None. Samples without a picture are listed in `skipped`.

    Raises UnreadableImagesError naming every damaged shard with the byte, unless `skip_unreadable` keeps the pictures
    before it and lists the shard; InputError when there are no pictures, or several in one sample and no `ext`, and
    for URLs and pipes, which are streams.
    """
    wanted = parse(str(spec))
    paths = find(wanted.place)
    names = names_of([path.as_posix() for path in paths])
    shards = [_index(path, name, wanted) for path, name in zip(paths, names, strict=True)]
    damaged = tuple((shard.name, shard.damage) for shard in shards if shard.damage)
    if damaged and not skip_unreadable:
        raise _damaged(str(spec), damaged, len(shards))
    pictures = [picture for shard in shards for picture in shard.pictures]
    if not pictures:
        kind = f" ending in {' or '.join(sorted(wanted.endings))}" if wanted.endings else ""
        raise InputError(f"wds: {spec}: no picture{kind} in {len(shards)} shards; give .tar files with pictures")
    labels = [picture.label for picture in pictures if picture.label is not None]
    return Stimuli(
        name=str(spec),
        ids=tuple(picture.id for picture in pictures),
        load=lambda i: _open(pictures[i]),
        labels=tuple(labels) if len(labels) == len(pictures) else None,
        skipped=tuple(other for shard in shards for other in shard.others) + damaged,
        content=lambda i: digest_bytes(pictures[i].read()),
    )


def _open(picture: Picture) -> Image.Image:
    name = f"{picture.id} in {picture.shard}"
    try:
        data = picture.read()
    except OSError as error:
        raise InputError(f"{name} can't be read: {error.strerror or error}; put the shard back") from error
    return open_rgb(data, name)


@dataclass
class _Sample:
    """What the members of one key have given so far."""

    pictures: dict[str, Member] = field(default_factory=dict)
    label: str | None = None
    rest: list[str] = field(default_factory=list)


def _index(path: Path, name: str, wanted: Spec) -> Shard:
    """Read the headers of one shard."""
    samples: dict[str, _Sample] = {}
    damage = ""
    try:
        with path.open("rb") as file:
            _require_plain(path, file.read(2))
            for member in list_members(file, lambda one: one.endswith(LABELS)):
                _file(samples, member, wanted.endings)
    except (DamagedTarError, OSError) as error:
        damage = getattr(error, "strerror", None) or str(error)
    pictures = [
        _picture(path, name, key, sample.pictures, sample.label) for key, sample in samples.items() if sample.pictures
    ]
    others = [
        (f"{name}/{key}", f"no picture among {', '.join(sample.rest)}")
        for key, sample in samples.items()
        if not sample.pictures
    ]
    return Shard(path.name, pictures, others, damage)


def _require_plain(path: Path, start: bytes) -> None:
    """Raise InputError for a compressed archive, where nothing can be read without all before it."""
    if start in PACKED:
        raise InputError(
            f"wds: {path} is packed by {PACKED[start]}, and its pictures must be read in any order; unpack it to a .tar"
        )


def _file(samples: dict[str, _Sample], member: Member, endings: frozenset[str]) -> None:
    """Add one member to its sample; hidden ones belong to none."""
    parted = key_of(member.name)
    if parted is None:
        return
    key, ending = parted
    sample = samples.setdefault(key, _Sample())
    if is_wanted(ending, endings):
        if ending in sample.pictures:
            raise DamagedTarError(f"{member.name} stands in it twice, the second time at byte {member.offset:,}")
        sample.pictures[ending] = member
    else:
        sample.rest.append(ending)
        if member.data is not None and ending in LABELS:
            sample.label = _label(ending, member.data) or sample.label


def _picture(path: Path, name: str, key: str, pictures: dict[str, Member], label: str | None) -> Picture:
    if len(pictures) > 1:
        raise several(name, key, list(pictures))
    ((ending, member),) = pictures.items()
    return Picture(f"{name}/{key}.{ending}", path, member.offset, member.size, label)


def _label(ending: str, data: bytes) -> str | None:
    """Read a label; a record that is no JSON object, or has no label, gives none."""
    text = data.decode(errors="replace").strip()
    if ending == "cls":
        return text or None
    try:
        record = json.loads(text)
    except ValueError:
        return None
    return str(record["label"]) if isinstance(record, dict) and "label" in record else None


def _damaged(spec: str, damaged: Sequence[tuple[str, str]], total: int) -> UnreadableImagesError:
    """Build the error that lists every damaged shard with its reason."""
    listed = "; ".join(f"{name} ({reason})" for name, reason in damaged[:MOST_LISTED])
    more = f"; and {len(damaged) - MOST_LISTED} more" if len(damaged) > MOST_LISTED else ""
    return UnreadableImagesError(
        f"wds: {spec}: {len(damaged)} of {total} shards are damaged: {listed}{more}; "
        "mend them, or go on with the pictures before the damage with --skip-unreadable",
        tuple(damaged),
    )
