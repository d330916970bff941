import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from repalign.distill import CEDistiller, KDDistiller, OFADistiller
from repalign.distill.checkpoint import BEST, LAST, load, save
from repalign.distill.faults import DivergedError
from repalign.distill.labelled import with_validation
from repalign.distill.log import read_lines
from repalign.distill.methods import smoothed
from repalign.distill.optimise import Optimiser
from repalign.distill.sight import sight_of, teacher_input
from repalign.distill.train import Job, Trainer, _leaves_some
from repalign.distill.watch import Watch
from repalign.errors import InputError
from repalign.teaching import load_labelled, load_student, load_teacher


@pytest.fixture
def job(lesson, quick, tmp_path):
    """`job(method, epochs=…, teacher=…)` is ready to train in a folder of its own."""

    def make(kind=OFADistiller, folder="run", teacher="teacher", **changes):
        recipe = quick(**changes)
        data = with_validation(load_labelled(lesson), recipe.validation, recipe.seed)
        student, taught = load_student("python:lesson_nets:student", 3), load_teacher(f"python:lesson_nets:{teacher}")
        student.module.requires_grad_(True)
        given = {"stages": "all"} if kind is OFADistiller else {}
        torch.manual_seed(0)
        distiller = kind(
            student=student.module, teacher=None if kind is CEDistiller else taught.module, num_classes=3,
            example=torch.randn(2, 3, 16, 16), criterion=smoothed(0.0), **given,
            teacher_input=None if kind is CEDistiller else teacher_input(student, taught)[0],
        )  # fmt: skip
        watch = Watch(student, taught, data.validation, 0) if recipe.measure_every else None
        (tmp_path / folder).mkdir(exist_ok=True)
        return Job(distiller, data, recipe, sight_of(student), student.preprocess, tmp_path / folder, watch=watch)

    return make


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("kind", [CEDistiller, KDDistiller, OFADistiller])
def test_a_student_learns_the_colours(job, kind):
    asked = job(kind, epochs=6)
    trained = Trainer(asked).run()
    log = read_lines(asked.folder / "log.jsonl")
    assert [line["epoch"] for line in log] == list(range(1, 7))
    assert log[-1]["train_loss"] < log[0]["train_loss"]
    assert log[-1]["train_loss"] == pytest.approx(sum(log[-1]["losses"].values()), rel=1e-4)
    assert max(line["validation_accuracy"] for line in log) == 1.0
    assert trained.epoch == 6
    assert trained.best_epoch == next(line["epoch"] for line in log if line["validation_accuracy"] == 1.0)
    assert same(load(asked.folder / BEST)["model"], dict(trained.best))
    assert same(asked.distiller.student.state_dict(), dict(trained.student))
    assert not any(p.requires_grad for p in asked.distiller.teacher.parameters())


def test_the_rate_rises_and_falls(job):
    asked = job(CEDistiller, epochs=8, warmup_epochs=2.0, min_rate=0.0, measure_every=0)
    rates = [Optimiser(asked.distiller, asked.recipe, 3, asked.device)]
    seen = [rates[0].rate]
    for _ in range(24):
        rates[0].backward(sum(p.sum() for p in asked.distiller.trainable_parameters()))
        rates[0].step()
        seen.append(rates[0].rate)
    top = seen.index(max(seen))
    assert seen[0] == pytest.approx(1e-5)
    assert 5 <= top <= 7
    assert seen[: top + 1] == sorted(seen[: top + 1])
    assert seen[top:] == sorted(seen[top:], reverse=True)
    assert seen[-1] == pytest.approx(0, abs=1e-9)


def test_a_constant_rate_stays(job):
    asked = job(CEDistiller, scheduler="constant", measure_every=0)
    optimiser = Optimiser(asked.distiller, asked.recipe, 3, asked.device)
    optimiser.schedule.step_update(6)  # the last of two epochs
    assert optimiser.rate == 0.01


