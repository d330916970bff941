"""Pocket encoders: five small networks, trained on CIFAR-10, that come with repalign."""

from collections.abc import Callable
from pathlib import Path

from torch import Tensor, nn

from repalign.encoders.checkpoint import count_classes, read_checkpoint
from repalign.encoders.finish import finish, seeded
from repalign.encoders.fit import fit
from repalign.encoders.pocket_models import BUILDERS, CIFAR_MEAN, CIFAR_STD, IMAGE_SIZE, build
from repalign.encoders.spec import Spec
from repalign.errors import WeightsError, unknown
from repalign.types import Encoder

WEIGHTS = Path(__file__).with_name("weights")
CLASSIFIERS = {"resnet": "fc", "swin": "head.fc"}  # the others call theirs "head"


def load(spec: Spec, *, allow_partial: bool = False) -> Encoder:
    """Load a pocket network with the weights in the package, those of `@path`, or untrained ones.

    Raises InputError for an unknown name and WeightsError when weights are missing or don't fit.
    """
    if spec.name not in BUILDERS:
        raise unknown("pocket encoder", spec.name, BUILDERS)
    if spec.untrained:
        module, notes = _build(spec.name), ()
    else:
        module, notes = _load(spec, allow_partial)
    source = f"pocket:{spec.name}"
    return finish(spec, module, preprocessing(), source=source, untrained=spec.untrained, notes=notes)


def preprocessing() -> Callable[..., Tensor]:
    """Build the preprocessing of CIFAR-10's networks, `PIL RGB → (3, 32, 32)`: shortest side 32, then the centre."""
    from torchvision import transforms

    return transforms.Compose(
        [
            transforms.Resize(IMAGE_SIZE, transforms.InterpolationMode.BICUBIC, antialias=True),
            transforms.CenterCrop(IMAGE_SIZE),
            transforms.ToTensor(),
            transforms.Normalize(CIFAR_MEAN, CIFAR_STD),
        ]
    )


def catalogue() -> list[dict[str, object]]:
    """List the pocket networks: name, parameters, whether weights are here, and how they were trained and tested."""
    from safetensors import safe_open

    rows: list[dict[str, object]] = []
    for name in BUILDERS:
        file, metadata = _file(name), {}
        if file.is_file():
            with safe_open(file, framework="pt") as opened:
                metadata = opened.metadata() or {}
        parameters = sum(p.numel() for p in _build(name).parameters())
        rows.append({"name": name, "parameters": parameters, "bundled": file.is_file()} | metadata)
    return rows


def _file(name: str) -> Path:
    return WEIGHTS / f"{name}.safetensors"


def _build(name: str, **options: int) -> nn.Module:
    with seeded():
        return build(name, **options)


def _load(spec: Spec, allow_partial: bool) -> tuple[nn.Module, tuple[str, ...]]:
    """Build the network with as many classes as the file has, and put its weights in."""
    file = spec.path or str(_file(spec.name))
    if not spec.path and not _file(spec.name).is_file():
        raise WeightsError(
            f"{spec}: its weights are not at {file}; install repalign again, train them with "
            f"experiments/pocket/train.py, or say {spec}@random for untrained ones"
        )
    checkpoint = read_checkpoint(file)
    classifier = (CLASSIFIERS.get(spec.name, "head"),)
    module = _build(spec.name, num_classes=count_classes(checkpoint, classifier))
    return module, fit(module, checkpoint, name=str(spec), classifier=classifier, allow_partial=allow_partial)
