"""Filter pictures from file to file, in threads."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from jaxtyping import Float
from PIL.Image import Image
from torch import Tensor

from repalign.errors import InputError, RepalignError, UnreadableImagesError
from repalign.filtering.result import Filtering, Picture
from repalign.filters import Filter
from repalign.filters.light import as_batch, as_picture, linear_squares
from repalign.progress import Track
from repalign.stimuli.checks import some
from repalign.types import Stimuli

MOST_THREADS = 4  # a photograph of 12 megapixels takes nearly 1 GB on its way
BLOCK = 1024  # pictures handed to the threads at once
STRIP = 1 << 18  # pixels whose difference is taken at once, in float64
MOST_NOTES = 5  # of the runs: a filter whose note names the size has one for every size
COMPRESSION = 3  # of zlib: three times as fast as 6, and on the bundled photographs 1 % smaller


@dataclass(frozen=True)
class Outcome:
    """What became of one picture: filtered, with the filter's notes, or unreadable for a reason."""

    picture: Picture | None = None
    notes: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class Work:
    """Pictures to filter and write; under `strict`, once one can't be read, the others are only looked at."""

    filter: Filter
    stimuli: Stimuli
    names: tuple[str, ...]
    folder: Path
    strict: bool
    spoiled: Event = field(default_factory=Event)

    def run(self, track: Track) -> Filtering:
        """Filter and write all pictures, and sum up what became of them."""
        outcomes = self._outcomes(track)
        skipped = tuple((i, o.reason) for i, o in zip(self.stimuli.ids, outcomes, strict=True) if o.reason)
        pictures = tuple(o.picture for o in outcomes if o.picture)
        if skipped and (self.strict or not pictures):
            raise _unreadable(self.stimuli, skipped)
        said = tuple(dict.fromkeys(note for o in outcomes for note in o.notes))
        more = (f"… and {len(said) - MOST_NOTES} more of the kind",) if len(said) > MOST_NOTES else ()
        notes = (*self.filter.notes, *said[:MOST_NOTES], *more)
        return Filtering(self.filter, self.folder, pictures, notes, (*self.stimuli.skipped, *skipped))

    def _outcomes(self, track: Track) -> list[Outcome]:
        """Lead each picture through one thread, from file to file, so that few are in memory."""
        n, outcomes = len(self.stimuli), []
        with (
            track(f"{self.filter.label} on {self.stimuli.name}", n) as advance,
            ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1)) as threads,
        ):
            try:
                for first in range(0, n, BLOCK):
                    for outcome in threads.map(self._one, range(first, min(first + BLOCK, n))):
                        outcomes.append(outcome)
                        advance(1)
            except BaseException:
                threads.shutdown(cancel_futures=True)  # else Ctrl-C would wait for the whole block
                raise
        return outcomes

    def _one(self, index: int) -> Outcome:
        name = self.stimuli.ids[index]
        try:
            original = self.stimuli.load(index)
        except (OSError, ValueError, SyntaxError) as error:
            if self.strict:
                self.spoiled.set()
            return Outcome(reason=str(error).splitlines()[0] if str(error) else type(error).__name__)
        if self.spoiled.is_set():
            return Outcome()
        x = as_batch(original)
        try:
            found = self.filter.apply(x, self.stimuli.extent_of(index))
        except InputError as error:
            raise InputError(f"{name} through {self.filter.spec}: {error}") from None
        picture = as_picture(found.pictures[0])
        _save(picture, self.folder / self.names[index])
        said = name, self.names[index], picture.width, picture.height, float(found.clipped[0])
        return Outcome(Picture(*said, _difference(x, found.pictures)), found.notes)


def _difference(a: Float[Tensor, "1 3 h w"], b: Float[Tensor, "1 3 k m"]) -> float | None:
    """Compute the root mean square difference in linear light, strip by strip."""
    if a.shape != b.shape:
        return None
    rows = max(1, STRIP // a.shape[3])
    strips = zip(a.split(rows, 2), b.split(rows, 2), strict=True)
    return (sum(float(linear_squares(x, y)) * x.shape[2] for x, y in strips) / a.shape[2]) ** 0.5


def _save(picture: Image, path: Path) -> None:
    """Write one PNG.

    Raises InputError when the disk takes its name for another picture's, RepalignError when it won't hold it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:  # x: where A.png and a.png are one file, the second must not replace the first
            picture.save(file, "PNG", compress_level=COMPRESSION)
    except FileExistsError:
        raise InputError(f"this disk can't tell {path.name} from another picture's name; rename one of them") from None
    except OSError as error:
        raise RepalignError(f"{path.name} can't be written: {error.strerror or error}; choose another OUT") from error


def _unreadable(stimuli: Stimuli, skipped: tuple[tuple[str, str], ...]) -> UnreadableImagesError:
    named = some([f"{own} ({reason})" for own, reason in skipped])
    remedy = "mend or remove them"
    if len(skipped) < len(stimuli):
        remedy += ", or go on without them with --skip-unreadable"
    return UnreadableImagesError(
        f"{stimuli.name}: {len(skipped)} of {len(stimuli)} pictures can't be decoded: {named}; {remedy}", skipped
    )
