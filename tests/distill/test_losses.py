"""The losses of the other methods against plain float64 references, at logits far apart, and in low precision."""

import numpy as np
import pytest
import torch

from repalign.distill import crd_loss, dist_loss, dkd_loss, fitnet_loss, kd_loss, rkd_loss
from repalign.distill.crd import draw_others
from repalign.distill.dkd import decouple
from repalign.distill.fitnet import as_map
from repalign.distill.rkd import rkd_angle, rkd_distance
from repalign.errors import InputError
from repalign.types import Layer

RNG = np.random.default_rng(0)
STUDENT, TEACHER = 3 * RNG.normal(size=(6, 7)), 3 * RNG.normal(size=(6, 7))
SOFT = RNG.dirichlet(np.full(7, 0.3), 6)
HARD = SOFT.argmax(1)
OWN, OTHER = RNG.normal(size=(6, 4)) + 2, RNG.normal(size=(6, 9)) - 1  # representations of unequal widths
COSINES = RNG.uniform(-1, 1, size=(6, 21))


def tensors(*arrays, dtype=torch.float64):
    return [torch.tensor(a, dtype=dtype if a.dtype.kind == "f" else None) for a in arrays]


def softmax(z):
    e = np.exp(z - z.max())
    return e / e.sum()


def divergence(p, q):
    return sum(a * (np.log(a) - np.log(b)) for a, b in zip(p, q, strict=True))


def kd_reference(student, teacher, temperature):
    rows = zip(student, teacher, strict=True)
    return np.mean([temperature**2 * divergence(softmax(t / temperature), softmax(s / temperature)) for s, t in rows])


def dkd_reference(student, teacher, labels, alpha, beta, temperature):
    total = 0.0
    for s, t, y in zip(student, teacher, labels, strict=True):
        p, q = softmax(t / temperature), softmax(s / temperature)
        target = divergence([p[y], 1 - p[y]], [q[y], 1 - q[y]])
        others = divergence(np.delete(p, y) / (1 - p[y]), np.delete(q, y) / (1 - q[y]))
        total += temperature**2 * (alpha * target + beta * others)
    return total / len(student)


def dist_reference(student, teacher, beta, gamma, temperature):
    p = np.array([softmax(t / temperature) for t in teacher])
    q = np.array([softmax(s / temperature) for s in student])
    inter = np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(p, q, strict=True)])
    intra = np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(p.T, q.T, strict=True)])
    return beta * inter + gamma * intra


def huber(a, b):
    gap = abs(a - b)
    return gap**2 / 2 if gap <= 1 else gap - 0.5


def rkd_reference(student, teacher):
    """Distance and angle part, over pairs and triples of different pictures."""
    n = len(student)
    pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
    lengths = [{(i, j): np.linalg.norm(x[i] - x[j]) for i, j in pairs} for x in (student, teacher)]
    means = [np.mean(list(found.values())) for found in lengths]
    distance = np.mean([huber(*(found[p] / mean for found, mean in zip(lengths, means, strict=True))) for p in pairs])

    def cosine(x, i, j, k):
        a, b = x[i] - x[j], x[k] - x[j]
        return a @ b / np.linalg.norm(a) / np.linalg.norm(b)

    triples = [(i, j, k) for i, j in pairs for k in range(n) if k not in (i, j)]
    angle = np.mean([huber(cosine(student, *t), cosine(teacher, *t)) for t in triples])
    return distance, angle


def crd_reference(cosines, pictures, normaliser, temperature):
    """In the form of the authors' code: probabilities of the data against those of uniform noise."""
    total = 0.0
    for row in cosines:
        p = np.exp(row / temperature) / normaliser
        noise = (len(row) - 1) / pictures
        total -= np.log(p[0] / (p[0] + noise)) + sum(np.log(noise / (x + noise)) for x in p[1:])
    return total / len(cosines)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_kd(temperature):
    wanted = kd_reference(STUDENT, TEACHER, temperature)
    assert float(kd_loss(*tensors(STUDENT, TEACHER), temperature)) == pytest.approx(wanted, rel=1e-9)
    assert float(kd_loss(*tensors(TEACHER, TEACHER + 5), temperature)) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("targets", [HARD, SOFT])
@pytest.mark.parametrize(("alpha", "beta", "temperature"), [(1.0, 8.0, 4.0), (0.5, 2.0, 1.0), (0.0, 1.0, 4.0)])
def test_dkd(alpha, beta, temperature, targets):
    wanted = dkd_reference(STUDENT, TEACHER, HARD, alpha, beta, temperature)
    given = dkd_loss(*tensors(STUDENT, TEACHER, targets), alpha, beta, temperature)
    assert float(given) == pytest.approx(wanted, rel=1e-9)


def test_dkd_parts_make_up_the_whole_divergence():
    """KL = TCKD + (1 − p_t,y) NCKD, picture by picture (Zhao et al. 2022): what the decoupling is about."""
    for s, t, y in zip(*tensors(STUDENT, TEACHER, HARD), strict=True):
        parts = decouple(s[None], t[None], y[None], 1.0)
        whole = parts.target + (1 - t.softmax(0)[y]) * parts.others
        assert float(whole) == pytest.approx(float(kd_loss(s[None], t[None], 1.0)), rel=1e-9)


