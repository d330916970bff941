"""What every distiller of the registry promises, and what only some do."""

import copy
import inspect

import pytest
import torch
from small_nets import CLASSES, NETS, cnn, examine_once, hooks_of, labels, mixed, pictures, step, swin, vit
from torch import nn

from repalign.distill import DISTILLERS, CRDDistiller, FitNetDistiller, crd_loss, fitnet_loss
from repalign.distill.base import NoTeacher
from repalign.distill.networks import run
from repalign.distill.rkd import rkd_angle, rkd_distance
from repalign.errors import InputError

X, Y, INDEX = pictures(), labels(), torch.tensor([7, 0, 3, 11, 5, 2])
OPTIONS = {"crd": {"pictures": 12, "negatives": 4, "width": 8}}
PARTS = {
    "ofa": ["logits", "stage1", "stage2", "stage3", "stage4"],
    "kd": ["kd"],
    "dkd": ["target_class", "other_classes"],
    "dist": ["inter_class", "intra_class"],
    "fitnet": ["hint"],
    "rkd": ["distance", "angle"],
    "crd": ["crd"],
    "ce": [],
}
WEIGHTS = {"dkd": ["alpha", "beta"], "dist": ["beta", "gamma"], "rkd": ["distance", "angle"], "ofa": [], "ce": []}
TAUGHT = [name for name in DISTILLERS if name != "ce"]
PAIRS = [("vit", "cnn"), ("swin", "vit"), ("cnn", "swin")]  # student, teacher


@pytest.fixture(autouse=True)
def examined_once(monkeypatch):
    examine_once(monkeypatch)


def make(name, student="vit", teacher="cnn", **options):
    torch.manual_seed(1)
    mine, theirs = NETS[student](0), NETS[teacher](1) if name != "ce" else None
    options = OPTIONS.get(name, {}) | options
    stages = ["all"] if name == "ofa" else []
    return DISTILLERS[name](mine, theirs, *stages, CLASSES, example=X[:2], **options)


def total(distiller, *batch):
    return sum(distiller(*batch)[0].values()).detach()


def test_the_registry_holds_what_is_tested():
    assert set(DISTILLERS) == set(PARTS)


@pytest.mark.parametrize("name", DISTILLERS)
def test_common_options_have_common_names(name):
    signature = inspect.signature(DISTILLERS[name]).parameters
    for option in ("example", "teacher_input", "criterion", "ground_truth"):
        assert signature[option].kind is inspect.Parameter.KEYWORD_ONLY
    assert [p for p in signature if p != "stages"][:3] == ["student", "teacher", "num_classes"]


@pytest.mark.parametrize("pair", PAIRS, ids="<".join)
@pytest.mark.parametrize("name", DISTILLERS)
def test_a_step_trains_the_student_and_leaves_the_teacher(name, pair):
    distiller = make(name, *pair)
    teacher = copy.deepcopy(distiller.teacher.state_dict())
    losses, logits = distiller(X, Y, INDEX)
    assert list(losses) == ["ground_truth", *PARTS[name]]
    assert logits.shape == (6, CLASSES)
    assert all(v.ndim == 0 and torch.isfinite(v) for v in losses.values())
    sum(losses.values()).backward()
    without = [n for n, p in distiller.named_parameters() if p.requires_grad and p.grad is None]
    assert not without
    assert all(torch.isfinite(p.grad).all() for p in distiller.trainable_parameters())
    assert all(p.grad is None for p in distiller.teacher.parameters())
    assert all(torch.equal(v, teacher[k]) for k, v in distiller.teacher.state_dict().items())
    assert hooks_of(distiller) == 0
    assert {k.split(".")[0] for k in distiller.learned()} & {"teacher", "teacher_input"} == set()


