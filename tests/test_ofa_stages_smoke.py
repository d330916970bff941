"""The experiment on OFA stages, from pictures to table and figure, at a size that takes seconds."""

import copy
import importlib
import itertools
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

EXPERIMENT = Path(__file__).parents[1] / "experiments" / "ofa_stages"
OURS = ("run", "table", "apart", "drawing", "training", "deciding", "students", "pictures")


@pytest.fixture
def scripts(monkeypatch):
    """The experiment's scripts as modules, gone again afterwards."""
    for folder in (EXPERIMENT.parent / "pocket", EXPERIMENT):
        monkeypatch.syspath_prepend(str(folder))
    yield {name: importlib.import_module(name) for name in OURS}
    for name in OURS:
        sys.modules.pop(name, None)


@pytest.fixture
def parts(scripts):
    """Blotches of ten colours: a few pictures for each part."""
    rng = np.random.default_rng(0)

    def pictures(each):
        labels = torch.arange(10).repeat_interleave(each)
        centres = torch.from_numpy(np.random.default_rng(1).integers(40, 216, (10, 3, 1, 1)))
        noise = torch.from_numpy(rng.integers(-40, 40, (10 * each, 3, 32, 32)))
        return scripts["pictures"].Pictures((centres[labels] + noise).to(torch.uint8), labels, [""] * 10 * each)

    return {"train": pictures(4), "validation": pictures(2), "probe": pictures(6), "test": pictures(2)}


@pytest.fixture
def settings(scripts, monkeypatch, tmp_path):
    """The experiment's configuration with one pair, one epoch and one tuning value each."""
    small = copy.deepcopy(scripts["run"].settings())
    small["pairs"] = {"vit→resnet": ["vit", "resnet"]}
    small["regimes"] = {"20": {"epochs": 1, "arms": "sizes"}, "40": {"epochs": 1, "arms": "main"}}
    small["regimes"]["500"] = {"epochs": 1, "arms": "main"}
    small["tuning"] = {what: values[:2] for what, values in small["tuning"].items()}
    small["seeds"], small["tuning_seeds"] = [0, 1], [100]
    small["training"]["batch_size"], small["pictures"]["views"] = 10, 2
    monkeypatch.setattr(scripts["run"], "settings", lambda: small)
    monkeypatch.setattr(scripts["run"], "TUNED", tmp_path / "tuned.csv")
    return small


def test_from_tuning_to_the_figure(scripts, parts, settings, tmp_path, monkeypatch, capsys):
    run, table = scripts["run"], scripts["table"]
    monkeypatch.setattr(run, "lesson_of", lambda p, t, n, s: scripts["training"].prepare_lesson(p["train"], t, 2, s))
    run.tune(parts)
    tuned = pd.read_csv(tmp_path / "tuned.csv")
    assert list(tuned.groupby("what").size()) == [2, 2, 2, 2]
    out = tmp_path / "rows"
    out.mkdir()
    for regime in ("20", "40"):
        run.run_jobs(parts, out, 0, 1, regime)
    rows = pd.read_csv(out / "20-vit-resnet-0.csv")
    decided = json.loads((out / "20-vit-resnet-0.json").read_text())["decisions"]
    sizes = {len(d["kept"]) for d in decided}
    subsets = {"ofa" + "".join(map(str, s)) for size in sizes for s in itertools.combinations((1, 2, 3, 4), size)}
    assert set(rows.arm) == {"ce", "kd", "ofa", "ofa4", "ofa1234"} | subsets
    assert len(rows) == len(set(rows.arm))
    stamp = (out / "20-vit-resnet-0.csv").stat().st_mtime_ns
    run.run_jobs(parts, out, 0, 1, "20")
    assert (out / "20-vit-resnet-0.csv").stat().st_mtime_ns == stamp  # a finished job is not run again

    for name in ("results.csv", "decisions.csv", "table.md", "figure.png"):
        assert not (tmp_path / name).exists()
    monkeypatch.setattr(table, "HERE", tmp_path)
    monkeypatch.setattr(sys, "argv", ["table.py", "--out", str(out)])
    table.main()
    results, decisions = pd.read_csv(tmp_path / "results.csv"), pd.read_csv(tmp_path / "decisions.csv")
    assert set(results.labels) == {20, 40}
    assert len(decisions) == 2 * 2 * 3
    text = (tmp_path / "table.md").read_text()
    assert "| OFA, all stages − logits only |" in text
    both = results[results.labels == 20].pivot(index="seed", columns="arm", values="test")
    mean = 100 * (both["ofa1234"] - both["ofa"]).mean()
    assert f"| OFA, all stages − logits only | {mean:+.2f} [" in text
    assert (tmp_path / "figure.png").stat().st_size > 10_000


