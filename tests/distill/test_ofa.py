"""OFADistiller in anyone's loop: what it trains, what it leaves alone, and what it refuses."""

import copy

import pytest
import timm
import torch
from small_nets import CLASSES, cnn, examine_once, hooks_of, labels, mixed, pictures, step, swin, vit
from timm.optim import create_optimizer_v2
from torch import nn

import repalign as ra
from repalign.distill import OFADistiller, ofa_loss
from repalign.distill.networks import run
from repalign.errors import InputError

X, Y = pictures(), labels()


@pytest.fixture(autouse=True)
def examined_once(monkeypatch):
    examine_once(monkeypatch)


def make(student=None, teacher=None, stages="all", num_classes=CLASSES, example=X[:2], **options):
    teacher = vit(1) if teacher is None else teacher
    return OFADistiller(student or cnn(), teacher, stages, num_classes, example=example, **options)


def total(distiller, *batch):
    return sum(distiller(*batch)[0].values()).detach()


def test_the_package_is_reached_from_the_top():
    assert ra.distill.OFADistiller is OFADistiller
    assert ra.distill.ofa_loss is ofa_loss


@pytest.mark.parametrize("build", [cnn, vit, swin])
def test_the_student_learns_and_the_heads_with_it(build):
    torch.manual_seed(0)
    distiller = make(build(), swin(1) if build is vit else vit(1))
    before = copy.deepcopy(distiller.state_dict())
    optimiser = torch.optim.AdamW(distiller.trainable_parameters(), lr=3e-3)
    losses = [step(distiller, optimiser, X, Y) for _ in range(8)]
    assert losses[-1] < 0.9 * losses[0]
    moved = {k.split(".")[0] for k, v in distiller.state_dict().items() if not torch.equal(v, before[k])}
    assert moved == {"student", "heads"}
    for name, head in distiller.heads.items():
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in head.parameters()), name


def test_the_student_is_clean_afterwards():
    student = vit()
    kind, keys = type(student), list(student.state_dict())
    distiller = make(student, swin(1))
    distiller(X, Y)
    assert distiller.student is student
    assert type(student) is kind
    assert list(student.state_dict()) == keys
    assert hooks_of(student) == hooks_of(distiller.teacher) == 0
    assert student(X).shape == (6, CLASSES)


def test_the_student_is_clean_after_a_failed_pass():
    distiller = make()
    with pytest.raises(RuntimeError):
        distiller(torch.randn(2, 1, 32, 32), Y[:2])
    assert hooks_of(distiller.student) == 0


def test_the_teacher_does_not_change():
    teacher = cnn(1)  # has batch norm, whose statistics move in training mode
    before = copy.deepcopy(teacher.state_dict())
    distiller = make(vit(), teacher)
    optimiser = create_optimizer_v2(distiller, opt="adamw", lr=1e-2, weight_decay=0.1)
    for mode in (True, False, True):
        distiller.train(mode)
        assert distiller.student.training is mode
        assert not any(m.training for m in teacher.modules())
        step(distiller, optimiser, X, Y)
    assert all(torch.equal(v, before[k]) for k, v in teacher.state_dict().items())
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
    assert not {id(p) for p in teacher.parameters()} & {id(p) for p in distiller.trainable_parameters()}
    name = distiller.teacher_stages()[1].layer.name
    logits, outputs, penultimate = distiller.run_teacher(X.clone().requires_grad_(), [name], "head")
    assert not any(seen.requires_grad for seen in (logits, outputs[name], penultimate))


@pytest.mark.parametrize("targets", [Y, Y.int(), mixed()])
@pytest.mark.parametrize("variant", ["paper", "code"])
def test_the_parts_are_the_losses_of_logits_and_branches(variant, targets):
    weights = {"ground_truth": 0.5, "logits": 2.0, "branches": 0.3}
    distiller = make(gamma=[0.8, 1.4, 2.0], stages=[1, 3], variant=variant, temperature=2.0, **weights).eval()
    losses, logits = distiller(X, targets)
    assert list(losses) == ["ground_truth", "logits", "stage1", "stage3"]
    names = [s.layer.name for s in distiller.chosen]
    own, features, _ = run(distiller.student, X, names)
    teacher = distiller.teacher(X)
    assert torch.equal(own, logits)
    hard = nn.functional.cross_entropy(logits, targets if targets.ndim == 2 else targets.long())
    assert torch.allclose(losses["ground_truth"], 0.5 * hard)
    assert torch.allclose(losses["logits"], 2 * ofa_loss(logits, teacher, targets, 2.0, 2.0, variant))
    for name, stage, gamma in zip(names, ("stage1", "stage3"), (0.8, 1.4), strict=True):
        branch = distiller.heads[stage](features[name])
        assert torch.allclose(losses[stage], 0.3 * ofa_loss(branch, teacher, targets, gamma, 2.0, variant))