@pytest.mark.parametrize("name", TAUGHT)
def test_the_method_alone_moves_the_student(name):
    distiller = make(name, ground_truth=0.0)
    losses, _ = distiller(X, Y, INDEX)
    assert list(losses) == PARTS[name]
    for part, loss in losses.items():
        own = torch.autograd.grad(loss, distiller.student.patch_embed.proj.weight, retain_graph=True)[0]
        assert own.abs().sum() > 0, part


@pytest.mark.parametrize("name", TAUGHT)
def test_the_teacher_matters(name):
    distiller = make(name).eval()
    other = make(name).eval()
    other.teacher.load_state_dict(cnn(5).state_dict())
    torch.manual_seed(0)
    losses = distiller(X, Y, INDEX)[0]
    torch.manual_seed(0)
    different = other(X, Y, INDEX)[0]
    assert torch.equal(losses["ground_truth"], different["ground_truth"])
    assert all(not torch.equal(losses[part], different[part]) for part in PARTS[name])


@pytest.mark.parametrize(("name", "weight"), [(n, w) for n in DISTILLERS for w in WEIGHTS.get(n, ["weight"])])
def test_weights_scale_their_part_or_drop_it(name, weight):
    one, three, none = (make(name, **{weight: value}).eval()(X, Y, INDEX)[0] for value in (1.0, 3.0, 0.0))
    part = PARTS[name][WEIGHTS.get(name, ["weight"]).index(weight)]
    assert float(three[part].detach()) == pytest.approx(3 * float(one[part].detach()), rel=1e-5)
    assert set(none) == set(one) - {part}
    with pytest.raises(InputError, match=f"the weight {weight} must be finite and 0 or more, not -2.0"):
        make(name, **{weight: -2.0})
    every = dict.fromkeys([*WEIGHTS.get(name, ["weight"]), "ground_truth"], 0.0)
    with pytest.raises(InputError, match="are all 0, so there is nothing to learn"):
        make(name, **every)


@pytest.mark.parametrize("name", DISTILLERS)
def test_soft_targets_and_low_precision(name):
    distiller = make(name)
    with torch.autocast("cpu", torch.bfloat16):
        losses, _ = distiller(X, mixed(), INDEX)
    assert all(v.dtype == torch.float32 and torch.isfinite(v) for v in losses.values())
    sum(losses.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in distiller.trainable_parameters())
    losses, _ = make(name).double()(X.double(), mixed().double(), INDEX)
    assert {v.dtype for v in losses.values()} == {torch.float64}


@pytest.mark.parametrize("name", DISTILLERS)
def test_a_resumed_run_ends_as_an_unbroken_one(name):
    def optimiser_of(distiller):
        return torch.optim.SGD(distiller.trainable_parameters(), lr=0.02, momentum=0.9)

    distiller = make(name)
    optimiser = optimiser_of(distiller)
    torch.manual_seed(3)
    for _ in range(2):
        step(distiller, optimiser, X, Y, INDEX)
    saved = copy.deepcopy((distiller.learned(), optimiser.state_dict(), torch.get_rng_state()))
    for _ in range(2):
        step(distiller, optimiser, X, Y, INDEX)
    resumed = make(name)
    again = optimiser_of(resumed)
    resumed.load_learned(saved[0])
    again.load_state_dict(saved[1])
    torch.set_rng_state(saved[2])
    for _ in range(2):
        step(resumed, again, X, Y, INDEX)
    assert all(torch.equal(v, resumed.learned()[k]) for k, v in distiller.learned().items())


@pytest.mark.parametrize("name", DISTILLERS)
def test_the_student_learns(name):
    distiller = make(name)
    optimiser = torch.optim.AdamW(distiller.trainable_parameters(), lr=5e-3)
    losses = [step(distiller, optimiser, X, Y, INDEX) for _ in range(8)]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", DISTILLERS)
def test_class_counts_must_agree(name):
    stages = ["all"] if name == "ofa" else []
    with pytest.raises(InputError, match="and the data have 9; all three must agree"):
        DISTILLERS[name](vit(), cnn(), *stages, 9, example=X[:2], **OPTIONS.get(name, {}))


