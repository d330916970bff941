"""The alignment of a student's stages to the teacher's while it learns, on the same pictures every time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

from repalign.align import align
from repalign.distill.evaluate import Preprocess, batches
from repalign.distill.networks import examine, frozen, run
from repalign.distill.stages import Stage, find_stages
from repalign.errors import InputError, collected_warnings
from repalign.metrics import make_metric
from repalign.pooling import parse_pool, reducer
from repalign.types import Activations, Encoder, Stimuli

MOST_PICTURES = 512
BATCH = 128
WATCH_STREAM = 5  # keeps this draw of a seed apart from others
METRIC = "cka_linear"  # debiased


@dataclass(frozen=True)
class Watched:
    """A network's stages and what it wants to be shown."""

    name: str
    preprocess: Preprocess
    stages: tuple[Stage, ...]


@final
class Watch:
    """Measures debiased linear CKA between the mean-pooled outputs of all stages of student and teacher.

    The teacher is run once, here, over up to 512 of `stimuli`, drawn with `seed`. Raises InputError for fewer than 4,
    and for a network that shows no stages.
    """

    def __init__(
        self, student: Encoder, teacher: Encoder, stimuli: Stimuli, seed: int, device: torch.device | str = "cpu"
    ) -> None:
        rng = np.random.default_rng([seed, WATCH_STREAM])
        n, self.metric = len(stimuli), make_metric(METRIC)
        if n < self.metric.fewest:
            raise InputError(f"{n} pictures are too few, {self.metric.fewest} are needed")
        kept = sorted(rng.permutation(n)[:MOST_PICTURES].tolist())
        self.stimuli = stimuli.take(kept)
        self.device = device
        self.student = _watched("student", student)
        self.teacher = _watched("teacher", teacher)
        self.shown = [x for (x,) in batches(self.stimuli, [student.preprocess], BATCH)]
        taught = [x for (x,) in batches(self.stimuli, [teacher.preprocess], BATCH)]
        self.reference = self._activations(self.teacher, teacher.module.to(device), taught)

    def measure(self, module: nn.Module, epoch: int) -> list[dict[str, Any]]:
        """Run the student as it is after `epoch` and score every pair of stages; NaN where one has no geometry."""
        own = self._activations(self.student, module, self.shown)
        with collected_warnings():  # a stage that collapsed is NaN in the table; a warning every time says no more
            scores = align(own, self.reference, self.metric).scores
        return [
            {
                "epoch": epoch, "stage_student": s.number, "stage_teacher": t.number, "layer_student": s.layer.name,
                "layer_teacher": t.layer.name, "value": float(scores[i, j]),
            }
            for i, s in enumerate(self.student.stages)
            for j, t in enumerate(self.teacher.stages)
        ]  # fmt: skip

    def _activations(self, of: Watched, module: nn.Module, shown: Sequence[Tensor]) -> Activations:
        """Run a network over batches and keep its stages' outputs, pooled, `(n, d)` each."""
        pool = parse_pool("mean")
        reduce = {s.layer.name: reducer(s.layer, pool) for s in of.stages}
        rows: dict[str, list[Tensor]] = {name: [] for name in reduce}
        with frozen(module):
            for x in shown:
                outputs = run(module, x.to(self.device), list(reduce))[1]
                for name, output in outputs.items():
                    rows[name].append(reduce[name](output).cpu())
        layers = {name: torch.cat(parts) for name, parts in rows.items()}
        depths = {s.layer.name: s.layer.depth for s in of.stages}
        return Activations(
            of.name, self.stimuli.name, self.stimuli.ids, layers, depths, pool=str(pool), groups=self.stimuli.groups
        )


def _watched(role: str, encoder: Encoder) -> Watched:
    noise = torch.randn(2, 3, *encoder.input_size, generator=torch.Generator().manual_seed(0))
    device = next((p.device for p in encoder.module.parameters()), torch.device("cpu"))
    anatomy = examine(f"the {role}", encoder.module, noise.to(device))
    return Watched(encoder.name, encoder.preprocess, find_stages(encoder.module, anatomy.layers))
