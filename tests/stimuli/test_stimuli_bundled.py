import hashlib
import importlib.util
import re
import subprocess
import sys
from collections import Counter

import pytest
from PIL import Image

from repalign.errors import InputError
from repalign.stimuli import bundled
from repalign.stimuli.windows import Window

KINDS = {"photos": 9, "photos:colour": 5}


@pytest.fixture
def fresh():
    """Forget decoded photographs before and after."""
    bundled._photograph.cache_clear()
    bundled._views.cache_clear()
    yield
    bundled._photograph.cache_clear()
    bundled._views.cache_clear()


def digest(stimuli, rows):
    return [hashlib.sha256(stimuli.load(i).tobytes()).hexdigest() for i in rows]


@pytest.mark.parametrize(("name", "k"), KINDS.items())
def test_at_least_256_views_balanced_over_groups(name, k):
    stimuli = bundled.load(name)
    counts = Counter(stimuli.groups)
    assert len(stimuli) >= 256
    assert len(counts) == k
    assert len(set(counts.values())) == 1
    assert set(Counter(stimuli.groups[: 3 * k]).values()) == {3}
    assert stimuli.name == f"bundled:{name}"


def test_the_two_pictures_of_the_motorcycle_share_one_quota_and_no_window():
    stimuli = bundled.load("photos")
    windows = [i.split("/") for i, g in zip(stimuli.ids, stimuli.groups, strict=True) if g == "motorcycle"]
    sides = Counter(side for side, _ in windows)
    assert sides == {"motorcycle_left": 15, "motorcycle_right": 14}
    assert len({window for _, window in windows}) == 29


def test_the_same_views_every_time(fresh):
    first = bundled.load("photos")
    pixels = digest(first, (0, 100, 260))
    bundled._photograph.cache_clear()
    bundled._views.cache_clear()
    second = bundled.load("bundled:photos")
    assert first.ids == second.ids
    assert digest(second, (0, 100, 260)) == pixels
    assert len(set(digest(second, range(len(second))))) == len(second)


def test_ids_tell_where_the_view_lies():
    stimuli = bundled.load("photos:colour")
    row = re.compile(r"(\w+)/s(\d\.\d\d)-x(\d{3})-y(\d{3})")
    for i in range(0, len(stimuli), 13):
        found = row.fullmatch(stimuli.ids[i])
        assert found is not None
        file, scale, x, y = found.groups()
        picture = stimuli.load(i)
        whole = bundled._photograph("rocket.jpg" if file == "rocket" else f"{file}.png")
        side = round(float(scale) * whole.height)
        assert picture.size == (side, side)
        assert picture == whole.crop((int(x), int(y), int(x) + side, int(y) + side))
        assert stimuli.extent[i] == side / whole.width


def test_views_of_one_photograph_are_no_near_duplicates():
    views = bundled._views("astronaut", ("astronaut.png",))[:52]
    pairs = [(a.window, b.window) for i, a in enumerate(views) for b in views[:i]]
    assert max(Window.overlap(a, b) for a, b in pairs) < 0.85


def test_a_view_can_be_drawn_on_without_harm():
    stimuli = bundled.load("photos")
    before = digest(stimuli, [0])
    stimuli.load(0).paste((0, 0, 0), (0, 0, 50, 50))
    assert digest(stimuli, [0]) == before
    assert isinstance(stimuli.load(0), Image.Image)


@pytest.mark.parametrize(("name", "k"), KINDS.items())
def test_the_note_warns_of_few_groups(name, k):
    assert bundled.load(name).notes == (f"only {k} photographs: intervals over {k} groups are illustrative",)


def test_colour_photographs_have_colour():
    stimuli = bundled.load("photos:colour")
    for i in range(5):
        red, _, blue = stimuli.load(i).split()
        assert red != blue


def test_an_unknown_name():
    with pytest.raises(InputError, match=r"unknown bundled stimuli 'photos:color'; did you mean photos:colour"):
        bundled.load("photos:color")


def test_scikit_image_is_missing(fresh, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError) as caught:
        bundled.load("photos")
    assert str(caught.value) == (
        "bundled photographs come with scikit-image, which is missing; pip install 'repalign[demo]'"
    )


def test_a_wheel_without_the_file(fresh, monkeypatch):
    monkeypatch.setitem(bundled.COLOUR, "astronaut", ("gone.png",))
    with pytest.raises(InputError) as caught:
        bundled.load("photos:colour")
    assert (
        str(caught.value) == "this scikit-image carries no gone.png; pip install 'repalign[demo]' gives one that does"
    )


def test_scikit_image_is_not_imported():
    code = "import sys; from repalign.stimuli import bundled as b; b.load('photos'); sys.exit('skimage' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
