"""Names that become teachers, students and labelled pictures."""

import shutil
import sys

import numpy as np
import pytest
import torch
from fashion import write_fashion
from PIL import Image

from repalign.encoders import load_encoder
from repalign.errors import InputError
from repalign.stimuli import load_stimuli
from repalign.teaching import count_classes, load_labelled, load_student, load_teacher

NETS = """
import torch
from torch import nn
from torchvision import transforms


class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.body, self.head = nn.Conv2d(3, 4, 3, 4), nn.Linear(4, classes)

    def forward(self, x):
        return self.head(torch.relu(self.body(x)).mean((2, 3)))


class Own(Net):
    def reset_classifier(self, num_classes):
        self.head = nn.Linear(4, num_classes)


def three():
    return Net(3), transforms.Compose([transforms.Resize((8, 8)), transforms.ToTensor()])


def own():
    return Own(3), transforms.Compose([transforms.Resize((8, 8)), transforms.ToTensor()])
"""


@pytest.fixture
def modules(tmp_path, monkeypatch):
    (tmp_path / "teachable.py").write_text(NETS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("teachable", None)


@pytest.mark.parametrize("name", ["pocket:resnet", "pocket:vit"])
def test_a_teacher_has_its_classes(name):
    assert count_classes(load_teacher(name)) == 10


def test_a_network_without_a_classifier_can_not_teach():
    with pytest.raises(InputError, match="teacher pocket:dino has no classifier"):
        load_teacher("pocket:dino")


def test_saved_numbers_can_not_teach(tmp_path):
    np.savez(tmp_path / "a.npz", layer=np.random.default_rng(0).normal(size=(5, 3)))
    with pytest.raises(InputError, match="holds saved numbers and no network"):
        load_teacher(f"features:{tmp_path}/a.npz")


@pytest.mark.parametrize("name", ["pocket:vit@random", "test_vit@random", "pocket:dino@random"])
def test_an_untrained_student_is_built_for_the_data(name):
    student = load_student(name, 7, seed=1)
    assert count_classes(student) == 7
    assert student.untrained
    assert "random weights drawn with seed 1" in student.notes
    assert student.layers


def test_an_untrained_student_is_drawn_with_its_seed():
    first, again, other = (load_student("pocket:resnet@random", 7, seed).fingerprint for seed in (1, 1, 2))
    assert first == again != other


def test_ones_own_untrained_student_is_drawn_with_the_seed_too(modules):
    first, again, other = (load_student("python:teachable:three@random", 3, seed) for seed in (1, 1, 2))
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert other.notes[0] == "random weights drawn with seed 2"
    assert (
        load_student("python:teachable:three", 3, 1).fingerprint
        == load_student("python:teachable:three", 3).fingerprint
    )


def test_a_trained_student_of_these_classes_stays_as_it_is():
    assert load_student("pocket:resnet", 10).fingerprint == load_encoder("pocket:resnet").fingerprint


def test_other_classes_get_a_fresh_classifier():
    student, trained = load_student("pocket:resnet", 4, seed=5), load_encoder("pocket:resnet")
    assert count_classes(student) == 4
    assert not student.untrained
    assert student.notes[-1] == "a fresh classifier of 4 classes, drawn with seed 5, takes the place of that of 10"
    own, before = student.module.state_dict(), trained.module.state_dict()
    assert all(torch.equal(own[k], before[k]) for k in own if not k.startswith("fc."))
    assert load_student("pocket:dino", 4).notes[-1].endswith("takes the place of none")


def test_ones_own_network_says_how_its_classifier_changes(modules):
    assert count_classes(load_student("python:teachable:three", 3)) == 3
    with pytest.raises(
        InputError, match=r"gives 3 classes and the data have 5; build it with 5, or .*reset_classifier"
    ):
        load_student("python:teachable:three", 5)
    assert count_classes(load_student("python:teachable:own", 5)) == 5


def fill(folder, count, start=0, classes=("cat", "dog")):
    for c, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for k in range(count):
            Image.new("RGB", (4, 4), (start + k, 50 * c, 7)).save(folder / name / f"{k}.png")


@pytest.mark.parametrize("name", ["val", "valid", "validation", "Val"])
def test_folders_name_the_parts(tmp_path, name):
    fill(tmp_path / "train", 5)
    fill(tmp_path / name, 2, 50)
    fill(tmp_path / "test", 3, 100)
    data = load_labelled(tmp_path)
    assert {part: len(found) for part, found in data.parts.items()} == {"train": 10, "validation": 4, "test": 6}
    assert data.classes == ("cat", "dog")
    assert data.train.ids[0] == "cat/0.png"
    assert load_labelled(tmp_path, validation=0.5).validation.ids == data.validation.ids


def test_a_folder_of_classes_is_all_for_training(tmp_path):
    fill(tmp_path / "pets", 10)
    data = load_labelled(f"{tmp_path}/pets", validation=0.2, labels=6, seed=1)
    assert {part: len(found) for part, found in data.parts.items()} == {"train": 6, "validation": 4}
    assert len(data.notes) == 2


def test_a_class_may_be_called_train(tmp_path):
    fill(tmp_path / "vehicles", 4, classes=("bus", "train"))
    assert load_labelled(tmp_path / "vehicles").classes == ("bus", "train")


def test_two_validation_parts_are_refused(tmp_path):
    for place, start in (("train", 0), ("val", 30), ("valid", 60)):
        fill(tmp_path / place, 3, start)
    with pytest.raises(InputError, match="has both val/ and valid/; keep one"):
        load_labelled(tmp_path)


def test_the_same_picture_in_two_parts_is_refused(tmp_path):
    fill(tmp_path / "train", 5)
    fill(tmp_path / "test", 3, 100)
    shutil.copy(tmp_path / "train/cat/3.png", tmp_path / "test/dog/1.png")
    with pytest.raises(InputError, match=r"dog/1.png of the test part is the same picture as cat/3.png of the train"):
        load_labelled(tmp_path)


def test_a_manifest_has_labels_and_groups(tmp_path):
    fill(tmp_path / "pets", 6)
    rows = "".join(f"pets/{c}/{k}.png,{c},g{k // 2}{c}\n" for c in ("cat", "dog") for k in range(6))
    (tmp_path / "list.csv").write_text(f"path,label,group\n{rows}")
    data = load_labelled(tmp_path / "list.csv", validation=0.3)
    assert not set(data.validation.groups) & set(data.train.groups)
    (tmp_path / "bare.csv").write_text("path\n" + "".join(f"pets/cat/{k}.png\n" for k in range(6)))
    with pytest.raises(InputError, match=r"bare.csv \(train\) has no labels; .*a column label"):
        load_labelled(tmp_path / "bare.csv")


@pytest.fixture
def fashion(tmp_path):
    return write_fashion(tmp_path / "root")


def test_torchvisions_parts_are_the_official_ones(fashion):
    data = load_labelled(f"torchvision:FashionMNIST:root={fashion}")
    assert {part: len(found) for part, found in data.parts.items()} == {"train": 40, "test": 20}
    assert data.classes[:2] == ("T-shirt/top", "Trouser")  # the official order, which is not that of the names
    assert data.targets(data.train).tolist() == [k % 10 for k in range(40)]
    picture = data.test.load(3)
    assert (picture.mode, picture.size) == ("RGB", (28, 28))


def test_torchvision_is_a_kind_of_stimuli(fashion):
    stimuli = load_stimuli(f"torchvision:FashionMNIST:root={fashion},split=test")
    assert (len(stimuli), stimuli.ids[1], stimuli.labels[1]) == (20, "test/000001", "Trouser")
    assert stimuli.take([1, 0]).content(0) == stimuli.content(1) != stimuli.content(0)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("torchvision:CIFAR11", "unknown data set of torchvision 'CIFAR11'; did you mean CIFAR10"),
        ("torchvision:CIFAR10:split=val", "torchvision:CIFAR10 has no part 'val'; it has train, test"),
        ("torchvision:CIFAR10:path=x", "'path' is no option; write torchvision:CIFAR10:root=PATH,split=test"),
        ("torchvision:ImageNet:root=nowhere", "torchvision:ImageNet is not at nowhere .*; give root=PATH"),
    ],
)
def test_what_torchvision_does_not_have_is_named(spec, said):
    with pytest.raises(InputError, match=said):
        load_stimuli(spec)


