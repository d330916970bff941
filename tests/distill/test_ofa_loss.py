"""The loss of OFA-KD against a plain float64 reference, at logits far apart, and in low precision."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from repalign.distill import ofa_loss
from repalign.distill.ofa_loss import branch_loss, teach
from repalign.errors import InputError

GAMMAS = (0.8, 1.0, 1.4, 2.0)
TEMPERATURES = (1.0, 4.0)
VARIANTS = ("paper", "code")


def softmax(z):
    e = np.exp(z - z.max())
    return e / e.sum()


def reference(student, teacher, targets, gamma, temperature, variant):
    """Picture by picture and class by class, in float64."""
    total = 0.0
    for s, t, y in zip(np.float64(student), np.float64(teacher), np.asarray(targets), strict=True):
        label = int(np.argmax(y)) if np.ndim(y) else int(y)
        p_s, p_t = softmax(s / temperature), softmax(t / temperature)
        for c in range(len(s)):
            if variant == "paper":
                weight = (1 + p_t[c]) ** gamma if c == label else p_t[c]
            else:
                weight = (p_t[c] + 1) ** gamma - 1 if c == label else p_t[c] ** gamma
            total -= weight * np.log(p_s[c])
    return total / len(student)


def draw(n=7, classes=10, scale=3.0, seed=0):
    rng = np.random.default_rng(seed)
    soft = rng.dirichlet(np.full(classes, 0.3), n)
    return scale * rng.normal(size=(n, classes)), scale * rng.normal(size=(n, classes)), soft


@pytest.mark.parametrize("kind", ["hard", "soft"])
@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_loss_is_that_of_the_reference(variant, gamma, temperature, kind):
    student, teacher, soft = draw()
    targets = soft if kind == "soft" else soft.argmax(1)
    wanted = reference(student, teacher, targets, gamma, temperature, variant)
    tensors = [torch.tensor(x) for x in (student, teacher, targets)]
    assert float(ofa_loss(*tensors, gamma, temperature, variant)) == pytest.approx(wanted, rel=1e-6)
    single = [x.float() if x.is_floating_point() else x.int() for x in tensors]
    assert float(ofa_loss(*single, gamma, temperature, variant)) == pytest.approx(wanted, rel=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 5), classes=st.integers(2, 12), scale=st.floats(0, 20), seed=st.integers(0, 999),
    gamma=st.floats(0.1, 3), temperature=st.floats(0.5, 8), variant=st.sampled_from(VARIANTS),
)  # fmt: skip
def test_any_batch_gives_the_reference(n, classes, scale, seed, gamma, temperature, variant):
    student, teacher, soft = draw(n, classes, scale, seed)
    wanted = reference(student, teacher, soft, gamma, temperature, variant)
    given_loss = ofa_loss(*(torch.tensor(x) for x in (student, teacher, soft)), gamma, temperature, variant)
    assert float(given_loss) == pytest.approx(wanted, rel=1e-5, abs=1e-5)


def test_gradient_is_that_of_the_reference():
    student, teacher, soft = draw(n=2, classes=4)
    leaf = torch.tensor(student, requires_grad=True)
    ofa_loss(leaf, torch.tensor(teacher), torch.tensor(soft), 1.4, 2.0).backward()
    for i, c in np.ndindex(student.shape):
        step = np.zeros_like(student)
        step[i, c] = 1e-5
        up, down = (reference(student + s, teacher, soft, 1.4, 2.0, "paper") for s in (step, -step))
        assert float(leaf.grad[i, c]) == pytest.approx((up - down) / 2e-5, abs=1e-7)


def test_code_at_gamma_one_is_soft_cross_entropy_whatever_the_label():
    student, teacher, _ = (torch.tensor(x) for x in draw())
    wanted = torch.nn.functional.cross_entropy(student, teacher.softmax(1))
    for label in range(10):
        loss = ofa_loss(student, teacher, torch.full((7,), label), 1.0, 1.0, "code")
        assert float(loss) == pytest.approx(float(wanted), rel=1e-6)


def test_code_at_gamma_above_one_lets_other_classes_fade():
    """γ = 1.4 and p_t(y) = 0.6, nine others sharing 0.4: their weight falls from .40 to .12, the best p_s(y) is .89."""
    teacher = torch.tensor([[0.6, *[0.4 / 9] * 9]], dtype=torch.float64).log()
    student = torch.zeros(1, 10, dtype=torch.float64, requires_grad=True)
    ofa_loss(student, teacher, torch.tensor([0]), 1.4, 1.0, "code").backward()
    # the gradient at equal logits is (sum of weights) / 10 − weight of the class
    total = 1.6**1.4 - 1 + 9 * (0.4 / 9) ** 1.4
    weights = total / 10 - student.grad[0]
    assert float(weights[1:].sum()) == pytest.approx(0.12, abs=0.005)
    assert float(weights[0] / weights.sum()) == pytest.approx(0.89, abs=0.005)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("gap", [110.0, 1e3])
@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_far_apart_give_finite_values_and_gradients(variant, gamma, gap, dtype):
    student = torch.tensor([[gap, 0.0, 0.0], [0.0, gap, 0.0], [0.0, 0.0, -gap]], dtype=dtype, requires_grad=True)
    teacher = torch.tensor([[0.0, gap, 0.0], [0.0, gap, 0.0], [-gap, 0.0, 0.0]], dtype=dtype)
    loss = ofa_loss(student, teacher, torch.tensor([2, 1, 2]), gamma, 1.0, variant)
    loss.backward()
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)
    assert torch.isfinite(student.grad).all()
    assert student.grad.abs().sum() > 0
    assert float(loss.detach()) > gap / 3  # the first picture's loss is about its gap


def test_autocast_changes_nothing():
    student, teacher, soft = (torch.tensor(x, dtype=torch.float32) for x in draw())
    plain = ofa_loss(student, teacher, soft, 1.4)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ofa_loss(student, teacher, soft, 1.4), plain)
        low = (student @ torch.eye(10)).requires_grad_()
        assert low.dtype == torch.bfloat16
        loss = ofa_loss(low, teacher, soft, 1.4)
    assert loss.dtype == torch.float32
    wanted = reference(low.detach().float(), teacher, soft, 1.4, 1.0, "paper")
    assert float(loss.detach()) == pytest.approx(wanted, rel=1e-5)


def test_halves_are_computed_in_float32():
    student, teacher, soft = (torch.tensor(x, dtype=torch.float16) for x in draw(scale=8))
    wanted = reference(*(x.double().numpy() for x in (student, teacher, soft)), 2.0, 4.0, "code")
    assert float(ofa_loss(student, teacher, soft, 2.0, 4.0, "code")) == pytest.approx(wanted, rel=1e-5)


def test_no_gradient_reaches_the_teacher():
    student, teacher, soft = (torch.tensor(x, requires_grad=True) for x in draw())
    ofa_loss(student, teacher, soft, 1.4).backward()
    assert teacher.grad is None
    assert soft.grad is None
    assert student.grad is not None


def test_a_lesson_serves_every_branch():
    student, teacher, soft = (torch.tensor(x) for x in draw())
    lesson = teach(teacher, soft, 2.0)
    for gamma in GAMMAS:
        assert torch.equal(branch_loss(student, lesson, gamma, "paper"), ofa_loss(student, teacher, soft, gamma, 2.0))


Y = torch.tensor([0, 1])


@pytest.mark.parametrize(
    ("shapes", "targets", "options", "message"),
    [
        (((2, 3), (2, 4)), Y, {}, r"student logits \(2, 3\) and teacher logits \(2, 4\) must have one shape"),
        (((2, 3, 1), (2, 3, 1)), Y, {}, r"must have one shape \(n, classes\)"),
        (((2, 3), (2, 3)), torch.tensor([0]), {}, r"targets \(1,\) don't fit logits \(2, 3\); give \(n,\)"),
        (((2, 3), (2, 3)), torch.ones(2, 4), {}, r"targets \(2, 4\) don't fit"),
        (((2, 3), (2, 3)), torch.tensor([0, 3]), {}, "targets run from 0 to 3; there are 3 classes"),
        (((2, 3), (2, 3)), torch.tensor([-1, 0]), {}, "targets run from -1 to 0"),
        (((2, 3), (2, 3)), torch.tensor([0.0, 1.0]), {}, "labels, whole numbers from 0, not torch.float32"),
        (((2, 3), (2, 3)), Y, {"gamma": -1.0}, "gamma must be positive and finite, not -1.0"),
        (((2, 3), (2, 3)), Y, {"gamma": float("nan")}, "gamma must be positive and finite, not nan"),
        (((2, 3), (2, 3)), Y, {"temperature": 0.0}, "temperature must be positive and finite, not 0.0"),
        (((2, 3), (2, 3)), Y, {"variant": "papper"}, "unknown variant 'papper'; did you mean paper?"),
    ],
)
def test_what_does_not_fit_is_refused(shapes, targets, options, message):
    with pytest.raises(InputError, match=message):
        ofa_loss(*map(torch.zeros, shapes), targets, **options)
