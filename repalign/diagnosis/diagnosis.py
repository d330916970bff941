"""A diagnosis: everything measured of a teacher and a student on the same pictures, and what follows from it."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from repalign.cache import Cache
from repalign.chunks import How
from repalign.diagnosis.branches import Branch, price_branches
from repalign.diagnosis.cautions import doubts, obstacles, warn
from repalign.diagnosis.choices import Evidence, best_path, check_rule, choose_all, describe_matching
from repalign.diagnosis.competence import Competence, Labels, judge_both
from repalign.diagnosis.logit_range import LogitRange, logit_range
from repalign.diagnosis.probe import Probe, probe_all
from repalign.diagnosis.similarity import Similarity, measure_similarity
from repalign.diagnosis.verdict import DEFAULT_RULE, Verdict, decide
from repalign.diagnosis.whole import PENULTIMATE, Part, Seen, find_parts, seen
from repalign.distill.rules import TAU, Choice
from repalign.errors import InputError, collected_warnings
from repalign.extract import extract
from repalign.infer.checks import check_count, check_seed
from repalign.progress import Track, silent
from repalign.subset import subset
from repalign.types import Encoder, Stimuli

FEWEST = 4  # pictures between which a debiased similarity exists


@dataclass(frozen=True)
class Settings:
    """How a diagnosis is made: on how many pictures, by which rule and τ, with how many arrangements for the null."""

    pictures: int = 2000
    rule: str = DEFAULT_RULE
    tau: float = TAU
    permutations: int = 199
    seed: int = 0

    def __post_init__(self) -> None:
        check_rule(self.rule, self.tau)
        check_count("permutations", self.permutations)
        check_seed(self.seed)
        if self.pictures < FEWEST:
            raise InputError(f"--pictures {self.pictures} leaves too few; give at least {FEWEST}, better 1,000")


@dataclass(frozen=True)
class Setup:
    """How networks are run over the pictures, and where their features are kept."""

    how: How = field(default_factory=How)
    cache: Cache | None = None
    skip_unreadable: bool = False
    track: Track = silent


@dataclass(frozen=True)
class Diagnosis:
    """What was measured, what the rules chose, and the verdict.

    `stimuli` are the pictures that were used, `fingerprint` is theirs. `probes` stand under the number of the student's
    stage, and under "teacher" for the teacher's penultimate representation. `path` matches stages along the monotone
    path of the largest summed similarity, `matching` says what `gap` compares. `seconds` were spent on each part.
    """

    teacher: Part
    student: Part
    stimuli: Stimuli
    fingerprint: str
    labels: Labels | None
    similarities: tuple[Similarity, ...]
    evidence: Evidence
    competence: Competence
    logits: LogitRange | None
    probes: Mapping[str, Probe]
    branches: tuple[Branch, ...]
    choices: Mapping[str, Choice]
    path: tuple[tuple[int, int], ...]
    matching: str
    verdict: Verdict
    warnings: tuple[str, ...]
    settings: Settings
    seconds: Mapping[str, float]

    @property
    def n(self) -> int:
        """Count the pictures that were used."""
        return len(self.stimuli)


def diagnose_networks(
    teacher: Encoder, student: Encoder, stimuli: Stimuli, classes: Sequence[str] | None = None,
    untrained: Encoder | None = None, settings: Settings | None = None, setup: Setup | None = None,
    fresh_classifier: bool = False,
) -> Diagnosis:  # fmt: skip
    """Show both networks the same pictures, compare them layer by layer, and judge what the student may learn.

    `classes` names the classes of the stimuli's labels in the networks' order; None where there are no labels.
    `untrained` is a network of the student's architecture with untrained weights, the second null. Of more than
    `settings.pictures` pictures a seeded subset is used, each group (or class) with its share. With `fresh_classifier`
    the student's classifier is untrained on trained features, and is not judged.

    Raises InputError for fewer than four pictures, logits or features that are not finite, and as `extract` does;
    LayerError for a network without stages.
    """
    settings, setup = settings or Settings(), setup or Setup()
    seconds: dict[str, float] = {}
    with collected_warnings() as messages:
        with _timed(seconds, "extract"):
            parts = _parts(teacher, student, untrained, fresh_classifier)
            sides, shown, fingerprint = _show(parts, stimuli, settings, setup)
        one, other, twin = sides
        with _timed(seconds, "align"):
            found = measure_similarity(one, other, twin, settings.permutations, settings.seed, setup.track)
        labels = None if classes is None else _labels(shown, classes)
        competence = judge_both(one, other, labels, shown.groups)
        with _timed(seconds, "probe"):
            probes, note = _probes(one, other, labels, shown, settings.seed)
        branches = price_branches(other.part, one.part)
    evidence = _evidence(found[0], one.part, other.part)
    choices = choose_all(evidence, settings.tau)
    against = obstacles(one.part, other.part, labels, competence)
    doubted = doubts(other.part, competence, len(shown))
    facts = [*_second_opinion(found[1], evidence, one.part, other.part), *_known(competence, len(shown))]
    verdict = decide(choices, settings.rule, settings.tau, against, doubted, facts, branches)
    warned = [*against, *doubted, *warn(one.part, other.part, labels, competence, evidence, len(shown))]
    warned += [*([note] if note else []), *messages, *shown.notes]
    return Diagnosis(
        teacher=one.part, student=other.part, stimuli=shown, fingerprint=fingerprint, labels=labels, similarities=found,
        evidence=evidence, competence=competence, logits=_range(one, other), probes=probes, branches=branches,
        choices=choices, path=best_path(evidence.stages.value), verdict=verdict, settings=settings, seconds=seconds,
        matching=describe_matching(evidence.matched, len(one.part.stages)), warnings=tuple(dict.fromkeys(warned)),
    )  # fmt: skip


def _parts(teacher: Encoder, student: Encoder, untrained: Encoder | None, fresh_classifier: bool) -> list[Part]:
    """Look into the networks: the teacher, the student, and its untrained twin if there is one."""
    if student.module is teacher.module:  # what is recorded of one would be taken for the other
        student = replace(student, module=deepcopy(student.module))
    parts = [find_parts(teacher), find_parts(student, fresh_classifier)]
    if untrained is not None:
        parts.append(replace(parts[1], encoder=untrained, anatomy=None))
    return parts


def _show(
    parts: Sequence[Part], stimuli: Stimuli, settings: Settings, setup: Setup
) -> tuple[tuple[Seen, Seen, Seen | None], Stimuli, str]:
    """Run all networks in one pass over a subset of the pictures, each decoded once; give those that could be read."""
    if len(stimuli) < FEWEST:
        raise InputError(f"{stimuli.name} has {len(stimuli)} pictures; a diagnosis needs {FEWEST}, better 1,000")
    chosen = stimuli.take(subset(len(stimuli), stimuli.groups or stimuli.labels, settings.pictures, settings.seed))
    found = extract(
        [part.request() for part in parts], chosen, setup.how, skip_unreadable=setup.skip_unreadable,
        track=setup.track, cache=setup.cache,
    )  # fmt: skip
    sides = [seen(part, one) for part, one in zip(parts, found, strict=True)]
    for side in sides:
        _check_finite(side)
    read = frozenset(found[0].ids)
    shown = chosen.take([i for i, name in enumerate(chosen.ids) if name in read])
    lost = [f"left out: {name} ({reason})" for name, reason in found[0].meta["skipped"]]  # type: ignore[attr-defined]
    shown = replace(shown, notes=(*shown.notes, *lost))
    twin = sides[2] if len(sides) > 2 else None
    return (sides[0], sides[1], twin), shown, str(found[0].meta["fingerprint"])


def _check_finite(side: Seen) -> None:
    """Raise InputError when a network gives NaN or infinite logits; features are checked where they are compared."""
    if side.logits is None:
        return
    bad = int((~torch.isfinite(side.logits)).any(1).sum())
    if bad:
        raise InputError(
            f"{side.part.encoder.name} gives NaN or infinite logits for {bad} of {len(side.logits)} pictures; check "
            "its weights and preprocessing"
        )


def _labels(shown: Stimuli, classes: Sequence[str]) -> Labels | None:
    if shown.labels is None:
        return None
    number = {name: c for c, name in enumerate(classes)}
    return Labels(torch.tensor([number[label] for label in shown.labels]), tuple(classes))


def _probes(
    teacher: Seen, student: Seen, labels: Labels | None, shown: Stimuli, seed: int
) -> tuple[dict[str, Probe], str]:
    """Probe the student's stages and the teacher's penultimate representation."""
    if labels is None:
        return {}, "no linear probes: the pictures have no labels"
    layers = {str(s.number): student.features.layers[s.layer.name] for s in student.part.stages}
    if teacher.penultimate is not None:
        layers["teacher"] = teacher.penultimate.layers[PENULTIMATE]
    found, note = probe_all(layers, labels.codes, len(labels.names), shown.groups, seed)
    return dict(zip(layers, found, strict=False)), note


def _range(teacher: Seen, student: Seen) -> LogitRange | None:
    if teacher.logits is None or student.logits is None:
        return None
    return logit_range(teacher.logits, student.logits)


def _evidence(similarity: Similarity, teacher: Part, student: Part) -> Evidence:
    own, others = ([stage.layer.name for stage in part.stages] for part in (student, teacher))
    stages = similarity.between(own, others)
    unusable = {
        stage.number: similarity.why_undefined(stage.layer.name)
        for stage, row in zip(student.stages, stages.value, strict=True)
        if np.isnan(row).all()
    }
    penultimate = None
    if similarity.knows(PENULTIMATE):
        penultimate = similarity.between(own, [PENULTIMATE])
    return Evidence(stages, penultimate, unusable)


def _second_opinion(rsa: Similarity, evidence: Evidence, teacher: Part, student: Part) -> list[str]:
    """Say how alike RSA finds the stages that `gap` compares, and whether it puts them in CKA's order."""
    own, others = ([stage.layer.name for stage in part.stages] for part in (student, teacher))
    scores = rsa.between(own, others).at([k - 1 for k in evidence.matched])
    values = zip(scores.value[:, 0], scores.ci_low[:, 0], scores.ci_high[:, 0], strict=True)
    told = ", ".join(f"{value:.2f} [{low:.2f}, {high:.2f}]" for value, low, high in values)
    orders = [np.argsort(one.value[:, 0]).tolist() for one in (scores, evidence.at_matched)]
    order = "the same order of stages as CKA's" if orders[0] == orders[1] else "another order of stages than CKA's"
    return [f"Second opinion, RSA of the same pairs of stages: {told}; {order}"]


def _known(competence: Competence, n: int) -> list[str]:
    """Say in a sentence what labels show."""
    one, other = competence.teacher, competence.student
    if one is None or other is None or competence.difference is None:
        return []
    return [
        f"On {n:,} labelled pictures the teacher is right on {one.accuracy}, the student on {other.accuracy}: "
        f"{competence.difference}"
    ]


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - began