def test_dkd_of_two_classes_has_no_others():
    student, teacher, y = tensors(STUDENT[:, :2], TEACHER[:, :2], HARD % 2)
    parts = decouple(student, teacher, y, 1.0)
    assert float(parts.others) == 0
    assert float(parts.target) == pytest.approx(float(kd_loss(student, teacher, 1.0)), rel=1e-9)


@pytest.mark.parametrize(("beta", "gamma", "temperature"), [(2.0, 2.0, 1.0), (1.0, 0.5, 4.0), (0.0, 1.0, 1.0)])
def test_dist(beta, gamma, temperature):
    wanted = dist_reference(STUDENT, TEACHER, beta, gamma, temperature)
    assert float(dist_loss(*tensors(STUDENT, TEACHER), beta, gamma, temperature)) == pytest.approx(wanted, rel=1e-5)
    assert float(dist_loss(*tensors(TEACHER, TEACHER))) == pytest.approx(0, abs=1e-5)


def test_dist_of_what_does_not_vary_is_one_and_finite():
    flat = torch.zeros(1, 7, requires_grad=True)
    loss = dist_loss(flat, *tensors(TEACHER[:1], dtype=torch.float32))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(4)
    assert torch.isfinite(flat.grad).all()


def test_fitnet():
    mine, theirs = RNG.normal(size=(2, 3, 4, 5)), RNG.normal(size=(2, 3, 4, 5))
    wanted = sum((a - b) ** 2 for a, b in zip(mine.ravel(), theirs.ravel(), strict=True)) / mine.size
    assert float(fitnet_loss(*tensors(mine, theirs))) == pytest.approx(wanted, rel=1e-9)


def test_features_of_every_layout_become_maps():
    x = torch.randn(2, 3, 4, 6)  # n, c, h, w

    def layer(shape, layout, prefix=0, grid=(4, 6)):
        return Layer("x", "X", shape, layout, prefix, grid, 0, 0.5, "block")

    tokens = x.flatten(2).transpose(1, 2)
    with_prefix = torch.cat([torch.full((2, 2, 3), 9.0), tokens], dim=1)
    assert torch.equal(as_map(x, layer((3, 4, 6), "nchw")), x)
    assert torch.equal(as_map(x.permute(0, 2, 3, 1), layer((4, 6, 3), "nhwc")), x)
    assert torch.equal(as_map(with_prefix, layer((26, 3), "tokens", 2)), x)
    assert torch.equal(as_map(x[:, :, 0, 0], layer((3,), "vector", 0, None)), x[:, :, :1, :1])
    pooled = as_map(tokens, layer((24, 3), "tokens", 0, None))
    assert torch.allclose(pooled, x.mean((2, 3), keepdim=True), atol=1e-6)


def test_rkd():
    distance, angle = rkd_reference(OWN, OTHER)
    own, other = tensors(OWN, OTHER)
    assert float(rkd_distance(own, other)) == pytest.approx(distance, rel=1e-9)
    assert float(rkd_angle(own, other)) == pytest.approx(angle, rel=1e-9)
    assert float(rkd_loss(own, other)) == pytest.approx(25 * distance + 50 * angle, rel=1e-9)
    assert float(rkd_loss(own, other, 1.0, 0.5)) == pytest.approx(distance + angle / 2, rel=1e-9)


def test_rkd_sees_neither_shift_nor_scale_nor_rotation():
    own, other = tensors(OWN, OTHER)
    rotation = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))[0]
    moved = 3 * own @ rotation + 100
    assert float(rkd_loss(moved, own)) == pytest.approx(0, abs=1e-9)
    assert float(rkd_loss(moved, other)) == pytest.approx(float(rkd_loss(own, other)), rel=1e-9)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_rkd_of_small_or_equal_pictures_is_finite(n):
    other = tensors(OTHER[:n], dtype=torch.float32)[0]
    for own in (torch.randn(n, 4), torch.ones(n, 4), torch.ones(n, 4) * torch.tensor([[1.0], [1.0], [2.0]])[:n]):
        leaf = own.requires_grad_()
        loss = rkd_loss(leaf, other)
        loss.backward()
        assert torch.isfinite(loss)
        assert leaf.grad.abs().max() < 1e3  # not merely finite: two equal pictures must not throw a network off


@pytest.mark.parametrize(("pictures", "normaliser"), [(50, 1.0), (50_000, 123.0)])
def test_crd(pictures, normaliser):
    wanted = crd_reference(COSINES, pictures, normaliser, 0.07)
    cosines = tensors(COSINES)[0]
    given = crd_loss(cosines[:, 0], cosines[:, 1:], pictures, float(np.log(normaliser)))
    assert float(given) == pytest.approx(wanted, rel=1e-9)


