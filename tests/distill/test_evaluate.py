import numpy as np
import pytest
import torch
from torch import nn

from repalign.distill.evaluate import disagreement, evaluate, evaluate_all, scores
from repalign.errors import InputError
from repalign.types import Stimuli


def reference(logits, labels, bins=15):
    """Accuracy, NLL and ECE, plainly."""
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    right = p.argmax(1) == labels
    confidence = p.max(1)
    ece = 0.0
    for b in range(bins):
        inside = (confidence > b / bins) & (confidence <= (b + 1) / bins)
        if inside.any():
            ece += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return right.mean(), -np.log(p[np.arange(len(p)), labels]).mean(), ece


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("n", "classes", "scale"), [(1, 2, 1.0), (37, 3, 0.3), (400, 10, 4.0)])
def test_scores_are_the_definitions(seed, n, classes, scale):
    rng = np.random.default_rng(seed)
    logits, labels = scale * rng.normal(size=(n, classes)), rng.integers(0, classes, n)
    found = scores(torch.tensor(logits), torch.tensor(labels))
    accuracy, nll, ece = reference(logits, labels)
    assert found.accuracy == accuracy
    assert found.n == n
    assert found.nll == pytest.approx(nll, rel=1e-12)
    assert found.ece == pytest.approx(ece, rel=1e-10, abs=1e-14)
    assert found.accuracy_se == pytest.approx(np.sqrt(accuracy * (1 - accuracy) / n))


def test_calibration_of_known_predictors():
    logits = torch.tensor([[np.log(4.0), 0.0]] * 10)  # sure to 0.8
    assert scores(logits, torch.tensor([0] * 8 + [1] * 2)).ece == pytest.approx(0, abs=1e-12)
    assert scores(logits, torch.tensor([0] * 5 + [1] * 5)).ece == pytest.approx(0.3)
    assert scores(torch.tensor([[100.0, 0.0]]), torch.tensor([1])).ece == 1


def test_large_logits_stay_finite():
    found = scores(torch.tensor([[1e4, -1e4], [0.0, 1e4]]), torch.tensor([1, 1]))
    assert found.nll == pytest.approx(1e4)


def test_disagreement_counts_classes():
    a, b = torch.eye(4), torch.eye(4)[[0, 1, 3, 2]]
    assert disagreement(a, a) == 0
    assert disagreement(a, b) == 0.5
    with pytest.raises(InputError, match="logits of 4 and 3 stimuli can't be compared"):
        disagreement(a, b[:3])


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([0], "1 labels for 2 rows of logits"),
        ([0, 3], "labels run from 0 to 3 but there are 3 classes"),
        ([-1, 0], "labels run from -1 to 0"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels, said):
    with pytest.raises(InputError, match=said):
        scores(torch.zeros(2, 3), torch.tensor(labels))
    with pytest.raises(InputError, match="at least one"):
        scores(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long))


class Mean(nn.Module):
    """Logits are the mean colour; drop-out would show if it weren't in eval mode."""

    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.9)

    def forward(self, x):
        return self.drop(x.mean((2, 3)))


@pytest.fixture
def colours():
    """Seven pictures of one colour each, which count how often they are decoded."""
    from PIL import Image

    decoded = []

    def load(i):
        decoded.append(i)
        return Image.new("RGB", (4, 4), tuple(200 if c == i % 3 else 10 for c in range(3)))

    return Stimuli("colours", tuple(map(str, range(7))), load, labels=tuple("rgb"[i % 3] for i in range(7))), decoded


def test_each_picture_is_decoded_once_for_all(colours):
    from torchvision.transforms.functional import pil_to_tensor

    stimuli, decoded = colours
    labels = torch.tensor([i % 3 for i in range(7)])
    module = Mean().train()
    plain, inverted = evaluate_all(
        [(module, lambda p: pil_to_tensor(p).float()), (module, lambda p: -pil_to_tensor(p).float())],
        stimuli, labels, batch_size=3,
    )  # fmt: skip
    assert sorted(decoded) == list(range(7))
    assert module.training
    assert plain.scores.accuracy == 1
    assert inverted.scores.accuracy == 0
    assert torch.equal(plain.logits, -inverted.logits)
    assert plain.logits.shape == (7, 3)


def test_without_labels_there_are_logits_alone(colours):
    from torchvision.transforms.functional import pil_to_tensor

    found = evaluate(Mean(), lambda p: pil_to_tensor(p).float(), colours[0])
    assert found.scores is None
    assert found.logits.shape == (7, 3)


def test_features_are_no_logits(colours):
    from torchvision.transforms.functional import pil_to_tensor

    with pytest.raises(InputError, match="Identity gives no logits"):
        evaluate(nn.Identity(), lambda p: pil_to_tensor(p).float(), colours[0])
