"""The configuration that a diagnosis recommends: what `repalign distill --config` reads."""

from repalign.diagnosis.diagnosis import Diagnosis
from repalign.diagnosis.verdict import Verdict

FORMAT = 1


def configuration(found: Diagnosis, teacher: str, student: str, data: str) -> dict[str, object]:
    """Lay out `distill.toml`: the names as they were given, the method with its options, and the evidence for it."""
    return {
        "format": FORMAT,
        "teacher": teacher,
        "student": student,
        "data": data,
        "method": found.verdict.run,
        "options": _options(found.verdict),
        "evidence": _evidence(found),
    }


def _options(verdict: Verdict) -> dict[str, object]:
    """List the method's keyword arguments."""
    weights = verdict.weights
    match verdict.run:
        case "ce":
            return dict(weights)
        case "kd":
            truth = weights["ground_truth"]
            return {"temperature": verdict.temperature, "weight": weights["logits"], "ground_truth": truth}
        case "ofa":
            gamma = verdict.gamma[-1]  # one for all
            return {
                "stages": list(verdict.stages), "gamma": gamma, "variant": "paper", "temperature": verdict.temperature,
                **weights,
            }  # fmt: skip


def _evidence(found: Diagnosis) -> dict[str, object]:
    verdict = found.verdict
    return {
        "verdict": verdict.method,
        "rule": verdict.rule,
        "tau": found.settings.tau,
        "pictures": found.n,
        "teacher_fingerprint": found.teacher.encoder.fingerprint,
        "student_fingerprint": found.student.encoder.fingerprint,
        "sentences": list(verdict.sentences),
        "stages": _stages(found),
    }


def _stages(found: Diagnosis) -> list[dict[str, object]]:
    scores, choice = found.evidence.at_matched, found.choices[found.verdict.rule]
    return [
        {
            "number": stage.number,
            "layer": stage.layer.name,
            "similarity": float(scores.value[i, 0]),
            "ci_low": float(scores.ci_low[i, 0]),
            "ci_high": float(scores.ci_high[i, 0]),
            "kept": stage.number in found.verdict.stages,
            "reason": choice.reasons[i] if i < len(choice.reasons) else choice.why,
        }
        for i, stage in enumerate(found.student.stages)
    ]
