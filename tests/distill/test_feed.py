import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from lesson import SIZE
from PIL import Image

from repalign.distill.augment import augmentation, pixels_of
from repalign.distill.feed import Feed, Order, Shown, fitting_batch, kept_randomness, seed_randomness
from repalign.distill.mixing import Mix
from repalign.distill.pictures import held
from repalign.distill.recipe import Recipe
from repalign.distill.sight import Normalise, Sight, sight_of, teacher_input
from repalign.errors import InputError, UnreadableImagesError
from repalign.teaching import load_labelled, load_student, load_teacher
from repalign.together import ALONE
from repalign.types import Encoder

PLAIN = Sight((0.5, 0.5, 0.5), (0.25, 0.25, 0.25), (SIZE, SIZE))
STRONG = {"auto_augment": "rand-m9-mstd0.5-inc1", "erase": 0.5, "colour_jitter": 0.4}


@pytest.fixture
def data(drawn_pictures):
    return load_labelled(drawn_pictures)


def feed(data, recipe, workers=0, together=ALONE, size=16):
    shown = Shown(data, augmentation(recipe, PLAIN), recipe.seed)
    return Feed(shown, Order(len(data.train), size, recipe.seed, together), workers)


def epoch_of(one, number):
    return [torch.cat(column) for column in zip(*one.epoch(number), strict=True)]


@pytest.mark.parametrize("crop", ["pad", "resized", "none"])
def test_pictures_depend_on_seed_epoch_and_place_alone(data, crop):
    recipe = Recipe(crop=crop, **STRONG)
    random.seed(1)
    one = feed(data, recipe)
    first, second = epoch_of(one, 1), epoch_of(one, 2)
    torch.manual_seed(5)
    random.seed(99)
    again = epoch_of(feed(data, recipe), 2)
    for a, b in zip(second, again, strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(first[2], second[2])
    other = epoch_of(feed(data, replace(recipe, seed=1)), 2)
    assert not torch.equal(other[2], second[2])
    if crop != "none":
        by_place = dict(zip(first[2].tolist(), first[0], strict=True))
        same = [
            torch.equal(by_place[i], x) for i, x in zip(second[2].tolist(), second[0], strict=True) if i in by_place
        ]
        assert not all(same)


def test_workers_change_nothing(data):
    recipe = Recipe(**STRONG)
    for a, b in zip(epoch_of(feed(data, recipe), 3), epoch_of(feed(data, recipe, workers=2), 3), strict=True):
        assert torch.equal(a, b)


def test_preparing_pictures_leaves_chance_as_it_was(data):
    seed_randomness(7)
    wanted = np.random.rand(), float(torch.rand(1))  # noqa: NPY002
    seed_randomness(7)
    epoch_of(feed(data, Recipe(**STRONG)), 1)
    assert (np.random.rand(), float(torch.rand(1))) == wanted  # noqa: NPY002
    before = random.getstate()  # beartype draws from it between the lines above
    with kept_randomness():
        random.random()
    assert random.getstate() == before


def test_an_epoch_shows_pictures_once_with_their_labels(data):
    pixels, targets, index = epoch_of(feed(data, Recipe(crop="none", flip=0.0)), 1)
    assert len(set(index.tolist())) == len(index) == len(data.train)
    for k in (0, 17):
        i = int(index[k])
        assert data.classes[int(targets[k])] == data.train.labels[i]
        assert torch.equal(pixels[k], pixels_of(data.train.load(i)))


@pytest.mark.parametrize(
    ("n", "size", "world", "left_out"),
    [(500, 128, 1, 0), (255, 128, 1, 3), (7, 7, 1, 0), (31, 8, 2, 3), (50, 16, 4, 2), (9, 6, 2, 1)],
)
def test_every_picture_is_shown_in_batches_of_nearly_one_size(n, size, world, left_out):
    orders = [Order(n, size, 0, replace(ALONE, rank=rank, world=world)) for rank in range(world)]
    parts = [[rows for _, rows in order] for order in orders]
    batches = [sum(several, ()) for several in zip(*parts, strict=True)]
    assert len(batches) == len(orders[0]) == -(-(n - left_out) // size)
    lengths = [len(batch) for batch in batches]
    assert max(lengths) <= size
    assert max(lengths) - min(lengths) <= max(4, 2 * world)
    shown = sum(batches, ())
    assert len(set(shown)) == len(shown) == n - left_out
    assert len({len(part) for part in parts[0]} | {len(part) for part in parts[-1]}) <= 2


def test_processes_share_the_same_batches(data):
    recipe = Recipe()
    whole = epoch_of(feed(data, recipe), 2)
    parts = [list(feed(data, recipe, together=replace(ALONE, rank=r, world=2)).epoch(2)) for r in range(2)]
    for k in range(3):
        steps = [torch.cat(shares) for shares in zip(*([batch[k] for batch in p] for p in parts), strict=True)]
        assert torch.equal(torch.cat(steps), whole[k])


@pytest.mark.parametrize(
    ("asked", "n", "mixes", "world", "wanted"),
    [(128, 1000, False, 1, 128), (128, 50, False, 1, 50), (128, 51, True, 1, 50), (128, 51, True, 2, 48)],
)
def test_few_pictures_make_smaller_batches(asked, n, mixes, world, wanted):
    assert fitting_batch(asked, n, mixes, world) == wanted


@pytest.mark.parametrize(("asked", "n", "mixes", "world"), [(33, 100, False, 2), (34, 100, True, 2), (8, 1, True, 1)])
def test_batches_that_can_not_be_shared_are_refused(asked, n, mixes, world):
    with pytest.raises(InputError, match=f"batches of {asked} from {n} training pictures can't be shared"):
        fitting_batch(asked, n, mixes, world)


def test_what_is_erased_gets_the_mean_colour():
    recipe = Recipe(crop="none", flip=0.0, erase=1.0)
    sight = Sight((0.2, 0.4, 0.6), (0.25, 0.25, 0.25), (SIZE, SIZE))
    with kept_randomness():
        seed_randomness(0)
        found = augmentation(recipe, sight)(Image.new("RGB", (SIZE, SIZE), (255, 255, 255)))
    erased = (found != 255).all(0)
    assert 0 < int(erased.sum()) < SIZE * SIZE
    assert found[:, erased].unique(dim=1).flatten().tolist() == [51, 102, 153]


def test_shifting_mirrors_what_comes_in():
    row = np.arange(SIZE, dtype=np.uint8)
    picture = Image.fromarray(np.stack([np.tile(row, (SIZE, 1))] * 3, 2))
    found = set()
    with kept_randomness():
        for seed in range(40):
            seed_randomness(seed)
            found.add(tuple(augmentation(Recipe(crop="pad", crop_padding=2, flip=0.0), PLAIN)(picture)[0, 3].tolist()))
    full = np.pad(row, 2, mode="reflect")
    assert found == {tuple(full[s : s + SIZE].tolist()) for s in range(5)}


def test_the_policys_forbidden_posterisation_is_passed_over(monkeypatch):
    from timm.data import auto_augment

    def refuse(*_):
        raise ValueError("bits must be between or equal to 1 and 8")

    monkeypatch.setattr(auto_augment.RandAugment, "__call__", refuse)
    picture = Image.new("RGB", (SIZE, SIZE), (9, 8, 7))
    recipe = Recipe(crop="none", flip=0.0, auto_augment="rand-m9")
    assert torch.equal(augmentation(recipe, PLAIN)(picture), pixels_of(picture))


def test_sight_is_read_off_the_preprocessing(lesson):
    student = load_student("python:lesson_nets:student", 3)
    sight = sight_of(student)
    assert sight.size == (SIZE, SIZE)
    assert sight.mean == pytest.approx((0.4,) * 3, abs=1e-6)
    assert sight.std == pytest.approx((0.25,) * 3, abs=1e-6)
    picture = load_labelled(lesson).train.load(0)
    batch = Normalise(sight)(pixels_of(picture)[None])
    assert torch.allclose(batch[0], student.preprocess(picture), atol=1e-5)


def test_the_teacher_sees_the_same_picture_in_its_own_way(lesson):
    student, teacher = load_student("python:lesson_nets:student", 3), load_teacher("python:lesson_nets:teacher")
    show, notes = teacher_input(student, teacher)
    picture = load_labelled(lesson).train.load(0)
    seen = show(student.preprocess(picture)[None])[0]
    assert torch.allclose(seen, teacher.preprocess(picture), atol=1e-5)
    assert notes == ()
    same, _ = teacher_input(student, student)
    x = torch.randn(2, 3, SIZE, SIZE)
    assert torch.equal(same(x), x)


def test_a_larger_teacher_sees_enlarged_pictures(lesson):
    student = load_student("python:lesson_nets:student", 3)
    large = replace(student, input_size=(24, 24), preprocess=_sized(24))
    show, notes = teacher_input(student, large)
    assert show(torch.zeros(2, 3, SIZE, SIZE)).shape == (2, 3, 24, 24)
    assert "16×16 pixels enlarged to 24×24" in notes[0]


def _sized(side):
    from torchvision import transforms

    steps = [transforms.Resize(side), transforms.CenterCrop(side), transforms.ToTensor()]
    return transforms.Compose([*steps, transforms.Normalize([0.4] * 3, [0.25] * 3)])


def _encoder(preprocess):
    return Encoder("odd", "python:odd", torch.nn.Identity(), preprocess, (), (8, 8), "")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x: x**2, "odd does more than shift and scale"),
        (lambda x: 0 * x, "odd does more than shift and scale"),
        (lambda x: 1 - x, "odd does more than shift and scale"),
        (lambda x: torch.cat([x[:, :4], 1 + x[:, 4:]], 1), "odd draws something into plain pictures"),
    ],
)
def test_a_preprocessing_that_is_no_normalisation_is_refused(change, said):
    with pytest.raises(InputError, match=said):
        sight_of(_encoder(lambda picture: change(pixels_of(picture) / 255)))