@pytest.mark.parametrize(
    ("stages", "numbers"),
    [("none", []), ([], []), ("last", [4]), ("all", [1, 2, 3, 4]), ([1, 3], [1, 3]), ("1,3", [1, 3]), ([3, 1], [1, 3])],
)
def test_stages_are_chosen_by_name_or_number(stages, numbers):
    distiller = make(stages=stages)
    assert [s.number for s in distiller.chosen] == numbers
    assert list(distiller.heads) == [f"stage{n}" for n in numbers]
    assert list(distiller(X, Y)[0]) == ["ground_truth", "logits", *distiller.heads]


def test_a_weight_of_zero_drops_its_part():
    assert list(make(ground_truth=0.0)(X, Y)[0]) == ["logits", "stage1", "stage2", "stage3", "stage4"]
    assert list(make(logits=0.0, stages="last")(X, Y)[0]) == ["ground_truth", "stage4"]
    distiller = make(branches=0.0)
    assert list(distiller(X, Y)[0]) == ["ground_truth", "logits"]
    # parameters that never get a gradient would stop DistributedDataParallel
    assert {id(p) for p in distiller.trainable_parameters()} == {id(p) for p in distiller.student.parameters()}


class TwoAtOnce(nn.Module):
    """Gives other logits than the data have classes."""

    def __init__(self, classes):
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 3, 2), nn.Conv2d(4, 4, 3, 2)
        self.head = nn.Linear(4, classes)

    def forward(self, x):
        return self.head(self.two(self.one(x)).mean((2, 3)))


