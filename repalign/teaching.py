"""Names become classifiers and labelled pictures: the teacher, the student, and what both are shown."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from repalign.distill.labelled import Labelled, labelled, with_labels, with_validation
from repalign.distill.networks import frozen, logits_of
from repalign.encoders import ENCODERS, load_encoder
from repalign.encoders.finish import finish, seeded
from repalign.encoders.spec import Spec, parse_spec
from repalign.errors import InputError
from repalign.stimuli import read_stimuli
from repalign.stimuli.torchvision_data import PREFIX, load_parts
from repalign.types import Activations, Encoder

VALIDATION_SEED = 0  # of the part that is set aside where the data bring none
DRAWN = ("timm", "pocket", "python")  # sources whose untrained networks are drawn with the seed of a run
FRESH = "a fresh classifier"  # how a note on one begins
PARTS = {
    "train": "train", "val": "validation", "valid": "validation", "validation": "validation", "test": "test",
}  # fmt: skip


def load_teacher(spec: str) -> Encoder:
    """Load a classifier that shall teach.

    Raises InputError for a network without a classifier, and as `load_encoder` does.
    """
    teacher = _network(spec)
    if not count_classes(teacher):
        raise InputError(f"teacher {spec} has no classifier, and OFA-KD and KD learn from its logits; name another")
    return teacher


def load_student(spec: str, num_classes: int, seed: int = 0) -> Encoder:
    """Load a classifier of `num_classes` that shall learn; what is untrained in it is drawn with `seed`.

    `@random` builds timm's and pocket networks for the classes of the data, and calls the function of a `python:` name
    anew; networks that have other classes get a fresh classifier, which the notes say. Raises InputError for a network
    whose classifier can't be changed, and as `load_encoder` does.
    """
    encoder, parsed = _network(spec), parse_spec(spec, ENCODERS)
    module, notes = encoder.module, encoder.notes
    if encoder.untrained and parsed.source in DRAWN:
        module = _build(parsed, num_classes, seed)
    if module is not encoder.module:  # but a network that a python: name holds, which can't be drawn anew
        notes = (f"random weights drawn with seed {seed}", *notes[1:])  # the first told the seed of other encoders
    given = count_classes(replace(encoder, module=module))
    if module is encoder.module and given == num_classes:
        return encoder
    if given != num_classes:
        _renew(spec, module, given, num_classes, seed)
        said = f"{FRESH} of {num_classes} classes, drawn with seed {seed}, takes the place of "
        notes = (*notes, said + (f"that of {given}" if given else "none"))
    fresh = finish(parsed, module, encoder.preprocess, source=encoder.source)
    return replace(fresh, untrained=encoder.untrained, notes=notes)


def load_labelled(spec: str | Path, *, labels: int | None = None, validation: float = 0.0, seed: int = 0) -> Labelled:
    """Load labelled pictures in parts.

    `spec` is a folder with `train/CLASS/…` and maybe `val/` (or `validation/`, `valid/`) and `test/`, a folder
    `CLASS/…` or a manifest with a column `label`, which are training pictures all of them, or
    `torchvision:NAME[:root=PATH]`, whose parts are the official ones. Without a validation part, the fraction
    `validation` of the training pictures becomes one, the same whatever the seed, so that no run judges on what an
    earlier one learned; then `labels` training pictures are kept.

    Raises InputError as `labelled`, `with_validation` and `with_labels` do, and for data that can't be read.
    """
    data = _labelled(str(spec))
    return with_labels(with_validation(data, validation, VALIDATION_SEED), labels, seed)


def count_classes(encoder: Encoder) -> int:
    """Count the classes that a network tells apart; 0 for one that ends in features.

    Raises InputError when it gives no row of numbers for each picture.
    """
    if getattr(encoder.module, "num_classes", None) == 0:
        return 0
    device = next((p.device for p in encoder.module.parameters()), torch.device("cpu"))
    plain = torch.zeros(2, 3, *encoder.input_size, device=device)
    with frozen(encoder.module):
        logits = logits_of(encoder.module(plain))
    if logits is None or logits.ndim != 2:
        got = "no tensor" if logits is None else f"shape {tuple(logits.shape)}"
        raise InputError(f"{encoder.name} gives {got}, not logits (batch, classes); name a network with its classifier")
    return int(logits.shape[1])


def _network(spec: str) -> Encoder:
    encoder = load_encoder(spec)
    if isinstance(encoder, Activations):
        raise InputError(f"{spec} holds saved numbers and no network; name a classifier, as in pocket:vit or resnet50")
    return encoder


def _build(spec: Spec, num_classes: int, seed: int) -> nn.Module:
    """Build an untrained network for the classes of the data, but where a function of the user's builds it."""
    if spec.source == "python":
        from repalign.encoders.python import draw

        return draw(spec, seed)
    with seeded(seed):
        if spec.source == "pocket":
            from repalign.encoders.pocket_models import build

            return build(spec.name, num_classes)
        import timm

        from repalign.encoders.timm import resolve

        return timm.create_model(resolve(spec.name), pretrained=False, num_classes=num_classes)


def _renew(spec: str, module: nn.Module, given: int, num_classes: int, seed: int) -> None:
    """Put an untrained classifier in the place of the one that a network has."""
    reset = getattr(module, "reset_classifier", None)
    if not callable(reset):
        raise InputError(
            f"student {spec} gives {given} classes and the data have {num_classes}; build it with {num_classes}, or "
            f"give it timm's method reset_classifier(num_classes)"
        )
    with seeded(seed):
        reset(num_classes)


def _labelled(spec: str) -> Labelled:
    if spec.startswith(PREFIX):
        parts, classes = load_parts(spec)
        return labelled(parts["train"], parts.get("validation"), parts.get("test"), classes, official=True)
    folders = part_folders(Path(spec).expanduser())
    if not folders:
        return labelled(read_stimuli(spec))
    parts = {part: read_stimuli(folder) for part, folder in folders.items()}
    return labelled(parts["train"], parts.get("validation"), parts.get("test"))


def part_folders(path: Path) -> dict[str, Path]:
    """Find the folders of parts, where a folder has `train/` with folders in it; else none.

    Raises InputError when two folders name one part, or something that is no part lies beside `train/`.
    """
    folders = [p for p in sorted(path.iterdir()) if p.is_dir() and not p.name.startswith(".")] if path.is_dir() else []
    train = next((p for p in folders if p.name.lower() == "train"), None)
    if train is None or not any(p.is_dir() for p in train.iterdir()):  # without folders in it, a class of that name
        return {}
    others = [p.name for p in folders if p.name.lower() not in PARTS]
    if others:
        beside = ", ".join(f"{name}/" for name in others)
        raise InputError(f"{path} has {beside} beside train/, and parts are {', '.join(PARTS)}; move it elsewhere")
    found: dict[str, Path] = {}
    for folder in folders:
        part = PARTS[folder.name.lower()]
        if part in found:
            raise InputError(f"{path} has both {found[part].name}/ and {folder.name}/; keep one validation part")
        found[part] = folder
    return found
