"""The way of a run, from what was asked for to what it came to; killed anywhere, it goes on from there."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from repalign.distill.base import Distiller
from repalign.distill.checkpoint import STUDENT, STUDENT_BEST, save_weights
from repalign.distill.log import ALIGNMENT, read_lines
from repalign.distill.pictures import check_readable, held
from repalign.distill.sight import sight_of
from repalign.distill.train import Job, Trained, Trainer
from repalign.distill.watch import Watch
from repalign.distilling.building import build, check_processes, rehearse
from repalign.distilling.diagnoses import AFTER, BEFORE, diagnose
from repalign.distilling.loading import Loaded, check_unchanged, describe, load, trained_name
from repalign.distilling.results import cautions, judge, with_weights
from repalign.distilling.run import FINISHED, RUNNING, Run, check_new, folder_of, read_run, start
from repalign.distilling.settings import Asked, Settings, check_same, decided, settle
from repalign.encoders.finish import fingerprint
from repalign.errors import InputError, RepalignError
from repalign.extract import pick_device
from repalign.progress import Track, silent
from repalign.report import render
from repalign.together import Together, processes, together

REPORT = "report.html"
Say = Callable[[str], None]


@dataclass(frozen=True)
class Finished:
    """A run that came to its end: its folder and what `run.json` says."""

    folder: Path
    meta: dict[str, Any]


def distil(asked: Asked, say: Say = lambda _: None, track: Track = silent) -> Finished | None:
    """Do what `repalign distill` was asked for; of several processes, the first one gives what came of it.

    Raises InputError for what can't be used as asked, before anything is written; DivergedError when a number is not
    finite, with the last good checkpoint kept. A run that stopped goes on with `resume`.
    """
    _check_asked(asked)
    first = os.environ.get("RANK", "0") == "0"
    if asked.resume and asked.out is not None and asked.out.exists() and (run := read_run(asked.out)).finished:
        return _shown_again(run, asked, first)
    with ExitStack() as stack:
        run, loaded = _open(asked, stack, track) if first else (None, None)
        with _recorded(run), together(asked.device) as team:
            team.sum_(torch.zeros(1))  # the others wait until the first has made the folder and decided the stages
            shared = run or read_run(asked.out or Path())
            parts = loaded or load(shared.settings, ignore_evidence=True)
            before = deepcopy(parts.student.module)
            trained = _train(shared, parts, asked, team, say)
        if run is None:
            return None
        with _recorded(run):
            _conclude(run, parts, before, trained, asked, track)
    render(run.folder)
    return Finished(run.folder, run.meta)


def _check_asked(asked: Asked) -> None:
    """Raise InputError for a run that needs a folder and names none, and for a GPU that processes would share."""
    if asked.resume and asked.out is None:
        raise InputError("--resume goes on with the run in a folder, and none was named; name it with --out")
    if processes() > 1 and asked.out is None:
        raise InputError("several processes need a folder that all of them know; give --out")
    if processes() > 1 and ":" in asked.device:
        raise InputError(
            f"--device {asked.device} would have all {processes()} processes share one device; give --device cuda, and "
            "each takes its own"
        )


def _shown_again(run: Run, asked: Asked, first: bool) -> Finished:
    """Give a finished run again, with the report that it lacks if it was stopped before it was drawn."""
    check_same(asked, run.settings)
    if first and not (run.folder / REPORT).is_file():
        render(run.folder)
    return Finished(run.folder, run.meta)


def _open(asked: Asked, stack: ExitStack, track: Track) -> tuple[Run, Loaded]:
    """Start a run, or take up one that stopped; diagnose what it starts from and let that choose the stages."""
    if asked.resume and asked.out is not None and asked.out.exists():
        run = read_run(asked.out)
        stack.enter_context(run.hold())
        settings = check_same(asked, run.settings)
        check_processes(settings, run.meta.get("processes"))
        loaded = load(settings, ignore_evidence=True)
        check_unchanged(loaded, run.meta)
        run.update(state=RUNNING, **settings.to_json())
    else:
        settings = settle(asked)
        folder = folder_of(asked, settings)
        check_new(folder, asked.force)
        loaded = load(settings, asked.ignore_evidence)
        rehearse(loaded, settings, asked.device)
        for part in loaded.data.parts.values():
            check_readable(part)
        entries = {**describe(loaded), "processes": processes()}
        run = start(folder, asked.force, settings, asked.command, entries)
        stack.enter_context(run.hold())
    with _recorded(run):
        _diagnose(run, loaded, BEFORE, asked, track)
        if settings.undecided:
            settings = decided(settings, run.folder / BEFORE / "distill.toml", asked.method)
            rehearse(loaded, settings, asked.device)
            run.update(**settings.to_json())
    return run, loaded


@contextmanager
def _recorded(run: Run | None) -> Iterator[None]:
    """Write into `run.json` why a run stopped."""
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        if run is not None:
            with suppress(OSError):  # on a full disk the first error is the one to show
                run.update(state=f"stopped: {_reason(error)}")
        raise


def _reason(error: BaseException) -> str:
    """Say why a run stopped; what nobody foresaw with its type."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    return str(error) if isinstance(error, RepalignError) else f"{type(error).__name__}: {error}"


