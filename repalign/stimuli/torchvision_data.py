"""Data sets of torchvision by name, with their official parts; the only stimuli that may be downloaded."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL.Image import Image

from repalign.errors import InputError, unknown
from repalign.stimuli.content import digest_parts
from repalign.types import Stimuli

PREFIX = "torchvision:"
KEYS = ("root", "split")
BY_FLAG: dict[str, Mapping[str, object]] = {"train": {"train": True}, "test": {"train": False}}


def _splits(train: str = "train", validation: str = "", test: str = "test") -> dict[str, Mapping[str, object]]:
    named = {"train": train, "validation": validation, "test": test}
    return {part: {"split": name} for part, name in named.items() if name}


# parts by name, with the arguments that torchvision wants for each; where none is held back for a test, `val` is
DATASETS: dict[str, dict[str, Mapping[str, object]]] = {
    "CIFAR10": BY_FLAG,
    "CIFAR100": BY_FLAG,
    "MNIST": BY_FLAG,
    "FashionMNIST": BY_FLAG,
    "KMNIST": BY_FLAG,
    "USPS": BY_FLAG,
    "SVHN": _splits(),
    "STL10": _splits(),
    "Food101": _splits(),
    "GTSRB": _splits(),
    "DTD": _splits(validation="val"),
    "PCAM": _splits(validation="val"),
    "Flowers102": _splits(validation="val"),
    "FGVCAircraft": _splits(validation="val"),
    "RenderedSST2": _splits(validation="val"),
    "Country211": _splits(validation="valid"),
    "OxfordIIITPet": _splits(train="trainval"),
    "Imagenette": _splits(test="val"),
    "ImageNet": _splits(test="val"),
    "EuroSAT": {"train": {}},
    "SUN397": {"train": {}},
    "Caltech256": {"train": {}},
}


@dataclass(frozen=True)
class Named:
    """What a name says: the data set, where it is kept, and the part that is asked for."""

    name: str
    root: Path
    split: str = "train"


def load(spec: str | Path) -> Stimuli:
    """Load one part of `torchvision:NAME[:root=PATH,split=train|validation|test]`, downloaded where it isn't there.

    Raises InputError for an unknown name or part, and for data that can be neither found nor downloaded.
    """
    named = _parse(str(spec))
    return _stimuli(named, named.split, _prefixed(spec))[0]


def load_parts(spec: str) -> tuple[dict[str, Stimuli], tuple[str, ...]]:
    """Load every official part by name (train, validation, test) and list the classes in their official order.

    Raises InputError as `load` does.
    """
    named = _parse(spec)
    found = {part: _stimuli(named, part, f"{PREFIX}{named.name} {part}") for part in DATASETS[named.name]}
    return {part: stimuli for part, (stimuli, _) in found.items()}, next(iter(found.values()))[1]


def _prefixed(spec: str | Path) -> str:
    return PREFIX + str(spec).removeprefix(PREFIX)


def _parse(spec: str) -> Named:
    name, colon, listed = spec.removeprefix(PREFIX).partition(":")
    if name not in DATASETS:
        raise unknown("data set of torchvision", name, DATASETS)
    options: dict[str, str] = {}
    for option in listed.split(",") if colon else ():
        key, _, value = option.partition("=")
        options[key] = value
    for key, value in options.items():
        if key not in KEYS or not value:
            raise InputError(f"{PREFIX}{spec}: {key!r} is no option; write torchvision:{name}:root=PATH,split=test")
    split = options.get("split", "train")
    if split not in DATASETS[name]:
        raise InputError(f"{PREFIX}{name} has no part {split!r}; it has {', '.join(DATASETS[name])}")
    return Named(name, Path(options["root"]).expanduser() if "root" in options else _home(), split)


def _home() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("repalign", appauthor=False) / "torchvision"


def _stimuli(named: Named, part: str, name: str) -> tuple[Stimuli, tuple[str, ...]]:
    data = _open(named, part)
    targets = _targets(data)
    classes = _classes(data, targets)
    arrays = getattr(data, "data", None)

    def picture(i: int) -> Image:
        return data[i][0].convert("RGB")

    def content(i: int) -> bytes:
        return digest_parts("torchvision", np.ascontiguousarray(arrays[i]).tobytes())  # pyright: ignore[reportOptionalSubscript]

    stimuli = Stimuli(
        name=name,
        ids=tuple(f"{part}/{i:06d}" for i in range(len(targets))),
        load=picture,
        labels=tuple(classes[target] for target in targets),
        content=content if arrays is not None and len(arrays) == len(targets) else None,
    )
    return stimuli, classes


def _open(named: Named, part: str) -> Any:  # noqa: ANN401  a data set of torchvision
    """Open a part where it lies, else download it."""
    from torchvision import datasets

    build, arguments = getattr(datasets, named.name), dict(DATASETS[named.name][part])
    try:
        return build(str(named.root), **arguments)
    except (RuntimeError, OSError) as missing:
        if named.name == "ImageNet":
            raise InputError(f"torchvision:ImageNet is not at {named.root} ({missing}); give root=PATH") from missing
    print(f"repalign: {named.name} is not at {named.root}; downloading it there", file=sys.stderr)
    named.root.mkdir(parents=True, exist_ok=True)
    try:
        return build(str(named.root), download=True, **arguments)
    except (RuntimeError, OSError) as error:
        raise InputError(
            f"torchvision:{named.name} is not at {named.root} and can't be downloaded ({error}); fetch it on a machine "
            f"with a network and give torchvision:{named.name}:root=PATH"
        ) from error


def _targets(data: Any) -> list[int]:  # noqa: ANN401
    """Read the class number of each picture, without a look at the pictures where the data set lists them."""
    for name in ("targets", "labels", "_labels", "y"):
        listed = getattr(data, name, None)
        if listed is not None and len(listed) == len(data):
            return [int(target) for target in listed]
    for name in ("_samples", "samples"):
        listed = getattr(data, name, None)
        if listed is not None and len(listed) == len(data):
            return [int(sample[1]) for sample in listed]
    return [int(data[i][1]) for i in range(len(data))]


def _classes(data: Any, targets: Sequence[int]) -> tuple[str, ...]:  # noqa: ANN401
    """Name the classes in their official order, by number where the data set has no names."""
    listed = getattr(data, "classes", None) or getattr(data, "categories", None) or ()
    names = tuple(name if isinstance(name, str) else ", ".join(name) for name in listed)
    if len(set(names)) == len(names) > max(targets):
        return names
    return tuple(map(str, range(max(targets) + 1)))