def test_what_the_student_exempts_does_not_decay(job):
    asked = job(measure_every=0)
    asked.distiller.student.no_weight_decay = lambda: {"head.weight"}
    groups = Optimiser(asked.distiller, asked.recipe, 3, asked.device).optimiser.param_groups
    decay = {id(p): g["weight_decay"] for g in groups for p in g["params"]}
    named = dict(asked.distiller.named_parameters())
    assert decay[id(named["student.head.weight"])] == 0
    assert decay[id(named["student.blocks.0.conv.weight"])] == 0.05
    assert decay[id(named["student.blocks.0.norm.weight"])] == 0
    assert decay[id(named["heads.stage1.0.0.weight"])] == 0.05
    assert len(decay) == sum(p.requires_grad for p in named.values())


def test_the_gradient_is_bounded(job):
    asked = job(clip=0.01, measure_every=0)
    optimiser = Optimiser(asked.distiller, asked.recipe, 3, asked.device)
    loss = sum((p**2).sum() for p in asked.distiller.trainable_parameters())
    norm = optimiser.backward(loss)
    found = torch.cat([p.grad.flatten() for p in optimiser.parameters]).norm()
    assert float(norm) > 1
    assert float(found) == pytest.approx(0.01, rel=1e-3)


def test_a_run_that_was_stopped_goes_on_exactly(job):
    changes = {"epochs": 4, "ema": 0.9, "mixup": 0.2, "cutmix": 0.5, "auto_augment": "rand-m5", "label_smoothing": 0.1}
    whole = Trainer(job(folder="whole", **changes)).run()

    class Killed(BaseException):
        pass

    def stop(sentence):
        if sentence.startswith("epoch 2/"):
            raise Killed

    stopped = replace(job(folder="part", **changes), say=stop)
    with pytest.raises(Killed):
        Trainer(stopped).run()
    with (stopped.folder / "log.jsonl").open("a") as log:
        log.write('{"epoch": 3, "seconds": 1}\n{"epo')  # a kill behind the checkpoint
    torch.manual_seed(12345)
    again = Trainer(job(folder="part", **changes)).run()
    assert again.epoch == whole.epoch == 4
    assert same(dict(again.student), dict(whole.student))
    assert again.best_epoch == whole.best_epoch
    assert same(dict(again.best), dict(whole.best))
    folders = [job(folder=name, **changes).folder for name in ("whole", "part")]
    logs = [
        [{k: v for k, v in line.items() if k != "seconds"} for line in read_lines(f / "log.jsonl")] for f in folders
    ]
    assert logs[0] == logs[1]
    assert read_lines(folders[0] / "alignment.jsonl") == read_lines(folders[1] / "alignment.jsonl")
    states = [load(f / LAST) for f in folders]
    assert same(states[0]["model"], states[1]["model"])
    assert any(k.startswith("heads.") for k in states[0]["model"])
    assert states[0]["updates"] == states[1]["updates"] > 0


def test_chance_outside_is_left_alone(job):
    asked = job(CEDistiller, epochs=1, measure_every=0)
    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    Trainer(asked).run()
    assert torch.equal(torch.rand(2), wanted)


def test_an_average_is_what_is_judged_and_kept(job):
    asked = job(CEDistiller, epochs=2, ema=0.9, measure_every=0)
    trainer = Trainer(asked)
    trained = trainer.run()
    plain = asked.distiller.student.state_dict()
    assert not torch.equal(trained.student["head.weight"], plain["head.weight"])
    assert torch.equal(trained.student["head.weight"], trainer.ema.module.state_dict()["head.weight"])


def test_precision_of_halves_trains_on_a_cpu_but_not_fp16(job):
    Trainer(job(epochs=1, amp="bf16", measure_every=0)).run()
    with pytest.raises(InputError, match="amp fp16 needs a GPU"):
        Trainer(job(epochs=1, amp="fp16", measure_every=0))


