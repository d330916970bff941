"""What a run is made of: teacher, student and pictures loaded, checked against each other and against the evidence."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repalign.distill.labelled import Labelled, digest
from repalign.distill.sight import teacher_input
from repalign.distilling.settings import Settings
from repalign.encoders import ENCODERS
from repalign.encoders.spec import parse_spec
from repalign.errors import InputError
from repalign.stimuli.checks import some
from repalign.teaching import FRESH, count_classes, load_labelled, load_student, load_teacher
from repalign.types import Encoder


@dataclass(frozen=True)
class Loaded:
    """The networks and pictures of a run; `notes` stand beside its numbers."""

    teacher: Encoder | None
    student: Encoder
    data: Labelled
    notes: tuple[str, ...] = ()


def load(settings: Settings, ignore_evidence: bool = False) -> Loaded:
    """Load what the settings name.

    Raises InputError for what can't be loaded, for a teacher of other classes than the data's, and, unless told to
    ignore it, for evidence that was measured on other weights.
    """
    recipe = settings.recipe
    data = load_labelled(
        settings.data, labels=settings.labels, validation=recipe.validation, seed=recipe.seed
    )  # fmt: skip
    teacher = None if settings.teacher is None else load_teacher(settings.teacher)
    if teacher is not None:
        _check_classes(teacher, data, settings.data)
    student = load_student(settings.student, len(data.classes), recipe.seed)
    notes = [*data.notes, *_said_of("teacher", teacher), *_said_of("student", student)]
    if not ignore_evidence:
        notes += _check_evidence(settings, teacher, student)
    if teacher is not None:
        notes += teacher_input(student, teacher)[1]
    return Loaded(teacher, student, data, tuple(notes))


def describe(loaded: Loaded) -> dict[str, object]:
    """Describe teacher, student and data for `run.json`."""
    parts = {
        name: {"name": part.name, "n": len(part), "fingerprint": digest(part)}
        for name, part in loaded.data.parts.items()
    }
    return {
        "teacher": None if loaded.teacher is None else _describe(loaded.teacher),
        "student": _describe(loaded.student),
        "data": {"classes": list(loaded.data.classes), "parts": parts, "notes": list(loaded.data.notes)},
        "notes": list(loaded.notes),
    }


def check_unchanged(loaded: Loaded, meta: dict[str, Any]) -> None:
    """Raise InputError when a run would go on with other weights or pictures than it was started with."""
    now = describe(loaded)
    for role in ("teacher", "student"):
        was, own = meta[role], now[role]
        if was is not None and was["fingerprint"] != own["fingerprint"]:  # type: ignore[index]
            raise InputError(
                f"the {role} {was['name']} has other weights than when this run started; start another run"
            )
    if meta["data"]["parts"] != now["data"]["parts"]:  # type: ignore[index]
        raise InputError("the pictures are not those with which this run started; start another run")


def trained_name(spec: str, file: Path) -> str:
    """Name a student with the weights that a run wrote, as `--student` takes it.

    >>> trained_name("pocket:vit@random", Path("run/student.safetensors"))
    'pocket:vit@run/student.safetensors'
    """
    parsed = parse_spec(spec, ENCODERS)
    named = spec if parsed.weights is None else spec.removesuffix(f"@{parsed.weights}")
    return f"{named}@{file}"


def _check_classes(teacher: Encoder, data: Labelled, name: str) -> None:
    given, wanted = count_classes(teacher), len(data.classes)
    if given != wanted:
        raise InputError(
            f"the teacher {teacher.name} tells {given} classes apart, and {name} has {wanted} ({some(data.classes)}); "
            "name a teacher that was trained on these classes"
        )


def _check_evidence(settings: Settings, teacher: Encoder | None, student: Encoder) -> list[str]:
    """Compare the weights with those that a diagnosis saw; what is drawn by another seed may differ."""
    notes: list[str] = []
    for role, encoder in (("teacher", teacher), ("student", student)):
        seen = settings.evidence.get(f"{role}_fingerprint")
        if encoder is None or seen is None or seen == encoder.fingerprint:
            continue
        drawn = encoder.untrained or any(note.startswith(FRESH) for note in encoder.notes)
        if not drawn:
            raise InputError(
                f"the evidence given was measured on other weights of the {role} than {encoder.name} has now; "
                "diagnose again, or say --ignore-evidence to train with its options all the same"
            )
        notes.append(f"the diagnosis saw another draw of the untrained weights of {encoder.name}")
    return notes


def _said_of(role: str, encoder: Encoder | None) -> list[str]:
    return [] if encoder is None else [f"{role} {encoder.name}: {note}" for note in encoder.notes]


def _describe(encoder: Encoder) -> dict[str, object]:
    return {
        "name": encoder.name, "source": encoder.source, "fingerprint": encoder.fingerprint,
        "untrained": encoder.untrained, "classes": count_classes(encoder),
        "parameters": sum(p.numel() for p in encoder.module.parameters()), "input_size": list(encoder.input_size),
        "notes": list(encoder.notes),
    }  # fmt: skip
