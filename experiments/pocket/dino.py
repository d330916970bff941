"""DINO self-supervision (Caron et al. 2021, arXiv 2104.14294): multi-crop, centring, momentum teacher."""

import copy
import math

import torch
from pictures import colour_jitter, normalise, resized_crops
from torch import Tensor, nn
from torch.nn.functional import linear, log_softmax, normalize

PROTOTYPES = 1024
STUDENT_TEMPERATURE = 0.1
TEACHER_TEMPERATURE = 0.04
CENTRE_MOMENTUM = 0.9
LOCAL_CROPS = 4


class Head(nn.Module):
    """Project features `(n, d)` to prototype scores: a three-layer MLP, L2 norm, unit-norm prototypes."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(width, 256), nn.GELU(), nn.Linear(256, 256), nn.GELU(), nn.Linear(256, 64))
        self.prototypes = nn.Parameter(torch.randn(PROTOTYPES, 64))

    def forward(self, features: Tensor) -> Tensor:
        """Score each feature against every prototype, cosines in -1..1."""
        return linear(normalize(self.mlp(features), dim=1), normalize(self.prototypes, dim=1))


class Dino(nn.Module):
    """Student, its momentum teacher and the running centre of the teacher's scores."""

    def __init__(self, backbone: nn.Module, width: int) -> None:
        super().__init__()
        self.student = nn.ModuleDict({"backbone": backbone, "head": Head(width)})
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.register_buffer("centre", torch.zeros(PROTOTYPES))
        self.centre: Tensor

    def forward(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """Compute the loss of one batch of uint8 pictures and move the centre."""
        global_views = [self._view(pixels, 32, (0.35, 1.0), generator) for _ in range(2)]
        local_views = [self._view(pixels, 16, (0.10, 0.40), generator) for _ in range(LOCAL_CROPS)]
        with torch.no_grad():
            scores = self._score(self.teacher, torch.cat(global_views)).float()
        targets = ((scores - self.centre) / TEACHER_TEMPERATURE).softmax(1).chunk(2)
        student = self._score(self.student, torch.cat(global_views)).chunk(2)
        student += self._score(self.student, torch.cat(local_views)).chunk(LOCAL_CROPS)
        logs = [log_softmax(s.float() / STUDENT_TEMPERATURE, dim=1) for s in student]
        terms = [-(t * logs[v]).sum(1).mean() for i, t in enumerate(targets) for v in range(len(logs)) if v != i]
        self.centre.lerp_(scores.mean(0), 1 - CENTRE_MOMENTUM)
        return torch.stack(terms).mean()

    @torch.no_grad()
    def move_teacher(self, progress: float) -> None:
        """Average the student into the teacher; the momentum rises from 0.99 to 1 with `progress` 0..1."""
        momentum = 1 - 0.01 * (math.cos(math.pi * progress) + 1) / 2
        for teacher, student in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
            teacher.lerp_(student, 1 - momentum)

    @staticmethod
    def _view(pixels: Tensor, size: int, scale: tuple[float, float], generator: torch.Generator) -> Tensor:
        views = colour_jitter(resized_crops(pixels, size, scale, generator), generator)
        return normalise(views * 255)

    @staticmethod
    def _score(network: nn.Module, views: Tensor) -> Tensor:
        return network["head"](network["backbone"](views))  # type: ignore[index]


def knn_accuracy(
    bank: Tensor, bank_labels: Tensor, query: Tensor, query_labels: Tensor, k: int = 20, centre: bool = True
) -> float:
    """Classify by the `k` nearest bank rows in cosine, votes weighted exp(cos / 0.07); `centre` takes the mean out."""
    mean = bank.mean(0) if centre else 0
    bank, query = normalize(bank - mean, dim=1), normalize(query - mean, dim=1)
    classes, correct = int(bank_labels.max()) + 1, 0
    for rows, truth in zip(query.split(1000), query_labels.split(1000), strict=True):
        weight, index = (rows @ bank.T).topk(k, dim=1)
        votes = torch.zeros(len(rows), classes)
        votes.scatter_add_(1, bank_labels[index], (weight / 0.07).exp())
        correct += int((votes.argmax(1) == truth).sum())
    return correct / len(query)
