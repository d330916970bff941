import pytest

from repalign.errors import InputError
from repalign.filters import Chain, load_filter, make_filter
from repalign.filters.cat import Cat
from repalign.filters.jpeg import Jpeg


def test_a_comma_starts_a_filter_or_an_option():
    chain = load_filter("cat:fov_deg=60, pupil=slit ,defocus=-2,jpeg:q=50")
    assert chain == Chain((Cat(fov_deg=60.0, pupil="slit", defocus=-2.0), Jpeg(q=50)))
    assert chain.spec == "cat:fov_deg=60,pupil=slit,defocus=-2,jpeg:q=50"
    assert load_filter("grey,protan").label == "grey + human protanope"
    assert load_filter("cat:eccentricity=TRUE,fov_deg=6e1") == Cat(fov_deg=60.0, eccentricity=True)


def test_sources_and_notes_of_a_chain_are_those_of_its_parts():
    chain = load_filter("cat:fov_deg=60,luminance=1,jpeg:q=50,jpeg:q=40")
    assert chain.reference.count("ISO/IEC") == 1
    assert "Govardovskii" in chain.reference
    assert len(chain.notes) == 1


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("cta", "unknown filter 'cta'; did you mean cat"),
        ("xyzzy", "known: blur, cat, catvision, deutan, grey, identity, jpeg, noise, protan, red_removal"),
        ("cat:fov=60", "unknown option of cat 'fov'; did you mean fov_deg"),
        ("cat", "give the width of the whole scene, as in cat:fov_deg=60"),
        ("blur:cpd=2", "as in blur:fov_deg=60"),
        ("blur:fov_deg=60", "blur needs cpd, the cycles per degree of which half the contrast stays"),
        ("jpeg", "jpeg needs q, the quality"),
        ("noise", "noise needs sd, the standard deviation"),
        ("jpeg:q=0", "q is a quality from 1 (worst) to 100, not 0"),
        ("jpeg:q=7.5", "q takes a whole number, not '7.5'"),
        ("noise:sd=-1", "sd must be a positive number"),
        ("grey:amount=2", "amount is a share in 0..1, not 2"),
        ("cat:fov_deg=wide", "fov_deg takes a number, not 'wide'"),
        ("cat:fov_deg=0", "in 0..360, not 0"),
        ("cat:fov_deg=nan", "in 0..360, not nan"),
        ("cat:fov_deg=60,mtf50=0", "mtf50 must be a positive number (cycles per degree), not 0"),
        ("cat:fov_deg=60,defocus=inf", "finite number of dioptres"),
        ("cat:fov_deg=60,pupil=square", "pupil must be one of round, slit, not 'square'"),
        ("cat:fov_deg=60,pupil=slit", "a slit pupil changes only what is out of focus"),
        ("cat:fov_deg=60,eccentricity=yes", "eccentricity takes true or false, not 'yes'"),
        ("cat:fov_deg=60,luminance=0", "luminance must be a positive number (cd/m²), not 0"),
        ("cat:fov_deg=60,fov_deg=8", "cat is given fov_deg twice, 60 and 8; give it once"),
        ("cat,fov_deg=60", "options of cat follow a colon; write cat:fov_deg=60"),
        ("fov_deg=60", "starts with the option 'fov_deg=60'; write the filter first"),
        ("cat:60", "'60' is not an option; write cat:key=value"),
        ("cat:", "'' is not an option"),
        ("cat:fov_deg=", "'fov_deg=' is not an option"),
        ("grey,,protan", "has an empty part"),
        ("", "has an empty part"),
        ("identity:x=1", "identity takes no options, but was given x"),
    ],
)
def test_errors_say_what_to_write(spec, says):
    with pytest.raises(InputError) as caught:
        load_filter(spec)
    assert says in str(caught.value)


def test_values_may_be_given_as_they_are():
    assert make_filter("cat", fov_deg=60, eccentricity=True, luminance=5) == Cat(60.0, eccentricity=True, luminance=5.0)
    with pytest.raises(InputError, match="unknown filter 'cart'"):
        make_filter("cart")
    with pytest.raises(InputError, match="at least one filter"):
        Chain(())
