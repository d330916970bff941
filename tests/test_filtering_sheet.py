"""The sheet of `repalign filter`: which pictures it shows, and how."""

import numpy as np
import pytest
from PIL import Image

from repalign.filtering.sheet import Shown, draw_sheet, spread


def test_groups_are_shown_evenly():
    assert spread(["a"] * 300 + ["b"] * 3 + ["c"] * 40, 9) == [0, 100, 200, 300, 301, 302, 303, 316, 329]
    assert spread(["a"] * 300 + ["b"], 4) == [0, 100, 200, 300]
    assert len(spread([str(i % 50) for i in range(200)])) == 12
    assert spread([]) == []


def area(marked):
    """Where a mask is true: left, top, width, height."""
    rows, columns = np.nonzero(marked)
    return columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1


@pytest.mark.parametrize(("count", "width"), [(1, 640), (2, 640), (3, 498), (5, 293), (7, 370), (12, 242)])
def test_copies_stand_below_their_originals_at_their_size(count, width):
    pictures = [[Image.new("RGB", (900, 300), (r, 10 * i, 200 - r)) for r in (200, 0)] for i in range(count)]
    sheet = draw_sheet("title", "facts", (Shown("n", *pair) for pair in pictures), count)
    assert sheet.width <= 1600
    red, green, blue = np.moveaxis(np.asarray(sheet), 2, 0)
    for i in range(count):
        left, top, w, h = area((red == 200) & (green == 10 * i) & (blue == 0))
        below = area((red == 0) & (green == 10 * i) & (blue == 200))
        assert (w, h) == (width, round(width / 3))
        assert (below[0], below[2], below[3]) == (left, w, h)
        assert top + h <= below[1] <= top + h + 20


def test_small_pictures_show_their_pixels_and_tall_ones_fit():
    small = Image.effect_noise((32, 32), 90).convert("RGB")
    tall = Image.new("RGB", (50, 2000), (200, 0, 0))
    sheet = np.asarray(draw_sheet("t", "f", [Shown("a", small, small), Shown("b", tall, tall)], 2))
    left, _, width, height = area((sheet == (200, 0, 0)).all(2))
    assert (width, height) == (16, 2 * 640 + 7)
    enlarged = np.kron(np.asarray(small), np.ones((20, 20, 1), np.uint8))
    tops = [y for y in range(len(sheet) - 640) if np.array_equal(sheet[y : y + 640, 54:694], enlarged)]
    assert len(tops) == 2
    assert left > 694


def test_pictures_of_a_row_stand_on_one_middle_line():
    square, wide = Image.new("RGB", (500, 500), (200, 0, 0)), Image.new("RGB", (900, 300), (0, 0, 200))
    sheet = np.asarray(draw_sheet("t", "f", [Shown("a", square, square), Shown("b", wide, wide)], 2))
    middles = []
    for colour, height in (((200, 0, 0), 640), ((0, 0, 200), 213)):
        _, top, _, both = area((sheet == colour).all(2))
        middles.append((top + height / 2, top + both - height / 2))
    assert np.abs(np.subtract(*middles)).max() <= 1


@pytest.mark.parametrize("name", ["x" * 400, "two\nlines", "猫/\udcff\0.png", " ", "", "é × ü – …"])
def test_any_name_can_be_drawn(name):
    picture = Image.new("RGB", (8, 8))
    assert draw_sheet(name, name, [Shown(name, picture, picture)], 1).width <= 1600
