import pytest
import torch
from scenes import picture, pictures

import repalign as ra
from repalign.errors import InputError
from repalign.filters import linear_difference, load_filter, matched
from repalign.filters.grey import LUMINANCE
from repalign.filters.light import decode, encode

CAT = load_filter("cat:fov_deg=60")


def test_grey_keeps_luminance():
    x = pictures(1, dtype=torch.float64)
    y = load_filter("grey").batch(x)
    assert torch.equal(y[:, 0], y[:, 1])
    weights = torch.tensor(LUMINANCE)[None, :, None, None]
    assert (decode(y)[:, :1] - (weights * decode(x)).sum(1, keepdim=True)).abs().max() < 1e-12


def test_red_removal_touches_red_alone():
    x = pictures(1, dtype=torch.float64)
    y = decode(load_filter("red_removal:amount=0.75").batch(x))
    assert (y[:, 0] - 0.25 * decode(x)[:, 0]).abs().max() < 1e-12
    assert (y[:, 1:] - decode(x)[:, 1:]).abs().max() < 1e-12


def test_noise_has_the_asked_spread_and_differs_between_pictures():
    grey = encode(torch.full((2, 3, 64, 64), 0.5))
    grey[1, 0, 0, 0] = 0.0
    added = decode(load_filter("noise:sd=0.05").batch(grey)) - decode(grey)
    assert float(added.std()) == pytest.approx(0.05, rel=0.03)
    assert float(added.mean()) == pytest.approx(0, abs=2e-3)
    assert abs(float(torch.corrcoef(added.flatten(1))[0, 1])) < 0.05
    assert abs(float(torch.corrcoef(added[0].flatten(1))[0, 1])) < 0.06
    again = decode(load_filter("noise:sd=0.05,seed=1").batch(grey)) - decode(grey)
    assert abs(float(torch.corrcoef(torch.stack([added[0].flatten(), again[0].flatten()]))[0, 1])) < 0.05


def test_jpeg_loses_more_at_lower_quality():
    x = pictures(2)
    found = [linear_difference(load_filter(f"jpeg:q={q}"), x) for q in (95, 50, 5)]
    assert 0 < found[0] < found[1] < found[2]


def test_linear_difference_is_what_it_says():
    x = torch.ones(1, 3, 8, 8)
    assert linear_difference(load_filter("red_removal"), x) == pytest.approx(3**-0.5)
    assert linear_difference(load_filter("identity"), x) == 0
    assert linear_difference(CAT, [picture(), picture(30, 50)]) > 0


@pytest.mark.parametrize("name", ["grey", "blur", "red_removal", "noise"])
@pytest.mark.parametrize("reference", ["cat:fov_deg=60", "cat:fov_deg=8"])
def test_controls_are_matched_within_five_percent(name, reference):
    x = pictures(3, 48, 64)
    aim = load_filter(reference)
    found = matched(name, aim, x)
    assert found.name == name
    assert linear_difference(found, x) == pytest.approx(linear_difference(aim, x), rel=0.05)


def test_matching_holds_on_pictures_of_any_size_and_keeps_other_options():
    shown = [picture(), picture(30, 50)]
    found = matched("noise", CAT, shown, seed=5)
    assert found.options["seed"] == 5
    assert linear_difference(found, shown) == pytest.approx(linear_difference(CAT, shown), rel=0.05)
    wide = matched("blur", "cat:fov_deg=8", shown, extent=[0.5, 1.0])
    assert wide.options["fov_deg"] == 8
    aim = linear_difference(load_filter("cat:fov_deg=8"), shown, [0.5, 1.0])
    assert linear_difference(wide, shown, [0.5, 1.0]) == pytest.approx(aim, rel=0.05)


def test_jpeg_is_matched_in_whole_steps():
    x = pictures(3, 48, 64)
    aim = load_filter("jpeg:q=37")
    assert linear_difference(matched("jpeg", aim, x), x) == pytest.approx(linear_difference(aim, x), rel=0.05)


@pytest.mark.parametrize(
    ("name", "reference", "says"),
    [
        ("protan", CAT, "protan has no strength that could be matched; these have: grey, blur"),
        ("greyy", CAT, "unknown filter 'greyy'; did you mean grey"),
        ("grey", "identity", "identity changes none of these pictures"),
        ("grey", "noise:sd=5", "grey comes no nearer to noise:sd=5 than grey: it changes linear light by"),
        ("blur", "grey", "as in blur:fov_deg=60"),
    ],
)
def test_what_can_not_be_matched_is_said(name, reference, says):
    with pytest.raises(InputError) as caught:
        matched(name, reference, pictures(2))
    assert says in str(caught.value)


def test_an_unchanged_condition_scores_one():
    x = pictures(12, dtype=torch.float64)
    same = load_filter("identity").batch(x)
    assert ra.similarity(x.flatten(1), same.flatten(1), "cka_linear") == pytest.approx(1, abs=1e-12)
    other = load_filter("cat:fov_deg=8").batch(x)
    assert ra.similarity(x.flatten(1), other.flatten(1), "cka_linear") < 0.999
