import html
import re

import pytest
from fake_extras import NO_P, add_inference, add_stability, add_subjects, add_tests, everything
from fake_study import fake_study

from repalign.report import read_study
from repalign.report.html import page


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    folder = everything(fake_study(tmp_path_factory.mktemp("full") / "s", 6, 5, intervals=True))
    add_subjects(folder, "b", "rsa", ["stem", "layer1.0"])
    return page(read_study(folder))


def shown(text):
    """What a reader sees of a page, without tags and in one line."""
    bare = re.sub(r"<script.*?</script>|<style.*?</style>", " ", text, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", bare)).split())


def test_how_sure_stands_at_the_summary_and_at_every_map(full):
    text = shown(full)
    assert (
        "Brackets hold 95 % intervals from a delete-group jackknife over 8 groups; p comes from 999 permutations"
        in text
    )
    assert text.count("95 % intervals, 999 permutations, 8 groups") == 3
    assert full.count("RBF and Spearman keep bandwidth and ranks fixed") == 2
    assert "95 % jackknife; 8 groups; 999 permutations, seed 0" in text
    head = text[: text.index("Layer by layer")]
    assert "0.30 independent 0.31" in head
    assert "by chance p, adjusted" in head


def test_curves_dot_what_independent_features_give_and_shade_each_null_apart(full):
    assert full.count('<path class="chance"') == 2
    band = re.search(r'<path class="band" d="(M[^"]*Z)"/>\n.*?<g', full, re.DOTALL)
    assert band
    assert band.group(1).count("Z") == 2


def test_stability_shows_what_there_is(full):
    text = shown(full)
    for said in (
        "From 130 to 260 pictures averages move most for Linear CKA, debiased, by 0.00",
        "Two halves of 130 pictures each agree on which layers match by 0.89 or more (RSA",
        "The choice of pooling moves RSA, Spearman of correlation distances by 0.20, more than any other",
        "one channel carries 83 % of the variance of blocks.0, and linear CKA hears mostly that one",
    ):
        assert said in text, said
    assert "Not computed" not in text
    assert full.count('data-chart="growth"') == 2
    assert full.count('class="dots-row line-') == 3 + 9
    assert text.count("one channel") > 2


@pytest.mark.parametrize(
    ("kinds", "missing"),
    [((), 3), (("stimuli",), 2), (("split_half",), 2), (("pool",), 2), (("stimuli", "split_half", "pool"), 0)],
)
def test_what_was_not_computed_is_said_with_its_option(tmp_path, kinds, missing):
    folder = fake_study(tmp_path / "s", 3, 3, metrics=2)
    if kinds:
        add_stability(folder, ["cka_linear", "cka_rbf"], ("norm", "norm"), kinds=kinds)
    text = shown(page(read_study(folder)))
    assert text.count("Not computed: ") == missing
    assert text.count("--stability") == missing
    assert text.count("--pools max,cls") == ("pool" not in kinds)


def test_tests_are_summed_up_and_say_what_p_means(full, tmp_path):
    text = shown(full)
    assert "MMD², unbiased 4 of 6 layers have an adjusted p below 0.05; the statistic is largest at norm, 0.152" in text
    assert "against 0.001 by chance. n = 260, 8 groups, 999 permutations." in text
    assert "A small p says that a difference is there, never that it is large" in text
    assert full.index('id="by-depth"') < full.index('id="tests"') < full.index('id="stability"')
    assert 'id="tests"' not in page(read_study(fake_study(tmp_path / "s", 2, 2)))


def test_a_test_without_p_says_why(tmp_path):
    folder = fake_study(tmp_path / "s", 3, 3, metrics=1)
    add_tests(folder, ["norm"], tests=("energy",), note="few & far")
    file = folder / "tests.csv"
    file.write_text(file.read_text().replace(",0.2,0.4,0.4,", ",,,,"))
    text = page(read_study(folder))
    assert "No p could be given; the statistic is largest at norm" in shown(text)
    assert "few &amp; far" in text
    assert ">p, adjusted<" not in text[text.index('id="tests"') :]


def test_a_noise_ceiling_stands_in_its_layers_context(full, tmp_path):
    text = shown(full)
    assert "what each of the 12 subjects of pocket:resnet scores against the others" in text
    assert "stem RSA, Spearman of correlation distances [0.41, 0.55] patch_embed 0.45 within the ceiling" in text
    assert full.count('<path class="ceiling"') == 0
    folder = fake_study(tmp_path / "s", 3, 3)
    add_subjects(folder, "a", "rsa", ["patch_embed", "blocks.0", "norm"])
    assert page(read_study(folder)).count('<path class="ceiling"') == 2


def test_too_few_groups_are_said_at_the_answer(tmp_path):
    folder = fake_study(tmp_path / "s", 3, 3)
    add_inference(folder, ["cka_linear", "cka_rbf", "rsa"], n_groups=3, interval="none", notes=(NO_P,))
    text = page(read_study(folder))
    head = shown(text[: text.index('class="facts"')])
    assert f"These scores have no interval and no p-value: {NO_P}." in head
    assert "There are no intervals and no p-values, so nothing here tells a score from luck." in shown(text)
