"""Contrastive representation distillation (Tian et al. 2020): a picture's two embeddings against those of others."""

from collections.abc import Callable
from math import log

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import normalize, softplus

from repalign.distill.base import Criterion, Distiller, Losses, cross_entropy, like
from repalign.distill.logits import bounds, check_positive, check_weights, full_precision, wide
from repalign.distill.penultimate import find_endings, run_both
from repalign.errors import InputError

# Tian, Krishnan, Isola (ICLR 2020, arXiv 1910.10699): the defaults of the authors' code
WIDTH, NEGATIVES, TEMPERATURE, MOMENTUM, WEIGHT = 128, 16_384, 0.07, 0.5, 0.8


def crd_loss(
    positive: Float[Tensor, "..."], negatives: Float[Tensor, "..."], pictures: int,
    log_normaliser: Float[Tensor, ""] | float = 0.0, temperature: float = TEMPERATURE,
) -> Float[Tensor, ""]:  # fmt: skip
    """Tell a picture's own embedding from the other network among those of others; the mean over the batch.

    From cosines s with the own embedding `(n,)` and with k others `(n, k)`, with M `pictures`:
    −log h(s⁺) − Σ log(1 − h(s⁻)) where h(s) = e^{s/τ} / (e^{s/τ} + Z k / M). In the paper Z = 1; the authors' code has
    the Z of noise-contrastive estimation, M times the mean of e^{s/τ} over the first batch, given here as its
    logarithm. In float32 at least, through softplus, so that no h rounds to 0 or 1.

    Raises InputError for shapes that don't fit and a temperature that isn't positive.
    """
    check_positive(temperature=temperature, pictures=pictures)
    if positive.ndim != 1 or negatives.ndim != 2 or len(positive) != len(negatives) or not negatives.shape[1]:
        raise InputError(
            f"cosines {tuple(positive.shape)} with the own picture and {tuple(negatives.shape)} with others must be "
            "(n,) and (n, k), k at least 1"
        )
    with full_precision(positive):
        threshold = log_normaliser + log(negatives.shape[1] / pictures)
        found = softplus(threshold - wide(positive) / temperature)
        mistaken = softplus(wide(negatives) / temperature - threshold).sum(1)
        return (found + mistaken).mean()


def draw_others(own: Int[Tensor, " n"], pictures: int, negatives: int) -> Int[Tensor, "n k"]:
    """Draw places of other pictures for each of the places `own`, with repetition, from torch's global generator.

    Where there are no more than `negatives` others, each is taken once and nothing is drawn.
    """
    others = pictures - 1
    if others <= negatives:
        drawn = torch.arange(others, device=own.device).expand(len(own), others)
    else:
        drawn = torch.randint(others, (len(own), negatives), device=own.device)
    return drawn + (drawn >= own[:, None])


