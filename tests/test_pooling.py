import pytest
import torch

from repalign.errors import InputError, LayerError
from repalign.pooling import parse_pool, reducer, width
from repalign.types import Layer


def layer(layout, shape, prefix=0, grid=None):
    return Layer("l", "Kind", shape, layout, prefix, grid, 0, 0.5, "block")


NCHW = layer("nchw", (3, 4, 6), grid=(4, 6))
NHWC = layer("nhwc", (4, 6, 3), grid=(4, 6))
TOKENS = layer("tokens", (26, 3), prefix=2, grid=(4, 6))
VECTOR = layer("vector", (3,))


def same_picture():
    """One picture's features in three layouts."""
    image = torch.randn(2, 3, 4, 6)
    tokens = torch.cat([torch.full((2, 2, 3), 99.0), image.flatten(2).transpose(1, 2)], dim=1)
    return {"nchw": (NCHW, image), "nhwc": (NHWC, image.permute(0, 2, 3, 1)), "tokens": (TOKENS, tokens)}


@pytest.mark.parametrize("method", ["mean", "max", "grid:2", "grid:3"])
def test_every_layout_pools_to_the_same_rows_without_prefix_tokens(method):
    rows = [reducer(where, parse_pool(method))(x) for where, x in same_picture().values()]
    assert torch.allclose(rows[0], rows[1], atol=1e-6)
    assert torch.allclose(rows[0], rows[2], atol=1e-6)
    assert (rows[2] < 50).all()


def test_values():
    where, x = same_picture()["nchw"]
    assert torch.allclose(reducer(where, parse_pool("mean"))(x), x.mean((2, 3)), atol=1e-6)
    assert torch.equal(reducer(where, parse_pool("max"))(x), x.amax((2, 3)))
    assert torch.equal(reducer(where, parse_pool("flatten"))(x), x.flatten(1))
    where, x = same_picture()["tokens"]
    assert torch.equal(reducer(where, parse_pool("cls"))(x), x[:, 0])
    assert torch.equal(reducer(where, parse_pool("flatten"))(x), x[:, 2:].flatten(1))


@pytest.mark.parametrize("method", ["mean", "cls", "max", "flatten", "flatten:8", "grid:2"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_are_float32_and_own_their_memory(method, dtype):
    for where, x in [*same_picture().values(), (VECTOR, torch.randn(2, 3))]:
        if method == "cls" and where.layout in ("nchw", "nhwc"):
            continue
        x = x.to(dtype)
        rows = reducer(where, parse_pool(method))(x)
        before = rows.clone()
        x.zero_()
        assert rows.dtype == torch.float32
        assert torch.equal(rows, before)


@pytest.mark.parametrize("method", ["mean", "cls", "max", "flatten", "flatten:8", "grid:2"])
def test_width_is_what_the_reducer_gives(method):
    for where, x in [*same_picture().values(), (VECTOR, torch.randn(2, 3))]:
        if method != "cls" or where.layout not in ("nchw", "nhwc"):
            assert reducer(where, parse_pool(method))(x).shape == (2, width(where, parse_pool(method)))


def test_bfloat16_is_added_up_in_float32_and_memory_formats_agree():
    where = layer("nchw", (3, 64, 64), grid=(64, 64))
    x = 1 + torch.rand(2, 3, 64, 64).bfloat16()
    for method in ("mean", "max", "grid:2", "flatten", "flatten:64"):
        rows = reducer(where, parse_pool(method))(x)
        assert torch.allclose(rows, reducer(where, parse_pool(method))(x.float()), rtol=1e-6)
        last = x.contiguous(memory_format=torch.channels_last)
        assert torch.allclose(rows, reducer(where, parse_pool(method))(last), rtol=1e-6)


def test_names_read_back():
    for text in ("mean", "cls", "max", "flatten", "flatten:1", "flatten:4096", "grid:3"):
        assert str(parse_pool(text)) == text


def test_a_vector_passes_as_it_is():
    x = torch.randn(2, 3)
    for method in ("mean", "cls", "max", "flatten", "grid:2"):
        assert torch.equal(reducer(VECTOR, parse_pool(method))(x), x)


def test_errors():
    with pytest.raises(InputError, match="unknown pooling 'men'; did you mean mean"):
        parse_pool("men")
    for text in ("grid", "grid:0", "grid:x"):
        with pytest.raises(InputError, match="whole number of cells"):
            parse_pool(text)
    for text in ("flatten:", "flatten:0", "flatten:x", "flatten:²"):
        with pytest.raises(InputError, match="whole number of features to project to, as in flatten:4096"):
            parse_pool(text)
    with pytest.raises(InputError, match="takes no argument"):
        parse_pool("mean:2")
    with pytest.raises(LayerError, match="has no class token"):
        reducer(NCHW, parse_pool("cls"))
    with pytest.raises(LayerError, match="no grid of positions"):
        reducer(layer("tokens", (26, 3)), parse_pool("grid:2"))
