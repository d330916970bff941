"""From names to a diagnosis folder: networks and pictures loaded, measured, and written once for reports to draw."""

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from repalign.chunks import How
from repalign.diagnosed import describe_diagnosis
from repalign.diagnosis.cautions import VERY_FEW
from repalign.diagnosis.configuration import configuration
from repalign.diagnosis.diagnosis import Diagnosis, Settings, Setup, diagnose_networks
from repalign.diagnosis.tables import tables
from repalign.diagnosis.toml import to_toml
from repalign.distill.labelled import labelled, with_validation
from repalign.distill.recipe import Recipe
from repalign.encoders import load_encoder
from repalign.errors import InputError
from repalign.extract import pick_device
from repalign.folder import check_out, new_folder
from repalign.progress import Track, silent
from repalign.report import render
from repalign.stimuli import read_stimuli
from repalign.stimuli.torchvision_data import PREFIX
from repalign.storage import storage
from repalign.teaching import FRESH, VALIDATION_SEED, count_classes, load_labelled, load_student, part_folders
from repalign.types import Activations, Encoder, Layer, Stimuli
from repalign.viewing import grouped

UNTRAINED = ("timm", "pocket", "hf")  # sources that build a network with untrained weights
Draw = Callable[[Path], object]


@dataclass(frozen=True)
class Ask:
    """What `repalign diagnose` was asked for, under the names of its options.

    `data` may be stimuli, whose labels' order `classes` then gives (sorted names unless it does); networks may be
    encoders. `groups` says what is exchangeable, as in `Options`.
    """

    teacher: str | Encoder
    student: str | Encoder
    data: str | Path | Stimuli
    out: Path | None = None
    force: bool = False
    settings: Settings = field(default_factory=Settings)
    groups: str = "own"
    device: str = "auto"
    batch_size: int = 32
    workers: int | None = None
    skip_unreadable: bool = False
    cache: bool = True
    classes: Sequence[str] | None = None
    command: str = ""

    @property
    def folder(self) -> Path:
        """Give the folder to write: `out`, or a new name after the two networks."""
        return self.out or _free_name(_name(self.teacher), _name(self.student))


@dataclass(frozen=True)
class Written:
    """A diagnosis and the folder that holds it."""

    folder: Path
    diagnosis: Diagnosis


@dataclass(frozen=True)
class Shown:
    """The pictures of a diagnosis, and the names of their classes in the networks' order; None without labels."""

    stimuli: Stimuli
    classes: tuple[str, ...] | None


def diagnose(
    teacher: str | Encoder, student: str | Encoder, data: str | Path | Stimuli, *, out: str | Path | None = None,
    force: bool = False, groups: str = "own", device: str = "auto", batch_size: int = 32, workers: int | None = None,
    skip_unreadable: bool = False, cache: bool = True, **settings: object,
) -> Diagnosis:  # fmt: skip
    """Show a teacher and a student the same pictures, and say where they part and what to distil.

    `settings` are the fields of `Settings`: pictures, rule, tau, permutations, seed. With `out` the diagnosis is also
    written there, with its report. The verdict's words are `.verdict.sentences`.

    Raises InputError for anything that can't be used as asked.
    """
    chosen = Settings(**settings)  # type: ignore[arg-type]
    where = None if out is None else Path(out)
    ask = Ask(
        teacher, student, data, where, force, chosen, groups, device, batch_size, workers, skip_unreadable, cache
    )  # fmt: skip
    return measure(ask) if out is None else diagnose_to_folder(ask).diagnosis


def diagnose_to_folder(ask: Ask, track: Track = silent, draw: Draw = render) -> Written:
    """Diagnose and write the folder, which appears when everything in it is there; `draw` adds the report.

    Raises InputError for anything that can't be used as asked; then nothing is written.
    """
    out = ask.folder
    check_out(out, ask.force, "diagnosis")
    found = measure(ask, track)
    names = [_name(ask.teacher), _name(ask.student), _name(ask.data)]
    config = to_toml(configuration(found, *names))
    meta = json.dumps(describe_diagnosis(found, ask.command), indent=1, ensure_ascii=False, allow_nan=False)
    with new_folder(out, ask.force) as folder:
        for name, table in tables(found).items():
            table.to_csv(folder / f"{name}.csv", index=False)
        (folder / "distill.toml").write_text(config, encoding="utf-8")
        (folder / "diagnosis.json").write_text(f"{meta}\n", encoding="utf-8")
        draw(folder)
    return Written(out, found)


def closing_lines(written: Written) -> list[str]:
    """Say in a few lines what a diagnosis found, what to be wary of, and where everything lies."""
    found, folder = written.diagnosis, written.folder
    told = " ".join(found.verdict.sentences).lower()
    warned = [f"warning: {text}" for text in found.warnings if text.lower() not in told]
    next_ = f"repalign distill --config {folder / 'distill.toml'}"
    return [*found.verdict.sentences, *warned, f"report: {folder / 'report.html'}", f"next: {next_}"]


