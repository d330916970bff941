import numpy as np

from repalign.stimuli.windows import LEAST_CONTRAST, MOST_OVERLAP, Window, rank_windows

NOISE = np.random.default_rng(0).integers(0, 256, (120, 180), dtype=np.uint8)


def test_windows_lie_inside_and_do_not_repeat():
    windows = rank_windows([NOISE])
    assert len(set(windows)) == len(windows) > 50
    for window in windows:
        left, upper, right, lower = window.box
        assert 0 <= left < right <= 180
        assert 0 <= upper < lower <= 120
        assert right - left == lower - upper == round(window.scale * 120)


def test_no_two_windows_are_near_duplicates():
    windows = rank_windows([NOISE])
    overlaps = {True: 0.0, False: 0.0}  # of one scale, of two
    for i, a in enumerate(windows):
        for b in windows[:i]:
            same = a.scale == b.scale
            overlaps[same] = max(overlaps[same], a.overlap(b))
    assert overlaps[True] <= MOST_OVERLAP
    assert overlaps[False] <= 0.52  # a window of the next smaller scale has about half the area


def test_every_prefix_mixes_the_scales():
    scales = [window.scale for window in rank_windows([NOISE])[:29]]
    assert [scales.count(s) for s in (1.0, 0.7, 0.5, 0.35)] == [1, 4, 8, 16]
    assert set(scales[:8]) >= {0.7, 0.5, 0.35}


def test_blank_windows_are_left_out_when_one_picture_is_blank_there():
    half = NOISE.copy()
    half[:, 90:] = 128
    for window in rank_windows([NOISE, half]):
        left, upper, right, lower = window.box
        assert half[upper:lower, left:right].std() >= LEAST_CONTRAST
    assert rank_windows([np.full((50, 50), 9, np.uint8)]) == []


def test_a_square_picture_has_one_whole_view():
    whole = [window for window in rank_windows([NOISE[:, :120]]) if window.scale == 1.0]
    assert whole == [Window(1.0, 0, 0, 120)]


def test_windows_apart_do_not_overlap():
    assert Window(0.5, 0, 0, 10).overlap(Window(0.5, 10, 0, 10)) == 0
    assert Window(0.5, 0, 0, 10).overlap(Window(0.5, 30, 30, 10)) == 0