def test_crd_draws_any_other_picture_and_never_the_own():
    torch.manual_seed(0)
    own = torch.tensor([0, 3, 9])
    drawn = draw_others(own, 10, 8)
    assert drawn.shape == (3, 8)
    many = torch.cat([draw_others(own, 10, 8) for _ in range(200)], dim=1)
    for place, row in zip(own.tolist(), many.tolist(), strict=True):
        counts = np.bincount(row, minlength=10)
        assert counts[place] == 0
        assert np.delete(counts, place).min() > 120  # 1,600 draws of 9 others: 178 ± 13 each
    assert draw_others(own, 10, 9).sort(1).values.tolist() == [[i for i in range(10) if i != p] for p in own.tolist()]


GAP = 1e3
FAR = np.array([[GAP, 0.0, 0.0], [0.0, GAP, 0.0], [0.0, 0.0, -GAP]])
FAR_TEACHER = np.array([[0.0, GAP, 0.0], [0.0, GAP, 0.0], [-GAP, 0.0, 0.0]])
Y = torch.tensor([2, 1, 2])
ON_LOGITS = {
    "kd": lambda s, t: kd_loss(s, t, 1.0),
    "kd, T = 4": kd_loss,
    "dkd": lambda s, t: dkd_loss(s, t, Y),
    "dkd, T = 1": lambda s, t: dkd_loss(s, t, Y, temperature=1.0),
    "dist": dist_loss,
    "rkd": rkd_loss,
    "fitnet": lambda s, t: fitnet_loss(s[..., None, None], t[..., None, None]),
    "crd": lambda s, t: crd_loss(s[:, 0] / GAP, t[:, :2] / GAP * s[:, :2] / GAP, 9, 5.0, 1e-3),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ON_LOGITS)
def test_values_far_apart_give_finite_losses_and_gradients(name, dtype):
    student, teacher = tensors(FAR, FAR_TEACHER, dtype=dtype)
    student.requires_grad_()
    loss = ON_LOGITS[name](student, teacher)
    loss.backward()
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)
    assert torch.isfinite(student.grad).all()


@pytest.mark.parametrize("name", [n for n in ON_LOGITS if n.startswith(("kd", "dkd"))])
def test_a_confident_mistake_costs_as_much_as_its_gap(name):
    student, teacher = tensors(FAR, FAR_TEACHER, dtype=torch.float32)
    exact = tensors(FAR, FAR_TEACHER)
    assert float(ON_LOGITS[name](student, teacher)) > GAP / 3
    assert float(ON_LOGITS[name](student, teacher)) == pytest.approx(float(ON_LOGITS[name](*exact)), rel=1e-5)


@pytest.mark.parametrize("name", ON_LOGITS)
def test_autocast_changes_nothing_and_no_gradient_reaches_the_teacher(name):
    student, teacher = tensors(FAR / 300, FAR_TEACHER / 300, dtype=torch.float32)
    student.requires_grad_()
    teacher.requires_grad_()
    plain = ON_LOGITS[name](student, teacher)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ON_LOGITS[name](student, teacher), plain)
    if name != "crd":  # its two sides are embeddings, and both learn
        plain.backward()
        assert teacher.grad is None
        assert student.grad is not None


ZERO = torch.zeros


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kd_loss(ZERO(2, 3), ZERO(2, 4)), r"student logits \(2, 3\) and teacher logits \(2, 4\) must have one"),
        (lambda: kd_loss(ZERO(2, 3), ZERO(2, 3), 0.0), "temperature must be positive and finite, not 0.0"),
        (lambda: dkd_loss(ZERO(2, 3), ZERO(3, 3), Y), "must have one shape"),
        (lambda: dkd_loss(ZERO(2, 3), ZERO(2, 3), Y), r"targets \(3,\) don't fit logits \(2, 3\)"),
        (lambda: dkd_loss(ZERO(3, 2), ZERO(3, 2), Y), "targets run from 1 to 2; there are 2 classes"),
        (lambda: dkd_loss(ZERO(3, 1), ZERO(3, 1), Y), "sets the target apart from other classes, but there is only 1"),
        (lambda: dist_loss(ZERO(2, 3), ZERO(2, 4)), "must have one shape"),
        (lambda: dist_loss(ZERO(2, 3), ZERO(2, 3), temperature=-1.0), "temperature must be positive"),
        (lambda: fitnet_loss(ZERO(2, 3, 4, 4), ZERO(2, 3, 2, 2)), r"features .* must have one shape \(n, c, h, w\)"),
        (lambda: rkd_loss(ZERO(2, 3), ZERO(3, 3)), r"representations \(2, 3\) .* must be rows \(n, width\)"),
        (lambda: rkd_angle(ZERO(2, 3, 1), ZERO(2, 3)), "must be rows"),
        (lambda: crd_loss(ZERO(2), ZERO(3, 4), 9), r"cosines \(2,\) with the own picture and \(3, 4\) with others"),
        (lambda: crd_loss(ZERO(2), ZERO(2, 0), 9), "k at least 1"),
        (lambda: crd_loss(ZERO(2), ZERO(2, 4), 9, temperature=0.0), "temperature must be positive"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()