class CRDDistiller(Distiller):
    """Contrast each picture's penultimate representations, student's and teacher's, with those of other pictures.

    Both are mapped to `width` dimensions of unit length; a memory holds them for each of the `pictures` of the training
    set, moved by 1 − `momentum` towards each new one. Student against the teacher's memory, and the reverse, give
    `crd_loss` each, with `negatives` other pictures; `weight` weighs their sum. `forward` needs `index`, each picture's
    place in the training set; pictures that are mixed of two count as the one named. Memory and normalisers are part of
    `learned()`, and negatives come from torch's global generator, so that a run resumes exactly.
    Losses: `ground_truth`, `crd`.

    Negatives are any other pictures; the authors' loader for labelled data takes them from other classes.

    Raises InputError as `Distiller` does, for fewer than two pictures, for networks that end in no linear layer, and
    for options out of range.
    """

    memory_student: Tensor
    memory_teacher: Tensor
    log_normalisers: Tensor
    normalised: Tensor

    def __init__(
        self, student: nn.Module, teacher: nn.Module, num_classes: int, *, pictures: int, width: int = WIDTH,
        negatives: int = NEGATIVES, temperature: float = TEMPERATURE, momentum: float = MOMENTUM,
        weight: float = WEIGHT, example: Tensor | None = None,
        teacher_input: Callable[[Tensor], Tensor] | None = None, criterion: Criterion = cross_entropy,
        ground_truth: float = 1.0,
    ) -> None:  # fmt: skip
        super().__init__(
            student, teacher, num_classes, example=example, teacher_input=teacher_input, criterion=criterion,
            ground_truth=ground_truth,
        )  # fmt: skip
        check_positive(temperature=temperature, width=width, negatives=negatives)
        check_weights(ground_truth=ground_truth, weight=weight)
        if pictures < 2 or not 0 <= momentum < 1:
            raise InputError(
                f"crd needs 2 pictures or more and a momentum from 0 up to 1, not {pictures} and {momentum}"
            )
        self.pictures, self.negatives, self.temperature = pictures, negatives, temperature
        self.momentum, self.weight = momentum, weight
        self.endings = find_endings(self)
        self.embed_student = self.beside_student(nn.Linear(self.endings.student.width, width))
        self.embed_teacher = self.beside_student(nn.Linear(self.endings.teacher.width, width))
        for embed in (self.embed_student, self.embed_teacher):
            embed.requires_grad_(weight > 0)
        device = like(student, torch.zeros(1)).device
        for name in ("memory_student", "memory_teacher"):
            self.register_buffer(name, normalize(torch.randn(pictures, width), dim=1).to(device))
        self.register_buffer("log_normalisers", torch.zeros(2, device=device))
        self.register_buffer("normalised", torch.zeros(2, dtype=torch.bool, device=device))

    def forward(self, x: Tensor, y: Tensor, index: Tensor | None = None) -> tuple[Losses, Float[Tensor, "n c"]]:
        """Compute the parts of the objective and the student's logits for a batch; in training mode, remember it.

        Raises InputError without `index (n,)`, and where it doesn't name pictures of the training set.
        """
        own = self._places(index, len(x)).to(x.device)
        both = run_both(self, self.endings, x)
        losses = self.hard(both.logits, y)
        if self.weight:
            student, teacher = self.embed_student(both.student), self.embed_teacher(both.teacher)
            with full_precision(x):
                units = normalize(wide(student), dim=1), normalize(wide(teacher), dim=1)
                losses["crd"] = self.weight * self._contrast(*units, own)
        return losses, both.logits

    def _places(self, index: Tensor | None, n: int) -> Int[Tensor, " n"]:
        if index is None:
            raise InputError(
                "crd remembers pictures and needs to know which ones a batch holds: call distiller(x, y, index), where "
                "index (n,) gives each picture's place in the training set, from 0"
            )
        if index.shape != (n,) or index.is_floating_point():
            raise InputError(f"index must be {n} whole numbers, one a picture, not {index.dtype} {tuple(index.shape)}")
        low, high = bounds(index)
        if low < 0 or high >= self.pictures:
            raise InputError(
                f"index runs from {low} to {high}, but pictures={self.pictures}; give places from 0, and the size of "
                "the training set as pictures="
            )
        return index.long()

    def _contrast(
        self, student: Float[Tensor, "n d"], teacher: Float[Tensor, "n d"], own: Int[Tensor, " n"]
    ) -> Float[Tensor, ""]:
        """Add the losses of both directions, then remember the batch."""
        places = torch.cat([own[:, None], draw_others(own, self.pictures, self.negatives)], dim=1)
        losses = []
        for side, (anchor, memory) in enumerate([(student, self.memory_teacher), (teacher, self.memory_student)]):
            # a copy, since the memory changes before the backward pass; one product costs less than n k rows gathered
            cosines = (anchor @ memory.to(anchor.dtype, copy=True).T).gather(1, places)
            scale = self._log_normaliser(side, cosines.detach())
            losses.append(crd_loss(cosines[:, 0], cosines[:, 1:], self.pictures, scale, self.temperature))
        if self.training:
            self._remember(own, student.detach(), teacher.detach())
        return losses[0] + losses[1]

    def _log_normaliser(self, side: int, cosines: Float[Tensor, "n k"]) -> Float[Tensor, ""]:
        """Give log Z of one direction: the first training batch's estimate, kept from then on."""
        mean = torch.logsumexp(cosines.flatten() / self.temperature, 0) - log(cosines.numel())
        scale = torch.where(self.normalised[side], self.log_normalisers[side], mean + log(self.pictures))
        if self.training:
            self.log_normalisers[side], self.normalised[side] = scale, True
        return scale

    def _remember(self, own: Int[Tensor, " n"], student: Float[Tensor, "n d"], teacher: Float[Tensor, "n d"]) -> None:
        """Move the memories of the batch's pictures towards their new embeddings."""
        for memory, new in ((self.memory_student, student), (self.memory_teacher, teacher)):
            moved = self.momentum * memory[own] + (1 - self.momentum) * new
            memory.index_copy_(0, own, normalize(moved, dim=1).to(memory.dtype))
