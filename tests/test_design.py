"""A study's TOML file: read whole, and every mistake named with its key before anything runs."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from repalign.controls import CONTROLS
from repalign.design import read_design
from repalign.errors import InputError
from repalign.filters import catvision, load_filter
from repalign.metrics import parse_metric

ROOT = Path(__file__).parents[1]
GOOD = """
data = "photos"
permutations = 99
pool = "max"
[[encoders]]
name = "pocket:vit"
family = "ViT"
[[encoders]]
name = "pocket:vit"
pool = "cls"
[[conditions]]
id = "cat"
filter = "cat:fov_deg=60"
[[conditions]]
id = "copies"
data_b = "copies"
controls = false
"""


@pytest.fixture
def read(tmp_path):
    def reading(text, **changes):
        (tmp_path / "s.toml").write_text(text)
        return read_design(tmp_path / "s.toml", changes)

    return reading


def test_a_design_is_read_whole(read):
    design = read(GOOD, seed=3, limit=None)
    assert design.name == "s"
    assert (design.plan.n_permutations, design.plan.seed, design.options.seed, design.options.pool) == (99, 3, 3, "max")
    assert [e.slug for e in design.encoders] == ["pocket-vit", "pocket-vit-cls"]
    assert [e.family for e in design.encoders] == ["ViT", "other"]
    assert [(c.filter, c.data_b, c.controls) for c in design.conditions] == [
        ("cat:fov_deg=60", None, True), (None, "copies", False),
    ]  # fmt: skip
    assert design.controls == CONTROLS


def test_the_paper_preset_takes_biased_estimates_over_all_pairs(read):
    design = read('preset = "paper"\n' + GOOD)
    assert [parse_metric(m).options.get("debiased") for m in design.metrics] == [False, False, None]
    assert design.pairs == "all"
    assert design.tests == ("mmd2", "energy", "wasserstein1")
    assert read('preset = "paper"\npairs = "between"\n' + GOOD).pairs == "between"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('data = "photos"', "", "data is missing"),
        ("permutations = 99", "permutatoins = 99", "did you mean permutations"),
        ("permutations = 99", "permutations = '99'", "n_permutations must be a int, not '99'"),
        ("permutations = 99", "permutations = -1", "permutations"),
        ("permutations = 99", "stability = 1", "stability must be a bool"),
        ("permutations = 99", "metrics = 'rsa'", "metrics must be a list of strings"),
        ("permutations = 99", "metrics = ['rsaa']", "did you mean rsa"),
        ("permutations = 99", "metrics = ['rsa', 'rsa:rdm=correlation']", "metrics must have names of their own"),
        ("permutations = 99", "interval = 'bootstrap'", "without replacement|jackknife"),
        ("permutations = 99", "preset = 'papr'", "did you mean paper"),
        ("permutations = 99", "preset = ['paper']", "preset"),
        ("permutations = 99", "tests = ['mmd']", "did you mean mmd2"),
        ("permutations = 99", "controls = ['gray']", "did you mean grey"),
        ("permutations = 99", "pairs = 'betwen'", "did you mean between"),
        ("permutations = 99", "limit = 2", "limit must be a whole number from 4 on, not 2"),
        ("permutations = 99", "limit = 'abc'", "limit must be a whole number from 4 on, not 'abc'"),
        ("permutations = 99", "limit = true", "limit must be a whole number from 4 on, not True"),
        ("permutations = 99", "batch_size = 0", "batch_size must be a whole number from 1 on, not 0"),
        ("permutations = 99", "workers = 0", "workers must be a whole number from 1 on, not 0"),
        ('id = "cat"', 'id = ""', "conditions must have names that can name a folder"),
        ('id = "cat"', 'id = "/"', "conditions must have names that can name a folder"),
        ("pool = \"cls\"", "", "encoders must have names of their own"),
        ("pool = \"cls\"", "pools = 'cls'", "did you mean pool"),
        ('name = "pocket:vit"\nfamily', "family", "no name"),
        ('name = "pocket:vit"\nfamily', 'name = 3\nfamily', "must be a str"),
        ('name = "pocket:vit"\nfamily', 'name = "features:x.npy"\nfamily', "saved numbers"),
        ('filter = "cat:fov_deg=60"', 'filter = "cat"', "fov_deg"),
        ('filter = "cat:fov_deg=60"', "", "needs a filter or data_b"),
        ('filter = "cat:fov_deg=60"', 'filter = "grey"\ndata_b = "x"', "one of them"),
        ('id = "copies"', 'id = "cat"', "conditions must have names of their own"),
        ("controls = false", 'controls = "no"', "must be a bool"),
        ("[[conditions]]", "[[condition]]", "did you mean conditions|conditions is missing"),
        ("[[encoders]]", "[encoders", "can't be read as TOML"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_key(read, old, new, words):
    assert old in GOOD
    with pytest.raises(InputError, match=words) as raised:
        read(GOOD.replace(old, new))
    assert "s.toml" in str(raised.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="there is no study file"):
        read_design(tmp_path / "none.toml")


@pytest.mark.parametrize("file", sorted((ROOT / "experiments").glob("*.toml")), ids=lambda p: p.name)
def test_the_designs_in_the_repository_are_whole(file, monkeypatch):
    if find_spec("catvision") is None:  # optional: reading a design looks for it, this test does not need it
        monkeypatch.setattr(catvision, "_filter", lambda: None)
    design = read_design(file)
    assert design.title
    assert design.choices
    for condition in design.conditions:
        if condition.filter:
            assert load_filter(condition.filter).reference
