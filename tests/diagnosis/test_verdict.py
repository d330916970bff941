import pytest
from test_choices import evidence

from repalign.diagnosis.choices import BY_SIMILARITY, RULES, choose_all
from repalign.diagnosis.verdict import DEFAULT_RULE, FALLBACK_RULE, WHY_DEFAULT, decide
from repalign.distill.methods import check_options

CHOICES = choose_all(evidence())


def test_the_rule_decides():
    found = decide(CHOICES, "gap", 0.4, [], [], ["The teacher knows more"])
    assert (found.method, found.run, found.stages, found.rule) == ("ofa", "ofa", (2, 3, 4), "gap")
    assert found.gamma == (1.0,) * 4  # one a branch, one for the logits
    assert found.sentences[0] == (
        "Distil by OFA-KD, with branches at student stages 2, 3 and 4 beside the logits: by the rule gap (τ = 0.4)."
    )
    assert "Stage 2: 1 − CKA = 0.50 [0.48, 0.52], surely above τ = 0.4: kept." in found.sentences
    assert "The teacher knows more." in found.sentences
    assert sum("γ = 1" in s for s in found.sentences) == 1


def test_no_stage_means_the_logits_alone():
    for found in (decide(CHOICES, "gap", 2.0, [], []), decide(CHOICES, "logits", 0.4, [], [])):
        assert found.run == found.method or found.method == "insufficient"
    found = decide(CHOICES, "logits", 0.4, [], [])
    assert (found.method, found.stages, found.gamma, found.temperature) == ("kd", (), (), 4.0)
    assert "the logits alone" in found.sentences[0]


def test_obstacles_forbid_every_method():
    for rule in RULES:
        found = decide(CHOICES, rule, 0.4, ["the teacher is near chance"], ["few pictures"])
        assert (found.method, found.run, found.stages) == ("ce", "ce", ())
        assert "The teacher is near chance." in found.sentences


@pytest.mark.parametrize("rule", sorted(RULES))
def test_doubts_count_only_where_similarities_decide(rule):
    found = decide(CHOICES, rule, 0.4, [], ["the student is untrained"])
    if rule in BY_SIMILARITY:
        assert (found.method, found.run, found.stages) == ("insufficient", "kd", CHOICES[FALLBACK_RULE].kept)
        assert "The student is untrained." in found.sentences
        assert any("holds the fallback" in s for s in found.sentences)
    else:
        assert found.method in ("ofa", "kd")


def test_an_insufficient_rule_says_why():
    choices = choose_all(evidence(penultimate=None))
    found = decide(choices, "knee", 0.4, [], [])
    assert found.method == "insufficient"
    assert "No linear layer ends the teacher, so it has no penultimate representation." in found.sentences


def test_the_default_says_what_it_rests_on():
    found = decide(CHOICES, DEFAULT_RULE, 0.4, [], [])
    assert (found.method, found.stages) == ("kd", ())
    assert f"{WHY_DEFAULT}." in found.sentences
    assert WHY_DEFAULT not in decide(CHOICES, "gap", 0.4, [], []).sentences


def test_defaults_exist():
    assert DEFAULT_RULE in RULES
    assert FALLBACK_RULE in RULES
    assert FALLBACK_RULE not in BY_SIMILARITY


@pytest.mark.parametrize("rule", ["gap", "logits"])
def test_options_are_the_distillers(rule):
    from repalign.diagnosis.configuration import _options

    found = decide(CHOICES, rule, 0.4, [], [])
    check_options(found.run, _options(found))
