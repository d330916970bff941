"""Pictures dealt out to a probe: to fit it, to choose its penalty, to score it; groups are never split."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from repalign.infer.resample import members

DEALING = ("test", "fit", "test", "fit", "test", "fit", "test", "validation")  # half scored, an eighth chooses


@dataclass(frozen=True)
class Split:
    """Rows of the pictures to fit on, to choose the penalty by, and to score: disjoint, also by groups."""

    fit: Int[Tensor, " f"]
    validation: Int[Tensor, " v"]
    test: Int[Tensor, " t"]

    @property
    def train(self) -> Int[Tensor, " m"]:
        """List the rows of both parts that may be learned from."""
        return torch.cat([self.fit, self.validation]).sort().values


def split(labels: Sequence[int], groups: Sequence[str] | None, seed: int) -> Split:
    """Deal pictures, or whole groups, out in random order, class by class, so that all parts have each class's share.

    A group goes by the label of its first picture.
    """
    units = members(len(labels), groups)
    order = np.random.default_rng(seed).permutation(len(units))
    order = order[np.argsort(np.array([labels[int(units[i][0])] for i in order]), kind="stable")]
    parts: dict[str, list[Tensor]] = {part: [] for part in dict.fromkeys(DEALING)}
    for place, unit in enumerate(order.tolist()):
        parts[DEALING[place % len(DEALING)]].append(units[unit])
    rows = {k: torch.cat(v).sort().values if v else torch.zeros(0, dtype=torch.int64) for k, v in parts.items()}
    return Split(rows["fit"], rows["validation"], rows["test"])
