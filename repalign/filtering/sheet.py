"""A sheet that shows what a filter does: each picture above its filtered copy."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

MOST_SHOWN = 12
MOST_COLUMNS = 6
WIDTH = 1600  # pixels that six columns fill
WIDEST = 640  # of one picture, where there are few
MARGIN, GAP, SIDE = 24, 14, 30  # around the sheet, between pictures, for the words left of a row
TITLE, TEXT, SMALL = 30, 19, 14  # font sizes in pixels
LINE = 1.35  # line height over font size
COARSE = 4  # enlarged this often, pixels are shown as they are: smoothing would look like an optics of its own
INK, GREY = "#1a1a1a", "#666666"
ROWS = ("original", "filtered")


@dataclass(frozen=True)
class Shown:
    """A picture under its name, and its filtered copy."""

    name: str
    original: Image.Image
    copy: Image.Image


def spread(groups: Sequence[str], most: int = MOST_SHOWN) -> list[int]:
    """Choose up to `most` places, ascending: as many of each group as of the next, spread out within each.

    >>> spread("aaaabb", 4), spread("abcdef", 3)
    ([0, 2, 4, 5], [0, 2, 4])
    """
    members: dict[str, list[int]] = {}
    for place, group in enumerate(groups):
        members.setdefault(group, []).append(place)
    names = list(members)
    if len(names) > most:
        names = [names[k * len(names) // most] for k in range(most)]
    room = min(most, sum(len(members[name]) for name in names))
    quota = dict.fromkeys(names, 0)
    while sum(quota.values()) < room:
        open_ = [name for name in names if quota[name] < len(members[name])]
        for name in open_[: room - sum(quota.values())]:
            quota[name] += 1
    return sorted(members[g][k * len(members[g]) // q] for g, q in quota.items() for k in range(q))


def draw_sheet(title: str, facts: str, shown: Iterable[Shown], count: int) -> Image.Image:
    """Draw `count` pictures above their copies on white, under a title and a line of facts.

    Every picture keeps its proportions; few are drawn larger than many. One of a quarter of its place or less is
    enlarged by a whole number of times, so that its pixels show.
    """
    columns = -(-count // -(-count // MOST_COLUMNS))
    tile = min(WIDEST, (WIDTH - 2 * MARGIN - SIDE + GAP) // min(count, columns) - GAP)
    fitted = [_fitted(one, tile) for one in shown]  # originals may be large, so one after the other
    width = 2 * MARGIN + SIDE + columns * (tile + GAP) - GAP
    head = [(line, TITLE, INK) for line in _wrapped(title, TITLE, width - 2 * MARGIN)]
    head += [(line, TEXT, GREY) for line in _wrapped(facts, TEXT, width - 2 * MARGIN)]
    rows = [fitted[first : first + columns] for first in range(0, count, columns)]
    top = MARGIN + sum(round(size * LINE) for _, size, _ in head) + GAP
    sheet = Image.new("RGB", (width, top + sum(map(_height, rows)) + MARGIN - GAP), "white")
    draw, y = ImageDraw.Draw(sheet), MARGIN
    for line, size, ink in head:
        draw.text((MARGIN, y), line, fill=ink, font=_font(size))
        y += round(size * LINE)
    y = top
    for row in rows:
        _draw_row(sheet, row, y, tile)
        y += _height(row)
    return sheet


def _draw_row(sheet: Image.Image, row: Sequence[Shown], top: int, tile: int) -> None:
    """Draw originals, their copies below and their names below these, each centred in its column."""
    high = max(one.original.height for one in row)
    draw = ImageDraw.Draw(sheet)
    for k, one in enumerate(row):
        left = MARGIN + SIDE + k * (tile + GAP)
        for y, picture in ((top, one.original), (top + high + GAP // 2, one.copy)):
            sheet.paste(picture, (left + (tile - picture.width) // 2, y + (high - picture.height) // 2))
        name = _shortened(one.name, SMALL, tile)
        x = left + (tile - _font(SMALL).getlength(name)) / 2
        draw.text((x, top + 2 * high + GAP), name, fill=GREY, font=_font(SMALL))
    for word, y in zip(ROWS, (top, top + high + GAP // 2), strict=True):
        _draw_upwards(sheet, word, y + high // 2)


def _height(row: Sequence[Shown]) -> int:
    """Compute the height of two lines of pictures, their names and the gap after them."""
    return 2 * max(one.original.height for one in row) + 2 * GAP + round(SMALL * LINE)


def _draw_upwards(sheet: Image.Image, word: str, middle: int) -> None:
    """Write a word at the left edge, from below upwards, centred at a height."""
    font = _font(SMALL)
    label = Image.new("RGB", (round(font.getlength(word)), round(SMALL * LINE)), "white")
    ImageDraw.Draw(label).text((0, 0), word, fill=GREY, font=font)
    turned = label.transpose(Image.Transpose.ROTATE_90)
    sheet.paste(turned, (MARGIN, middle - turned.height // 2))


def _fitted(one: Shown, tile: int) -> Shown:
    """Scale a picture to fit a square place, and its copy to the same size, so that they can be compared."""
    scale = tile / max(one.original.size)
    coarse = scale >= COARSE
    scale, how = (int(scale), Image.Resampling.NEAREST) if coarse else (scale, Image.Resampling.LANCZOS)
    size = (max(1, round(one.original.width * scale)), max(1, round(one.original.height * scale)))
    return Shown(one.name, one.original.resize(size, how), one.copy.resize(size, how))


def _wrapped(text: str, size: int, width: int) -> list[str]:
    """Break a text between words into lines that fit."""
    lines: list[str] = []
    for word in _printable(text).split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and _font(size).getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(_shortened(word, size, width))
    return lines


def _shortened(name: str, size: int, width: int) -> str:
    """Leave out the middle of a name that is too long: its end tells frames and views apart."""
    name = _printable(name)
    for kept in range(len(name), 0, -1):
        short = name if kept == len(name) else f"{name[: kept // 3]}…{name[len(name) - (kept - kept // 3) :]}"
        if _font(size).getlength(short) <= width:
            return short
    return ""


def _printable(text: str) -> str:
    """Put a dot for every character that can't be drawn on a line."""
    return "".join(c if c.isprintable() else "·" for c in text)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """Open DejaVu Sans, which matplotlib carries: Pillow's own font has neither × nor é."""
    import matplotlib as mpl

    return ImageFont.truetype(str(Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)
