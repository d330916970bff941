"""The noise ceiling of sides that pool several subjects: what a perfect model could score there."""

import math
from dataclasses import dataclass

from repalign.report.saved import Metric, Side, Study
from repalign.report.scores import similarity
from repalign.report.sentences import described
from repalign.report.wording import interval, number


@dataclass(frozen=True)
class CeilingRow:
    """One layer's ceiling under one measure, the best layer of the other side, and where that one stands."""

    layer: str
    measure: str
    ceiling: str
    partner: str
    score: str
    stands: str


def ceiling_rows(study: Study) -> list[CeilingRow]:
    """List every layer that has a noise ceiling, with the layer of the other side that is most like it."""
    rows = []
    for side in (study.a, study.b):
        for metric in study.metrics:
            low, high = side.ceiling(metric)
            for k, name in enumerate(side.layers):
                if math.isfinite(low[k]) and math.isfinite(high[k]):
                    rows.append(_row(study, side, metric, k, name, (float(low[k]), float(high[k]))))
    return rows


def said_of_ceilings(study: Study) -> str:
    """Say what the noise ceiling is made of; nothing when no side pools subjects."""
    pooled = [side for side in (study.a, study.b) if side.subjects]
    if not pooled:
        return ""
    who = " and ".join(f"{side.subjects:,} subjects of {described(side)}" for side in pooled)
    return (
        f"The noise ceiling runs from what each of the {who} scores against the others to what it scores against all "
        "of them, itself included: a layer that reaches into this range is as like the group as a subject is."
    )


def _row(
    study: Study, side: Side, metric: Metric, k: int, name: str, ceiling: tuple[float, float]
) -> CeilingRow:  # fmt: skip
    values = study.matrix(metric) if side.key == "a" else study.matrix(metric).T
    scores = similarity(metric, values)[k]
    known = [j for j in range(len(scores)) if math.isfinite(scores[j])]
    if not known:
        return CeilingRow(name, metric.label, interval(*ceiling), "", "undefined", "")
    best = max(known, key=lambda j: float(scores[j]))
    other = study.b if side.key == "a" else study.a
    value = float(values[k][best])
    stands = "below" if value < ceiling[0] else "above" if value > ceiling[1] else "within"
    return CeilingRow(name, metric.label, interval(*ceiling), other.layers[best], number(value), stands)
