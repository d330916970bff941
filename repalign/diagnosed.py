"""What `diagnosis.json` says: everything of a diagnosis but its tables."""

from dataclasses import asdict
from datetime import UTC, datetime
from math import isfinite
from typing import Any

from repalign.description import describe_metric, versions
from repalign.diagnosis.choices import BY_SIMILARITY, SOURCES
from repalign.diagnosis.competence import Judged
from repalign.diagnosis.diagnosis import Diagnosis
from repalign.diagnosis.similarity import DECIDING, METRICS
from repalign.diagnosis.whole import Part
from repalign.metrics import make_metric

FORMAT = 1


def describe_diagnosis(found: Diagnosis, command: str) -> dict[str, object]:
    """Lay a diagnosis out as JSON takes it; a number that is unknown is null."""
    competence, probes = found.competence, list(found.probes.values())
    meta: dict[str, object] = {
        "format": FORMAT,
        "kind": "diagnosis",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "seed": found.settings.seed,
        "versions": versions(),
        "teacher": _network(found.teacher),
        "student": _network(found.student),
        "data": _data(found),
        "pictures": {
            "alignment": found.n, "evaluated": found.n if competence.teacher or competence.student else 0,
            "probe_train": probes[0].n_train if probes else 0, "probe_test": probes[0].n_test if probes else 0,
        },
        "teacher_logits": _judged(competence.teacher),
        "student_logits": _judged(competence.student),
        "difference": None if competence.difference is None else asdict(competence.difference),
        "disagreement": competence.disagreement,
        "chance": competence.chance,
        "logits": None if found.logits is None else asdict(found.logits),
        "metrics": [describe_metric(make_metric(name)) for name in METRICS],
        "settings": asdict(found.settings) | {"metric": DECIDING, "gap": found.matching, "pool": "mean"},
        "inference": _inference(found),
        "rules": [_rule(found, name) for name in dict.fromkeys([*BY_SIMILARITY, found.settings.rule])],
        "path": [list(pair) for pair in found.path],
        "verdict": asdict(found.verdict),
        "warnings": list(found.warnings),
        "timings": {name: round(value, 3) for name, value in found.seconds.items()},
    }  # fmt: skip
    return {name: _known(value) for name, value in meta.items()}


def _network(part: Part) -> dict[str, object]:
    encoder = part.encoder
    return {
        "name": encoder.name,
        "source": encoder.source,
        "fingerprint": encoder.fingerprint,
        "untrained": encoder.untrained,
        "classes": part.classes,
        "parameters": sum(p.numel() for p in encoder.module.parameters()),
        "input_size": list(encoder.input_size),
        "penultimate": part.anatomy.classifier if part.anatomy else None,
        "notes": list(part.notes),
    }


def _data(found: Diagnosis) -> dict[str, object]:
    return {
        "name": found.stimuli.name,
        "n": found.n,
        "labelled": found.labels is not None,
        "classes": None if found.labels is None else list(found.labels.names),
        "groups": None if found.stimuli.groups is None else len(set(found.stimuli.groups)),
        "fingerprint": found.fingerprint,
    }


def _judged(judged: Judged | None) -> dict[str, float] | None:
    if judged is None:
        return None
    accuracy = judged.accuracy
    return {
        "accuracy": accuracy.value, "accuracy_se": accuracy.se, "accuracy_low": accuracy.ci_low,
        "accuracy_high": accuracy.ci_high, "nll": judged.scores.nll, "ece": judged.scores.ece,
    }  # fmt: skip


def _inference(found: Diagnosis) -> dict[str, object]:
    """Say, for each measure, how intervals and p came about."""
    return {
        one.metric: {
            "interval": one.inference.interval, "n_groups": one.inference.n_groups,
            "n_permutations": one.inference.n_permutations, "notes": list(one.inference.notes),
        }
        for one in found.similarities
    }  # fmt: skip


def _rule(found: Diagnosis, name: str) -> dict[str, object]:
    choice = found.choices[name]
    return {
        "rule": name, "source": SOURCES[name], "kept": list(choice.kept), "sufficient": choice.sufficient,
        "why": choice.why, "reasons": list(choice.reasons),
    }  # fmt: skip


def _known(value: Any) -> Any:  # noqa: ANN401  anything JSON holds
    """Put null in the place of NaN and infinity, which JSON does not have."""
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, dict):
        return {k: _known(v) for k, v in value.items()}
    return [_known(v) for v in value] if isinstance(value, list | tuple) else value
