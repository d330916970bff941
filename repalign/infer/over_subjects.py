"""One side is several subjects: scores are means over them, with all stimuli, without some, and rearranged.

The layers of all subjects stand side by side in one comparison, so the other side is embedded once and an arrangement
of its stimuli is gathered once for everybody. Subjects who lack different pairs of stimuli (NaN in an RDM) stand in
different comparisons, since a pair that one layer lacks is left out of every layer of its comparison.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from repalign.align import Prepared, prepare
from repalign.encoders.group import Subjects
from repalign.memory import budget
from repalign.metrics.base import Metric
from repalign.stack import Room
from repalign.types import Activations, Alignment

MOST_NAMED = 3  # subjects in a name


@dataclass(frozen=True)
class OverSubjects:
    """Every subject of one side compared with the other side under one metric.

    `a` and `b` say what the stimuli, groups and layers are; the subjects are those of `a` with `subjects_first`, else
    of `b`. `parts` compare the subjects in `names`, one tuple a part; its layers are those of its first subject, of
    its second, and so on.
    """

    a: Activations
    b: Activations
    subjects_first: bool
    names: tuple[tuple[str, ...], ...]
    parts: tuple[Prepared, ...]

    @property
    def metric(self) -> Metric:
        """Give the metric of all comparisons."""
        return self.parts[0].metric

    @property
    def room(self) -> Room:
        """Say where the first comparison is computed."""
        return self.parts[0].room

    def spare(self) -> int:
        """Count the bytes that another comparison may take beside the first."""
        return self.parts[0].spare()

    @property
    def groups(self) -> tuple[str, ...] | None:
        """Name the group of each stimulus, as either side has it."""
        return self.parts[0].groups

    @property
    def within_groups(self) -> bool:
        """Tell whether pairs of stimuli within a group are left out."""
        return self.parts[0].within_groups

    @property
    def count(self) -> int:
        """Count the subjects."""
        return sum(map(len, self.names))

    @property
    def notes(self) -> tuple[str, ...]:
        """Say what the scores are, and what was left out."""
        said = dict.fromkeys(note for part in self.parts for note in part.notes)
        return (f"scores are means over {self.count} subjects", *said)

    def each(self, score: Callable[[Prepared], Float[np.ndarray, "..."]]) -> Float[np.ndarray, "..."]:
        """Compute what `score` gives of a comparison, `(…, la, lb)`, for each subject: `(…, s, la, lb)`."""
        return np.concatenate([self._apart(score(part)) for part in self.parts], axis=-3)

    def mean(self, score: Callable[[Prepared], Float[np.ndarray, "..."]]) -> Float[np.ndarray, "..."]:
        """Average what `score` gives of a comparison over subjects, `(…, la, lb)`; NaN where one has no score."""
        return self.each(score).mean(-3)

    def alignment(self) -> Alignment:
        """Average the scores over subjects; `undefined` names the layers of subjects that have none."""
        found = [part.alignment() for part in self.parts]
        return replace(
            found[0],
            layers_a=tuple(self.a.layers),
            layers_b=tuple(self.b.layers),
            scores=self.mean(lambda part: part.alignment().scores),
            undefined={name: reason for one in found for name, reason in one.undefined.items()},
        )

    def between_subjects(self) -> Float[np.ndarray, "la lb"]:
        """Compute the standard error that other subjects would bring: the delete-one jackknife of a mean, `sd / √s`."""
        scores = self.each(lambda part: part.alignment().scores)
        return scores.std(-3, ddof=1) / np.sqrt(self.count)

    def geometries(self, layer: str) -> dict[str, Tensor]:
        """Give each subject's geometry of a layer, without the pairs left out; a subject who has none is not there."""
        own = list((self.a if self.subjects_first else self.b).layers)
        found = {}
        for names, part in zip(self.names, self.parts, strict=True):
            rows = part.geometries[0 if self.subjects_first else 1].layers
            places = {name: k * len(own) + own.index(layer) for k, name in enumerate(names)}
            found |= {name: rows[row] for name, row in places.items() if row in rows}
        return found

    def _apart(self, values: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Give the subjects, whose layers stand side by side, an axis before the last two."""
        lead, la, lb = values.shape[:-2], len(self.a.layers), len(self.b.layers)
        if self.subjects_first:
            return values.reshape(*lead, -1, la, lb)
        return np.moveaxis(values.reshape(*lead, la, -1, lb), -2, -3)


Compared = Prepared | OverSubjects


def averaged(compared: Compared, score: Callable[[Prepared], Float[np.ndarray, "..."]]) -> Float[np.ndarray, "..."]:
    """Compute what `score` gives of a comparison, or its mean over subjects where there are several."""
    return score(compared) if isinstance(compared, Prepared) else compared.mean(score)


def prepare_subjects(
    a: Activations, b: Activations, subjects: Subjects, subjects_first: bool, metric: Metric, pairs: str = "between",
    memory: int | None = None, device: str | torch.device | None = None,
) -> OverSubjects:  # fmt: skip
    """Take and embed every layer of every subject, and of the other side; warns and raises as `prepare` does.

    `subjects` are those of `a` with `subjects_first`, else of `b`, over the same stimuli as the other side. Each may
    have features of its own number. The pairs of stimuli that a subject lacks are left out of that subject's scores.
    `memory` bytes, a quarter of what is free, are shared by the comparisons of subjects who lack different pairs.
    """
    members = dict(zip(subjects.names, subjects.activations, strict=True))
    alike = _alike(members)
    side = a if subjects_first else b
    each = budget(memory) // len(alike)
    parts = []
    for names in alike:
        both = side.encoder if len(alike) == 1 else f"{side.encoder} ({_listed(names)})"
        together = _side_by_side(replace(side, encoder=both), {name: members[name] for name in names})
        parts.append(prepare(*((together, b) if subjects_first else (a, together)), metric, pairs, each, device))
    return OverSubjects(a, b, subjects_first, tuple(alike), tuple(parts))


def _alike(members: Mapping[str, Activations]) -> list[tuple[str, ...]]:
    """Sort subjects by the pairs of stimuli they lack in any layer."""
    found: dict[bytes, tuple[str, ...]] = {}
    for name, one in members.items():
        lacks = torch.stack([x.isnan() for x in one.layers.values()]).any(0) if one.geometry == "rdm" else None
        key = b"" if lacks is None or not lacks.any() else np.packbits(lacks.numpy()).tobytes()
        found[key] = (*found.get(key, ()), name)
    return list(found.values())


def _side_by_side(side: Activations, members: Mapping[str, Activations]) -> Activations:
    names = [(layer, subject) for subject in members for layer in side.layers]
    return replace(
        side,
        layers={f"{layer} of {subject}": members[subject].layers[layer] for layer, subject in names},
        depths={f"{layer} of {subject}": side.depths[layer] for layer, subject in names},
    )


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names) if len(names) <= MOST_NAMED else f"{len(names)} subjects"
