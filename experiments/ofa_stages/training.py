"""One run: a student, its distiller, its batches and what comes out; every random choice from the seed."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from pictures import Pictures, crop_and_flip, normalise
from students import build_student
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax, softmax

from repalign.distill.ofa import OFADistiller

EVALUATED_AT_ONCE = 500


@dataclass(frozen=True)
class Arm:
    """What a student learns from beside the labels; `stages` are those with a branch."""

    name: str
    stages: tuple[int, ...] = ()
    logits: float = 0.0
    branches: float = 0.0
    kd: float = 0.0


@dataclass(frozen=True)
class Lesson:
    """Augmented views `(views, n, 3, 32, 32)` of the labelled pictures, and the teacher's logits of each view."""

    views: Tensor
    labels: Tensor
    teacher_logits: Tensor


@dataclass(frozen=True)
class Outcome:
    """A trained student and what the run was like."""

    student: nn.Module
    loss: float
    seconds: float
    head_parameters: int


def labelled(pictures: Pictures, count: int, seed: int) -> Pictures:
    """Draw equally many labelled pictures of each class."""
    generator = torch.Generator().manual_seed(seed)
    chosen = []
    for label in pictures.labels.unique().tolist():
        rows = (pictures.labels == label).nonzero().squeeze(1)
        chosen.append(rows[torch.randperm(len(rows), generator=generator)[: count // 10]])
    return pictures.subset(torch.cat(chosen))


def prepare_lesson(pictures: Pictures, teacher: nn.Module, views: int, seed: int) -> Lesson:
    """Draw the augmented views and ask the teacher about each once."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.stack([crop_and_flip(pictures.pixels, generator).round().to(torch.uint8) for _ in range(views)])
    logits = torch.stack([predict(teacher, view) for view in drawn])
    return Lesson(drawn, pictures.labels, logits)


@torch.no_grad()
def predict(network: nn.Module, pixels: Tensor) -> Tensor:
    """Run a network in eval mode over uint8 pictures: logits `(n, 10)`."""
    network.eval()
    return torch.cat([network(normalise(part)) for part in pixels.split(EVALUATED_AT_ONCE)])


def accuracy(network: nn.Module, pictures: Pictures) -> float:
    """Score a network."""
    return float((predict(network, pictures.pixels).argmax(1) == pictures.labels).double().mean())


def train(
    student_name: str, teacher: nn.Module, arm: Arm, lesson: Lesson, settings: dict[str, Any], epochs: int,
    learning_rate: float, seed: int,
) -> Outcome:  # fmt: skip
    """Train one arm to its last epoch; runs of one seed share initial weights, pictures, views and their order."""
    began = time.perf_counter()
    student = build_student(student_name, seed)
    torch.manual_seed(seed)
    distiller = _distiller(student, teacher, arm, settings, lesson)
    optimiser = torch.optim.AdamW(
        _groups(distiller, settings["training"]["weight_decay"]), lr=learning_rate, fused=True
    )
    batches = list(_batches(lesson, settings["training"]["batch_size"], epochs, seed))
    last_loss = math.nan
    distiller.train()
    for step, (view, rows) in enumerate(batches):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate * _schedule(step, len(batches), settings["training"]["warmup"])
        x, y, teacher_logits = (
            normalise(lesson.views[view, rows]),
            lesson.labels[rows],
            lesson.teacher_logits[view, rows],
        )
        loss = _loss(distiller, arm, x, y, teacher_logits, settings)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(distiller.trainable_parameters(), settings["training"]["clip"])
        optimiser.step()
        if not math.isfinite(last_loss := loss.item()):
            raise SystemExit(f"{arm.name}, seed {seed}: loss is {last_loss} at step {step}")
    heads = sum(p.numel() for p in distiller.heads.parameters())
    return Outcome(student, last_loss, time.perf_counter() - began, heads)


class _KnownTeacher(OFADistiller):
    """OFA-KD with a teacher whose logits are computed already."""

    known: Tensor

    def teacher_logits(self, x: Tensor) -> Tensor:
        """Give the logits of the batch at hand."""
        return self.known


def _distiller(
    student: nn.Module, teacher: nn.Module, arm: Arm, settings: dict[str, Any], lesson: Lesson
) -> _KnownTeacher:
    """Build the distiller with heads that are drawn alike in every arm: each from a seed of its own stage."""
    methods, example = settings["methods"], normalise(lesson.views[0, :2])
    distiller = _KnownTeacher(
        student, teacher, list(arm.stages), 10, gamma=methods["ofa_gamma"], temperature=methods["ofa_temperature"],
        variant=methods["ofa_variant"], logits=arm.logits, branches=arm.branches / max(len(arm.stages), 1),
        example=example,
    )  # fmt: skip
    for number in arm.stages:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1_000 * torch.initial_seed() + number)
            alone = OFADistiller(student, teacher, [number], 10, example=example)
        distiller.heads[f"stage{number}"] = alone.heads[f"stage{number}"]
    return distiller


def _loss(
    distiller: _KnownTeacher, arm: Arm, x: Tensor, y: Tensor, teacher_logits: Tensor, settings: dict[str, Any]
) -> Tensor:
    """Sum the parts of the objective."""
    if arm.kd:
        logits, temperature = distiller.student(x), settings["methods"]["kd_temperature"]
        soft = kl_div(
            log_softmax(logits / temperature, 1), softmax(teacher_logits / temperature, 1), reduction="batchmean"
        )
        return cross_entropy(logits, y) + arm.kd * temperature**2 * soft
    distiller.known = teacher_logits
    return torch.stack(list(distiller(x, y)[0].values())).sum()


def _groups(distiller: OFADistiller, weight_decay: float) -> list[dict[str, Any]]:
    """Decay matrices and kernels only."""
    kept = distiller.no_weight_decay()
    named = [(n, p) for n, p in distiller.named_parameters() if p.requires_grad]
    plain = [p for n, p in named if p.ndim < 2 or n in kept]
    decayed = [p for n, p in named if not (p.ndim < 2 or n in kept)]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]


def _batches(lesson: Lesson, size: int, epochs: int, seed: int) -> Iterator[tuple[int, Tensor]]:
    """List the view and the rows of every batch; each epoch shows one view of each picture, in a new order."""
    generator = torch.Generator().manual_seed(seed)
    for epoch in range(epochs):
        for rows in torch.randperm(len(lesson.labels), generator=generator).split(size):
            if len(rows) > 1:
                yield epoch % len(lesson.views), rows


def _schedule(step: int, steps: int, warmup: float) -> float:
    """Give the share of the learning rate: linear warm-up, then a cosine to zero."""
    progress = step / steps
    return min((step + 1) / (warmup * steps), 1.0) * 0.5 * (1 + math.cos(math.pi * progress))
