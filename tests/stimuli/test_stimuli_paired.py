import pytest
from PIL import Image

from repalign.errors import InputError
from repalign.stimuli.paired import load_pair
from repalign.types import Stimuli


def side(name, *ids, **fields):
    """Stimuli whose picture shows the length of its own id."""
    return Stimuli(name, ids, lambda i: Image.new("RGB", (len(ids[i]), 1)), **fields)


def test_equal_names_pair_in_the_order_of_the_first():
    a, b = load_pair(
        side("a/", "1.png", "22.png", "333.png"), side("b/", "333.png", "1.png", "22.png", labels=("z", "x", "y"))
    )
    assert a.ids == b.ids == ("1.png", "22.png", "333.png")
    assert b.labels == ("x", "y", "z")
    assert [b.load(i).width for i in range(3)] == [5, 6, 7]
    assert (a.name, b.name) == ("a/", "b/")


def test_other_suffixes_pair_by_the_stem():
    a, b = load_pair(side("cat/", "v/1.png", "v/2.png", "same.jpg"), side("human/", "same.jpg", "v/2.jpeg", "v/1.jpeg"))
    assert a.ids == b.ids == ("v/1", "v/2", "same.jpg")
    assert [b.load(i).width for i in range(3)] == [8, 8, 8]


def test_a_full_name_wins_over_a_stem():
    a, b = load_pair(side("a/", "1.png", "1.jpg"), side("b/", "1.bmp", "1.png"))
    assert a.ids == b.ids == ("1.png", "1")


def test_a_number_after_a_dot_is_no_suffix():
    with pytest.raises(InputError, match=r"without a partner: 1 of 1 in a \(scan.001\), 1 of 1 in b \(scan.002\)"):
        load_pair(side("a", "scan.001"), side("b", "scan.002"))


def test_what_stands_alone_is_counted_and_named():
    a = side("cats/", *(f"{i}.png" for i in range(9)))
    b = side("humans/", "0.png", "1.jpg", "x.png")
    with pytest.raises(InputError) as caught:
        load_pair(a, b)
    assert str(caught.value) == (
        "cats/ and humans/ do not pair up; without a partner: "
        "7 of 9 in cats/ (2.png, 3.png, 4.png, 5.png, 6.png, …), 1 of 3 in humans/ (x.png); "
        "give both the same relative file names (suffixes may differ) or remove what stands alone"
    )


def test_one_side_may_be_complete():
    with pytest.raises(InputError, match=r"0 of 1 in a/, 1 of 2 in b/ \(2\.png\);"):
        load_pair(side("a/", "1.png"), side("b/", "1.png", "2.png"))


def test_a_stem_with_two_candidates_is_refused():
    with pytest.raises(InputError) as caught:
        load_pair(side("a/", "1.png", "1.jpg"), side("b/", "1.bmp", "2.bmp"))
    assert str(caught.value) == (
        "a/ holds both 1.png and 1.jpg, and the other side has neither by its full name; rename or remove one of them"
    )
