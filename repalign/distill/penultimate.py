"""What both networks' classifiers are given: the representations that rkd and crd compare."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from repalign.distill.base import Distiller
from repalign.distill.networks import Anatomy, run
from repalign.errors import InputError


@dataclass(frozen=True)
class Ending:
    """The linear layer that gives a network's logits, and the width of what it is given."""

    classifier: str
    width: int


@dataclass(frozen=True)
class Endings:
    """How student and teacher end."""

    student: Ending
    teacher: Ending


@dataclass(frozen=True)
class Penultimates:
    """One batch: the student's logits, and the representations of both; only the student's carries gradients."""

    logits: Float[Tensor, "n c"]
    student: Float[Tensor, "n ds"]
    teacher: Float[Tensor, "n dt"]


def find_endings(distiller: Distiller) -> Endings:
    """Find where the penultimate representations are.

    Raises InputError naming the network that ends in no linear layer.
    """
    return Endings(_ending("the student", distiller.seen), _ending("the teacher", distiller.seen_teacher))


def _ending(name: str, seen: Anatomy) -> Ending:
    if seen.classifier is None or seen.width is None:
        raise InputError(
            f"{name} ends in no linear layer, so it has no penultimate representation to compare; choose a method that "
            "does without: kd, dkd, dist, fitnet or ofa"
        )
    return Ending(seen.classifier, seen.width)


def run_both(distiller: Distiller, endings: Endings, x: Tensor) -> Penultimates:
    """Run student and teacher once each."""
    logits, _, mine = run(distiller.student, x, classifier=endings.student.classifier)
    _, _, theirs = distiller.run_teacher(x, classifier=endings.teacher.classifier)
    assert mine is not None  # a classifier was named
    assert theirs is not None
    return Penultimates(logits, mine, theirs)