def test_a_download_that_fails_is_explained(tmp_path, monkeypatch, capsys):
    from torchvision.datasets import CIFAR10

    def refuse(self):
        raise OSError("no network")

    monkeypatch.setattr(CIFAR10, "download", refuse)
    with pytest.raises(
        InputError, match=r"is not at .*root and can't be downloaded \(no network\); fetch it on a machine"
    ):
        load_labelled(f"torchvision:CIFAR10:root={tmp_path}/root")
    assert f"CIFAR10 is not at {tmp_path}/root; downloading it there" in capsys.readouterr().err


def test_a_folder_beside_the_parts_is_refused(tmp_path):
    for part, start in (("train", 0), ("test", 100)):
        fill(tmp_path / part, 3, start)
    (tmp_path / "notes").mkdir()
    with pytest.raises(InputError, match="has notes/ beside train/, and parts are train, val"):
        load_labelled(tmp_path)


def test_every_seed_sets_the_same_pictures_aside(tmp_path):
    fill(tmp_path / "pets", 20)
    first, other = (load_labelled(tmp_path / "pets", validation=0.2, labels=10, seed=seed) for seed in (0, 1))
    assert first.validation.ids == other.validation.ids
    assert first.train.ids != other.train.ids


def test_copies_of_a_picture_stay_in_one_part(tmp_path):
    fill(tmp_path / "pets", 20)
    for k in range(10):
        shutil.copy(tmp_path / f"pets/cat/{k}.png", tmp_path / f"pets/cat/copy{k}.png")
    data = load_labelled(tmp_path / "pets", validation=0.4)
    held = {name.replace("copy", "") for name in data.validation.ids}
    assert not held & {name.replace("copy", "") for name in data.train.ids}
