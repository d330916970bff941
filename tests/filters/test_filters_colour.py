import numpy as np
import pytest
import torch
from scenes import colours

from repalign.errors import InputError
from repalign.filters import load_filter
from repalign.filters.cat import L_PEAK, ROD_PEAK, S_PEAK, Cat
from repalign.filters.flow import Scene
from repalign.filters.human import Deutan, Protan
from repalign.filters.pigments import absorbance, catch
from repalign.filters.spectra import BASIS, D65, WAVELENGTHS

SHARP = Cat(fov_deg=60.0, mtf50=float("inf"))
ONE = Scene((1.0,))


def catches(x):
    rows = torch.tensor(np.stack([catch(L_PEAK), catch(S_PEAK)]))
    return torch.einsum("cr,nrhw->nchw", rows, x)


def test_the_catches_are_those_of_the_reference():
    assert catch(L_PEAK) == pytest.approx([0.182, 0.655, 0.163], abs=5e-4)
    assert catch(S_PEAK) == pytest.approx([0.041, 0.178, 0.782], abs=6e-4)
    assert catch(ROD_PEAK) == pytest.approx([0.026, 0.550, 0.424], abs=5e-4)
    expected = [[0.219, 0.781, 0], [0.219, 0.781, 0], [-0.009, 0.009, 1]]
    assert np.abs(SHARP.matrix - expected).max() < 5e-4


def test_the_spectra_are_whole():
    assert np.array_equal(WAVELENGTHS, np.arange(380, 785, 5))
    assert BASIS.sum(1) == pytest.approx(1, abs=2e-5)  # as published
    assert BASIS.min() > 0
    assert D65[WAVELENGTHS == 560] == 100  # by definition


def test_a_template_peaks_where_it_is_told_and_has_a_beta_band():
    fine = np.arange(380, 780, 0.1)
    for peak in (L_PEAK, S_PEAK, ROD_PEAK):
        curve = absorbance(fine, peak)
        assert fine[curve.argmax()] == pytest.approx(peak, abs=1)
        assert curve.max() == pytest.approx(1, abs=0.01)
    beta = 189 + 0.315 * L_PEAK
    assert absorbance(np.array([beta]), L_PEAK)[0] == pytest.approx(0.26, abs=0.02)


def test_the_neutral_point_lies_where_the_reference_puts_it():
    fine = np.arange(450, 560, 0.1)
    white = {peak: (absorbance(WAVELENGTHS, peak) * D65 * WAVELENGTHS).sum() for peak in (L_PEAK, S_PEAK)}
    ratio = absorbance(fine, L_PEAK) / white[L_PEAK] / (absorbance(fine, S_PEAK) / white[S_PEAK])
    assert fine[np.abs(np.log(ratio)).argmin()] == pytest.approx(499, abs=1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_both_cones_catch_what_they_caught_before(dtype):
    x = colours(dtype=dtype)
    after = SHARP.render(x, ONE)
    assert (catches(after.double()) - catches(x.double())).abs().max() < 1e-6
    assert not torch.allclose(after, x, atol=0.1)
    assert torch.equal(after[:, 0], after[:, 1])


@pytest.mark.parametrize("filter_", [SHARP, Protan(), Deutan()], ids=lambda f: f.name)
def test_the_projection_is_idempotent_and_keeps_greys(filter_):
    x = colours()
    once = filter_.render(x, ONE)
    assert (filter_.render(once, ONE) - once).abs().max() < 1e-12
    grey = torch.linspace(0, 1, 50, dtype=torch.float64).expand(1, 3, 1, 50)
    assert (filter_.render(grey, ONE) - grey).abs().max() < 1e-12
    assert np.linalg.matrix_rank(filter_.matrix) == 2


def test_greys_stay_through_the_whole_filter():
    grey = torch.linspace(0, 1, 50)[:, None, None, None].expand(50, 3, 20, 30)
    for spec in ("cat:fov_deg=8", "cat:fov_deg=8,luminance=1", "cat:fov_deg=8,pupil=slit,defocus=3", "protan", "grey"):
        assert (load_filter(spec).batch(grey) - grey).abs().max() < 2e-5, spec


def test_pairs_that_both_cones_confuse_map_together():
    x = colours() * 0.5 + 0.25
    null = np.linalg.svd(np.stack([catch(L_PEAK), catch(S_PEAK)]))[2][2]  # the direction neither cone sees
    other = x + 0.2 * torch.tensor(null)[None, :, None, None]
    assert (x - other).abs().max() > 0.1
    assert (SHARP.render(x, ONE) - SHARP.render(other, ONE)).abs().max() < 1e-12
    human = Deutan().render(x, ONE) - Deutan().render(other, ONE)
    assert human.abs().max() > 0.01  # people with two cones tell them apart


def test_human_dichromats_have_the_published_matrices():
    protan = [[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]]
    deutan = [[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]]
    assert np.abs(Protan().matrix - protan).max() < 1e-5
    assert np.abs(Deutan().matrix - deutan).max() < 1e-5


def test_rods_take_over_with_falling_luminance():
    def at(luminance, **more):
        return Cat(fov_deg=60.0, luminance=luminance, **more)

    assert np.array_equal(at(30.0).matrix, at(300.0).matrix)
    assert np.array_equal(at(300.0).matrix, SHARP.matrix)
    assert np.linalg.matrix_rank(at(3.0).matrix) == 1
    assert at(3.0).matrix[0] == pytest.approx(catch(ROD_PEAK))
    middle = (at(3.0).matrix + at(30.0).matrix) / 2
    assert at(float(np.sqrt(90))).matrix == pytest.approx(middle)
    assert at(1.0, tapetum=1.4).matrix == pytest.approx(1.4 * at(1.0).matrix)
    assert "darkened" in at(1.0).notes[0]
    with pytest.raises(InputError, match="tapetum acts on rods, which need a luminance below 30"):
        Cat(fov_deg=60.0, tapetum=1.4)


def test_what_is_cut_is_reported():
    red = torch.zeros(2, 3, 8, 8)
    red[1, 0] = 1.0
    found = SHARP.apply(red)
    assert found.clipped.tolist() == [0.0, 1.0]  # pure red needs a little negative blue
    assert torch.equal(found.pictures, SHARP.batch(red))
    assert found.pictures.min() >= 0
    assert load_filter("cat:fov_deg=60,jpeg:q=90").apply(red).clipped.tolist() == [0.0, 1.0]
