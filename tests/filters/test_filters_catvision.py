import importlib.util

import numpy as np
import pytest
import torch
from scenes import picture, pictures

from repalign.errors import InputError
from repalign.filters import linear_difference, load_filter

INSTALLED = importlib.util.find_spec("catvision") is not None
needs = pytest.mark.skipif(not INSTALLED, reason="needs pip install 'repalign[cat]'")


@pytest.mark.skipif(INSTALLED, reason="catvision is installed")
def test_without_the_package_the_error_says_how_to_get_it():
    with pytest.raises(InputError, match=r"install it with: pip install 'repalign\[cat\]'"):
        load_filter("catvision")
    with pytest.raises(InputError, match="mode must be one of biological, legacy, not 'best'"):
        load_filter("catvision:mode=best")


@needs
@pytest.mark.parametrize("mode", ["biological", "legacy"])
def test_the_package_is_called_as_it_is(mode):
    from catvision import CatVisionFilter

    shown = picture(60, 90)
    bgr = np.array(shown)[:, :, ::-1].copy()
    expected = CatVisionFilter().apply_cat_vision(bgr, use_biological_accuracy=mode == "biological")[:, :, ::-1]
    filter_ = load_filter(f"catvision:mode={mode}")
    assert np.array_equal(np.array(filter_(shown)), expected)
    assert load_filter(filter_.spec) == filter_


@needs
def test_the_size_at_which_it_ran_is_recorded():
    before, after = load_filter("catvision"), load_filter("catvision:size=32")
    x = pictures(2, 48, 72)
    assert before.apply(x).notes == ("catvision ran at 72 × 48 pixels, before resizing",)
    assert after.apply(x).notes == ("catvision ran at 48 × 32 pixels, after resizing",)
    assert after.batch(x).shape == (2, 3, 32, 48)
    assert after(picture(48, 72)).size == (48, 32)
    assert "its result depends on the size" in before.notes[0]
    assert after.spec == "catvision:size=32"
    with pytest.raises(InputError, match="changes the size of pictures"):
        linear_difference(after, x)


@needs
def test_a_batch_equals_single_pictures():
    x = pictures(3)
    together = load_filter("catvision").batch(x)
    assert torch.equal(together, torch.cat([load_filter("catvision").batch(one[None]) for one in x]))
