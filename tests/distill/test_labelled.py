from collections import Counter
from dataclasses import replace

import pytest
from lesson import COLOURS
from PIL import Image

from repalign.distill.labelled import digest, labelled, with_labels, with_validation
from repalign.errors import InputError
from repalign.types import Stimuli


def stimuli(name="data", counts=(6, 4, 2), groups=None, content=None):
    labels = tuple("abc"[c] for c, count in enumerate(counts) for _ in range(count))
    ids = tuple(f"{label}{i}" for i, label in enumerate(labels))
    return Stimuli(name, ids, lambda i: Image.new("RGB", (2, 2)), groups=groups, labels=labels, content=content)


def test_classes_are_numbered_by_name():
    data = labelled(stimuli())
    assert data.classes == ("a", "b", "c")
    assert data.targets(data.train).tolist() == [0] * 6 + [1] * 4 + [2] * 2
    assert list(data.parts) == ["train"]
    official = labelled(stimuli(), classes=("c", "b", "a", "unseen"))
    assert official.targets(official.train).tolist() == [2] * 6 + [1] * 4 + [0] * 2


def test_validation_takes_its_share_of_each_class():
    data = with_validation(labelled(stimuli(counts=(40, 20, 3))), 0.1, seed=0)
    assert Counter(data.validation.labels) == {"a": 4, "b": 2, "c": 1}
    assert not set(data.validation.ids) & set(data.train.ids)
    assert len(data.validation) + len(data.train) == 63
    assert "7 of 63 training pictures are set aside" in data.notes[0]
    again, other = (with_validation(labelled(stimuli(counts=(40, 20, 3))), 0.1, seed=s) for s in (0, 1))
    assert again.validation.ids == data.validation.ids != other.validation.ids


def test_validation_is_bounded(monkeypatch):
    for name, value in (("ENOUGH_HELD", 6), ("ENOUGH_HELD_A_CLASS", 1)):
        monkeypatch.setattr(f"repalign.distill.labelled.{name}", value)
    data = with_validation(labelled(stimuli(counts=(60, 40, 20))), 0.5, seed=0)
    assert Counter(data.validation.labels) == {"a": 3, "b": 2, "c": 1}
    monkeypatch.setattr("repalign.distill.labelled.ENOUGH_HELD_A_CLASS", 4)
    assert len(with_validation(labelled(stimuli(counts=(60, 40, 20))), 0.5, seed=0).validation) == 12


def test_validation_of_its_own_stays():
    data = labelled(stimuli(), validation=stimuli("v"))
    assert with_validation(data, 0.5, 0) is data
    assert with_validation(labelled(stimuli()), 0.0, 0).validation is None


def test_groups_stay_together():
    groups = tuple(f"g{i // 4}" for i in range(60))
    data = with_validation(labelled(stimuli(counts=(20, 20, 20), groups=groups)), 0.2, 0)
    assert not set(data.validation.groups) & set(data.train.groups)
    assert Counter(data.validation.labels) == {"a": 4, "b": 4, "c": 4}


def test_a_class_in_one_group_can_not_be_split():
    groups = ("g",) * 6 + tuple("hijk") + tuple("lm")
    with pytest.raises(
        InputError, match=r"too small to take a validation part of 0.1 from: class a has too few groups"
    ):
        with_validation(labelled(stimuli(groups=groups)), 0.1, 0)


def test_few_labels_keep_the_proportions():
    data = labelled(stimuli(counts=(60, 30, 10)))
    few = with_labels(data, 20, 0)
    assert Counter(few.train.labels) == {"a": 12, "b": 6, "c": 2}
    assert few.classes == data.classes
    assert with_labels(data, 20, 0).train.ids == few.train.ids != with_labels(data, 20, 1).train.ids
    assert with_labels(data, None, 0) is data
    assert "20 of 100 training pictures are used" in few.notes[0]
    for count in (2, 101):
        with pytest.raises(InputError, match=rf"--labels {count}: give from 3 \(one a class\) to 100"):
            with_labels(data, count, 0)


def test_parts_without_labels_are_refused():
    bare = replace(stimuli("bare"), labels=None)
    with pytest.raises(InputError, match=r"bare \(test\) has no labels; give a folder with one sub-folder a class"):
        labelled(stimuli(), test=bare)
    half = replace(stimuli("half"), labels=("",) * 2 + ("a",) * 4 + ("b",) * 4 + ("c",) * 2)
    with pytest.raises(InputError, match=r"half \(train\): 2 pictures have no label \(a0, a1\)"):
        labelled(half)


def test_one_class_is_not_enough():
    with pytest.raises(InputError, match="has one class only, a;"):
        labelled(stimuli(counts=(6, 0, 0)))


def test_parts_must_have_the_same_classes():
    with pytest.raises(InputError, match=r"less \(test\) lacks: c; every part"):
        labelled(stimuli(), test=stimuli("less", (2, 2, 0)))
    with pytest.raises(InputError, match=r"more \(validation\) has more than the training part: c"):
        labelled(stimuli(counts=(6, 4, 0)), validation=stimuli("more"))


def test_a_picture_in_two_parts_is_named():
    train = stimuli(content=lambda i: bytes([i]))
    apart = stimuli("t", content=lambda i: bytes([100 + i]))
    assert labelled(train, test=apart).test is apart
    leaked = stimuli("t", content=lambda i: bytes([4 if i == 9 else 100 + i]))
    with pytest.raises(InputError, match="b9 of the test part is the same picture as a4 of the train part"):
        labelled(train, test=leaked)


def test_a_digest_changes_with_ids_labels_and_files():
    base = stimuli(content=lambda i: bytes([i]))
    others = [
        replace(base, ids=tuple(f"x{i}" for i in base.ids)), replace(base, labels=base.labels[::-1]),
        replace(base, content=lambda i: bytes([i + 1])), base.take(range(11)),
    ]  # fmt: skip
    assert digest(base) == digest(stimuli("other name", content=lambda i: bytes([i])))
    assert len({digest(one) for one in [base, *others]}) == 5


def test_colours_are_sorted():
    assert list(COLOURS) == sorted(COLOURS)  # the teacher of the lesson counts on it
