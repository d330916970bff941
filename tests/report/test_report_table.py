import pytest
from fake_extras import everything
from fake_study import fake_study
from rich.console import Console

from repalign.report import read_study
from repalign.report.table import closing_table


def printed(study, width=100):
    console = Console(width=width, record=True, file=None, quiet=False, force_terminal=False)
    with console.capture() as captured:
        console.print(closing_table(study))
    return captured.get()


def test_the_table_sums_up_every_measure(tmp_path):
    study = read_study(fake_study(tmp_path / "s"))
    text = printed(study, 120)
    lines = text.splitlines()
    first = next(k for k, line in enumerate(lines) if line.startswith("Linear CKA, debiased "))
    assert [" ".join(line.split()) for line in lines[first : first + 3]] == [
        "Linear CKA, debiased blocks.4 × layer3.6 0.80 mean 0.63",
        "blocks.4 × layer3.5 0.77 peak 0.77",
        "blocks.5 × layer3.7 0.76 at 0.56",
    ]
    assert "most alike: pocket:dino × pocket:resnet" in text
    assert "This study holds point estimates without intervals." in text
    assert "! bundled:photos: views of only 8 photographs" in text
    assert "".join(lines[-2:]).replace(" ", "").endswith(str(study.path / "report.html").replace(" ", ""))


def test_adjusted_p_and_groups_close_a_run(tmp_path):
    study = read_study(everything(fake_study(tmp_path / "s", intervals=True)))
    rows = [" ".join(line.split()) for line in printed(study, 120).splitlines()]
    assert "Linear CKA, debiased blocks.4 × layer3.6 0.80 [0.73, 0.86] <0.001 mean 0.63" in rows
    text = " ".join(rows)
    assert "p adj." in text
    assert "999 permutations of whole groups, adjusted for all 120 pairs of layers together (max-T)." in text
    assert "RBF and Spearman keep" in text


@pytest.mark.parametrize("width", [80, 100])
def test_lines_stay_within_the_terminal_and_lose_nothing(tmp_path, width):
    names = [f"encoder.layer.{i}.output.dense" for i in range(6)]
    study = read_study(everything(fake_study(tmp_path / "s", layers_a=names, intervals=True, untrained="b")))
    text = printed(study, width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    assert "(untrained)" in " ".join(text.split())
    assert "[0.7" in text


def test_names_are_no_markup(tmp_path):
    study = read_study(fake_study(tmp_path / "s", layers_a=["[bold]x[/bold]", "[/]"], lb=3, metrics=1))
    assert "[bold]x[/bold]" in printed(study)


def test_undefined_scores_are_said(tmp_path):
    study = read_study(fake_study(tmp_path / "s", 3, 3, metrics=1, all_undefined=True))
    assert "undefined" in printed(study)