def test_without_validation_the_last_epoch_is_the_best(job):
    trained = Trainer(job(CEDistiller, validation=0.0, measure_every=0)).run()
    assert trained.best_epoch == trained.epoch == 2
    assert same(dict(trained.best), dict(trained.student))


def test_the_alignment_is_measured_on_the_way(job):
    asked = job(epochs=3, measure_every=2)
    Trainer(asked).run()
    rows = read_lines(asked.folder / "alignment.jsonl")
    assert [row["epoch"] for row in rows] == [e for e in (0, 2, 3) for _ in range(2 * len(asked.watch.teacher.stages))]
    assert all(-1 <= row["value"] <= 1 for row in rows)
    assert {row["layer_student"] for row in rows} == {stage.layer.name for stage in asked.distiller.stages()}


def test_the_alignment_of_a_network_with_itself_is_one(job):
    asked = job()
    teacher = load_teacher("python:lesson_nets:teacher")
    watch = Watch(teacher, teacher, asked.data.validation, 0)
    rows = watch.measure(teacher.module, 0)
    assert [r["value"] for r in rows if r["stage_student"] == r["stage_teacher"]] == pytest.approx([1.0] * len(rows))


def test_a_teacher_that_is_not_finite_stops_the_run(job):
    asked = job(teacher="broken", measure_every=0)
    with pytest.raises(DivergedError) as stopped:
        Trainer(asked).run()
    said = str(stopped.value)
    assert "epoch 1, batch 1: the teacher's logits are not finite (12 of the batch's 12 pictures:" in said
    assert "check the teacher's weights" in said
    assert "checkpoints/last.pt, after epoch 0" in said
    assert load(asked.folder / LAST)["epoch"] == 0


def poison(asked, epoch, change):
    """Spoil a job when an epoch has ended."""

    def say(sentence):
        if sentence.startswith(f"epoch {epoch}/"):
            with torch.no_grad():
                change(asked.distiller)

    return replace(asked, say=say)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.heads["stage2"][-1].bias.fill_(float("inf")), r"weights are \(heads.stage2.*bias\) not finite"),
        (lambda d: d.student.head.weight.fill_(float("nan")), r"weights are \(student.head.weight\) not finite"),
        (lambda d: d.student.head.weight.fill_(3e38), "the student's logits are not finite"),
        (lambda d: setattr(d, "branch_weight", float("inf")), "the loss of stage1, stage2 is not finite"),
    ],
)
def test_what_is_not_finite_is_named_and_the_good_checkpoint_kept(job, change, said):
    asked = poison(job(epochs=3, measure_every=0), 1, change)
    with pytest.raises(DivergedError, match=f"epoch 2, batch 1: {said}") as stopped:
        Trainer(asked).run()
    assert "last.pt, after epoch 1" in str(stopped.value)
    kept = load(asked.folder / LAST)
    assert kept["epoch"] == 1
    assert all(torch.isfinite(v).all() for v in kept["model"].values() if v.is_floating_point())


class Sharp(nn.Module):
    """Passes its input on, with a gradient that is infinite."""

    def forward(self, x):
        return x + torch.sqrt((x - x.detach()).abs().sum())


def test_an_infinite_gradient_is_found_before_it_spoils_a_weight(job):
    asked = job(measure_every=0)
    asked.distiller.student.drop = Sharp()
    with pytest.raises(DivergedError, match=r"epoch 1, batch 1: the loss is finite, but gradients \(student.blocks"):
        Trainer(asked).run()
    assert all(torch.isfinite(p).all() for p in asked.distiller.student.parameters())


def test_a_picture_that_is_not_finite_is_named(job):
    asked = job(CEDistiller, measure_every=0)
    trainer = Trainer(asked)
    plain = trainer.normalise.forward

    def spoil(pictures):
        x = plain(pictures)
        x[3, 0, 0, 0] = float("nan")
        return x

    trainer.normalise.forward = spoil
    with pytest.raises(
        DivergedError, match=r"the pictures' own values are not finite \(1 of the batch's 12 pictures: "
    ):
        trainer.run()