def test_class_counts_must_agree():
    with pytest.raises(InputError, match="the student gives 5 classes, the teacher 7, and the data have 5; all three"):
        make(teacher=TwoAtOnce(7))
    with pytest.raises(InputError, match="the student gives 5 classes, the teacher 5, and the data have 10"):
        make(num_classes=10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stages": [7]}, r"there is no stage 7; there are 1 \(blocks.0\), 2"),
        ({"stages": "1,9"}, r"stages '1,9': there is no stage 9"),
        ({"stages": "some"}, "stages 'some': give all, last, none, or numbers as in 1,3"),
        ({"stages": [1, 1]}, "a stage is named twice"),
        ({"gamma": [1.0, 1.0]}, "gamma has 2 values; 4 branches and the logits need 5, or 1"),
        ({"gamma": -0.5}, "gamma must be positive and finite, not -0.5"),
        ({"gamma": [1.0, 1.0, -2.0, 1.0, 1.0]}, "gamma must be positive and finite, not -2.0"),
        ({"temperature": 0.0}, "temperature must be positive"),
        ({"variant": "other"}, "unknown variant 'other'; known: code, paper"),
        ({"logits": -1.0}, "the weight logits must be finite and 0 or more, not -1.0"),
        ({"branches": float("nan")}, "the weight branches must be finite"),
        ({"ground_truth": 0.0, "logits": 0.0, "branches": 0.0}, "are all 0, so there is nothing to learn; raise one"),
        ({"ground_truth": 0.0, "logits": 0.0, "stages": "none"}, "are all 0"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        make(**options)


def test_networks_that_can_not_be_used_are_refused():
    student = cnn()
    with pytest.raises(InputError, match="share parameters, and the teacher's are frozen; give a deepcopy"):
        make(student, student)
    assert all(p.requires_grad for p in student.parameters())
    with pytest.raises(InputError, match=r"the student can't run pictures of shape \(1, 32, 32\) .*; give example="):
        make(example=torch.randn(2, 1, 32, 32))
    large = timm.create_model("vit_tiny_patch16_224", num_classes=CLASSES, depth=1, embed_dim=16, num_heads=1)
    with pytest.raises(InputError, match=r"the teacher can't run .* \(3, 32, 32\) .*; give teacher_input="):
        make(teacher=large)
    with pytest.raises(InputError, match="ConvNet names no input size; give example="):
        make(example=None)


def test_bad_targets_are_refused():
    with pytest.raises(InputError, match="targets run from 0 to 9; there are 5 classes"):
        make(ground_truth=0.0)(X, torch.tensor([0, 1, 2, 3, 4, 9]))


def test_a_timm_network_names_the_size_of_its_pictures():
    student = timm.create_model("vit_tiny_patch16_224", num_classes=CLASSES, depth=1, embed_dim=16, num_heads=1)
    distiller = OFADistiller(student.double(), TwoAtOnce(CLASSES).double(), "none", CLASSES)
    assert distiller(torch.randn(2, 3, 224, 224).double(), Y[:2])[1].dtype == torch.float64


class Half(nn.Module):
    """Makes smaller pictures; its parameter must not learn."""

    def __init__(self):
        super().__init__()
        self.scale, self.drop = nn.Parameter(torch.ones(1)), nn.Dropout(0.5)

    def forward(self, x):
        return self.drop(nn.functional.avg_pool2d(x, 2) * self.scale)


def test_the_teacher_may_see_other_pictures():
    student, teacher = cnn(), vit(1)
    wide = pictures(side=64)
    distiller = make(student, teacher, example=wide[:2], teacher_input=Half())
    assert torch.equal(distiller.teacher_logits(wide), teacher(nn.functional.avg_pool2d(wide, 2)))
    assert not any(k.startswith("teacher") for k in distiller.learned())
    assert not any(p is distiller.teacher_input.scale for p in distiller.trainable_parameters())
    distiller = make(student, teacher, example=wide[:2], teacher_input=lambda x: x[..., ::2, ::2])
    assert torch.equal(distiller.teacher_logits(wide), teacher(wide[..., ::2, ::2]))


def test_any_criterion_gets_float32():
    seen = []

    def criterion(logits, y):
        seen.append(logits.dtype)
        return nn.functional.cross_entropy(logits, y, label_smoothing=0.1)

    distiller = make(criterion=criterion)
    with torch.autocast("cpu", torch.bfloat16):
        losses, logits = distiller(X, Y)
    assert logits.dtype == torch.bfloat16
    assert seen == [torch.float32]
    assert all(v.dtype == torch.float32 and torch.isfinite(v) for v in losses.values())
    sum(losses.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in distiller.trainable_parameters())


def test_parameters_exempt_from_weight_decay_stay_so():
    student = vit()
    distiller = make(student, swin(1))
    assert distiller.no_weight_decay() == {f"student.{name}" for name in student.no_weight_decay()}
    optimiser = create_optimizer_v2(distiller, opt="adamw", lr=1e-3, weight_decay=0.05)
    decays = {id(p): g["weight_decay"] for g in optimiser.param_groups for p in g["params"]}
    assert decays[id(student.pos_embed)] == decays[id(student.cls_token)] == 0
    assert decays[id(student.head.weight)] == decays[id(distiller.heads["stage1"].classify.weight)] == 0.05
    assert set(decays) == {id(p) for p in distiller.trainable_parameters()}
    assert make().no_weight_decay() == set()


def test_what_was_learned_can_be_put_back():
    distiller = make(cnn(0), vit(1), stages=[1, 3])
    optimiser = torch.optim.SGD(distiller.trainable_parameters(), lr=0.05)
    step(distiller, optimiser, X, Y)
    state = copy.deepcopy(distiller.learned())
    assert {k.split(".")[0] for k in state} == {"student", "heads"}
    other = make(cnn(5), vit(1), stages=[1, 3])
    other.load_learned(state)
    assert torch.equal(total(other.eval(), X, Y), total(distiller.eval(), X, Y))
    with pytest.raises(InputError, match=r"does not fit this distiller: heads.stage1.*; build it as when it was saved"):
        make(stages="last").load_learned(state)
    narrow = dict(state, **{"student.head.weight": state["student.head.weight"][:, :3]})
    with pytest.raises(InputError, match=r"does not fit this distiller: student\.head\.weight;"):
        other.load_learned(narrow)


def test_a_copy_lives_on_its_own():
    distiller = make()
    twin = copy.deepcopy(distiller)
    wanted = total(distiller.eval(), X, Y)
    assert torch.equal(total(twin.eval(), X, Y), wanted)
    twin.train()
    step(twin, torch.optim.SGD(twin.trainable_parameters(), lr=0.1), X, Y)
    assert torch.equal(total(distiller, X, Y), wanted)


def test_parts_are_made_in_the_students_dtype_or_moved_later():
    double = make(cnn().double(), vit(1).double())
    moved = make().double()
    for distiller in (double, moved):
        losses, logits = distiller(X.double(), Y)
        assert logits.dtype == torch.float64
        assert {v.dtype for v in losses.values()} == {torch.float64}
    assert {p.dtype for p in double.heads.parameters()} == {torch.float64}


def test_evaluation_gives_losses_without_moving_anything():
    distiller = make().eval()
    before = copy.deepcopy(distiller.state_dict())
    with torch.no_grad():
        first, again = total(distiller, X, mixed()), total(distiller, X, mixed())
    assert torch.equal(first, again)
    assert all(torch.equal(v, before[k]) for k, v in distiller.state_dict().items())
