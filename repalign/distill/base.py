"""What every distiller is: a student that learns, a teacher that does not, and what the method adds between them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar, NoReturn

import torch
from jaxtyping import Float
from torch import Tensor, nn

from repalign.distill.logits import wide
from repalign.distill.networks import Anatomy, examine, run
from repalign.distill.stages import Stage, find_stages
from repalign.errors import InputError

NOT_LEARNED = ("teacher.", "teacher_input.")  # parts of a distiller that never change

Criterion = Callable[[Tensor, Tensor], Tensor]
Losses = dict[str, Tensor]


def cross_entropy(logits: Float[Tensor, "n c"], targets: Tensor) -> Tensor:
    """Compare logits with labels `(n,)` or probabilities `(n, c)`, in float32 at least."""
    logits = wide(logits)
    return nn.functional.cross_entropy(logits, targets.to(logits.dtype) if targets.ndim == 2 else targets.long())


class Distiller(nn.Module, ABC):
    """A loss that trains `student` under the eyes of `teacher`, for anyone's training loop.

    `losses, logits = distiller(x, y)`: weighted parts of the objective by name, whose sum is to be minimised, and the
    student's logits `(n, c)`. `index (n,)`, each picture's place in the training set, is for methods that remember
    pictures. The teacher is frozen, stays in eval mode and runs without gradients, on `teacher_input(x)` where it
    expects other pictures than the student (another size or normalisation). `distiller.student` is the network that was
    given, without hooks or wrappers, at any time. `criterion` compares logits, in float32 at least, with `y`.

    Raises InputError when either network can't run `example (b, 3, h, w)` or gives other than `num_classes` logits,
    when the two share parameters, and when a method that needs a teacher gets None.
    """

    needs_teacher: ClassVar[bool] = True

    def __init__(
        self, student: nn.Module, teacher: nn.Module | None, num_classes: int, *, example: Tensor | None = None,
        teacher_input: Callable[[Tensor], Tensor] | None = None, criterion: Criterion = cross_entropy,
        ground_truth: float = 1.0,
    ) -> None:  # fmt: skip
        super().__init__()
        if teacher is None and self.needs_teacher:
            raise InputError(f"{type(self).__name__} learns from a teacher, but was given None; CEDistiller needs none")
        self.student, self.teacher = student, NoTeacher() if teacher is None else teacher
        if {id(p) for p in student.parameters()} & {id(p) for p in self.teacher.parameters()}:
            raise InputError("student and teacher share parameters, and the teacher's are frozen; give a deepcopy")
        self.num_classes, self.criterion, self.ground_truth = num_classes, criterion, ground_truth
        self.teacher_input = teacher_input or nn.Identity()
        for fixed in self._fixed():
            fixed.requires_grad_(False)
        shown = like(student, example) if example is not None else example_for(student)
        self.seen = examine("the student", student, shown, "give example=, a batch of two of its pictures")
        self.seen_teacher = Anatomy((), num_classes, None, None) if teacher is None else self._examine_teacher(shown)
        check_classes(self.seen.classes, self.seen_teacher.classes, num_classes)
        self.train(self.training)

    @abstractmethod
    def forward(self, x: Tensor, y: Tensor, index: Tensor | None = None) -> tuple[Losses, Float[Tensor, "n c"]]:
        """Compute the parts of the objective and the student's logits for a batch."""

    def train(self, mode: bool = True) -> "Distiller":
        """Set the student's mode; the teacher stays in eval."""
        super().train(mode)
        for fixed in self._fixed():
            fixed.eval()
        return self

    def stages(self) -> tuple[Stage, ...]:
        """Find the student's stages."""
        return find_stages(self.student, self.seen.layers)

    def teacher_stages(self) -> tuple[Stage, ...]:
        """Find the teacher's stages."""
        return find_stages(self.teacher, self.seen_teacher.layers)

    def teacher_logits(self, x: Tensor) -> Float[Tensor, "n c"]:
        """Run the teacher."""
        return self.run_teacher(x)[0]

    def run_teacher(
        self, x: Tensor, layers: Sequence[str] = (), classifier: str | None = None
    ) -> tuple[Tensor, dict[str, Tensor], Tensor | None]:
        """Run the teacher as `networks.run` does, without gradients."""
        with torch.no_grad():
            return run(self.teacher, self.teacher_input(x), layers, classifier)

    def beside_student(self, module: nn.Module) -> nn.Module:
        """Move a part of the method to where the student's parameters are, and to their dtype."""
        first = first_parameter(self.student)
        return module if first is None else module.to(first.device, first.dtype)

    def hard(self, logits: Tensor, y: Tensor) -> Losses:
        """Compute the ground truth's part, named `ground_truth`; none where its weight is 0."""
        return {"ground_truth": self.ground_truth * self.criterion(wide(logits), y)} if self.ground_truth else {}

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        """List what an optimiser shall move: the student's parameters and the method's own."""
        return (p for p in self.parameters() if p.requires_grad)

    def no_weight_decay(self) -> set[str]:
        """Name the parameters that the student exempts from weight decay, as timm's optimisers ask for."""
        own = getattr(self.student, "no_weight_decay", set)
        return {f"student.{name}" for name in own()}

    def learned(self) -> dict[str, Tensor]:
        """Give everything a checkpoint must hold: all state but the teacher's."""
        return {k: v for k, v in self.state_dict().items() if not k.startswith(NOT_LEARNED)}

    def load_learned(self, state: dict[str, Tensor]) -> None:
        """Put back what `learned` gave.

        Raises InputError when it belongs to another student, or to a method with other parts.
        """
        own = self.learned()
        other = {k for k in set(own) & set(state) if own[k].shape != state[k].shape}
        wrong = sorted(set(own) ^ set(state)) + sorted(other)
        if wrong:
            named = ", ".join(wrong[:5])
            raise InputError(f"the checkpoint does not fit this distiller: {named}; build it as when it was saved")
        self.load_state_dict(state, strict=False)

    def _fixed(self) -> list[nn.Module]:
        """List the teacher and, where it is a module, what makes its pictures."""
        made = [self.teacher_input] if isinstance(self.teacher_input, nn.Module) else []
        return [self.teacher, *made]

    def _examine_teacher(self, shown: Tensor) -> Anatomy:
        for fixed in self._fixed():
            fixed.eval()
        with torch.no_grad():
            pictures = self.teacher_input(shown)
        return examine("the teacher", self.teacher, pictures, "give teacher_input=, which makes its pictures of these")


