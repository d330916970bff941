"""What `study.json` says of the parts of a study: encoders, stimuli, metrics, inference and software."""

import platform
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from math import isfinite

from repalign.infer.matrix import Plan
from repalign.metrics import Metric
from repalign.side import Side
from repalign.tables import Result
from repalign.types import Inference

FORMAT = 1
LIBRARIES = ("repalign", "torch", "torchvision", "timm", "transformers", "numpy", "pillow")


def versions() -> dict[str, str]:
    """List the versions of Python and of the libraries that numbers depend on."""
    return {name: version(name) for name in LIBRARIES} | {"python": platform.python_version()}


def describe_encoder(side: Side) -> dict[str, object]:
    """Describe the encoder of one side, or the saved numbers in its place."""
    encoder, activations = side.encoder, side.activations
    if encoder is None:
        return {
            "name": activations.encoder, "source": activations.geometry, "fingerprint": "", "untrained": False,
            "parameters": 0, "input": "", "notes": [],
        }  # fmt: skip
    return {
        "name": encoder.name,
        "source": encoder.source,
        "fingerprint": encoder.fingerprint,
        "untrained": encoder.untrained,
        "parameters": sum(p.numel() for p in encoder.module.parameters()),
        "input": f"{encoder.input_size[0]}×{encoder.input_size[1]}",
        "notes": list(encoder.notes),
    }


def describe_subjects(side: Side, results: Sequence[Result]) -> dict[str, object]:
    """Describe several subjects: who they are and, by metric and layer, the noise ceiling's two bounds."""
    if side.subjects is None:
        return {}
    ceiling = {r.metric.spec: {k: [c.lower, c.upper] for k, c in r.ceilings.items()} for r in results if r.ceilings}
    names = side.subjects.names
    return {"subjects": {"n": len(names), "names": list(names), "ceiling": ceiling}}


def describe_stimuli(side: Side) -> dict[str, object]:
    """Describe the stimuli of one side that were read, with their groups and labels counted."""
    activations, stimuli = side.activations, side.stimuli
    kept = set(side.ids)

    def counted(values: tuple[str, ...] | None) -> dict[str, int] | None:
        if values is None or stimuli is None:
            return None
        return dict(Counter(v for i, v in zip(stimuli.ids, values, strict=True) if i in kept))

    return {
        "name": stimuli.name if stimuli else activations.stimuli,
        "n": side.n,
        "groups": counted(stimuli.groups) if stimuli else None,
        "labels": counted(stimuli.labels) if stimuli else None,
        "fingerprint": activations.meta.get("fingerprint", ""),
        "notes": list(stimuli.notes) if stimuli else [],
        "skipped": [list(item) for item in activations.meta.get("skipped", ())],  # type: ignore[attr-defined]
    }


def describe_precision(left: Side, right: Side) -> str:
    """Say in which precision encoders ran, and why, and in which what follows was computed."""
    side = left if left.how is not None else right
    if side.how is None:
        return "float64 geometry"
    passes = {"fp32": "float32", "bf16": "bfloat16"}[side.how.precision]
    why = f" ({side.check.reason})" if side.check else ""
    return f"{passes} passes{why}, float32 features, float64 geometry"


def describe_metric(metric: Metric) -> dict[str, object]:
    """Describe a metric as a report needs it."""
    return {
        "id": metric.spec,
        "name": metric.name,
        "label": metric.label,
        "options": metric.options,
        "bounds": list(metric.bounds) if all(map(isfinite, metric.bounds)) else None,
        "higher_is_similar": metric.higher_is_similar,
        "symmetric": metric.symmetric,
        "chance": metric.chance,
        "reference": metric.reference,
    }


def describe_inference(found: Inference, plan: Plan) -> dict[str, object]:
    """Describe how the intervals and p-values of a metric were made."""
    return {
        "interval": found.interval, "level": plan.level, "n_groups": found.n_groups,
        "n_permutations": found.n_permutations, "seed": found.seed, "notes": list(found.notes),
    }  # fmt: skip
