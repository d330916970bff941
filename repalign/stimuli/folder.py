"""A folder of images, searched recursively; its sub-folders are the labels."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from repalign.errors import InputError
from repalign.stimuli.checks import existing, some
from repalign.stimuli.content import digest_file
from repalign.stimuli.image import is_image, open_rgb
from repalign.types import Stimuli


def load(spec: str | Path) -> Stimuli:
    """List every image below a folder, sorted by relative path.

    `ids` are POSIX relative paths, `labels` the first folder of each (empty for an image at the top; None
    when there are no sub-folders). Hidden entries and `__MACOSX` are passed over; files that Pillow does not read
    are listed in `skipped`. Raises InputError when the folder does not exist or holds no image.
    """
    root = existing(spec, "folder")
    try:
        files = sorted(path.relative_to(root).as_posix() for path in walk(root, frozenset()))
    except OSError as error:
        raise InputError(f"{error.filename} can't be listed: {error.strerror}; give a readable folder") from error
    ids = tuple(name for name in files if is_image(name))
    if not ids:
        raise _no_images(spec, files)
    return Stimuli(
        name=f"{str(spec).rstrip('/')}/",
        ids=ids,
        load=lambda i: open_rgb(root / ids[i]),
        labels=labels_of(ids),
        content=lambda i: digest_file(root / ids[i]),
        skipped=tuple((name, "Pillow reads no such file") for name in files if not is_image(name)),
    )


def walk(folder: Path, above: frozenset[Path]) -> Iterator[Path]:
    """Visit the files below a folder, through links too, save those that lead back to a folder in `above`."""
    real = folder.resolve()
    if real in above:
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name == "__MACOSX":
                continue
            if entry.is_dir():
                yield from walk(folder / entry.name, above | {real})
            else:
                yield folder / entry.name


def labels_of(ids: tuple[str, ...]) -> tuple[str, ...] | None:
    """Take the first folder of each relative path as its label.

    >>> labels_of(("a/1.png", "b/x/2.png", "3.png")), labels_of(("1.png",))
    (('a', 'b', ''), None)
    """
    if not any("/" in name for name in ids):
        return None
    return tuple(name.split("/")[0] if "/" in name else "" for name in ids)


def _no_images(spec: str | Path, files: list[str]) -> InputError:
    """Build the error for a folder without a single image."""
    remedy = "give a folder of .jpg, .png, .webp, .tif or other pictures"
    if not files:
        return InputError(f"{spec} is an empty folder (hidden files aside); {remedy}")
    count = Counter(Path(name).suffix.lower() or "no suffix" for name in files)
    suffixes = some([suffix for suffix, _ in count.most_common()])
    remedy = f"wds:{spec} reads shards" if count[".tar"] else remedy
    return InputError(f"{spec} holds {len(files)} files but no image ({suffixes}); {remedy}")
