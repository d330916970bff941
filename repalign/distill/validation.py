"""The pictures that choices are made on: prepared once where they fit into memory, judged after every epoch."""

from collections.abc import Iterable
from math import prod
from typing import final

import torch
from torch import Tensor, nn

from repalign.distill.evaluate import Preprocess, Scores, batches, classify, scores
from repalign.distill.labelled import Labelled
from repalign.distill.networks import frozen

MOST_BYTES = 10**9
BATCH = 256


@final
class Validation:
    """Judges a student on the validation part, with the student's own preprocessing."""

    def __init__(self, data: Labelled, preprocess: Preprocess, size: tuple[int, int], device: torch.device) -> None:
        self.stimuli, self.preprocess, self.device = data.validation, preprocess, device
        self.labels = data.targets(data.validation) if data.validation is not None else None
        self._kept: list[Tensor] | None = None
        n = len(data.validation) if data.validation is not None else 0
        self._fits = n * 3 * prod(size) * 4 <= MOST_BYTES

    def scores(self, module: nn.Module) -> Scores | None:
        """Score a student; None without validation pictures. Its modes are left as they were."""
        if self.labels is None:
            return None
        with frozen(module):
            logits = torch.cat([classify(module, x.to(self.device)) for x in self._batches()])
        return scores(logits, self.labels)

    def _batches(self) -> Iterable[Tensor]:
        assert self.stimuli is not None  # `scores` has seen to it
        if self._kept is not None:
            return self._kept
        shown = (x for (x,) in batches(self.stimuli, [self.preprocess], BATCH))
        if not self._fits:
            return shown
        self._kept = list(shown)
        return self._kept