def test_the_second_question_from_tuning_to_its_table(scripts, parts, settings, tmp_path, monkeypatch):
    run, apart = scripts["run"], scripts["apart"]
    monkeypatch.setattr(run, "lesson_of", lambda p, t, n, s: scripts["training"].prepare_lesson(p["train"], t, 2, s))
    monkeypatch.setattr(apart, "lesson_of", run.lesson_of)
    monkeypatch.setattr(apart, "HERE", tmp_path)
    settings["apart"] |= {"labels": 20, "weights": [0.5, 2.0]}
    settings["tuning"] = {"learning_rate": [1e-3]}
    run.write_rows(
        tmp_path / "tuned.csv",
        [{"pair": "vit→resnet", "what": "learning_rate", "value": 1e-3, "validation": 0.5}],
    )
    (tmp_path / "apart").mkdir()
    teacher = run.load_teacher("vit")
    apart.tune_pair(parts, "vit→resnet", teacher, tmp_path / "apart" / "tuned-vit-resnet.csv")
    apart.run_pair(parts, "vit→resnet", teacher, tmp_path)
    arms = ["kd-1", "kd-4", "ofa-1", "ofa-4", "all-4", "all-code"]
    tuned = pd.read_csv(tmp_path / "apart" / "tuned-vit-resnet.csv")
    assert list(tuned.arm) == [arm for arm in arms for _ in range(2)]
    alone = [{"labels": 20, "pair": "vit→resnet", "seed": s, "arm": "ce", "test": 0.25} for s in (0, 1)]
    pd.DataFrame(alone).to_csv(tmp_path / "results.csv", index=False)
    apart.gather(tmp_path)
    rows = pd.read_csv(tmp_path / "apart.csv")
    assert list(rows.arm) == arms * 2
    assert dict(zip(rows.arm, rows.weight, strict=True)) == {
        arm: own.loc[own.validation.idxmax(), "weight"] for arm, own in tuned.groupby("arm")
    }
    gain = 100 * (rows[rows.arm == "kd-4"].test.mean() - 0.25)
    assert f"| kd-4 − student alone | {gain:+.2f} [" in (tmp_path / "apart.md").read_text()


