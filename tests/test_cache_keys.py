"""Keys: unambiguous over types and boundaries, and the same for ever."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repalign.cache import key_of

TEXT = st.text(alphabet="0123456789:bnifsymt-.e", max_size=6)  # what the encoding itself is made of
LEAVES = st.none() | st.booleans() | st.integers(-3, 300) | st.floats() | TEXT | TEXT.map(str.encode)
PARTS = st.recursive(
    LEAVES, lambda part: st.lists(part, max_size=3) | st.dictionaries(TEXT | st.integers(0, 3), part, max_size=3)
)


def canonical(part):
    """Say in Python's own terms when two parts are the same."""
    if isinstance(part, float):
        return float, "nan" if part != part else part.hex()
    if isinstance(part, dict):
        return dict, frozenset((canonical(k), canonical(v)) for k, v in part.items())
    if isinstance(part, list | tuple):
        return list, tuple(map(canonical, part))
    return type(part), part


@given(st.lists(PARTS, max_size=4), st.lists(PARTS, max_size=4))
def test_two_keys_are_one_exactly_when_their_parts_are(a, b):
    assert (key_of(*a) == key_of(*b)) == (canonical(a) == canonical(b))
    assert key_of(a) == key_of(tuple(a))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("ab", "c"), ("a", "bc")),
        ((1,), ("1",)),
        ((1,), (True,)),
        ((1,), (1.0,)),
        ((0.0,), (-0.0,)),
        (("a",), (b"a",)),
        ((None,), ("",)),
        ((None,), ()),
        ((("a", "b"),), ("a", "b")),
        (([],), ({},)),
        (({"a": 1},), ((("a", 1),),)),
        ((("a", ("b",)),), (("a", "b"),)),
        (({"a": {"b": 1}},), ({"a": 1, "b": 1},)),
    ],
)
def test_parts_that_look_alike_have_two_keys(one, other):
    assert key_of(*one) != key_of(*other)


def test_order_counts_in_sequences_and_not_in_mappings():
    assert key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1})
    assert key_of("a", "b") != key_of("b", "a")


def test_keys_stay_what_they_are():
    """A change here makes every cache worthless: it needs another number in `OWN`."""
    assert key_of("blocks.3", 1, 2.5, None, True, b"\0", ["é", -7], {"pool": "mean"}) == KNOWN
    assert key_of("half a pair: \ud800") != key_of("half a pair: ?")
    assert key_of(10**5000) != key_of(10**5000 + 1)


def test_what_has_no_stable_text_is_refused():
    with pytest.raises(TypeError, match=r"can't hold a set .*give None, booleans"):
        key_of({1, 2})
    with pytest.raises(TypeError, match="object"):
        key_of("a", [object()])


KNOWN = "72b8f308323ab0799ba602f5ed3d49e9"
