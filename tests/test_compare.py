import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import repalign as ra
from repalign.errors import InputError


def test_an_encoder_with_itself_scores_one_on_the_diagonal(nets, photos):
    scores = ra.compare(f"{nets}:net", stimuli=str(photos))["cka_linear"].scores
    assert np.diag(scores) == pytest.approx(1, abs=1e-12)
    assert scores == pytest.approx(scores.T, abs=1e-12)


def test_one_encoder_with_two_choices_of_layers(nets, photos):
    whole = ra.compare(f"{nets}:net", stimuli=str(photos))["cka_linear"]
    part = ra.compare(f"{nets}:net", stimuli=str(photos), layers_b="0.1", batch_size=5)["cka_linear"]
    assert part.layers_b == ("0.1",)
    assert part.scores[:, 0] == pytest.approx(whole.scores[:, 1], abs=1e-9)


def test_activations_of_one_name_are_two_sides(tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", rng.normal(size=(9, 3)))
    first = ra.load_encoder(f"features:{tmp_path}/x.npy")
    np.save(tmp_path / "x.npy", rng.normal(size=(9, 3)))
    second = ra.load_encoder(f"features:{tmp_path}/x.npy")
    assert ra.compare(first, second, metrics=["cka_linear"])["cka_linear"].scores[0, 0] < 0.9


def test_compare_is_similarity_of_the_features(nets, photos):
    encoder, stimuli = ra.load_encoder(f"{nets}:net"), ra.load_stimuli(str(photos))
    result = ra.compare(encoder, f"{nets}:other", stimuli, ["cka_linear", "rsa"], pool="flatten", batch_size=3)
    assert set(result) == {"cka_linear", "rsa"}
    assert result["rsa"].n == 12
    with torch.inference_mode():
        x = torch.stack([encoder.preprocess(stimuli.load(i)) for i in range(12)])
        mine = encoder.module[0][0](x).flatten(1)
        theirs = ra.load_encoder(f"{nets}:other").module[0][0](x).flatten(1)
    for name, alignment in result.items():
        i, j = alignment.layers_a.index("0.0"), alignment.layers_b.index("0.0")
        assert alignment.scores[i, j] == pytest.approx(ra.similarity(mine, theirs, name), abs=1e-5)


def test_saved_features_join_by_id_and_not_by_order(nets, photos, tmp_path):
    stimuli = ra.load_stimuli(str(photos))
    rng = np.random.default_rng(0)
    features, order = rng.normal(size=(12, 6)), rng.permutation(12)
    np.savez(tmp_path / "named.npz", layer=features[order], ids=np.array(stimuli.ids)[order])
    np.save(tmp_path / "plain.npy", features)
    named = ra.compare(f"{nets}:net", f"features:{tmp_path}/named.npz", str(photos), ["cka_linear"])["cka_linear"]
    plain = ra.compare(f"{nets}:net", f"features:{tmp_path}/plain.npy", str(photos), ["cka_linear"])["cka_linear"]
    assert named.scores == pytest.approx(plain.scores, abs=1e-12)


def test_saved_features_that_do_not_fit_say_how(nets, photos, tmp_path):
    np.save(tmp_path / "short.npy", np.random.default_rng(0).normal(size=(7, 3)))
    with pytest.raises(InputError, match=r"7 rows without ids, and .* 12 stimuli"):
        ra.compare(f"{nets}:net", f"features:{tmp_path}/short.npy", str(photos))
    np.savez(tmp_path / "few.npz", layer=np.ones((5, 2)), ids=np.array(list("abcde")))
    with pytest.raises(InputError, match="12 of 12 stimuli are missing"):
        ra.compare(f"{nets}:net", f"features:{tmp_path}/few.npz", str(photos))


def test_two_saved_sides_need_no_pictures(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, 5))
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", x @ rng.normal(size=(5, 4)))
    got = ra.compare(f"features:{tmp_path}/x.npy", f"features:{tmp_path}/y.npy", metrics=["rsa"])["rsa"].scores[0, 0]
    assert got == pytest.approx(ra.similarity(x, np.load(tmp_path / "y.npy"), "rsa"), abs=1e-12)


def test_a_bare_rdm_serves_rsa_and_not_cka(tmp_path):
    from scipy.spatial.distance import pdist, squareform

    x = np.random.default_rng(0).normal(size=(15, 5))
    np.save(tmp_path / "rdm.npy", squareform(pdist(x, "correlation")))
    np.save(tmp_path / "x.npy", x)
    a, b = f"rdm:{tmp_path}/rdm.npy", f"features:{tmp_path}/x.npy"
    assert ra.compare(a, b, metrics=["rsa"])["rsa"].scores[0, 0] == pytest.approx(1, abs=1e-12)
    with pytest.raises(InputError, match=r"cka_linear needs features, but this layer is a dissimilarity matrix of 15"):
        ra.compare(a, b, metrics=["cka_linear"])