def _train(run: Run, loaded: Loaded, asked: Asked, team: Together, say: Say) -> Trained:
    """Train in the run's folder, from its last checkpoint where there is one."""
    settings, device = run.settings, pick_device(asked.device)
    distiller = build(loaded, settings).to(device)
    data = replace(loaded.data, train=held(loaded.data.train))
    student = loaded.student
    watch = _watch(run, loaded, settings, device) if team.first else None
    if team.first:
        run.update(**_said_of(distiller))
    job = Job(
        distiller, data, settings.recipe, sight_of(student), student.preprocess, run.folder, device, team, watch, say
    )  # fmt: skip
    began = time.perf_counter()
    try:
        trained = Trainer(job).run()
    except torch.OutOfMemoryError as error:
        raise InputError(
            f"{device} has no memory for batches of {settings.recipe.batch_size}; start a run with a smaller "
            "--batch-size, or with --amp bf16"
        ) from error
    if team.first:
        run.update(timings={"training": round(time.perf_counter() - began, 1)})
    return trained


def _watch(run: Run, loaded: Loaded, settings: Settings, device: torch.device) -> Watch | None:
    """Make what measures the alignment on the way, on validation pictures where there are any."""
    if loaded.teacher is None:
        return None
    stimuli = loaded.data.validation or loaded.data.train
    try:
        return Watch(loaded.student, loaded.teacher, stimuli, settings.recipe.seed, device)
    except InputError as error:
        _note(run, f"the alignment on the way is not measured: {error}")
        return None


def _said_of(distiller: Distiller) -> dict[str, object]:
    """Describe the student's stages, those with a branch, and what the method adds to be trained."""
    chosen = {stage.number for stage in getattr(distiller, "chosen", ())}
    own = sum(p.numel() for p in distiller.trainable_parameters())
    student = sum(p.numel() for p in distiller.student.parameters())
    try:
        stages = [
            {"number": s.number, "layer": s.layer.name, "branch": s.number in chosen} for s in distiller.stages()
        ]  # fmt: skip
    except RepalignError:  # a network without stages can be trained all the same
        stages = []
    return {"stages": stages, "added_parameters": own - student}


def _conclude(
    run: Run, loaded: Loaded, before: nn.Module, trained: Trained, asked: Asked, track: Track
) -> None:  # fmt: skip
    """Write the weights, judge once on the test part, diagnose again, and close the run."""
    file = run.folder / STUDENT
    about = f"{loaded.student.source}, {run.settings.method}, after epoch"  # one entry: the order of several varies
    save_weights(trained.student, file, f"{about} {trained.epoch}")
    save_weights(trained.best, run.folder / STUDENT_BEST, f"{about} {trained.best_epoch}")
    results = judge(loaded, before, trained, pick_device(asked.device), track)
    for note in (*trained.notes, *cautions(results, len(loaded.data.classes))):
        _note(run, note)
    module = with_weights(before, trained.student)
    after = replace(
        loaded.student, name=trained_name(run.settings.student, file), module=module, untrained=False, notes=(),
        fingerprint=fingerprint(module),
    )  # fmt: skip
    _diagnose(run, replace(loaded, student=after), AFTER, asked, track)
    _write_table(run.folder)
    run.update(state=FINISHED, results=results, trained_fingerprint=after.fingerprint)


def _diagnose(run: Run, loaded: Loaded, when: str, asked: Asked, track: Track) -> None:
    """Diagnose into the run's folder, once; where the pictures don't allow it, say so and go on without."""
    settings = run.settings
    if not settings.diagnosis or (run.folder / when).exists():
        return
    try:
        diagnose(loaded, settings, run.folder / when, asked.device, track)
    except InputError as error:
        if settings.undecided:
            raise
        _note(run, f"no diagnosis {when} training: {error}")


def _note(run: Run, text: str) -> None:
    if text not in run.meta["notes"]:
        run.update(notes=[*run.meta["notes"], text])


def _write_table(folder: Path) -> None:
    """Write the alignment on the way as a table too."""
    import pandas as pd

    rows = read_lines(folder / ALIGNMENT)
    if rows:
        pd.DataFrame(rows).to_csv(folder / "alignment.csv", index=False)