def measure(ask: Ask, track: Track = silent) -> Diagnosis:
    """Load what was named and diagnose it; nothing is written.

    Raises InputError for anything that can't be used as asked.
    """
    shown = load_shown(ask)
    teacher = load_network(ask.teacher)
    student = _load_student(ask, shown, teacher)
    fresh = not student.untrained and any(note.startswith(FRESH) for note in student.notes)
    untrained, note = load_untrained(student)
    device = pick_device(ask.device)
    with storage(ask.cache) as stored:
        how = How(device, ask.batch_size, ask.workers, seed=ask.settings.seed)
        setup = Setup(how, stored.cache, ask.skip_unreadable, track)
        found = diagnose_networks(
            teacher, student, shown.stimuli, shown.classes, untrained, ask.settings, setup, fresh
        )  # fmt: skip
    return replace(found, warnings=(*found.warnings, note)) if note else found


def load_shown(ask: Ask) -> Shown:
    """Load the pictures: all of a folder or manifest; of data in parts the validation part, else training pictures.

    Test pictures are never shown. Labels are left aside, with a note, where some are missing or all are the same.
    """
    data = ask.data
    if isinstance(data, str | Path) and (str(data).startswith(PREFIX) or part_folders(Path(data).expanduser())):
        return _of_parts(data, ask.groups)
    stimuli = data if isinstance(data, Stimuli) else read_stimuli(data, ask.skip_unreadable)
    stimuli = grouped(stimuli, ask.groups)
    if ask.classes is not None:
        return Shown(stimuli, labelled(stimuli, classes=ask.classes).classes)
    names = set(stimuli.labels or ())
    if len(names) > 1 and "" not in names:
        return Shown(stimuli, labelled(stimuli).classes)
    if names:
        why = "some pictures lie in no folder of a class" if "" in names else f"all are {next(iter(names))!r}"
        stimuli = replace(stimuli, labels=None, notes=(*stimuli.notes, f"labels are left aside: {why}"))
    return Shown(stimuli, None)


def _of_parts(data: str | Path, groups: str) -> Shown:
    """Take the validation part, the one on which `repalign distill` does not train, or all training pictures.

    These where the part that would be set aside is too small to decide anything by.
    """
    parts = load_labelled(data)
    with suppress(InputError):  # too few to set some aside
        held = with_validation(parts, Recipe.validation, VALIDATION_SEED)
        parts = held if parts.validation or len(held.validation or ()) >= VERY_FEW else parts
    stimuli = parts.validation or parts.train
    kept = "validation" if parts.validation else "training"
    note = f"{kept} pictures are used{', the test pictures are not looked at' if parts.test else ''}"
    return Shown(grouped(replace(stimuli, notes=(*stimuli.notes, note)), groups), parts.classes)


def load_network(source: str | Encoder) -> Encoder:
    """Load a network. Raises InputError for saved numbers, which have no logits."""
    found = load_encoder(source)
    if isinstance(found, Activations):
        raise InputError(
            f"{source} holds saved numbers and no network; name a classifier, as in pocket:vit or resnet50"
        )
    return found


def _load_student(ask: Ask, shown: Shown, teacher: Encoder) -> Encoder:
    """Load the student as `repalign distill` would, for the data's classes (else the teacher's), if it can be.

    A network whose classifier can't be changed is taken as it is.
    """
    if isinstance(ask.student, Encoder):
        return ask.student
    plain = load_network(ask.student)
    classes = len(shown.classes) if shown.classes else _count(teacher)
    if not classes or _count(plain) == classes:
        return plain
    try:
        return load_student(ask.student, classes, ask.settings.seed)
    except InputError:
        return plain


def _count(encoder: Encoder) -> int:
    try:
        return count_classes(encoder)
    except InputError:  # it gives no row of numbers for each picture
        return 0


def load_untrained(student: Encoder) -> tuple[Encoder | None, str]:
    """Load the student's untrained twin, the second null; or say why it is unknown.

    An untrained student is its own.
    """
    if student.untrained:
        return None, ""
    source = student.source.partition(":")[0]
    unknown = f"what an untrained student would score is unknown: {student.name}"
    if source not in UNTRAINED:
        return None, f"{unknown} can't be built without its weights"
    try:
        twin = load_network(f"{student.source}@random")
    except InputError as reason:
        return None, f"{unknown} can't be built untrained ({reason})"
    if _laid_out(twin) != _laid_out(student):
        return None, f"{unknown} is not laid out as {student.source}"
    return twin, ""


def _laid_out(encoder: Encoder) -> list[tuple[str, tuple[int, ...], str]]:
    """List layers that the number of classes does not change."""
    kept: list[Layer] = [layer for layer in encoder.layers if layer.role != "inner"]
    return [(layer.name, layer.shape, layer.layout) for layer in kept]


def _name(source: str | Path | Encoder | Stimuli) -> str:
    return source.name if isinstance(source, Encoder | Stimuli) else str(source)


def _free_name(teacher: str, student: str) -> Path:
    """Name a folder after the two networks, with a number when it is taken."""
    text = f"repalign-diagnosis-{teacher}-{student}"
    stem = "".join(c if c.isalnum() or c in "-._" else "-" for c in text)[:80]
    names = (Path(stem if k == 1 else f"{stem}-{k}") for k in range(1, 10**6))
    return next(name for name in names if not name.exists())