def test_pictures_are_decoded_once_where_they_fit(data):
    decoded = []
    counting = replace(data.train, load=lambda i: decoded.append(i) or data.train.load(i))
    kept = held(counting)
    looked = len(decoded)
    for _ in range(2):
        assert torch.equal(pixels_of(kept.load(3)), pixels_of(data.train.load(3)))
    assert len(decoded) == looked
    assert held(counting, budget=100) is counting


def test_pictures_that_can_not_be_decoded_are_named(data):
    def load(i):
        if i == 5:
            raise OSError("image file is truncated")
        return data.train.load(i)

    with pytest.raises(
        UnreadableImagesError, match=r"1 pictures can't be decoded: .*05.png \(image file is truncated\)"
    ):
        held(replace(data.train, load=load))


def test_mixed_pictures_have_mixed_labels():
    x, y = torch.randn(8, 3, 4, 4), torch.arange(8) % 3
    same = Mix(Recipe(), 3)(x, y)
    assert same[0] is x
    assert same[1] is y
    with kept_randomness():
        seed_randomness(3)
        mixed, shares = Mix(Recipe(mixup=0.8, cutmix=1.0, label_smoothing=0.1), 3)(x.clone(), y)
    assert shares.shape == (8, 3)
    assert torch.allclose(shares.sum(1), torch.ones(8))
    assert not torch.equal(mixed, x)