@pytest.mark.parametrize("name", TAUGHT)
def test_a_teacher_is_needed(name):
    distiller = DISTILLERS[name]
    arguments = {"student": cnn(), "teacher": None, "num_classes": CLASSES, "stages": "all"} | OPTIONS.get(name, {})
    arguments = {k: v for k, v in arguments.items() if k in inspect.signature(distiller).parameters}
    init = inspect.unwrap(distiller.__init__)  # past the type checks of the tests, as a user has it
    with pytest.raises(InputError, match=f"{distiller.__name__} learns from a teacher, but was given None"):
        init(distiller.__new__(distiller), **arguments)


def test_the_student_alone_needs_none():
    distiller = make("ce")
    assert isinstance(distiller.teacher, NoTeacher)
    assert torch.equal(distiller(X, Y)[0]["ground_truth"], nn.functional.cross_entropy(distiller(X, Y)[1], Y))
    with pytest.raises(InputError, match="this distiller has no teacher to run"):
        distiller.teacher_logits(X)
    kept = DISTILLERS["ce"](vit(), cnn(), CLASSES, example=X[:2])
    assert list(kept(X, Y)[0]) == ["ground_truth"]
    assert kept.teacher_logits(X).shape == (6, CLASSES)


class Ends(nn.Module):
    """Ends in a convolution, as no linear layer does."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.Conv2d(4, 4, 3, 2))
        self.head = nn.Conv2d(4, CLASSES, 1)

    def forward(self, x):
        return self.head(self.blocks(x)).mean((2, 3))


@pytest.mark.parametrize("name", ["rkd", "crd"])
def test_representations_need_a_linear_layer_after_them(name):
    for networks, who in (((Ends(), cnn()), "student"), ((cnn(), Ends()), "teacher")):
        with pytest.raises(InputError, match=f"the {who} ends in no linear layer.*; choose a method that"):
            DISTILLERS[name](*networks, CLASSES, example=X[:2], **OPTIONS.get(name, {}))


def test_rkd_sees_the_penultimate_representations():
    distiller = make("rkd", "swin", "vit").eval()
    losses, _ = distiller(X, Y)
    networks = (distiller.student, distiller.teacher)
    own, other = (net.forward_head(net.forward_features(X), pre_logits=True) for net in networks)
    assert distiller.endings.student.width == own.shape[1]
    assert torch.allclose(losses["distance"], 25 * rkd_distance(own, other), rtol=1e-4)
    assert torch.allclose(losses["angle"], 50 * rkd_angle(own, other), rtol=1e-4)


def test_fitnet_pairs_the_stages_it_is_told():
    def pair(**options):
        made = FitNetDistiller(swin(), cnn(1), CLASSES, example=X[:2], **options)
        return made.stage.number, made.teacher_stage.number

    assert pair() == (2, 2)
    assert pair(stage=4) == (4, 4)
    assert pair(stage=1, teacher_stage=3) == (1, 3)
    with pytest.raises(InputError, match="there is no stage 6; there are 1"):
        pair(teacher_stage=6)


def test_fitnet_compares_the_finer_grid_at_the_coarser_one():
    distiller = FitNetDistiller(swin(), cnn(1), CLASSES, example=X[:2], stage=1, teacher_stage=3, weight=2.0).eval()
    losses, _ = distiller(X, Y)
    own = run(distiller.student, X, ["layers.0"])[1]["layers.0"].permute(0, 3, 1, 2)  # 16 × 16
    other = run(distiller.teacher, X, ["blocks.2"])[1]["blocks.2"]  # 4 × 4
    pooled = nn.functional.avg_pool2d(own, 4)
    assert torch.allclose(losses["hint"], 2 * fitnet_loss(distiller.regressor(pooled), other), rtol=1e-4)


def test_crd_contrasts_with_the_memory_then_moves_it():
    distiller = CRDDistiller(vit(), cnn(1), CLASSES, example=X[:2], pictures=12, width=8, weight=2.0, momentum=0.25)
    old = {k: v.clone() for k, v in distiller.learned().items()}
    losses, _ = distiller(X, Y, INDEX)
    _, _, mine = run(distiller.student, X, classifier="head")
    _, _, theirs = run(distiller.teacher, X, classifier="head")
    units = [nn.functional.normalize(e, dim=1).detach() for e in
             (distiller.embed_student(mine), distiller.embed_teacher(theirs))]  # fmt: skip
    wanted = 0.0
    for anchor, memory in ((units[0], old["memory_teacher"]), (units[1], old["memory_student"])):
        cosines = anchor @ memory.T
        others = torch.stack([torch.cat([row[:i], row[i + 1 :]]) for row, i in zip(cosines, INDEX, strict=True)])
        normaliser = 12 * (cosines / 0.07).exp().mean()
        wanted += crd_loss(cosines[range(6), INDEX], others, 12, normaliser.log())
    assert losses["crd"].detach() == pytest.approx(2 * float(wanted), rel=1e-4)
    for name, unit in (("memory_student", units[0]), ("memory_teacher", units[1])):
        moved = 0.25 * old[name][INDEX] + 0.75 * unit
        assert torch.allclose(getattr(distiller, name)[INDEX], moved / moved.norm(dim=1, keepdim=True), atol=1e-5)
        rest = [i for i in range(12) if i not in INDEX.tolist()]
        assert torch.equal(getattr(distiller, name)[rest], old[name][rest])


def test_crd_keeps_its_first_normaliser_and_forgets_nothing_in_evaluation():
    distiller = make("crd")
    distiller.eval()(X, Y, INDEX)
    assert not distiller.normalised.any()
    distiller.train()(X, Y, INDEX)
    first, memory = distiller.log_normalisers.clone(), distiller.memory_student.clone()
    assert distiller.normalised.all()
    distiller.eval()(X, Y, INDEX)
    assert torch.equal(distiller.memory_student, memory)
    distiller.train()(X, Y, INDEX)
    assert torch.equal(distiller.log_normalisers, first)
    assert not torch.equal(distiller.memory_student, memory)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (None, r"call distiller\(x, y, index\), where index \(n,\) gives each picture's place"),
        (torch.arange(5), r"index must be 6 whole numbers, one a picture, not torch.int64 \(5,\)"),
        (torch.arange(6.0), "index must be 6 whole numbers"),
        (torch.arange(7, 13), "index runs from 7 to 12, but pictures=12; give places from 0"),
    ],
)
def test_crd_needs_to_know_its_pictures(index, message):
    with pytest.raises(InputError, match=message):
        make("crd")(X, Y, index)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pictures": 1}, "crd needs 2 pictures or more and a momentum from 0 up to 1, not 1 and 0.5"),
        ({"momentum": 1.0}, "not 12 and 1.0"),
        ({"negatives": 0}, "negatives must be positive"),
        ({"temperature": -1.0}, "temperature must be positive"),
    ],
)
def test_crd_options_out_of_range_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        make("crd", **options)


@pytest.mark.parametrize("name", DISTILLERS)
def test_no_parameter_waits_for_a_gradient_of_a_part_that_is_left_out(name):
    weight = {"ofa": "branches"}.get(name, "weight")
    if weight not in inspect.signature(DISTILLERS[name]).parameters:
        return
    distiller = make(name, **{weight: 0.0})
    sum(distiller(X, Y, INDEX)[0].values()).backward()
    assert all(p.grad is not None for p in distiller.trainable_parameters())


@pytest.mark.parametrize("name", ["kd", "dkd", "dist"])
def test_temperatures_out_of_range_are_refused(name):
    with pytest.raises(InputError, match="temperature must be positive and finite, not 0"):
        make(name, temperature=0.0)
