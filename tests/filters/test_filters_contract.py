import numpy as np
import pytest
import torch
from PIL import Image
from scenes import picture, pictures

from repalign.errors import InputError
from repalign.filters import FILTERS, Filter, Step, load_filter
from repalign.filters.light import as_batch, decode, encode

SPECS = [
    "identity", "cat:fov_deg=60", "cat:fov_deg=8,pupil=slit,defocus=1.5,aspect=4", "cat:fov_deg=8,eccentricity=true",
    "cat:fov_deg=8,luminance=5,tapetum=1.3", "cat:fov_deg=8,mtf50=inf", "grey", "grey:amount=0.3",
    "blur:cpd=1,fov_deg=30", "red_removal", "red_removal:amount=0.5", "protan", "deutan", "jpeg:q=50",
    "noise:sd=0.05", "noise:sd=0.05,seed=3", "cat:fov_deg=60,jpeg:q=50", "noise:sd=0.1,cat:fov_deg=60,identity,grey",
]  # fmt: skip
ALL = pytest.mark.parametrize("spec", SPECS)


def test_every_filter_is_tried():
    tried = {step.name for spec in SPECS for step in load_filter(spec).steps}
    assert tried | {"catvision"} == set(FILTERS)
    assert all(kind.name == name for name, kind in FILTERS.items())


@ALL
def test_a_batch_is_filtered_like_single_pictures(spec):
    x = pictures(5)
    filter_ = load_filter(spec)
    together = filter_.batch(x)
    alone = torch.cat([filter_.batch(x[i : i + 1]) for i in range(5)])
    assert together.shape == x.shape
    assert together.dtype == x.dtype
    assert (together - alone).abs().max() < 1e-6
    assert torch.equal(together, filter_.batch(x))


@ALL
def test_values_stay_in_range_and_finite(spec):
    x = torch.cat([pictures(2), torch.zeros(1, 3, 40, 56), torch.ones(1, 3, 40, 56)])
    y = load_filter(spec).batch(x)
    assert y.min() >= 0
    assert y.max() <= 1 + 1e-6


@ALL
def test_a_picture_gives_what_its_batch_gives(spec):
    shown = picture()
    filter_ = load_filter(spec)
    got = filter_(shown)
    assert got.mode == "RGB"
    assert got.size == shown.size
    expected = filter_.batch(as_batch(shown))[0].mul(255).round().byte().permute(1, 2, 0).numpy()
    assert np.array_equal(np.array(got), expected)


@ALL
def test_spec_builds_the_same_filter_again(spec):
    filter_ = load_filter(spec)
    assert load_filter(filter_.spec) == filter_
    assert filter_.spec == spec
    assert load_filter(filter_) is filter_
    assert hash(filter_) == hash(load_filter(spec))
    assert filter_.label
    assert filter_.reference
    assert isinstance(filter_, Filter)


@ALL
def test_both_precisions_agree(spec):
    if "jpeg" in spec:
        pytest.skip("8-bit rounding on the way in may fall on either side")
    x = pictures(2)
    filter_ = load_filter(spec)
    double = filter_.batch(x.double())
    assert double.dtype == torch.float64
    assert (filter_.batch(x) - double).abs().max() < 2e-5


@ALL
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cpu_and_gpu_agree(spec):
    x = pictures(3)
    filter_ = load_filter(spec)
    on_gpu = filter_.batch(x.cuda())
    assert on_gpu.is_cuda
    limit = 0.05 if "jpeg" in spec else 2e-5  # 8-bit rounding before JPEG may fall on either side
    assert (on_gpu.cpu() - filter_.batch(x)).abs().max() < limit


@ALL
def test_the_memory_layout_of_pictures_does_not_matter(spec):
    x = pictures(2)
    last = x.to(memory_format=torch.channels_last)
    assert (load_filter(spec).batch(last) - load_filter(spec).batch(x)).abs().max() < 1e-6


def test_a_batch_larger_than_one_helping_is_whole(monkeypatch):
    x = pictures(7)
    filter_ = load_filter("cat:fov_deg=60,noise:sd=0.1")
    extent = [1.0, 0.5, 1.0, 0.25, 0.5, 1.0, 1.0]
    whole = filter_.batch(x, extent)
    monkeypatch.setattr("repalign.filters.base.VALUES_AT_ONCE", 2 * x[0].numel())
    assert (filter_.batch(x, extent) - whole).abs().max() < 1e-6
    assert filter_.apply(x, extent).clipped.shape == (7,)


def test_identity_changes_nothing_at_all():
    x = pictures(2)
    y = load_filter("identity").batch(x)
    assert torch.equal(x, y)
    assert y.data_ptr() != x.data_ptr()
    shown = picture()
    assert np.array_equal(np.array(load_filter("identity")(shown)), np.array(shown))


def test_a_grey_level_picture_is_taken_as_rgb():
    assert load_filter("grey")(Image.new("L", (9, 7), 80)).getpixel((0, 0)) == (80, 80, 80)


def test_srgb_is_that_of_the_standard():
    x = torch.arange(256, dtype=torch.float64) / 255
    assert (encode(decode(x)) - x).abs().max() < 1e-7
    assert float(decode(torch.tensor(0.5, dtype=torch.float64))) == pytest.approx(0.21404114048223255)
    assert float(decode(torch.tensor(0.02, dtype=torch.float64))) == pytest.approx(0.02 / 12.92)


def test_light_is_decoded_and_encoded_once(monkeypatch):
    import repalign.filters.flow as flow

    counted = {"decode": 0, "encode": 0}
    for name in counted:
        real = getattr(flow, name)

        def count(x, name=name, real=real):
            counted[name] += 1
            return real(x)

        monkeypatch.setattr(flow, name, count)
    load_filter("cat:fov_deg=60,identity,blur:cpd=1,fov_deg=60,protan").batch(pictures(1))
    assert counted == {"decode": 1, "encode": 1}
    load_filter("jpeg:q=90,cat:fov_deg=60,jpeg:q=50").batch(pictures(1))
    assert counted == {"decode": 2, "encode": 2}


@pytest.mark.parametrize(
    ("x", "extent", "says"),
    [
        (torch.full((1, 3, 4, 4), 255.0), None, "0..1, but these run from 255 to 255"),
        (torch.full((1, 3, 4, 4), float("nan")), None, "0..1, but these run from nan"),
        (torch.zeros(1, 3, 4, 4, dtype=torch.float16), None, "float32 or float64 in 0..1, not torch.float16"),
        (torch.zeros(0, 3, 4, 4), None, "no pictures"),
        (torch.zeros(2, 3, 4, 4), [1.0], "1 extents were given for 2 pictures"),
        (torch.zeros(1, 3, 4, 4), [1.5], "in 0..1, not 1.5"),
        (torch.zeros(1, 3, 4, 4), [float("nan")], "in 0..1, not nan"),
    ],
)
def test_wrong_pictures_are_refused(x, extent, says):
    with pytest.raises(InputError, match=says):
        load_filter("grey").batch(x, extent)


def test_steps_are_frozen():
    step = load_filter("grey")
    assert isinstance(step, Step)
    with pytest.raises(AttributeError):
        step.amount = 0.5
