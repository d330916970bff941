"""What a branch at each of the student's stages would cost: the head that OFA-KD would place there."""

from dataclasses import dataclass

import torch

from repalign.diagnosis.whole import Part
from repalign.distill.costs import cost_of, costs_of_heads
from repalign.distill.networks import has_class_token


@dataclass(frozen=True)
class Branch:
    """The head of a stage: parameters, operations for one picture, and both as shares of the student's."""

    stage: int
    layer: str
    parameters: int
    flops: int
    share_of_student_parameters: float
    share_of_student_flops: float


def price_branches(student: Part, teacher: Part) -> tuple[Branch, ...]:
    """Count what each stage's head would cost, as `OFADistiller` would build it; nothing without student logits."""
    if student.anatomy is None:
        return ()
    known = teacher.anatomy.width if teacher.anatomy else None
    width = max(student.anatomy.width or 0, known or 0) or student.anatomy.classes
    module = student.encoder.module
    example = torch.zeros(1, 3, *student.encoder.input_size, device=student.device)
    whole = cost_of(module, example)
    costs = costs_of_heads(student.stages, student.anatomy.classes, width, has_class_token(module))
    found = []
    for stage in student.stages:
        cost = costs[stage.number]
        share = cost.share_of(whole)
        found.append(
            Branch(stage.number, stage.layer.name, cost.parameters, cost.flops, share.parameters, share.flops)
        )  # fmt: skip
    return tuple(found)
