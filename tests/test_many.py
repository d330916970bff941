"""Many encoders under many conditions: whole, resumable after any kill, and honest about what failed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock
from many_design import DESIGN, SLUGS, SMALL, TABLES, refuse
from PIL import Image
from scipy.stats import t as student

import repalign as ra
from repalign.design import read_design
from repalign.errors import InputError, RepalignError, RepalignWarning
from repalign.gather import encoder_map
from repalign.infer.jackknife import degrees_of_freedom
from repalign.many import run_study
from repalign.metrics import parse_metric
from repalign.parts import Part


def test_a_study_holds_every_encoder_and_condition_and_names_what_failed(study):
    folder = study.folder
    meta = json.loads((folder / "study.json").read_text())
    assert [e["id"] for e in meta["encoders"]] == SLUGS
    assert meta["families"] == ["CNN", "ViT", "windowed"]
    assert [(f["name"], f["family"]) for f in meta["failed"]] == [("python:tinynets:nothing", "ViT")]
    assert "nothing" in meta["failed"][0]["error"]
    assert meta["choices"] == ["None of this is real."]
    assert [c["id"] for c in meta["conditions"]] == ["cat60", "red"]
    assert [len(c["control_filters"]) for c in meta["conditions"]] == [2, 0]
    for encoder in meta["encoders"]:
        assert all((folder / page).is_file() for page in encoder["report"].values())
        assert encoder["transfer"]["cat60"][0]["pixels"] == 16
        assert encoder["transfer"]["red"] == []
    assert all((folder / copy).is_file() for thumb in meta["thumbs"] for copy in thumb["copies"].values())
    assert len(meta["thumbs"]) == 12
    assert (folder / "report.html").stat().st_size > 10_000
    assert not list(folder.rglob(".*.part"))

    alignment = pd.read_csv(folder / "alignment.csv")
    assert len(alignment) == 2 * 2 * 2 * 9  # encoders, conditions, metrics, pairs of layers
    for slug in SLUGS:
        for condition in ("cat60", "red"):
            part = pd.read_csv(folder / "parts" / slug / condition / "alignment.csv")
            own = alignment[(alignment["encoder"] == slug) & (alignment["condition"] == condition)]
            assert np.array_equal(own["value"].to_numpy(), part["value"].to_numpy(), equal_nan=True)


def test_the_ranking_is_by_the_mean_over_layers_and_its_differences_are_paired(study):
    ranking = pd.read_csv(study.folder / "ranking.csv")
    alignment = pd.read_csv(study.folder / "alignment.csv")
    own = alignment[alignment["layer_a"] == alignment["layer_b"]]
    means = own.groupby(["condition", "metric", "encoder"])["value"].mean()
    for (condition, metric), rows in ranking.groupby(["condition", "metric"], sort=False):
        known = rows[rows["mean"].notna()]
        assert list(rows["rank"]) == sorted(rows["rank"])
        assert known["mean"].is_monotonic_decreasing
        best = known.iloc[0]
        assert best["difference"] == 0
        for _, row in known.iterrows():
            assert row["mean"] == pytest.approx(means[condition, metric, row["encoder"]], rel=1e-12)
            assert row["difference"] == pytest.approx(row["mean"] - best["mean"], abs=1e-12)
            assert row["mean_low"] <= row["mean"] <= row["mean_high"]


def test_encoders_are_mapped_by_what_they_say_of_the_originals(study, nets, photos):
    table = pd.read_csv(study.folder / "map.csv").set_index(["encoder_a", "encoder_b"])["similarity"]
    assert len(table) == 4
    assert all(table[slug, slug] == 1 for slug in SLUGS)
    with pytest.warns(RepalignWarning, match="the same for every stimulus"):
        scores = ra.compare(f"{nets}:net", f"{nets}:dead", str(photos), ["cka_linear"], groups="none")[
            "cka_linear"
        ].scores
    assert table[SLUGS[0], SLUGS[1]] == pytest.approx(np.nanmean(np.diagonal(scores)), rel=1e-12)  # the same depths
    assert table[SLUGS[0], SLUGS[1]] == table[SLUGS[1], SLUGS[0]]


def test_a_finished_study_is_gathered_again_without_computing(study, design, monkeypatch):
    before = {name: (study.folder / name).read_bytes() for name in TABLES}
    ran = []

    def counted(comparison, track, known):
        ran.append(comparison.a)
        raise RepalignError("no")

    monkeypatch.setattr("repalign.many.run", counted)
    again = run_study(read_design(design), study.folder)
    assert ran == ["python:tinynets:nothing"]
    assert again.kept == 4
    assert {name: (study.folder / name).read_bytes() for name in TABLES} == before


def test_other_settings_are_not_mixed_with_finished_parts(study, design):
    with pytest.raises(InputError, match=r"another configuration \(permutations: 19, now 99\).*--force"):
        run_study(read_design(design, {"permutations": 99}), study.folder)
    design.write_text(SMALL)
    for _ in range(2):
        done = run_study(read_design(design, {"permutations": 99}), study.folder, force=True)
        assert done.kept == 0
        assert json.loads((study.folder / "study.json").read_text())["n_permutations"] == 99


def test_a_refused_run_leaves_the_design_as_it_was(study, design):
    before = (study.folder / "design.json").read_bytes()
    with pytest.raises(InputError, match="another configuration"):
        run_study(read_design(design, {"permutations": 99}), study.folder)
    assert (study.folder / "design.json").read_bytes() == before


def test_a_condition_may_be_put_before_the_first(study, design):
    new = '[[conditions]]\nid = "grey"\nfilter = "grey"\ncontrols = false\n'
    design.write_text(DESIGN.replace("[[conditions]]", new + "[[conditions]]", 1))
    before = pd.read_csv(study.folder / "map.csv")
    done = run_study(read_design(design), study.folder)
    assert done.kept == 4
    assert list(dict.fromkeys(pd.read_csv(study.folder / "alignment.csv")["condition"])) == ["grey", "cat60", "red"]
    pd.testing.assert_frame_equal(pd.read_csv(study.folder / "map.csv"), before)


def test_the_designs_device_and_batch_stand_unless_others_are_given(cli, design, tmp_path):
    design.write_text('device = "cpu"\nbatch_size = 5\n' + SMALL)
    assert cli("study", design, "--out", "S")[0] == 1
    meta = json.loads((tmp_path / "S" / "parts" / SLUGS[0] / "red" / "study.json").read_text())
    assert (meta["config"]["device"], meta["config"]["batch_size"]) == ("cpu", 5)


def test_parts_computed_on_other_pictures_are_refused(study, design, photos):
    victim = next(photos.rglob("*.png"))
    Image.new("RGB", (40, 30), "red").save(victim)
    shutil.rmtree(study.folder / "parts" / SLUGS[1])
    with pytest.raises(InputError, match="other pictures"):
        run_study(read_design(design), study.folder)


def test_a_folder_that_is_something_else_is_left_alone(design, photos, tmp_path):
    with pytest.raises(InputError, match="no study of many encoders"):
        run_study(read_design(design), photos)
    with pytest.raises(InputError, match="does not exist; make it first"):
        run_study(read_design(design), tmp_path / "a" / "b")


def test_two_runs_do_not_share_a_folder(study, design):
    with FileLock(study.folder / ".lock"), pytest.raises(InputError, match="another run works on"):
        run_study(read_design(design), study.folder)


def test_a_study_without_any_encoder_says_all_reasons(design, tmp_path, photos):
    text = (
        DESIGN.split("[[encoders]]")[0]
        + '[[encoders]]\nname = "python:tinynets:nothing"\n'
        + DESIGN[DESIGN.index("[[cond") :]
    )
    design.write_text(text)
    with pytest.raises(RepalignError, match="every encoder failed: python:tinynets:nothing"):
        run_study(read_design(design), tmp_path / "S")


def test_the_command_reports_failures_last_and_ends_with_one(cli, design, tmp_path):
    design.write_text(SMALL)
    code, out, err = cli("study", design, "--out", "S")
    assert code == 1
    assert "report.html" in out
    assert err.strip().splitlines()[-1].startswith("repalign: 1 encoder failed: python:tinynets:nothing")
    assert cli("report", "S")[0] == 0


def test_a_study_killed_again_and_again_ends_with_the_same_bytes(study, design, tmp_path):
    """Killed while its first part is computed, after that part, and after another; then left to finish."""
    folder = tmp_path / "K"
    command = [sys.executable, "-m", "repalign", "study", str(design), "--out", "K"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    for parts in (0, 1, 2):
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while process.poll() is None and not _reached(folder, parts):
            time.sleep(0.02)
        assert process.poll() is None, "it was over before it could be killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (folder / "alignment.csv").exists()
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr  # one encoder does not exist
    for name in TABLES:
        assert (folder / name).read_bytes() == (study.folder / name).read_bytes(), name
    assert not list(folder.rglob(".*.part"))


def _reached(folder: Path, parts: int) -> bool:
    begun = any(folder.glob("parts/*")) if parts == 0 else False
    return begun or 0 < parts <= len(list(folder.glob("parts/*/*/study.json")))


def test_the_difference_of_two_encoders_is_the_jackknife_of_their_difference(study):
    ranking = pd.read_csv(study.folder / "ranking.csv")
    cka = ranking[ranking["metric"].str.startswith("cka") & (ranking["condition"] == "cat60")].set_index("encoder")
    best, other = cka.index[:2]
    lost = [_deleted(study.folder, one) for one in (other, best)]
    theta = lost[0] - lost[1]
    assert len(theta) == 12
    se = np.sqrt(11 / 12 * ((theta - theta.mean()) ** 2).sum())
    half = student.ppf(0.975, degrees_of_freedom(theta)) * se
    row = cka.loc[other]
    assert [row["difference_low"], row["difference_high"]] == pytest.approx(
        [row["difference"] - half, row["difference"] + half], rel=1e-9
    )


def _deleted(folder, encoder):
    table = pd.read_csv(folder / "parts" / encoder / "cat60" / "deleted.csv")
    return table[table["metric"].str.startswith("cka")]["value"].to_numpy()


def test_a_study_that_goes_on_says_how_much_was_there(study, design, cli, monkeypatch):
    monkeypatch.setattr("repalign.many.run", refuse)
    out = cli("study", design, "--out", study.folder)[1]
    assert "4 of 6 parts were there already" in out


def test_the_ranking_counts_the_layers_with_a_score(study):
    ranking = pd.read_csv(study.folder / "ranking.csv").set_index(["condition", "encoder", "metric"])
    for (condition, encoder, metric), row in ranking.iterrows():
        summary = pd.read_csv(study.folder / "parts" / encoder / condition / "summary.csv").set_index("metric")
        assert row["layers"] == summary.loc[metric, "layers"] == (3 if encoder == SLUGS[0] else 1)
    assert "over 1 of 3 layers" in (study.folder / "report.html").read_text()


def test_a_metric_that_is_not_symmetric_is_mapped_both_ways(study, design):
    metric = parse_metric("linear_predictivity")
    parts = [
        Part(encoder, read_design(design).conditions[0], study.folder / "parts" / encoder.slug / "cat60")
        for encoder in read_design(design).encoders
        if encoder.slug in SLUGS
    ]
    with pytest.warns(RepalignWarning, match="has no score"):
        table, turned = (
            encoder_map(some, metric, read_design(design)).set_index(["encoder_a", "encoder_b"])["similarity"]
            for some in (parts, parts[::-1])
        )
    assert table[SLUGS[0], SLUGS[1]] != table[SLUGS[1], SLUGS[0]]
    assert all(table[pair] == turned[pair] for pair in table.index)


@pytest.mark.parametrize(
    ("extra", "again"), [((), "the same command goes on"), (("--force",), "the same command without --force goes on")]
)
def test_ctrl_c_says_that_finished_parts_are_kept(study, design, cli, monkeypatch, extra, again):
    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("repalign.many.run_study", stop)
    code, _, err = cli("study", design, "--out", study.folder, *extra)
    assert code == 130
    assert err.strip() == f"repalign: interrupted; finished parts are kept, and {again}"
