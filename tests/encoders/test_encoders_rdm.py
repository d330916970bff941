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
        (np.ones((2, 3, 3, 3)), "several subjects are stacked, (subjects, n, n) or (subjects, n(n-1)/2)"),
        (np.stack([SQUARE, 1 - SQUARE]), "'rdm' has 1 on its diagonal"),
        (
            np.ones((5, 3)) * [1, 2, 3],
            "the 5 subjects share 3 stimuli (0: 3, 1: 3, 2: 3, 3: 3, 4: 3), but need at least",
        ),
        (np.ones((0, 0)), "'rdm' has shape (0, 0)"),
        (np.ones(11), "'rdm' has 11 entries, which is n(n-1)/2 for no n; next to it are 10 (n = 5) and 15 (n = 6)"),
        (np.ones(0), "'rdm' has 0 entries, which is n(n-1)/2 for no n; next to it are 1 (n = 2) and 3 (n = 3)"),
        (np.full((3, 3), np.inf), "9 entries that are infinite; a missing pair is NaN"),
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


def with_nan(matrix, *entries):
    found = matrix.copy()
    for entry in entries:
        found[entry] = np.nan
    return found


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("d.npy", with_nan(SQUARE, (0, 3), (3, 0), (1, 2), (2, 1), (4, 4))),
        ("d.npy", with_nan(CONDENSED, 2, 4)),
        ("d.csv", "\n".join(rows(with_nan(SQUARE, (0, 3), (3, 0), (1, 2), (2, 1)))).replace("nan", "")),
        ("d.csv", "\n".join(rows(with_nan(SQUARE, (0, 3), (3, 0), (1, 2), (2, 1)), NAMES)).replace("nan", "NA")),
    ],
)
def test_missing_pairs_are_kept_and_counted(tmp_path, name, values):
    found = found_in(tmp_path, name, values)
    matrix = found.layers["rdm"].numpy()
    assert found.meta["missing"] == {"rdm": 2}
    assert "notes" not in found.meta
    assert np.argwhere(np.isnan(matrix)).tolist() == [[0, 3], [1, 2], [2, 1], [3, 0]]
    assert matrix[0, 1] == SQUARE[0, 1]
    assert matrix[4, 4] == 0


def test_one_side_of_a_pair_is_enough(tmp_path):
    found = found_in(tmp_path, "d.npz", {"v4": with_nan(SQUARE, (0, 3), (2, 1), (1, 2))})
    assert found.layers["v4"][0, 3] == SQUARE[3, 0] == found.layers["v4"][3, 0]
    assert found.meta["missing"] == {"v4": 1}
    assert found.meta["notes"] == [
        "'v4': 1 pairs are missing (NaN) on one side of the diagonal and taken from the other"
    ]


def test_a_stimulus_without_pairs(tmp_path):
    lonely = SQUARE.copy()
    lonely[2] = lonely[:, 2] = np.nan
    arrays = {"v4": lonely, "ids": np.array(NAMES)}
    refused(tmp_path, "d.npz", arrays, "'v4' has no distance left for 1 of 5 stimuli (c): all their pairs are missing")
    refused(tmp_path, "d.npy", np.full((5, 5), np.nan), "has no distance at all: every pair is missing (NaN)")


def test_an_empty_diagonal_in_a_csv(tmp_path):
    """The first row could be ids: a symmetric matrix then reads as one with one stimulus less."""
    blank = "\n".join(rows(with_nan(SQUARE, *((i, i) for i in range(5))))).replace("nan", "")
    refused(tmp_path, "d.csv", blank, "the diagonal is empty, so the first row may hold ids or distances")
    numbered = "\n".join([",0,1,2,3,4", *rows(SQUARE, "01234")])
    assert np.array_equal(found_in(tmp_path, "d.csv", numbered).layers["rdm"], SQUARE)


@pytest.mark.parametrize("condensed", [False, True])
def test_stacked_subjects_give_the_mean(tmp_path, condensed):
    stack = np.stack([SQUARE, 100 * SQUARE**2])
    found = found_in(tmp_path, "d.npy", stack[:, *np.triu_indices(5, 1)] if condensed else stack)
    scaled = [CONDENSED / np.sqrt((CONDENSED**2).mean()), CONDENSED**2 / np.sqrt((CONDENSED**4).mean())]
    assert squareform(found.layers["rdm"]) == pytest.approx(np.mean(scaled, 0), rel=1e-12)
    assert found.geometry == "rdm"
    assert found.meta["n_subjects"] == 2
    assert len(found.meta["fingerprint"]) == 32


def test_groups_and_the_mean_over_those_who_have_the_pair(tmp_path):
    for k, gaps in enumerate([[(0, 1), (2, 3)], [(2, 3)], [(2, 3), (0, 4)]]):
        matrix = with_nan(SQUARE, *gaps, *((j, i) for i, j in gaps)) * 10**k
        np.savez(tmp_path / f"sub{k}.npz", it=matrix, ids=np.array(NAMES), groups=np.array(list("uuvvw")))
    found = load_encoder(f"rdm:{tmp_path}")
    assert found.groups == tuple("uuvvw")
    assert found.meta["missing"] == {"it": 1}
    assert found.layers["it"][2, 3].isnan()
    scales = [1 / np.sqrt(np.nanmean(with_nan(SQUARE, *g, *((j, i) for i, j in g), *((i, i) for i in range(5))) ** 2))
              for g in ([(0, 1), (2, 3)], [(2, 3)], [(2, 3), (0, 4)])]  # fmt: skip
    assert found.layers["it"][0, 1].item() == pytest.approx(SQUARE[0, 1] * np.mean(scales[1:]), rel=1e-12)
    assert list(found.meta["subjects"]) == ["sub0", "sub1", "sub2"]
    assert found.meta["subjects"]["sub1"]["path"] == str(tmp_path / "sub1.npz")
    assert [s["missing"]["it"] for s in found.meta["subjects"].values()] == [2, 1, 2]
