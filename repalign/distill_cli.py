"""The command that trains: options in, a line an epoch and one table out."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from repalign.errors import InputError
from repalign.terminal import command_line, track


def distill(
    teacher: Annotated[
        str | None, typer.Option(help="Classifier to learn from, as in pocket:resnet or resnet50@weights.safetensors.")
    ] = None,
    student: Annotated[
        str | None, typer.Option(help="Classifier that learns, as in pocket:vit@random or resnet18@warm.safetensors.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Labelled pictures: a folder of train/CLASS/… with val/ and test/ beside it, of CLASS/…, a manifest "
            "with a column label, or torchvision:NAME[:root=PATH]."
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="A distill.toml, as diagnose writes it; options go over it.")
    ] = None,
    method: Annotated[str | None, typer.Option(help="ofa (default), kd, dkd, dist, fitnet, rkd, crd or ce.")] = None,
    stages: Annotated[
        str | None, typer.Option(help="Student stages with a branch (ofa): all, last, none, 1,3, or auto: a diagnosis.")
    ] = None,
    gamma: Annotated[str | None, typer.Option(help="γ of ofa; one, or one a branch and a last one for logits.")] = None,
    variant: Annotated[str | None, typer.Option(help="Form of ofa's loss: paper or code.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Temperature of the logits.")] = None,
    labels: Annotated[int | None, typer.Option(min=1, help="Train on this many labelled pictures only.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training pictures [30].")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Pictures a step, of all processes together [128].")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate [0.001].")] = None,
    optimiser: Annotated[str | None, typer.Option(help="An optimiser of timm: adamw (default), sgd, lamb, …")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Weight decay [0.05].")] = None,
    clip: Annotated[float | None, typer.Option(help="Largest norm of the gradient, 0 for none [5].")] = None,
    warmup: Annotated[float | None, typer.Option(help="Epochs in which the rate rises [2].")] = None,
    amp: Annotated[str | None, typer.Option(help="none (default), bf16 or fp16.")] = None,
    ema: Annotated[float | None, typer.Option(help="Decay of the average of weights, 0 for none [0].")] = None,
    mixup: Annotated[float | None, typer.Option(help="Mixup's α, 0 for none [0].")] = None,
    cutmix: Annotated[float | None, typer.Option(help="CutMix's α, 0 for none [0].")] = None,
    augment: Annotated[str | None, typer.Option(help="A policy of timm, as in rand-m9-mstd0.5-inc1.")] = None,
    measure_every: Annotated[int | None, typer.Option(help="Epochs between alignments to the teacher [5].")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random [0].")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="key=value of the recipe or the method; repeat for more.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; default: a new name in this folder.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out that was stopped.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the run in --out.")] = False,
    diagnosis: Annotated[
        bool, typer.Option("--diagnosis/--no-diagnosis", help="Diagnose before and after training.")
    ] = True,
    ignore_evidence: Annotated[
        bool, typer.Option("--ignore-evidence", help="Train although --config was measured on other weights.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    workers: Annotated[int | None, typer.Option(help="Processes that prepare pictures [0].")] = None,
) -> None:
    """Train a student under a teacher: diagnosed before, measured on the way, judged at the end, diagnosed again."""
    from repalign.distilling import Asked, distil

    recipe = {
        "epochs": epochs, "batch_size": batch_size, "learning_rate": lr, "optimiser": optimiser, "clip": clip,
        "weight_decay": weight_decay, "warmup_epochs": warmup, "amp": amp, "ema": ema, "mixup": mixup,
        "cutmix": cutmix, "auto_augment": augment, "measure_every": measure_every, "seed": seed, "workers": workers,
    }  # fmt: skip
    options = {"gamma": None if gamma is None else _numbers(gamma), "variant": variant, "temperature": temperature}
    asked = Asked(
        teacher, student, data, config, method, stages, _given(options), _given(recipe), tuple(set_ or ()), labels, out,
        resume, force, diagnosis, ignore_evidence, device, command_line(),
    )  # fmt: skip
    done = distil(asked, _say, track)
    if done is not None and os.environ.get("RANK", "0") == "0":
        _print(done.meta, done.folder)


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _numbers(text: str) -> float | list[float]:
    """Read one number, or several with commas between them."""
    try:
        found = [float(one) for one in text.split(",")]
    except ValueError:
        raise InputError(
            f"--gamma {text!r}: give a number, or one a branch and one for the logits, as in 1,1.2,1"
        ) from None
    return found[0] if len(found) == 1 else found


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _print(meta: dict[str, Any], folder: Path) -> None:
    """Print how teacher and student did, and what must be known beside that."""
    from rich.console import Console

    from repalign.distilling.table import results_table

    console = Console()
    console.print(results_table(meta), highlight=False)
    for note in meta["notes"]:
        print(f"note: {note}")
    print(f"student: {folder / 'student.safetensors'}")
    print(f"report: {folder / 'report.html'}")