def test_a_bad_statistic_is_not_saved(job):
    asked = job(CEDistiller, epochs=2, measure_every=0)
    trainer = Trainer(asked)
    steps = trainer._steps

    def spoil(epoch, runs):
        found = steps(epoch, runs)
        if epoch == 2:
            asked.distiller.student.blocks[0].norm.running_var.fill_(float("inf"))
        return found

    trainer._steps = spoil
    with pytest.raises(DivergedError, match=r"after epoch 2: student.blocks.0.norm.running_var"):
        trainer.run()
    assert load(asked.folder / LAST)["epoch"] == 1


def test_a_checkpoint_of_another_setup_is_refused(job):
    Trainer(job(CEDistiller, epochs=1, measure_every=0)).run()
    with pytest.raises(InputError, match=r"does not fit this distiller: heads.stage1"):
        Trainer(job(OFADistiller, epochs=1, measure_every=0)).run()


def test_a_damaged_checkpoint_is_named(job):
    asked = job(CEDistiller, epochs=1, measure_every=0)
    Trainer(asked).run()
    (asked.folder / LAST).write_bytes(b"half")
    with pytest.raises(InputError, match=r"last.pt can't be read .*start the run again with --force"):
        Trainer(job(CEDistiller, epochs=1, measure_every=0)).run()


def test_a_best_that_is_newer_than_the_last_checkpoint_is_said_as_it_is(job):
    asked = job(CEDistiller, epochs=1, measure_every=0)
    Trainer(asked).run()
    save(load(asked.folder / BEST) | {"epoch": 7, "accuracy": 2.0}, asked.folder / BEST)  # killed before last.pt
    again = Trainer(job(CEDistiller, epochs=2, measure_every=0)).run()
    assert (again.epoch, again.best_epoch) == (2, 7)


def test_a_student_with_a_layer_that_it_does_not_use_is_found(job):
    asked = job(CEDistiller, measure_every=0)
    state = asked.distiller.learned()
    state = {k: v.clone() for k, v in state.items()}
    assert not _leaves_some(asked.distiller, asked.sight.size, asked.device)
    assert same(state, asked.distiller.learned())
    assert asked.distiller.student.training
    assert all(p.grad is None for p in asked.distiller.parameters())
    asked.distiller.student.spare = nn.Linear(2, 2)
    assert _leaves_some(asked.distiller, asked.sight.size, asked.device)


def test_a_step_that_overflowed_moves_neither_the_rate_nor_the_count(job):
    asked = job(CEDistiller, measure_every=0, warmup_epochs=1.0)
    optimiser = Optimiser(asked.distiller, asked.recipe, 3, asked.device)

    class Overflows:
        scale = 4.0
        get_scale = lambda self: self.scale  # noqa: E731
        step = lambda self, optimiser: None  # noqa: E731

        def update(self):
            self.scale /= 2

    rate, optimiser.scaler = optimiser.rate, Overflows()
    optimiser.step()
    assert (optimiser.updates, optimiser.rate) == (0, rate)


def test_what_tensorboard_gets_is_there(job):
    pytest.importorskip("tensorboard")
    asked = job(epochs=1)
    trained = Trainer(asked).run()
    assert trained.notes == ()
    assert list((asked.folder / "tensorboard").glob("events.*"))


def test_a_missing_tensorboard_is_a_note(job, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    trained = Trainer(job(CEDistiller, epochs=1, measure_every=0)).run()
    assert "tensorboard is not installed" in trained.notes[0]


def test_the_log_is_plain_json(job):
    asked = job(CEDistiller, epochs=1, validation=0.0, measure_every=0)
    Trainer(asked).run()
    line = json.loads((asked.folder / "log.jsonl").read_text())
    assert line["validation_accuracy"] is None
    assert set(line) == {
        "epoch", "seconds", "lr", "losses", "train_loss", "validation_accuracy", "validation_nll", "gradient_norm"
    }  # fmt: skip
