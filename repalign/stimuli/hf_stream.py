"""Pictures of a Hugging Face data set, streamed: from the Hub, from files by URL, or from a folder on disk."""

import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repalign.errors import InputError, unknown
from repalign.stimuli.shards import expand
from repalign.stimuli.stream import Item, Skipped, Stream, decoded, missing_library, share

if TYPE_CHECKING:
    from datasets import IterableDataset

FILES = ("arrow", "parquet", "webdataset")  # readers of `datasets` that are given files, with braces or *
FOLDER = "imagefolder"


def load(spec: str, skipped: Skipped | None = None) -> Stream:
    """Stream a column of pictures: `NAME[:SPLIT][:COLUMN]`.

    NAME is a data set on the Hub, a folder saved by `save_to_disk`, a folder of pictures (`imagefolder:FOLDER`), or
    files (`parquet:FILES`, `arrow:FILES`, `webdataset:FILES`). The split may be left out when there is one or one
    called train, the column when one alone holds pictures. Ids are `split/shard/row`; order is that of the data set.
    A process reads whole shards of its own where there are enough, so ids stay the same for any number of processes,
    which `split_dataset_by_node` does not give.

    Raises InputError when the library is missing, the data set can't be opened or read, or split or column is unclear.
    """
    name, split, column = _parts(spec)
    try:
        found = _open(name)
    except ImportError as error:
        raise missing_library("hfdata", "datasets", error) from None
    except Exception as error:  # the Hub, file systems and readers each raise their own kinds
        raise _unreadable(spec, error) from error
    split = _choice(spec, "split", split, list(found), "train")
    whole = found[split]
    column = _choice(spec, "picture column", column, _columns(spec, whole))
    pictures = _encoded(whole.select_columns([column]), column)
    items = partial(_items, spec, pictures, split, column)
    infos = whole.info.splits or {}
    return Stream(
        f"hfdata:{spec}",
        lambda rank, world: decoded(share(pictures.num_shards, items, rank, world), skipped),
        length=infos[split].num_examples if split in infos else None,
    )


def _parts(spec: str) -> tuple[str, str, str]:
    """Part a name from split and column; the colon of a URL parts nothing.

    >>> _parts("parquet:hf://datasets/a/b/*.parquet:test"), _parts("a/b::image")
    (('parquet:hf://datasets/a/b/*.parquet', 'test', ''), ('a/b', '', 'image'))
    """
    parts = re.split(r":(?!//)", spec)
    named = 2 if parts[0] in (*FILES, FOLDER) else 1
    name, rest = ":".join(parts[:named]), parts[named:]
    if len(parts) < named or not parts[named - 1] or len(rest) > 2:
        raise InputError(f"hfdata: {spec!r} can't be taken apart; give hfdata:NAME[:SPLIT][:COLUMN]")
    split, column = (*rest, "", "")[:2]
    return name, split, column


def _open(name: str) -> "Mapping[Any, IterableDataset]":
    """Open a data set, all its splits, without reading its rows."""
    from datasets import Dataset, load_dataset, load_from_disk

    reader, _, place = name.partition(":")
    if reader in FILES and place:
        return load_dataset(reader, data_files=expand(place), streaming=True)
    if reader == FOLDER and place:
        return load_dataset(reader, data_dir=place, streaming=True)
    folder = Path(name).expanduser()
    if not any((folder / mark).is_file() for mark in ("state.json", "dataset_dict.json")):
        return load_dataset(name, streaming=True)
    saved = load_from_disk(folder)
    splits = {str(saved.split or "train"): saved} if isinstance(saved, Dataset) else saved
    return {split: one.to_iterable_dataset(max(len(one.cache_files), 1)) for split, one in splits.items()}


def _choice(spec: str, what: str, asked: str, known: list[str], default: str = "") -> str:
    """Take the split or column asked for, the only one, or the default.

    Raises InputError listing them otherwise.
    """
    if asked:
        if asked not in known:
            raise unknown(f"{what} of hfdata:{spec}", asked, known)
        return asked
    if len(known) == 1:
        return known[0]
    if default in known:
        return default
    raise InputError(
        f"hfdata:{spec} has {len(known)} {what}s ({', '.join(known) or 'none'}); name one, hfdata:NAME[:SPLIT][:COLUMN]"
    )


def _columns(spec: str, whole: "IterableDataset") -> list[str]:
    """List the columns that hold pictures; files that don't say are judged by their first row."""
    from datasets import Image

    if whole.features is not None:
        return [name for name, kind in whole.features.items() if isinstance(kind, Image) or _is_encoded_kind(kind)]
    try:
        first = next(iter(whole), {})
    except Exception as error:  # as in `load`
        raise _unreadable(spec, error) from error
    return [name for name, value in first.items() if isinstance(value, bytes) or _is_encoded(value)]


def _is_encoded(value: object) -> bool:
    return isinstance(value, Mapping) and "bytes" in value


def _is_encoded_kind(kind: object) -> bool:
    """Say whether a feature is encoded bytes, alone or with their path, as `datasets` stores pictures."""
    return _is_encoded(kind) or getattr(kind, "dtype", None) in ("binary", "large_binary")


def _encoded(pictures: "IterableDataset", column: str) -> "IterableDataset":
    """Leave pictures encoded, as we decode them all in one way."""
    from datasets import Image

    kind = (pictures.features or {}).get(column)
    return pictures.cast_column(column, Image(decode=False)) if isinstance(kind, Image) else pictures


def _items(spec: str, pictures: "IterableDataset", split: str, column: str, number: int) -> Iterator[Item]:
    """Read one shard of a data set."""
    rows = iter(pictures.shard(pictures.num_shards, number))
    row = 0
    while True:
        try:
            example = next(rows, None)
        except Exception as error:  # as in `load`
            raise _unreadable(spec, error) from error
        if example is None:
            return
        yield Item(f"{split}/{number}/{row}", partial(_bytes, example[column]))
        row += 1


def _bytes(value: Any) -> bytes:  # noqa: ANN401  whatever a column holds
    """Give the encoded bytes of a cell, which may hold only the path to them.

    Raises ValueError when it holds neither, OSError when nothing can be read there.
    """
    if isinstance(value, bytes):
        return value
    if not isinstance(value, Mapping) or not (value.get("bytes") or value.get("path")):
        raise ValueError("it is empty")
    if value.get("bytes"):
        return value["bytes"]
    import fsspec

    try:
        with fsspec.open(value["path"], "rb") as file:
            return file.read()  # type: ignore[union-attr]
    except Exception as error:  # as in `load`
        raise OSError(str(error) or type(error).__name__) from error


def _unreadable(spec: str, error: Exception) -> InputError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return InputError(f"hfdata:{spec} can't be read: {reason}; check the name, the files and the way to the Hub")
