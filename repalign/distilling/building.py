"""A run's distiller, made the same way every time; and a rehearsal that finds what can't work before it starts."""

import torch

from repalign.distill.base import Distiller
from repalign.distill.feed import fitting_batch, kept_randomness, seed_randomness
from repalign.distill.methods import make_distiller, smoothed
from repalign.distill.optimise import Optimiser
from repalign.distill.sight import sight_of, teacher_input
from repalign.distilling.loading import Loaded
from repalign.distilling.settings import DEFAULT_STAGES, Settings
from repalign.errors import InputError
from repalign.extract import pick_device
from repalign.together import processes

HEADS_STREAM = 8  # keeps the draw of a method's own parts apart from others of a seed


def build(loaded: Loaded, settings: Settings) -> Distiller:
    """Build the distiller on the CPU, what the method adds drawn with the recipe's seed; the student may learn.

    Raises InputError for options that the method or the networks don't take.
    """
    student, teacher = loaded.student, loaded.teacher
    student.module.requires_grad_(True)
    options = dict(settings.options)
    if settings.undecided:
        options["stages"] = DEFAULT_STAGES
    with kept_randomness():
        seed_randomness(settings.recipe.seed, HEADS_STREAM)
        return make_distiller(
            settings.method, student.module, None if teacher is None else teacher.module, len(loaded.data.classes),
            options, pictures=len(loaded.data.train), criterion=smoothed(settings.recipe.label_smoothing),
            example=torch.randn(2, 3, *student.input_size),
            teacher_input=None if teacher is None else teacher_input(student, teacher)[0],
        )  # fmt: skip


def rehearse(loaded: Loaded, settings: Settings, device: str) -> None:
    """Raise InputError for what would stop a run at its first step."""
    check_processes(settings)
    fitting_batch(settings.recipe.batch_size, len(loaded.data.train), settings.recipe.mixes, processes())
    sight_of(loaded.student)
    Optimiser(build(loaded, settings), settings.recipe, 1, pick_device(device))


def check_processes(settings: Settings, before: int | None = None) -> None:
    """Raise InputError for a method that several processes can't share, and for another number than `before`."""
    world = processes()
    if world > 1 and settings.method == "crd":
        raise InputError("crd remembers the pictures that its own process has seen; run it without torchrun")
    if before not in (None, world):
        how = "without torchrun" if before == 1 else f"with torchrun --nproc-per-node {before}"
        raise InputError(f"this run was started with {before} processes, and now there are {world}; go on {how}")
