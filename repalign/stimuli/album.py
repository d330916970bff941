"""Pictures of a stream that are kept on disk: a uniform sample of them."""

import shutil
import tempfile
import weakref
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import final

from PIL import Image

from repalign.stimuli.reservoir import Reservoir
from repalign.together import Together
from repalign.types import Stimuli

FORM = ".ppm"  # plain pixels: as exact as PNG, and written in a tenth of the time


@final
class Album:
    """Keeps `size` of all the pictures it is shown, each with equal chance, those that a `Reservoir` keeps.

    They lie in a temporary folder that goes when nobody holds the album any more.
    """

    def __init__(self, size: int, seed: int) -> None:
        self._kept = Reservoir(size, seed)
        self._folder = Path(tempfile.mkdtemp(prefix="repalign-pictures-"))
        self._files: dict[str, Path] = {}
        self._count = 0
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)

    def add(self, ids: Sequence[str], pictures: Sequence[Image.Image]) -> None:
        """Show the next pictures."""
        for row in self._kept.add(ids, {}):
            pictures[row].save(self._new_file(ids[row]))
        self._drop(self._files.keys() - set(self._kept.ids))

    def gather(self, together: Together) -> None:
        """Bring what all processes together keep to the first one."""
        own = self._kept.trimmed(together)
        several = together.gather((own, {name: self._files[name].read_bytes() for name in own.ids}))
        for kept, files in (several or [])[1:]:
            self._kept.merge(kept)
            for name, data in files.items():
                self._new_file(name).write_bytes(data)
        self._drop(self._files.keys() - set(self._kept.ids))

    def stimuli(self, name: str, notes: tuple[str, ...]) -> Stimuli:
        """Give the pictures kept as stimuli, which keep the album."""
        ids = self._kept.ids
        return Stimuli(name, ids, lambda i: self._load(ids[i]), notes=notes)

    def _load(self, name: str) -> Image.Image:
        with Image.open(self._files[name]) as file:
            return file.convert("RGB")

    def _new_file(self, name: str) -> Path:
        self._count += 1
        self._files[name] = self._folder / f"{self._count}{FORM}"
        return self._files[name]

    def _drop(self, names: Iterable[str]) -> None:
        for name in names:
            self._files.pop(name).unlink()
