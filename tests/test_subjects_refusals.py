"""What several subjects must share, and what a comparison of models needs: errors by name."""

import warnings

import numpy as np
import pytest
from test_subjects import IDS, rdms_of, responses, save

from repalign.errors import InputError
from repalign.subjects import load_subjects, model_comparison, noise_ceiling, subjects_from_arrays


def refused(message, call, *args, **options):
    with pytest.raises(InputError) as caught:
        call(*args, **options)
    assert message in str(caught.value)


def test_what_subjects_must_share(tmp_path):
    _, x = responses(3)
    few = {"s0": IDS, "s1": IDS, "s2": (*IDS[:3], *"abcdefghijk")}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        refused("the 3 subjects share 3 stimuli (s0: 14, s1: 14, s2: 14), but need", subjects_from_arrays, x, ids=few)
    short = x | {"s1": x["s1"][:9]}
    refused("number of rows, without ids, of s1 (9) differ from those of s0 (14)", subjects_from_arrays, short)
    refused("some arrays have", model_comparison, subjects_from_arrays(x), {"a": x["s0"], "b": x["s0"][None]})
    folder = save(tmp_path / "f", x, False)
    np.savez(folder / "s1.npz", v4=x["s1"], ids=np.array(IDS))
    refused("layers of s1 (v4) differ from those of s0 (it)", load_subjects, f"features:{folder}")
    np.savez(folder / "s1.npz", it=x["s1"])
    refused("ids of s1 (none, rows by order) differ from those of s0 (ids)", load_subjects, f"features:{folder}")
    for name, group in (("s1", "a"), ("s2", "b")):
        np.savez(folder / f"{name}.npz", it=x[name], ids=np.array(IDS), groups=np.full(14, group))
    refused("stimulus 'im00' is in group 'a' for s1 and in 'b' for s2", load_subjects, f"features:{folder}")
    refused("no file fits this pattern; name .npy", load_subjects, f"features:{folder}/t*.npz")
    refused("has no file that ends in .npy, .npz", load_subjects, f"rdm:{tmp_path}")
    refused("unknown encoder source 'timm'", load_subjects, "resnet50")
    np.save(tmp_path / "stack.npy", np.stack([*rdms_of(x).values()]))
    np.save(tmp_path / "stack2.npy", np.stack([*rdms_of(x).values()]))
    refused("holds 3 subjects; among several files each is one subject", load_subjects, f"rdm:{tmp_path}/*.npy")
    assert load_subjects(f"rdm:{tmp_path}/stack.npy").names == ("0", "1", "2")


def test_what_a_comparison_needs():
    truth, x = responses(6)
    subjects = subjects_from_arrays(x, ids=IDS)
    compare = model_comparison
    refused("there is 1 subject (s0), and at least 2 are needed", noise_ceiling, subjects_from_arrays({"s0": x["s0"]}))
    refused("procrustes has no noise ceiling", noise_ceiling, subjects, "procrustes")
    refused("the subjects have no layer 'V1'; they have features", noise_ceiling, subjects, layer="V1")
    refused("models: 2 of 14 stimuli are missing (im00, im01)", compare, subjects, {"a": truth[2:]}, ids=IDS[2:])
    refused("the models have 9 rows without ids, and the subjects 14 stimuli", compare, subjects, {"a": truth[:9]})
    refused("'a' has 14 rows, and ids 13", compare, subjects, {"a": truth}, ids=IDS[1:])
    refused("13 groups for 14 rows of the models", compare, subjects, {"a": truth}, groups=IDS[1:])
    refused("there is no model", compare, subjects, {})
    refused(
        "layer 'a of models' holds 5 NaN or infinite",
        compare,
        subjects,
        {"a": truth * np.r_[[np.nan], [1] * 13][:, None]},
    )
    refused("+1 and −1, one column for each of 6", compare, subjects, {"a": truth}, signs=np.ones((9, 5)))
    bare = subjects_from_arrays(rdms_of(x), rdms=True)
    refused("cka_linear needs features, but this layer is a dissimilarity matrix", noise_ceiling, bare, "cka_linear")
    refused("cka_rbf needs features, but this layer", compare, bare, {"a": truth}, "cka_rbf")
    flat = subjects_from_arrays(x | {"s3": np.ones((14, 4))})
    refused("subject s3, layer 'features': the features are the same", noise_ceiling, flat, rdm="euclidean")
