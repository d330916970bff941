"""What is written comes back as it was, through Python's own reader."""

import math
import tomllib

import numpy as np
import pytest

from repalign.diagnosis.toml import to_toml
from repalign.errors import InputError

VALUES = {
    "format": 1,
    "teacher": 'pocket:"resnet"@C:\\weights\\a.safetensors',
    "said": "1 − CKA = 0.4\n\ttab, DEL \x7f, bell \x07, γ 🦎",
    "empty": "",
    "yes": True,
    "none": [],
    "options": {
        "stages": [1, 3],
        "gamma": 1.0,
        "tiny": 1e-300,
        "large": 1e22,
        "mixed": [1.5, -2.0],
        "nested": [[1], []],
    },
    "evidence": {
        "tau": 0.1 + 0.2,
        "deep": {"er": {"x": 1}},
        "stages": [{"number": 1, "kept": True, "of": {"a": "b"}}, {"number": 2, "kept": False}],
        "odd key": {"a.b": 1, "": 2},
    },
}


def test_values_come_back():
    assert tomllib.loads(to_toml(VALUES)) == VALUES


def test_types_come_back():
    back = tomllib.loads(to_toml({"i": 1, "f": 1.0, "b": False, "np": np.float64(0.1)}))
    assert [type(v) for v in back.values()] == [int, float, bool, float]


def test_numbers_that_are_none():
    back = tomllib.loads(to_toml({"a": math.nan, "b": [math.inf, -math.inf]}))
    assert math.isnan(back["a"])
    assert back["b"] == [math.inf, -math.inf]


def test_what_toml_does_not_hold_is_named():
    with pytest.raises(InputError, match=r"options\.gamma is NoneType"):
        to_toml({"options": {"gamma": None}})
    with pytest.raises(InputError, match="no Unicode"):
        to_toml({"data": "caf\udce9"})
