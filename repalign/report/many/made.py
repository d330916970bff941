"""How a study of many encoders was made: choices, configuration, versions, fingerprints, and how to cite."""

import math
from typing import Any

from repalign.report.many.saved import ManyStudy
from repalign.report.wording import big, counted, plain, share, significant


def facts(study: ManyStudy) -> list[tuple[str, str, str]]:
    """List what was compared: what, how much, and small print."""
    groups = study.stimuli.get("groups")
    shown = [one for one in study.families if any(e.family == one for e in study.encoders)]
    sizes = [e.parameters for e in study.encoders if math.isfinite(e.parameters)]
    span = f"{big(min(sizes))} to {big(max(sizes))} parameters" if len(sizes) > 1 else ""
    families = f"in {counted(len(shown), 'family', 'families')}" if shown else ""
    return [
        (study.pictures, f"{study.originals.count:,}", counted(len(groups), "group") if groups else ""),
        ("encoders", f"{len(study.encoders)}", ", ".join(part for part in (families, span) if part)),
        ("conditions", f"{len(study.conditions)}", "; ".join(one.label for one in study.conditions[:3])),
        ("measures", f"{len(study.metrics)}", "; ".join(one.label for one in study.metrics)),
    ]


def made_from(study: ManyStudy) -> dict[str, Any]:
    """List how the study was made."""
    meta = study.meta
    config = {**meta["config"], "seed": meta.get("seed"), "n_permutations": meta.get("n_permutations")}
    timings = meta.get("timings") or {}
    return {
        "created": str(meta.get("created") or "")[:16].replace("T", " "),
        "command": str(meta["command"]),
        "choices": [str(one) for one in meta.get("choices") or ()],
        "config": [(str(k), plain(v)) for k, v in config.items() if v is not None],
        "versions": [(str(k), plain(v)) for k, v in meta["versions"].items()],
        "conditions": [(one.label, _condition(study, k)) for k, one in enumerate(study.conditions)],
        "prints": [(e.described, f"{e.source} {e.fingerprint}".strip()) for e in study.encoders],
        "timings": [(str(k).replace("_", " "), f"{v:.1f} s") for k, v in timings.items() if isinstance(v, int | float)],
        "cited": _cited(study),
    }


def _cited(study: ManyStudy) -> list[tuple[str, str, str]]:
    """List label, specification and source of every measure, and of every filter that names one."""
    measures = [(one.label, one.id, one.reference) for one in study.metrics]
    return measures + [(one.label, one.spec, one.reference) for one in study.conditions if one.reference]


def _condition(study: ManyStudy, k: int) -> str:
    """Say of a condition what it is and how much it changes the pictures."""
    one = study.conditions[k]
    parts = [one.spec] if one.spec else []
    parts += [f"pictures of {one.data_b}"] if one.data_b else []
    parts += [f"RMS difference in linear light {significant(one.difference)}"] if math.isfinite(one.difference) else []
    parts += [f"{share(one.clipped)} of pixels clipped"] if math.isfinite(one.clipped) else []
    return "; ".join(parts) or "as it is"
