import pytest

from repalign.encoders import ENCODERS, load_encoder
from repalign.encoders.spec import parse_spec
from repalign.errors import InputError


@pytest.mark.parametrize(
    ("text", "source", "name", "weights"),
    [
        ("resnet50", "timm", "resnet50", None),
        ("timm:resnet50@random", "timm", "resnet50", "random"),
        ("dino_vitb16@C:\\weights\\w.pt", "timm", "dino_vitb16", "C:\\weights\\w.pt"),
        ("vit_b16@/data/me@home/a:b.pt", "timm", "vit_b16", "/data/me@home/a:b.pt"),
        ("hf:org/name@random", "hf", "org/name", "random"),
        ("features:path/with:colon.npy", "features", "path/with:colon.npy", None),
        ("features:C:\\x@2.npy", "features", "C:\\x@2.npy", None),
        ("rdm:v4@60.csv", "rdm", "v4@60.csv", None),
        ("python:pkg.mod:fn@w.pt", "python", "pkg.mod:fn", "w.pt"),
        ("C:\\models\\vit", "timm", "C:\\models\\vit", None),
        (" pocket:vit ", "pocket", "vit", None),
    ],
)
def test_parts(text, source, name, weights):
    spec = parse_spec(text, ENCODERS)
    assert (spec.source, spec.name, spec.weights, str(spec)) == (source, name, weights, text.strip())


def test_a_file_called_random_can_be_named():
    assert parse_spec("vit_b16@random", ENCODERS).untrained
    assert parse_spec("vit_b16@./random", ENCODERS).path == "./random"


def test_an_hf_folder_may_contain_an_at_sign(tmp_path):
    folder = tmp_path / "runs@2"
    folder.mkdir()
    assert parse_spec(f"hf:{folder}", ENCODERS).name == str(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tim:resnet50", "unknown encoder source 'tim'; did you mean timm"),
        ("qqqq:resnet50", "unknown encoder source 'qqqq'; known: features, hf, pocket, python, rdm, timm"),
        ("", "names no encoder; write [source:]name[@weights]"),
        ("pocket:", "'pocket:' names no encoder"),
        ("resnet50@", "'resnet50@' names no weights after '@'; give a path or 'random'"),
    ],
)
def test_errors(text, message):
    with pytest.raises(InputError) as caught:
        parse_spec(text, ENCODERS)
    assert message in str(caught.value)


def test_what_is_loaded_already_passes():
    encoder = load_encoder("pocket:resnet@random")
    assert load_encoder(encoder) is encoder
