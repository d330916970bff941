"""A diagnosis of tiny networks: its numbers by another way, and everything that can be wrong with what is shown."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from coloured_nets import CLASSES, Block, Net, coloured, encoder, preprocess, taught
from torch import nn

import repalign as ra
from repalign.diagnosis.diagnosis import Settings, diagnose_networks
from repalign.errors import InputError, LayerError

QUICK = Settings(permutations=19, rule="gap")


def diagnosed(teacher, student, stimuli, classes=CLASSES, settings=QUICK, **options):
    return diagnose_networks(teacher, student, stimuli, classes, settings=settings, **options)


def by_hand(encoder, stimuli):
    """Mean-pooled features of every block, penultimate representation and logits, without repalign."""
    x = torch.stack([preprocess(stimuli.load(i)) for i in range(len(stimuli))])
    found = []
    with torch.no_grad():
        for block in encoder.module.blocks:
            x = block(x)
            found.append(x.mean((2, 3)))
        return found, found[-1], encoder.module.head(found[-1])


def test_numbers_by_another_way(teacher, student, shown):
    found = diagnosed(teacher, student, shown)
    (one, last, logits), (other, _, own) = by_hand(teacher, shown), by_hand(student, shown)
    for metric, similarity in zip(("cka_linear", "rsa"), found.similarities, strict=True):
        names = [f"blocks.{k}" for k in range(4)]
        scores = similarity.between(names, names)
        expected = [[ra.similarity(s, t, metric) for t in one] for s in other]
        assert np.allclose(scores.value, expected, atol=1e-6)
        penultimate = similarity.between(names, ["penultimate"])
        assert np.allclose(penultimate.value[:, 0], [ra.similarity(s, last, metric) for s in other], atol=1e-6)
        assert (scores.ci_low < scores.value).all()
        assert (scores.value < scores.ci_high).all()
        assert np.abs(scores.null_mean).max() < 0.1
    assert np.array_equal(found.evidence.penultimate.value, found.similarities[0].between(names, ["penultimate"]).value)
    assert "no penultimate" not in found.choices["knee"].why
    codes = torch.tensor([CLASSES.index(label) for label in shown.labels])
    right = [(x.argmax(1) == codes).double().mean().item() for x in (logits, own)]
    competence = found.competence
    assert [competence.teacher.accuracy.value, competence.student.accuracy.value] == pytest.approx(right)
    assert competence.difference.value == pytest.approx(right[0] - right[1])
    assert competence.disagreement == pytest.approx((logits.argmax(1) != own.argmax(1)).double().mean().item())
    assert competence.chance == pytest.approx(1 / 3)
    assert found.logits.teacher_gap_max == pytest.approx((logits.amax(1) - logits.amin(1)).max().item(), rel=1e-5)
    assert right[0] > 0.9
    assert set(found.probes) == {"1", "2", "3", "4", "teacher"}
    assert found.probes["teacher"].accuracy > 0.6


def test_the_untrained_twin_takes_the_students_place(teacher, student, shown):
    twin = encoder("twin", Net(seed=7), untrained=True)
    found = diagnosed(teacher, student, shown, untrained=twin)
    expected = diagnosed(teacher, twin, shown).similarities[0]
    assert np.array_equal(found.similarities[0].untrained, expected.inference.alignment.scores)
    assert np.array_equal(expected.untrained, expected.inference.alignment.scores)  # an untrained student is its own
    assert np.isnan(diagnosed(teacher, student, shown).similarities[0].untrained).all()


def test_few_pictures_decide_nothing(teacher, student, shown):
    found = diagnosed(teacher, student, shown)
    assert found.verdict.method == "insufficient"
    assert any("48 pictures are too few for a rule" in text for text in found.warnings)


def test_enough_pictures_decide(teacher, student):
    found = diagnosed(teacher, student, coloured(150), settings=replace(QUICK, tau=2.0))
    assert (found.verdict.method, found.verdict.stages) == ("kd", ())  # no 1 − CKA is above 2
    assert any("150 pictures are few" in text for text in found.warnings)
    found = diagnosed(teacher, student, coloured(150), settings=replace(QUICK, tau=0.0))
    assert found.verdict.method == "ofa"
    assert found.verdict.stages == found.choices["gap"].kept != ()


def test_a_subset_is_seeded_and_keeps_each_class_its_share(teacher, student):
    settings = replace(QUICK, pictures=30)
    found = [diagnosed(teacher, student, coloured(60), settings=replace(settings, seed=s)) for s in (0, 0, 1)]
    assert [one.n for one in found] == [30, 30, 30]
    assert sorted(found[0].stimuli.labels) == sorted(CLASSES * 10)
    assert found[0].stimuli.ids == found[1].stimuli.ids != found[2].stimuli.ids
    assert found[0].fingerprint == found[1].fingerprint != found[2].fingerprint


def test_groups_make_intervals_wider(teacher, student):
    once = coloured(40)
    index = [i for i in range(40) for _ in range(3)]
    copies = replace(
        once.take(range(40)), ids=tuple(f"{k:03d}" for k in range(120)), load=lambda i: once.load(index[i]),
        labels=tuple(once.labels[i] for i in index), content=None,
    )  # fmt: skip
    grouped = replace(copies, groups=tuple(str(i) for i in index))
    loose, tight = (diagnosed(teacher, student, s) for s in (grouped, copies))
    ends = [one.evidence.at_matched.ci_high - one.evidence.at_matched.ci_low for one in (loose, tight)]
    assert (ends[0] > ends[1]).all()
    assert loose.competence.student.accuracy.units == 40
    assert loose.competence.student.accuracy.se > 1.5 * tight.competence.student.accuracy.se


def test_labels_missing(teacher, student):
    found = diagnosed(teacher, student, coloured(labelled=False), None)
    assert found.competence.teacher is None
    assert found.competence.chance is None
    assert found.competence.disagreement is not None  # two classifiers can disagree without labels
    assert found.probes == {}
    assert any("have no labels: whether the teacher" in text for text in found.warnings)
    assert any(text.startswith("no linear probes") for text in found.warnings)


def test_class_counts_that_differ_are_said_and_features_still_compared(teacher, shown):
    student = encoder("student", Net(classes=5, seed=1))
    found = diagnosed(teacher, student, shown)
    assert (found.verdict.method, found.verdict.run) == ("ce", "ce")
    assert any("teacher 3, student 5, data 3" in text for text in found.verdict.sentences)
    assert found.competence.student is None
    assert found.competence.teacher is not None
    assert np.isfinite(found.evidence.stages.value).all()
    assert "teacher" in found.probes


def test_a_teacher_without_a_classifier(student, shown):
    found = diagnosed(encoder("teacher", FeaturesOnly()), student, shown)
    assert found.verdict.method == "ce"
    assert any("gives no logits" in text for text in found.verdict.sentences)
    assert any("ends in features, without a classifier" in text for text in found.warnings)
    assert found.logits is None
    assert not found.choices["knee"].sufficient
    assert np.isfinite(found.evidence.stages.value).all()


class FeaturesOnly(Net):
    num_classes = 0

    def __init__(self):
        super().__init__(classes=0)


def test_a_teacher_near_chance_is_not_distilled(student, shown):
    found = diagnosed(encoder("teacher", Net(seed=3)), student, shown)
    assert found.verdict.method == "ce"
    assert any("near chance" in text for text in found.verdict.sentences)


def test_an_untrained_student_is_not_judged_by_similarity(teacher, student):
    found = diagnosed(teacher, replace(student, untrained=True), coloured(120))
    assert found.verdict.method == "insufficient"
    assert any("6 of 8 stages" in text for text in found.verdict.sentences)
    assert (found.verdict.run, found.verdict.stages) == ("kd", ())
    every = diagnosed(teacher, replace(student, untrained=True), coloured(120), settings=replace(QUICK, rule="all"))
    assert every.verdict.method == "ofa"


def test_a_student_at_chance_counts_as_untrained(teacher):
    found = diagnosed(teacher, encoder("student", Net(seed=1)), coloured(120))
    assert found.verdict.method == "insufficient"
    assert any("not above chance" in text and "counts as untrained" in text for text in found.warnings)
    settings = replace(QUICK, tau=0.0)
    fresh = diagnosed(teacher, found.student.encoder, coloured(120), fresh_classifier=True, settings=settings)
    assert fresh.competence.student is None
    assert fresh.verdict.method == "ofa"
    assert any("classifier is untrained, so its accuracy" in text for text in fresh.warnings)


def test_a_teacher_weaker_than_the_student_is_said(teacher, student):
    found = diagnosed(student, teacher, coloured(150))
    assert found.competence.difference.ci_high < 0
    assert any("weaker than the student" in text for text in found.warnings)
    even = diagnosed(teacher, encoder("copy", taught(Net(seed=0), coloured(300, seed=1))), coloured(120))
    assert any("not shown to be better" in text for text in even.warnings)


def test_order_of_classes(teacher, student):
    found = diagnosed(teacher, student, coloured(120), ("red", "blue", "green"))
    assert any("the teacher is below chance" in text and "another order" in text for text in found.warnings)
    assert found.verdict.method == "ce"


def test_constant_features_are_kept_by_no_rule(teacher, shown):
    module = Net(seed=1)
    for p in module.blocks[1].parameters():
        nn.init.zeros_(p)
    found = diagnosed(teacher, encoder("student", module), shown)
    assert all(k not in one.kept for one in found.choices.values() for k in (2, 3, 4))
    assert found.choices["all"].kept == (1,)
    assert "so not kept" in found.choices["all"].reasons[1]
    assert any("no score (NaN)" in text for text in found.warnings)


def test_fewer_stages_than_a_knee_needs(teacher, shown):
    found = diagnosed(teacher, encoder("student", Net((6, 8), seed=1)), shown)
    assert [s.number for s in found.student.stages] == [1, 2]
    assert not found.choices["knee"].sufficient
    assert "2 student and 4 teacher stages" in found.matching
    assert found.evidence.matched == (2, 4)


def test_one_object_for_both(teacher, shown):
    found = diagnosed(teacher, teacher, shown)
    assert np.allclose(np.diagonal(found.evidence.stages.value), 1)
    assert found.competence.disagreement == 0


@pytest.mark.parametrize("n", [0, 3])
def test_too_few_pictures_at_all(teacher, student, n):
    with pytest.raises(InputError, match=f"has {n} pictures; a diagnosis needs 4"):
        diagnosed(teacher, student, coloured(48).take(range(n)))


def test_four_pictures_are_compared_without_intervals(teacher, student):
    found = diagnosed(teacher, student, coloured(4))
    assert found.verdict.method == "insufficient"
    assert np.isnan(found.evidence.stages.ci_low).all()


def test_logits_that_are_no_numbers(teacher, student, shown):
    with torch.no_grad():
        teacher.module.head.bias.fill_(float("nan"))
    with pytest.raises(InputError, match="teacher gives NaN or infinite logits for 48 of 48"):
        diagnosed(teacher, student, shown)


def test_broken_pictures_are_named_or_left_out(teacher, student):
    whole = coloured(48)

    def load(i):
        if i == 5:
            raise OSError("truncated")
        return whole.load(i)

    broken = replace(whole, load=load)
    with pytest.raises(InputError, match="1 of 48 pictures can't be decoded"):
        diagnosed(teacher, student, broken)
    from repalign.diagnosis.diagnosis import Setup

    found = diagnosed(teacher, student, broken, setup=Setup(skip_unreadable=True))
    assert found.n == 47
    assert "0005" not in found.stimuli.ids
    assert len(found.labels.codes) == 47
    assert any("0005" in text for text in found.warnings)


def test_networks_are_left_as_they_were(teacher, student, shown):
    teacher.module.train()
    diagnosed(teacher, student, shown)
    assert not [m for m in student.module.modules() if m._forward_hooks or m._forward_pre_hooks]


class Looped(Net):
    def forward(self, x):
        x = self.blocks(x)
        return self.head((x + self.blocks[3].two(x)).mean((2, 3)))


class Recurrent(Net):
    def __init__(self):
        super().__init__((6, 8, 8), seed=1)
        self.again = nn.Sequential(Block(8, 8))

    def forward(self, x):
        return self.head(self.again(self.again(self.blocks(x))).mean((2, 3)))


def test_layers_that_run_twice_are_left_out(teacher, shown):
    inner = diagnosed(teacher, encoder("student", Looped(seed=1)), shown)
    assert not any("more than once" in text for text in inner.warnings)  # blocks.3.two is in no comparison
    found = diagnosed(teacher, encoder("student", Recurrent()), shown)
    assert any("student: again.0 runs more than once in a pass" in text for text in found.warnings)
    assert [layer.name for layer in found.student.blocks] == ["blocks.0", "blocks.1", "blocks.2"]


def test_a_network_without_stages(teacher, shown):
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 3))
    with pytest.raises(LayerError, match="has no stages"):
        diagnosed(teacher, encoder("student", flat), shown)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"rule": "gapp"}, "did you mean gap"), ({"pictures": 3}, "--pictures 3"), ({"seed": -1}, "seed"),
        ({"permutations": -1}, "permutations"), ({"tau": 3.0}, "tau"),
    ],
)  # fmt: skip
def test_settings_are_checked(given, words):
    with pytest.raises(InputError, match=words):
        Settings(**given)
