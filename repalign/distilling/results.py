"""The end of a run: teacher and student before and after, judged together, each picture decoded once."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from repalign.distill.evaluate import Classifier, Evaluation, disagreement, evaluate_all
from repalign.distill.train import Trained
from repalign.distilling.loading import Loaded
from repalign.progress import Track, silent

AT_CHANCE = 1.5  # times what guessing gives, up to which a teacher knows nothing of the classes


def with_weights(module: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    """Copy a network and put weights in."""
    copied = deepcopy(module).cpu()
    copied.load_state_dict(dict(weights))
    return copied.eval().requires_grad_(False)


def judge(
    loaded: Loaded, before: nn.Module, trained: Trained, device: torch.device, track: Track = silent
) -> dict[str, dict[str, Any]]:
    """Score teacher, student before, after the last epoch and at its best on validation, on validation and test.

    This is the one time that the test part is looked at. Each gets `PART_accuracy`, `…_se`, `…_nll`, `…_ece`, `…_n`,
    null for a part that the data lack, and students `PART_disagreement` with the teacher.
    """
    student, teacher = loaded.student, loaded.teacher
    last, best = (with_weights(before, weights) for weights in (trained.student, trained.best))
    shown: dict[str, Classifier] = {
        "before": (before, student.preprocess), "last": (last, student.preprocess), "best": (best, student.preprocess),
    }  # fmt: skip
    if teacher is not None:
        shown["teacher"] = (teacher.module, teacher.preprocess)
    results: dict[str, dict[str, Any]] = {name: {} for name in shown}
    results["before"]["epoch"], results["last"]["epoch"] = 0, trained.epoch
    results["best"]["epoch"] = trained.best_epoch
    for part in ("validation", "test"):
        stimuli = loaded.data.parts.get(part)
        if stimuli is None:
            continue
        labels = loaded.data.targets(stimuli)
        found = evaluate_all(list(shown.values()), stimuli, labels, device=device, track=track)
        named = dict(zip(shown, found, strict=True))
        for name, one in named.items():
            results[name] |= _flat(part, one, named.get("teacher") if name != "teacher" else None)
    return results


def cautions(results: Mapping[str, Mapping[str, Any]], classes: int) -> list[str]:
    """Say what a reader of the results must know."""
    said = []
    accuracy = results.get("teacher", {}).get("validation_accuracy")
    if accuracy is not None and accuracy <= AT_CHANCE / classes:
        said.append(
            f"the teacher is right on {accuracy:.1%} of the validation pictures; guessing gives {1 / classes:.1%}: "
            "check that its classes have the order of the data's, which is alphabetical for folders"
        )
    before = results["before"].get("validation_accuracy")
    if accuracy is not None and before is not None and accuracy <= before:
        said.append(f"the teacher ({accuracy:.1%} on validation) was no better than the student before ({before:.1%})")
    return said


def _flat(part: str, one: Evaluation, teacher: Evaluation | None) -> dict[str, Any]:
    assert one.scores is not None  # there are labels
    values = {f"{part}_{name}": value for name, value in asdict(one.scores).items()}
    if teacher is not None:
        values[f"{part}_disagreement"] = disagreement(one.logits, teacher.logits)
    return values