def test_two_folders_are_paired_by_name(nets, photos, tmp_path):
    from PIL import Image, ImageOps

    for file in photos.rglob("*.png"):
        copy = tmp_path / "negative" / file.relative_to(photos)
        copy.parent.mkdir(parents=True, exist_ok=True)
        ImageOps.invert(Image.open(file).convert("RGB")).save(copy.with_suffix(".bmp"))
    same = ra.compare(f"{nets}:net", stimuli=str(photos))["cka_linear"]
    paired = ra.compare(f"{nets}:net", stimuli=str(photos), stimuli_b=str(tmp_path / "negative"))["cka_linear"]
    assert paired.n == 12
    assert not np.allclose(same.scores, paired.scores, atol=1e-3)
    assert np.diag(paired.scores).max() < 1


def test_a_pool_without_its_tokens_is_refused(nets, photos):
    layers = ra.compare(f"{nets}:net", stimuli=str(photos), pool="mean")["cka_linear"].layers_a
    assert len(layers) == 3
    with pytest.raises(InputError, match="no layer can be pooled by cls"):
        ra.compare(f"{nets}:net", stimuli=str(photos), pool="cls")


def test_a_limit_is_a_seeded_subset_in_order(nets, photos):
    first = ra.compare(f"{nets}:net", stimuli=str(photos), limit=8, seed=1)["cka_linear"]
    again = ra.compare(f"{nets}:net", stimuli=str(photos), limit=8, seed=1)["cka_linear"]
    other = ra.compare(f"{nets}:net", stimuli=str(photos), limit=8, seed=2)["cka_linear"]
    assert first.n == 8
    assert np.array_equal(first.scores, again.scores)
    assert not np.array_equal(first.scores, other.scores)
    with pytest.raises(InputError, match="--limit 3 leaves too few"):
        ra.compare(f"{nets}:net", stimuli=str(photos), limit=3)


def test_pictures_are_asked_for_when_a_network_needs_them(nets):
    with pytest.raises(InputError, match="needs pictures; give --data"):
        ra.compare(f"{nets}:net")


def test_public_names_load_on_first_use():
    for name in ra.__all__:
        assert getattr(ra, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        ra.nonsense  # noqa: B018


def test_inference_of_encoders_is_that_of_their_features(nets, photos):
    plan = ra.Plan(n_permutations=99, seed=3)
    found = ra.infer_encoders(f"{nets}:net", f"{nets}:other", str(photos), ["rsa"], plan=plan)["rsa"]
    plain = ra.compare(f"{nets}:net", f"{nets}:other", str(photos), ["rsa"])["rsa"]
    assert found.alignment.scores == pytest.approx(plain.scores, abs=1e-12)
    assert (found.ci_low < plain.scores).all()
    assert found.n_permutations == 99


def test_a_projection_says_what_it_does_to_the_gram(cli, nets, photos, tmp_path):
    arguments = ["compare", "--a", f"{nets}:net", "--b", f"{nets}:other", "--data", photos, "--permutations", 0]
    code, _, err = cli(*arguments, "--pool", "flatten:16", "--no-stability", "--out", tmp_path / "S")
    assert code == 0, err
    said = [w for w in json.loads((tmp_path / "S" / "study.json").read_text())["warnings"] if "projected" in w]
    assert [w.split(": ")[0] for w in said] == [f"{nets}:net", f"{nets}:other"]
    assert all("(flatten:16)" in w and "measured on 12 stimuli" in w for w in said)


def test_all_pairs_are_those_of_two_at_a_time_and_each_picture_is_decoded_once(nets, photos):
    stimuli = ra.load_stimuli(str(photos))
    loads = []
    counted = replace(stimuli, load=lambda i: loads.append(i) or stimuli.load(i))
    names = [f"{nets}:net", f"{nets}:other"]
    encoders = [ra.load_encoder(name) for name in names]
    third = replace(encoders[0], name="third")
    found = ra.compare_all([*encoders, third], counted, "rsa", cache=False)
    assert sorted(loads) == list(range(12))
    assert list(found) == [(names[0], names[1]), (names[0], "third"), (names[1], "third")]
    alone = ra.compare(*names, str(photos), ["rsa"])["rsa"]
    np.testing.assert_allclose(found[names[0], names[1]].scores, alone.scores, rtol=1e-9, atol=1e-12)
    with pytest.raises(InputError, match="names of their own"):
        ra.compare_all([encoders[0], encoders[0]], counted)
