import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.spatial.distance import pdist, squareform

from repalign.encoders import load_encoder
from repalign.errors import InputError

POINTS = np.random.default_rng(0).standard_normal((5, 3))
CONDENSED = pdist(POINTS)
SQUARE = squareform(CONDENSED)
NAMES = ("a", "b", "c", "d", "e")


def found_in(tmp_path, name, values, **options):
    path = tmp_path / name
    if name.endswith("npy"):
        np.save(path, values)
    elif name.endswith("npz"):
        np.savez(path, **values)
    elif name.endswith("csv"):
        path.write_text(values)
    else:
        save_file(values, path, **options)
    return load_encoder(f"rdm:{path}")


def refused(tmp_path, name, values, message):
    with pytest.raises(InputError) as caught:
        found_in(tmp_path, name, values)
    assert message in str(caught.value)


@pytest.mark.parametrize("values", [SQUARE, CONDENSED])
def test_square_and_condensed_give_the_same(tmp_path, values):
    found = found_in(tmp_path, "d.npy", values)
    assert found.geometry == "rdm"
    assert np.array_equal(found.layers["rdm"], SQUARE)
    assert found.ids == ("0", "1", "2", "3", "4")
    assert found.meta["ids_by_order"] is True
    assert found.depths == {"rdm": 1.0}


def test_several_rdms_with_ids(tmp_path):
    arrays = {"v4": SQUARE, "it": CONDENSED.astype(np.float32), "ids": np.array(NAMES)}
    found = found_in(tmp_path, "d.npz", arrays)
    assert list(found.layers) == ["v4", "it"]
    assert found.ids == NAMES
    assert found.layers["it"].shape == (5, 5)
    assert found.join(("e", "a")).layers["v4"][0, 1] == SQUARE[4, 0]
    tensors = {"v4": torch.from_numpy(SQUARE)}
    assert found_in(tmp_path, "d.safetensors", tensors, metadata={"ids": '["a","b","c","d","e"]'}).ids == NAMES


def rows(matrix, names=()):
    cells = [",".join(map(repr, row.tolist())) for row in matrix]
    return [f"{name},{row}" for name, row in zip(names, cells, strict=True)] if names else cells


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        (rows(SQUARE), False),
        ([",".join(NAMES), *rows(SQUARE)], True),
        (rows(SQUARE, NAMES), True),
        (["," + ",".join(NAMES), *rows(SQUARE, NAMES)], True),
        (["id," + ",".join(NAMES), *rows(SQUARE, NAMES)], True),
        ([",".join(map(repr, CONDENSED.tolist()))], False),
        (list(map(repr, CONDENSED.tolist())), False),
    ],
)
def test_csv_with_and_without_ids(tmp_path, lines, named):
    found = found_in(tmp_path, "d.csv", "\n".join(lines) + "\n")
    assert np.array_equal(found.layers["rdm"], SQUARE)
    assert found.ids == (NAMES if named else ("0", "1", "2", "3", "4"))
    assert found.meta["ids_by_order"] is not named


def test_rounding_is_taken_out(tmp_path):
    noisy = SQUARE + 1e-8 * np.random.default_rng(1).standard_normal(SQUARE.shape)
    matrix = found_in(tmp_path, "d.npy", noisy).layers["rdm"]
    assert torch.equal(matrix, matrix.T)
    assert not matrix.diagonal().any()


LOPSIDED = SQUARE.copy()
LOPSIDED[1, 3] += 0.5
LOPSIDED[0, 2] += 0.25


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (LOPSIDED, "entries (1, 3) and (3, 1) differ by 0.5, the most of all; if both directions were measured"),
        (1 - SQUARE, "'rdm' has 1 on its diagonal, but a stimulus is at distance 0 from itself; if these are similari"),
        (SQUARE[:4], "'rdm' has shape (4, 5), but an RDM is square (n, n) or condensed (n(n-1)/2,)"),
        (np.ones((2, 3, 3)), "several RDMs go into one npz, each under its own name"),
        (np.ones((0, 0)), "'rdm' has shape (0, 0)"),
        (np.ones(11), "'rdm' has 11 entries, which is n(n-1)/2 for no n; next to it are 10 (n = 5) and 15 (n = 6)"),
        (np.ones(0), "'rdm' has 0 entries, which is n(n-1)/2 for no n; next to it are 1 (n = 2) and 3 (n = 3)"),
        (np.full((3, 3), np.inf), "entries that are NaN or infinite"),
    ],
)
def test_wrong_matrices(tmp_path, values, message):
    refused(tmp_path, "d.npy", values, message)


def test_wrong_files(tmp_path):
    refused(tmp_path, "d.npz", {"a": SQUARE, "b": SQUARE[:4, :4]}, "unequal numbers of stimuli (a: 5, b: 4)")
    refused(tmp_path, "d.npz", {}, "there is no array in the file; save a square matrix")
    refused(tmp_path, "d.npz", {"a": SQUARE, "ids": np.array(NAMES[:4])}, "4 ids for 5 rows")
    crossed = "\n".join(["id," + ",".join(NAMES), *rows(SQUARE, NAMES[::-1])])
    refused(tmp_path, "d.csv", crossed, "the ids of the first row and the first column differ")
    refused(tmp_path, "d.csv", "1,2\n3\n", "line 2 has 1 cells, not 2")
