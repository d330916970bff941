import math

import numpy as np
import pytest
import torch
from scenes import contrast, grating, pictures
from scipy.fft import dctn, idctn

from repalign.errors import InputError
from repalign.filters import load_filter, nyquist_transfer
from repalign.filters.cat import Cat
from repalign.filters.cosine import gaussian_operator, multiply, multiply_axes, operator
from repalign.filters.degrees import gaussian_optics
from repalign.filters.eccentricity import acuity_octaves
from repalign.filters.light import decode, encode
from repalign.filters.mtf import MTF50, PUPIL_MM, pupil_size


@pytest.mark.parametrize("axis", ["x", "y"])
@pytest.mark.parametrize("pixels", [224, 448, 896])
@pytest.mark.parametrize(("fov", "cpd"), [(8.0, 1.0), (8.0, MTF50), (8.0, 4.0), (60.0, 1.2)])
def test_a_grating_keeps_the_contrast_asked_for(fov, cpd, pixels, axis):
    size = (pixels, pixels // 4) if axis == "y" else (pixels // 4, pixels)
    width = fov if axis == "x" else fov / 4  # the same pixels a degree
    before = grating(cpd, size, width, axis)
    after = load_filter(f"cat:fov_deg={width}").batch(before.float()).double()
    expected = 2 ** -((cpd / MTF50) ** 2)
    assert contrast(before, cpd, width, axis) == pytest.approx(1, rel=1e-6)
    assert contrast(after, cpd, width, axis) == pytest.approx(expected, rel=0.02)


def test_mtf50_and_blur_mean_what_they_say():
    before = grating(1.5, (32, 448), 12.0, "x")
    for spec in ("cat:fov_deg=12,mtf50=1.5", "blur:cpd=1.5,fov_deg=12"):
        assert contrast(load_filter(spec).batch(before), 1.5, 12.0, "x") == pytest.approx(0.5, rel=1e-3)


def test_no_optics_leave_detail():
    x = pictures(1, dtype=torch.float64)
    grey = x.mean(1, keepdim=True).expand(1, 3, 40, 56).contiguous()
    assert (load_filter("cat:fov_deg=60,mtf50=inf").batch(grey) - grey).abs().max() < 1e-9


def dct_reference(x, degrees, response):
    h, w = x.shape[-2:]
    fy = np.arange(h)[:, None] / (2 * degrees[0])
    fx = np.arange(w)[None, :] / (2 * degrees[1])
    return idctn(dctn(x.numpy(), axes=(-2, -1)) * response(fy, fx), axes=(-2, -1))


@pytest.mark.parametrize("size", [(40, 56), (41, 30), (1, 17), (300, 700)])
@pytest.mark.parametrize("mtf50", [0.02, 0.5, 30.0])
def test_optics_multiply_the_cosine_transform(size, mtf50):
    x = torch.rand(2, 2, *size, dtype=torch.float64)
    degrees = (60.0 * size[0] / size[1], 60.0)
    expected = dct_reference(x, degrees, lambda fy, fx: 2 ** -((fy**2 + fx**2) / mtf50**2))
    assert np.abs(gaussian_optics(x, degrees, mtf50).numpy() - expected).max() < 1e-12
    assert np.abs(gaussian_optics(x.float(), degrees, mtf50).numpy() - expected).max() < 2e-6


@pytest.mark.parametrize("size", [(40, 56), (41, 31)])
def test_any_response_multiplies_the_cosine_transform(size):
    x = torch.rand(2, 3, *size, dtype=torch.float64)

    def response(fy, fx):
        return 1 / (1 + fy**2 + 3 * fx**2 + fy**2 * fx**2)

    expected = dct_reference(x, (9.0, 14.0), response)
    assert np.abs(multiply(x, response, (9.0, 14.0)).numpy() - expected).max() < 1e-12


def test_a_narrow_blur_is_banded_and_loses_nothing():
    n = 2000
    cpu = torch.device("cpu")
    pieces = gaussian_operator(n, 20.0, MTF50, torch.float32, cpu)
    assert len(pieces) > 4
    assert max(piece.high - piece.low for piece in pieces) < 600
    modes = torch.arange(n + 1, dtype=torch.float64) / 40
    whole = operator(torch.exp2(-((modes / MTF50) ** 2)), torch.float64, cpu)
    assert len(whole) == 1
    x = torch.rand(1, 1, 1, n, dtype=torch.float64)
    one = operator(torch.ones(2, dtype=torch.float64), torch.float32, cpu)
    full = operator(torch.ones(2, dtype=torch.float64), torch.float64, cpu)
    assert (multiply_axes(x.float(), one, pieces) - multiply_axes(x, full, whole)).abs().max() < 1e-6


def test_nothing_wraps_around_the_border():
    x = torch.zeros(1, 3, 64, 96, dtype=torch.float64)
    x[..., :16] = 1.0
    y = load_filter("cat:fov_deg=4").batch(x)
    assert y[..., -16:].max() < 1e-9
    turned = load_filter(f"cat:fov_deg={4 * 64 / 96}").batch(x.transpose(2, 3).contiguous())
    assert turned[..., -16:, :].max() < 1e-9
    assert load_filter("cat:fov_deg=4,pupil=slit,defocus=1").batch(x)[..., -16:].max() < 0.02


@pytest.mark.parametrize("size", [(120, 120), (60, 240), (200, 50)])
def test_blur_is_alike_in_all_directions_at_any_aspect_ratio(size):
    h, w = size
    x = torch.zeros(1, 3, h, w, dtype=torch.float64)
    x[..., h // 2, w // 2] = 1.0
    light = decode(load_filter(f"cat:fov_deg={w / 30}").batch(x))[0, 0]  # 30 pixels a degree
    light = light / light.sum()
    y = (torch.arange(h) - h // 2).double()
    z = (torch.arange(w) - w // 2).double()
    spread_y = (light.sum(1) * y**2).sum().sqrt()
    spread_x = (light.sum(0) * z**2).sum().sqrt()
    expected = 30 * math.sqrt(2 * math.log(2)) / (2 * math.pi * MTF50)  # SD of the Gaussian, in pixels
    assert float(spread_x) == pytest.approx(expected, rel=1e-3)
    assert float(spread_y) == pytest.approx(expected, rel=1e-3)


def test_a_window_is_filtered_as_part_of_its_scene():
    scene = pictures(1, 64, 256, torch.float64)
    whole = load_filter("cat:fov_deg=8").batch(scene)
    window = load_filter("cat:fov_deg=8").batch(scene[..., 64:192], 0.5)
    assert (window - whole[..., 64:192])[..., 20:-20].abs().max() < 1e-9
    mixed = load_filter("cat:fov_deg=8").batch(scene[..., 64:192].expand(3, 3, 64, 128), [1.0, 0.5, 1.0])
    assert torch.equal(mixed[1], window[0])
    assert torch.equal(mixed[0], mixed[2])
    assert not torch.allclose(mixed[0], mixed[1], atol=1e-3)


def test_a_slit_keeps_vertical_contours_and_blurs_horizontal_ones():
    slit = Cat(fov_deg=8.0, pupil="slit", defocus=1.0, aspect=4.0)
    height, width = pupil_size(4.0)
    assert height / width == pytest.approx(4)
    assert height * width == pytest.approx(PUPIL_MM**2)
    found = {}
    for axis in ("x", "y"):
        before = grating(1.5, (224, 224), 8.0, axis)
        f = torch.tensor(1.5, dtype=torch.float64)
        zero = torch.zeros((), dtype=torch.float64)
        asked = slit.transfer(zero, f) if axis == "x" else slit.transfer(f, zero)
        found[axis] = contrast(slit.batch(before), 1.5, 8.0, axis)
        assert found[axis] == pytest.approx(abs(float(asked)), rel=0.02)
    assert found["x"] > 2 * found["y"]  # bars across x are vertical contours


def test_defocus_is_the_blur_circle_of_geometrical_optics():
    """A uniform disc has variance (d/4)² in each direction, which is the curvature of its transfer at 0."""
    cat = Cat(fov_deg=8.0, mtf50=float("inf"), defocus=2.0)
    diameter = math.degrees(PUPIL_MM / 1000 * 2)
    f = torch.tensor(1e-3, dtype=torch.float64)
    drop = 1 - float(cat.transfer(f, torch.zeros_like(f)))
    assert drop == pytest.approx(2 * (math.pi * 1e-3 * diameter / 4) ** 2, rel=1e-4)
    assert float(cat.transfer(torch.zeros_like(f), torch.zeros_like(f))) == 1
    first_zero = torch.tensor(1.2196698912665045 / diameter, dtype=torch.float64)  # of J₁, over π
    assert abs(float(cat.transfer(first_zero, torch.zeros_like(f)))) < 1e-9


def test_detail_is_lost_towards_the_border_when_asked():
    assert acuity_octaves(torch.tensor([0.0, 4.0, 16.0])).tolist() == pytest.approx([0, 0.5, 1.3], abs=0.05)
    width, cpd = 40.0, 1.0
    before = grating(cpd, (24, 480), width, "x")
    after = decode(load_filter("cat:fov_deg=40,eccentricity=true").batch(before))[0, 0]
    middle, border = after[:, 220:260], after[:, 60:100]  # border: 13.3° off centre
    centre = decode(load_filter("cat:fov_deg=40").batch(before))[0, 0][:, 220:260]
    assert float((middle - 0.5).abs().max()) == pytest.approx(float((centre - 0.5).abs().max()), rel=0.05)
    mtf50 = MTF50 / (1 + 13.3 / 10.4)
    assert float((border - 0.5).abs().mean()) * math.pi / 2 / 0.4 == pytest.approx(2 ** -((cpd / mtf50) ** 2), rel=0.1)


def test_uniform_pictures_stay_uniform_with_eccentricity():
    x = encode(torch.full((1, 3, 40, 60), 0.37))
    assert (load_filter("cat:fov_deg=90,eccentricity=true").batch(x) - x).abs().max() < 1e-5


def test_nyquist_transfer_has_the_values_of_the_reference():
    assert nyquist_transfer(60.0, 224) == pytest.approx(0.66, abs=0.005)
    assert nyquist_transfer(60.0, 32) == pytest.approx(0.99, abs=0.005)
    assert nyquist_transfer(8.0, 224) < 1e-9
    assert nyquist_transfer(60.0, 224, mtf50=1e9) == pytest.approx(1)
    with pytest.raises(InputError, match="fov_deg must be positive, not 0"):
        nyquist_transfer(0.0, 224)
