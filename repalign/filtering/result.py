"""What became of filtered pictures: where they are, how much was cut and how much was changed."""

from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from repalign.filtering.places import record_of, sheet_of
from repalign.filters import Filter


@dataclass(frozen=True)
class Picture:
    """A filtered picture: its `file` below the folder, its size, and the share of its pixels that was cut.

    `difference` to the original is the root mean square in linear light 0..1, None when the filter changed its size.
    """

    id: str
    file: str
    width: int
    height: int
    clipped: float
    difference: float | None


@dataclass(frozen=True)
class Filtering:
    """What `filter_pictures` wrote into `folder`, what the filter did, and what was left out and why."""

    filter: Filter
    folder: Path
    pictures: tuple[Picture, ...]
    notes: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]

    @property
    def sheet(self) -> Path:
        """Name the sheet beside the folder."""
        return sheet_of(self.folder)

    @property
    def record(self) -> Path:
        """Name the record beside the folder."""
        return record_of(self.folder)

    @property
    def n(self) -> int:
        """Count the pictures."""
        return len(self.pictures)

    @property
    def clipped(self) -> float:
        """Average the share of pixels that left the sRGB cube and were cut."""
        return fmean(picture.clipped for picture in self.pictures)

    @property
    def difference(self) -> float | None:
        """Compute the root mean square difference in linear light 0..1, pictures weighted alike.

        None when the filter changed the size of any.
        """
        found = [p.difference for p in self.pictures if p.difference is not None]
        return fmean(d**2 for d in found) ** 0.5 if len(found) == self.n else None

    @property
    def facts(self) -> tuple[str, str]:
        """Say how much was cut and how much was changed."""
        cut = f"clipped {100 * self.clipped:.2g} % of the pixels"
        if self.difference is None:
            return cut, "changed the size, so no difference is defined"
        return cut, f"changed linear light by {self.difference:.3g} RMS, where 1 is white"

    @property
    def lines(self) -> tuple[str, ...]:
        """Say where everything is, and what stands beside it."""
        left_out = (f"left out: {len(self.skipped)}, listed in {self.record}",) if self.skipped else ()
        return (
            f"{self.filter.label}: {', '.join(self.facts)}",
            *(f"note: {note}" for note in self.notes),
            *left_out,
            f"pictures: {self.folder} ({self.n})",
            f"sheet: {self.sheet}",
            f"record: {self.record}",
        )