def test_at_gamma_one_ofa_is_the_label_and_the_teacher_in_cross_entropy():
    from torch.nn.functional import cross_entropy

    from repalign.distill.ofa_loss import ofa_loss

    student, teacher = torch.randn(2, 7, 10, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(7)
    expected = cross_entropy(student, labels) + cross_entropy(student, teacher.softmax(1))
    assert ofa_loss(student, teacher, labels) == pytest.approx(float(expected), rel=1e-5)


def test_runs_of_a_seed_share_everything_but_the_arm(scripts, parts, settings):
    training = scripts["training"]
    teacher = scripts["run"].load_teacher("vit")
    lesson = training.prepare_lesson(parts["train"], teacher, 2, 0)
    arms = [training.Arm("ofa3", (3,), 1.0, 1.0), training.Arm("ofa13", (1, 3), 1.0, 1.0)]
    one, two = (
        training._distiller(scripts["students"].build_student("resnet", 3), teacher, arm, settings, lesson)
        for arm in arms
    )
    assert all(torch.equal(a, b) for a, b in zip(one.student.parameters(), two.student.parameters(), strict=True))
    third, same = one.heads["stage3"].state_dict(), two.heads["stage3"].state_dict()
    assert all(torch.equal(third[name], same[name]) for name in third)
    assert one.branch_weight == 2 * two.branch_weight  # the total is the same


def test_the_same_seed_trains_the_same_student(scripts, parts, settings):
    training = scripts["training"]
    teacher = scripts["run"].load_teacher("vit")
    lesson = training.prepare_lesson(parts["train"], teacher, 2, 0)
    arm = training.Arm("ofa2", (2,), 1.0, 1.0)
    first, again = (
        training.train("resnet", teacher, arm, lesson, settings, 1, 1e-3, 5).student.state_dict() for _ in range(2)
    )
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_differences_and_their_null_by_hand(scripts):
    table = scripts["table"]
    arms = {"ce": 30.0, "ofa": 31.0, "ofa1": 32.0, "ofa2": 33.0, "ofa3": 34.0, "ofa4": 37.0, "ofa1234": 36.0}
    kept = {"gap": "ofa4", "lag": "ofa", "knee": "ofa12"}
    said = {contrast.said: contrast.of(arms, kept) for contrast in table.CONTRASTS}
    assert said["gap − mean of the subsets of its size"] == pytest.approx(37 - 34)
    assert said["gap − all stages"] == 1
    assert said["lag − logits only"] == 0
    assert said["lag − mean of the subsets of its size"] is None  # there is one subset of no stage
    assert said["knee − all stages"] is None  # an arm that did not run
    assert table.summary([1.0, 2.0, 3.0]) == "+2.00 [-0.48, +4.48] (3)"  # 2 ± t(0.975, 2) · 1 / √3


def test_decisions_rest_on_the_numbers_they_keep(scripts, parts, tmp_path, settings):
    run = scripts["run"]
    student, teacher = scripts["students"].build_student("resnet", 0), run.load_teacher("vit")
    found = run._look(student, teacher, parts, settings, tmp_path / "seen.json")
    seen = json.loads((tmp_path / "seen.json").read_text())
    cka, high = np.array(seen["cka"]), np.array(seen["ci_high"])
    gap = next(d for d in found if d.rule == "gap")
    assert gap.kept == tuple(k + 1 for k in range(4) if 1 - high[k, k] > settings["methods"]["tau"])
    assert gap.anti == tuple(sorted(int(k) + 1 for k in np.argsort(-np.diag(cka))[: len(gap.kept)]))


def test_the_verdict_says_what_the_tables_hold(scripts):
    from repalign.diagnosis.verdict import ABOUT_OPTIONS, WEIGHTS, WHY_DEFAULT

    table, rows = scripts["table"], pd.read_csv(EXPERIMENT / "results.csv")
    found = table.jobs(rows, pd.read_csv(EXPERIMENT / "decisions.csv"))

    def pooled(said, labels):
        of = next(contrast.of for contrast in table.CONTRASTS if contrast.said == said)
        return round(float(np.mean([of(*job) for key, job in found.items() if key[0] == labels])), 1)

    branches = [pooled("OFA, all stages − logits only", labels) for labels in (500, 2000)]
    assert f"branches added {min(branches)} to {max(branches)} points" in WHY_DEFAULT
    behind = [-pooled(f"OFA, {arm} − KD", n) for arm in ("logits only", "all stages") for n in (500, 2000)]
    assert f"KD gave {min(behind)} to {max(behind)} points more" in WHY_DEFAULT
    apart = pd.read_csv(EXPERIMENT / "apart.csv").pivot(index=["pair", "seed"], columns="arm", values="test")
    warmer = 100 * (apart["kd-4"] - apart["kd-1"]).mean()
    assert f"{warmer:.1f} points better than 1;" in ABOUT_OPTIONS["kd"]
    tried = pd.read_csv(EXPERIMENT / "apart_tuned.csv").query("arm == 'kd-4'")
    tried = 100 * tried.pivot(index="pair", columns="weight", values="validation")
    gain = tried[WEIGHTS["kd"]["logits"]] - tried[1.0]
    assert f"{gain.min():.1f} to {gain.max():.1f} points better than 1 and 1" in ABOUT_OPTIONS["kd"]
    assert (apart["kd-1"] - apart["ofa-1"]).mean() > 0.01  # the heavier teacher that "ofa" speaks of
    assert (apart["all-code"] - apart["ofa-1"]).mean() > 0.01
