"""Views of the photographs that scikit-image carries in its wheel: stimuli without a download."""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from repalign.errors import InputError, unknown
from repalign.stimuli.content import digest_file, digest_parts
from repalign.stimuli.image import open_rgb
from repalign.stimuli.windows import Window, rank_windows
from repalign.types import Stimuli

FEWEST_VIEWS = 256

# Photograph → its files. Left out of scikit-image's pictures: text, renderings, tissue, galaxies; brick (a texture map,
# warped), moon (origin not stated, contrast too low) and clock_motion (a blur).
COLOUR: Mapping[str, tuple[str, ...]] = {
    "astronaut": ("astronaut.png",),
    "chelsea": ("chelsea.png",),
    "coffee": ("coffee.png",),
    "motorcycle": ("motorcycle_left.png", "motorcycle_right.png"),  # a stereo pair: one scene, one group
    "rocket": ("rocket.jpg",),
}
GREY: Mapping[str, tuple[str, ...]] = {
    "camera": ("camera.png",),
    "coins": ("coins.png",),
    "grass": ("grass.png",),
    "gravel": ("gravel.png",),
}
SETS: Mapping[str, Mapping[str, tuple[str, ...]]] = {"photos": {**COLOUR, **GREY}, "photos:colour": COLOUR}


@dataclass(frozen=True)
class View:
    """A window of one file of a photograph."""

    group: str
    file: str
    window: Window

    @property
    def id(self) -> str:
        """Name the view by its file, scale and corner, as in `astronaut/s0.50-x012-y034`."""
        window = self.window
        return f"{Path(self.file).stem}/s{window.scale:.2f}-x{window.x:03d}-y{window.y:03d}"

    @property
    def extent(self) -> float:
        """Give the window's width as a fraction of the picture's."""
        return self.window.side / _photograph(self.file).width

    def crop(self) -> Image.Image:
        """Cut the window out in its own resolution."""
        return _photograph(self.file).crop(self.window.box)

    def content(self) -> bytes:
        """Digest the photograph's file and the window."""
        return digest_parts("window", _digest(self.file), *self.window.box)


def load(name: str) -> Stimuli:
    """Give at least 256 views of the bundled photographs: `photos`, or `photos:colour` without the grey ones.

    Every photograph is a group with the same number of views; groups take turns, so that the first m stimuli
    are balanced too. Raises InputError when the name is unknown or scikit-image is missing.
    """
    name = name.removeprefix("bundled:")
    if name not in SETS:
        raise unknown("bundled stimuli", name, SETS)
    photographs = SETS[name]
    quota = -(-FEWEST_VIEWS // len(photographs))
    columns = [_views(group, files)[:quota] for group, files in photographs.items()]
    views = [view for row in zip(*columns, strict=True) for view in row]
    k = len(photographs)
    return Stimuli(
        name=f"bundled:{name}",
        ids=tuple(view.id for view in views),
        load=lambda i: views[i].crop(),
        groups=tuple(view.group for view in views),
        extent=tuple(view.extent for view in views),
        content=lambda i: views[i].content(),
        notes=(f"only {k} photographs: intervals over {k} groups are illustrative",),
    )


@cache
def _views(group: str, files: tuple[str, ...]) -> list[View]:
    """Rank the views of one photograph.

    A stereo pair takes turns along one list of windows, so that no window is shown from both sides.
    """
    windows = rank_windows([np.asarray(_photograph(file).convert("L")) for file in files])
    return [View(group, files[i % len(files)], window) for i, window in enumerate(windows)]


@cache
def _photograph(file: str) -> Image.Image:
    """Decode one of scikit-image's own files; it is cut, never changed."""
    return open_rgb(_path(file))


@cache
def _digest(file: str) -> bytes:
    return digest_file(_path(file))


def _path(file: str) -> Path:
    """Find one of scikit-image's own files by its path, as `skimage.data` could turn to the network."""
    found = importlib.util.find_spec("skimage")
    if found is None or not found.submodule_search_locations:
        raise InputError("bundled photographs come with scikit-image, which is missing; pip install 'repalign[demo]'")
    path = Path(found.submodule_search_locations[0]) / "data" / file
    if not path.is_file():
        raise InputError(f"this scikit-image carries no {file}; pip install 'repalign[demo]' gives one that does")
    return path
