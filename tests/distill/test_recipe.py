from dataclasses import asdict, fields

import pytest

from repalign.distill.recipe import Recipe, make_recipe
from repalign.errors import InputError


def test_a_recipe_reads_back_what_it_holds():
    recipe = make_recipe({"epochs": 3, "learning_rate": 1, "crop_scale": [0.2, 1], "auto_augment": "rand-m9-mstd0.5"})
    assert recipe.learning_rate == 1.0
    assert recipe.crop_scale == (0.2, 1.0)
    assert make_recipe(asdict(recipe)) == recipe
    assert make_recipe({}) == Recipe()


def test_every_knob_is_documented():
    for knob in fields(Recipe):
        assert f"`{knob.name}`" in Recipe.__doc__, knob.name


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"optimizer": "sgd"}, "unknown key of the recipe 'optimizer'; did you mean optimiser"),
        ({"optimiser": "adamww"}, "unknown optimiser 'adamww'; did you mean adamw"),
        ({"scheduler": "cosin"}, "unknown scheduler 'cosin'; did you mean cosine"),
        ({"amp": "fp8"}, "unknown amp 'fp8'; did you mean .*fp16"),
        ({"crop": "big"}, "unknown crop 'big'"),
        ({"epochs": 1.5}, "epochs must be a whole number, such as 30, not 1.5"),
        ({"epochs": 0}, "epochs must be at least 1, not 0"),
        ({"epochs": True}, "epochs must be a whole number"),
        ({"learning_rate": "fast"}, "learning_rate must be a number, such as 0.001, not 'fast'"),
        ({"learning_rate": float("nan")}, "learning_rate must be above 0, not nan"),
        ({"weight_decay": -1}, "weight_decay must be 0 or more"),
        ({"ema": 1.0}, "ema must be from 0 to below 1"),
        ({"flip": 1.5}, "flip must be from 0 to 1"),
        ({"validation": 0.9}, "validation must be from 0 to 0.5"),
        ({"crop_scale": [0.5]}, "crop_scale must be a list of 2 numbers"),
        ({"crop_scale": [0.9, 0.1]}, "crop_scale must rise"),
        ({"auto_augment": "rundum-m9"}, "auto_augment 'rundum-m9' is no policy"),
        ({"mixup": 0.2, "batch_size": 33}, "batch_size must be even, not 33"),
    ],
)
def test_what_can_not_be_used_is_named(values, said):
    with pytest.raises(InputError, match=said):
        make_recipe(values)
