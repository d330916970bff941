"""Small pictures and archives for the tests."""

import io
import tarfile

from PIL import Image


def png(level, size=(4, 4)):
    """Encode a picture of one colour; its red channel is `level`."""
    data = io.BytesIO()
    Image.new("RGB", size, (level, 0, 0)).save(data, "PNG")
    return data.getvalue()


def level(picture):
    return picture.getpixel((0, 0))[0]


def pack(path, members, form=tarfile.USTAR_FORMAT):
    """Write an archive of `name → bytes`, or of pairs where a name stands twice."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as archive:
        for name, data in members.items() if isinstance(members, dict) else members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def shard(path, first, n=4, **rest):
    """Write a shard of n samples whose pictures show first, first + 1, …; `rest` maps endings to bytes of level."""
    members = {}
    for k in range(first, first + n):
        members[f"{k:04d}.png"] = png(k)
        members |= {f"{k:04d}.{ending}": make(k) for ending, make in rest.items()}
    return pack(path, members)