class NoTeacher(nn.Module):
    """What stands in the teacher's place in a distiller that has none."""

    def forward(self, x: Tensor) -> NoReturn:
        """Refuse.

        Raises InputError.
        """
        raise InputError("this distiller has no teacher to run; give it one")


def check_classes(student: int, teacher: int, num_classes: int) -> None:
    """Raise InputError unless student, teacher and data have the same number of classes."""
    if len({student, teacher, num_classes}) > 1:
        raise InputError(
            f"the student gives {student} classes, the teacher {teacher}, and the data have {num_classes}; all three "
            "must agree: give a teacher trained on these classes and a student built for them"
        )


def example_for(student: nn.Module) -> Float[Tensor, "2 3 h w"]:
    """Make two noise pictures of the size that a timm network names for itself, where its parameters are.

    Raises InputError when it names none.
    """
    config = getattr(student, "pretrained_cfg", None) or {}
    size = config.get("input_size")
    if not size:
        raise InputError(f"{type(student).__name__} names no input size; give example=, a batch of two of its pictures")
    return like(student, torch.randn(2, *size, generator=torch.Generator().manual_seed(0)))


def first_parameter(module: nn.Module) -> nn.Parameter | None:
    """Find a parameter that shows a network's device and dtype, or None where there is none."""
    return next((p for p in module.parameters() if p.is_floating_point()), None)


def like(module: nn.Module, x: Tensor) -> Tensor:
    """Move pictures to a network's device, in its dtype."""
    first = first_parameter(module)
    return x if first is None else x.to(first.device, first.dtype)
