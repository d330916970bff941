"""The recipe of a training run: every knob with its default, checked in one place."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from math import isfinite
from typing import Any

from repalign.errors import InputError, unknown

SCHEDULERS = ("cosine", "tanh", "step", "constant")
PRECISIONS = ("none", "bf16", "fp16")
CROPS = ("auto", "pad", "resized", "none")
SMALL_INPUT = 64  # pixels a side, up to which `crop = "auto"` pads as is usual for CIFAR
LONGEST_WARMUP = 0.25  # of a run, whatever `warmup_epochs` says


@dataclass(frozen=True)
class Recipe:
    """How a student is trained; the fields are the keys of `[recipe]` in distill.toml and of `--set`.

    - `epochs` passes over the training pictures; `batch_size` pictures a step, of all processes together.
    - `optimiser` a name of timm's (adamw, sgd, lamb, lion, …), `learning_rate`, `weight_decay` (not for biases, norms
      and what the student exempts), `momentum` for those that have one; `clip` the largest norm of the whole gradient,
      0 for none.
    - `scheduler` cosine, tanh, step or constant, a step at a time, down to `min_rate`; `step` multiplies by
      `decay_rate` every `decay_epochs`. Before it, `warmup_epochs` (at most a quarter of the run) rise linearly from
      `warmup_rate`.
    - `label_smoothing` 0..1; `mixup` and `cutmix`, their α, 0 for none.
    - `crop`: "pad" (reflect `crop_padding` pixels around, crop at random), "resized" (a random area of `crop_scale` of
      the picture), "none", or "auto": pad for inputs up to 64 pixels a side, else resized. `flip`, the chance to
      mirror; `auto_augment`, a policy as timm writes them (rand-m9-mstd0.5-inc1); `colour_jitter` 0..1 of brightness,
      contrast and saturation; `erase`, the chance that a rectangle is blotted out.
    - `amp`: none, bf16, or fp16 with a scaled loss (GPU only). `ema`: decay of the average of the student's weights,
      which is then what is evaluated and saved; 0 for none.
    - `validation`: fraction of the training pictures that choices are made on, where the data bring no such part
      (at most 2,000, or 10 a class).
    - `measure_every`: epochs between alignments of student and teacher; 0 for none but the first and last.
    - `seed` of everything random; `workers`, processes that prepare pictures, 0 for none (no number depends on it).
    """

    epochs: int = 30
    batch_size: int = 128
    optimiser: str = "adamw"
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    momentum: float = 0.9
    clip: float = 5.0
    scheduler: str = "cosine"
    warmup_epochs: float = 2.0
    warmup_rate: float = 1e-5
    min_rate: float = 1e-6
    decay_epochs: float = 30.0
    decay_rate: float = 0.1
    label_smoothing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    crop: str = "auto"
    crop_padding: int = 4
    crop_scale: tuple[float, float] = (0.35, 1.0)
    flip: float = 0.5
    auto_augment: str = ""
    colour_jitter: float = 0.0
    erase: float = 0.0
    amp: str = "none"
    ema: float = 0.0
    validation: float = 0.1
    measure_every: int = 5
    seed: int = 0
    workers: int = 0

    def __post_init__(self) -> None:
        _check(self)

    @property
    def mixes(self) -> bool:
        """Tell whether pictures of a batch are mixed with each other."""
        return self.mixup > 0 or self.cutmix > 0


def make_recipe(values: Mapping[str, Any]) -> Recipe:
    """Build a recipe from the values of a file or a command line, by the names of its fields.

    Raises InputError for an unknown name, a value of another type, and one out of range.
    """
    known = {f.name: f for f in fields(Recipe)}
    for name in values:
        if name not in known:
            raise unknown("key of the recipe", name, known)
    return Recipe(**{name: _typed(name, value, known[name].default) for name, value in values.items()})


def _typed(name: str, value: object, default: object) -> Any:  # noqa: ANN401  of the default's type
    """Give a value the type of its field's default. Raises InputError where that would change it."""
    if isinstance(default, tuple):
        if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != len(default):
            raise InputError(f"{name} must be a list of {len(default)} numbers, such as {list(default)}, not {value!r}")
        return tuple(_typed(name, one, default[0]) for one in value)
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not type(default):
        kind = {int: "a whole number", float: "a number", str: "a text"}[type(default)]
        raise InputError(f"{name} must be {kind}, such as {default!r}, not {value!r}")
    return value


def _check(recipe: Recipe) -> None:
    """Raise InputError for the first value that can't be used."""
    for names, (right, said) in _RANGES.items():
        for name in names.split():
            value = getattr(recipe, name)
            if not (isfinite(value) and right(value)):
                raise InputError(f"{name} must be {said}, not {value!r}")
    for name, known in (("scheduler", SCHEDULERS), ("amp", PRECISIONS), ("crop", CROPS)):
        if getattr(recipe, name) not in known:
            raise unknown(name, str(getattr(recipe, name)), known)
    low, high = recipe.crop_scale
    if not 0 < low <= high <= 1:
        raise InputError(f"crop_scale must rise from above 0 to at most 1, not {recipe.crop_scale}")
    if recipe.mixes and recipe.batch_size % 2:
        raise InputError(
            f"mixup and cutmix pair the pictures of a batch, so batch_size must be even, not {recipe.batch_size}"
        )
    _check_names_of_timm(recipe)


def _check_names_of_timm(recipe: Recipe) -> None:
    from timm.data.auto_augment import auto_augment_transform, rand_augment_transform
    from timm.optim import list_optimizers  # pyright: ignore[reportPrivateImportUsage]

    known = list(map(str, list_optimizers()))
    if recipe.optimiser not in known:
        raise unknown("optimiser", recipe.optimiser, known)
    if recipe.auto_augment:
        build = rand_augment_transform if recipe.auto_augment.startswith("rand") else auto_augment_transform
        try:
            build(recipe.auto_augment, {})
        except (AssertionError, ValueError, KeyError) as error:
            raise InputError(
                f"auto_augment {recipe.auto_augment!r} is no policy that timm knows ({error}); write one such as "
                "rand-m9-mstd0.5-inc1 or original-mstd0.5"
            ) from None


_Range = tuple[Callable[[float], bool], str]
_RANGES: dict[str, _Range] = {
    "epochs batch_size": (lambda x: x >= 1, "at least 1"),
    "learning_rate": (lambda x: x > 0, "above 0"),
    "decay_epochs decay_rate": (lambda x: x > 0, "above 0"),
    "weight_decay clip warmup_epochs warmup_rate min_rate mixup cutmix": (lambda x: x >= 0, "0 or more"),
    "crop_padding measure_every seed workers": (lambda x: x >= 0, "0 or more"),
    "momentum ema label_smoothing": (lambda x: 0 <= x < 1, "from 0 to below 1"),
    "flip colour_jitter erase": (lambda x: 0 <= x <= 1, "from 0 to 1"),
    "validation": (lambda x: 0 <= x <= 0.5, "from 0 to 0.5"),
}
