"""The training loop: any distiller, a recipe, and a folder from which a run that was stopped goes on exactly."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

from repalign.distill.augment import augmentation
from repalign.distill.base import Distiller
from repalign.distill.checkpoint import BEST, LAST, finite, load, save, state_of
from repalign.distill.evaluate import Preprocess, Scores
from repalign.distill.faults import bad_weights, diverged, not_finite
from repalign.distill.feed import Feed, Order, Shown, fitting_batch, kept_randomness, seed_randomness
from repalign.distill.labelled import Labelled
from repalign.distill.log import Log
from repalign.distill.methods import total
from repalign.distill.mixing import Mix
from repalign.distill.optimise import Optimiser
from repalign.distill.recipe import Recipe
from repalign.distill.sight import Normalise, Sight
from repalign.distill.validation import Validation
from repalign.distill.watch import Watch
from repalign.together import ALONE, Together

EPOCH_STREAM, GPU_STREAM = 6, 7  # keep what chance does in the loop (drop-out, mixing) apart from other draws of a seed


@dataclass(frozen=True)
class Job:
    """What shall be trained, on what, and where it is written.

    The distiller is on `device`. `sight` and `preprocess` are the student's; `say` gets a sentence an epoch.
    """

    distiller: Distiller
    data: Labelled
    recipe: Recipe
    sight: Sight
    preprocess: Preprocess
    folder: Path
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    together: Together = ALONE
    watch: Watch | None = None
    say: Callable[[str], None] = lambda _: None


@dataclass(frozen=True)
class Trained:
    """Where training ended: the epochs whose weights `student` (last) and `best` hold, and notes on the way."""

    epoch: int
    best_epoch: int
    student: Mapping[str, Tensor]
    best: Mapping[str, Tensor]
    notes: tuple[str, ...]


@final
class Trainer:
    """Trains, epoch after epoch, from the folder's last checkpoint where there is one.

    Every epoch seeds what chance does in it, so that a run that goes on does what it would have done: on a CPU the
    final weights are the same bit for bit. Process 0 evaluates and writes; where weights are averaged, the average.
    """

    def __init__(self, job: Job) -> None:
        recipe, world = job.recipe, job.together.world
        self.job, self.recipe, self.device = job, recipe, job.device
        self.distiller, self.data = job.distiller, job.data
        self.student = job.distiller.student
        size = fitting_batch(recipe.batch_size, len(job.data.train), recipe.mixes, world)
        shown = Shown(job.data, augmentation(recipe, job.sight), recipe.seed)
        order = Order(len(job.data.train), size, recipe.seed, job.together)
        self.feed = Feed(shown, order, recipe.workers, pin=job.device.type == "cuda")
        self.normalise = Normalise(job.sight).to(job.device)
        self.mix = Mix(recipe, len(job.data.classes))
        self.optimiser = Optimiser(job.distiller, recipe, len(self.feed), job.device)
        self.validation = Validation(job.data, job.preprocess, job.sight.size, job.device)
        self.ema = _average(self.student, recipe) if job.together.first else None
        self.best: dict[str, float] = {"epoch": 0, "accuracy": -1.0}
        self.done = self._saved = 0

    @property
    def judged(self) -> nn.Module:
        """Give the network that is evaluated and saved: the student, or the average of its weights."""
        return self.student if self.ema is None else self.ema.module

    def run(self) -> Trained:
        """Train to the last epoch and read back the weights of the last and the best.

        Raises DivergedError when a number is not finite, InputError for a checkpoint of another setup.
        """
        last = self.job.folder / LAST
        resumed = last.is_file()
        if resumed:
            self._load(load(last))
        log = Log(self.job.folder, self.done if resumed else -1) if self.job.together.first else None
        try:
            with kept_randomness():
                runs = self._spread()
                if not resumed and log is not None:
                    self._begin(log)
                for epoch in range(self.done + 1, self.recipe.epochs + 1):
                    self._epoch(epoch, runs, log)
        finally:
            if log is not None:
                log.close()
        return self._trained(log)

    def _spread(self) -> nn.Module:
        """Wrap the distiller so that several processes share its gradients; alone it stays as it is."""
        self.distiller.train()
        if self.job.together.world == 1:
            return self.distiller
        ids = [self.device] if self.device.type == "cuda" else None
        unused = _leaves_some(self.distiller, self.job.sight.size, self.device)
        return nn.parallel.DistributedDataParallel(self.distiller, device_ids=ids, find_unused_parameters=unused)

    def _begin(self, log: Log) -> None:
        """Write the start as epoch 0: what is there before training, and a checkpoint to come back to."""
        self._measure(0, log)
        self._save()

    def _epoch(self, epoch: int, runs: nn.Module, log: Log | None) -> None:
        """Train one epoch, judge, log, and write the checkpoint last."""
        began = time.perf_counter()
        seed_randomness(self.recipe.seed, EPOCH_STREAM, epoch, self.job.together.rank)
        _seed_gpu(self.recipe.seed, epoch, self.job.together.rank, self.device)
        sums = self._steps(epoch, runs)
        self.done = epoch
        if log is None:
            return
        self._check_weights(epoch)
        found = self.validation.scores(self.judged)
        values = self._line(epoch, sums, found, time.perf_counter() - began)
        log.epoch(values)
        if _due(epoch, self.recipe):
            self._measure(epoch, log)
        self._keep_best(epoch, found)
        self._save()
        self.job.say(_sentence(values, self.recipe.epochs))

    def _steps(self, epoch: int, runs: nn.Module) -> dict[str, float]:
        """Take the steps of an epoch; give the means of the losses, and of the gradient's norm."""
        sums: dict[str, Tensor] = {}
        for number, (pixels, targets, index) in enumerate(self.feed.epoch(epoch), 1):
            x = self.normalise(pixels.to(self.device, non_blocking=True))
            x, y = self.mix(x, targets.to(self.device, non_blocking=True))
            with self.optimiser.autocast():
                losses, logits = runs(x, y, index.to(self.device, non_blocking=True))
                loss = total(losses)
            norm = self.optimiser.backward(loss)
            if not torch.isfinite(loss.detach() + norm) and not (torch.isfinite(loss) and self.optimiser.skips()):
                with self.optimiser.autocast():
                    raise self._fault(epoch, number, x, losses, logits, index)
            self.optimiser.step()
            if self.ema is not None:
                self.ema.update(self.student, self.optimiser.updates)
            for name, value in (*losses.items(), ("total", loss), ("gradient", norm)):
                sums[name] = sums.get(name, torch.zeros((), device=self.device)) + value.detach().float()
        return self._means(sums)

    def _means(self, sums: dict[str, Tensor]) -> dict[str, float]:
        """Average sums over the steps of an epoch and over processes."""
        added = self.job.together.sum_(torch.stack(list(sums.values())).double().cpu())
        means = added / (len(self.feed) * self.job.together.world)
        return dict(zip(sums, means.tolist(), strict=True))

    def _fault(
        self, epoch: int, number: int, x: Tensor, losses: Mapping[str, Tensor], logits: Tensor, index: Tensor
    ) -> Exception:
        ids = [self.data.train.ids[i] for i in index.tolist()]
        return diverged(self.distiller, x, dict(losses), logits, ids, f"epoch {epoch}, batch {number}", self._kept())

    def _kept(self) -> str:
        return f"{self.job.folder / LAST}, after epoch {self._saved}"

    def _check_weights(self, epoch: int) -> None:
        """Raise DivergedError rather than let a bad weight overwrite the last good checkpoint."""
        state = self.distiller.learned()
        if not finite(state):
            raise bad_weights(not_finite(state), f"after epoch {epoch}", self._kept())

    def _line(self, epoch: int, means: dict[str, float], found: Scores | None, seconds: float) -> dict[str, Any]:
        """Lay out an epoch's line of the log."""
        losses = {name: value for name, value in means.items() if name not in ("total", "gradient")}
        return {
            "epoch": epoch, "seconds": round(seconds, 3), "lr": self.optimiser.rate, "losses": losses,
            "train_loss": means["total"], "validation_accuracy": found.accuracy if found else None,
            "validation_nll": found.nll if found else None, "gradient_norm": means["gradient"],
        }  # fmt: skip

    def _measure(self, epoch: int, log: Log) -> None:
        if self.job.watch is not None:
            log.alignment(self.job.watch.measure(self.judged, epoch))

    def _keep_best(self, epoch: int, found: Scores | None) -> None:
        """Write the weights that did best on validation so far; of equal ones the first."""
        if found is not None and found.accuracy > self.best["accuracy"]:
            self.best = {"epoch": epoch, "accuracy": found.accuracy}
            save(self.best | {"model": state_of(self.judged)}, self.job.folder / BEST)

    def _save(self) -> None:
        """Write everything that a run needs to go on; chance is seeded anew every epoch, so no generator is kept."""
        average = {} if self.ema is None else {"model_ema": state_of(self.ema.module)}
        state = {"epoch": self.done, "best": self.best, "model": self.distiller.learned(), **average}
        save(state | self.optimiser.state(), self.job.folder / LAST)
        self._saved = self.done

    def _load(self, state: dict[str, Any]) -> None:
        """Go on from what `_save` wrote."""
        self.distiller.load_learned(state["model"])
        if self.ema is not None:
            self.ema.module.load_state_dict(state["model_ema"])
        self.optimiser.load(state)
        self.best, self.done = dict(state["best"]), int(state["epoch"])
        self._saved = self.done
        if (best := self.job.folder / BEST).is_file():  # a run killed between the two files has a newer best
            self.best = {key: load(best)[key] for key in ("epoch", "accuracy")}

    def _trained(self, log: Log | None) -> Trained:
        last = state_of(self.judged)
        best = self.job.folder / BEST
        notes = log.notes if log is not None else ()
        if log is None or not best.is_file():
            return Trained(self.done, self.done, last, last, notes)
        return Trained(self.done, int(self.best["epoch"]), last, load(best)["model"], notes)


def _average(student: nn.Module, recipe: Recipe) -> Any:  # noqa: ANN401  timm's average, or None
    """Begin the average of the student's weights, whose decay rises from 0 to the recipe's."""
    if not recipe.ema:
        return None
    from timm.utils import ModelEmaV3  # pyright: ignore[reportPrivateImportUsage]

    return ModelEmaV3(student, decay=recipe.ema, use_warmup=True)


def _due(epoch: int, recipe: Recipe) -> bool:
    """Tell whether the alignment is measured after an epoch: every few ones, and after the last."""
    return epoch == recipe.epochs or bool(recipe.measure_every and epoch % recipe.measure_every == 0)


def _seed_gpu(seed: int, epoch: int, rank: int, device: torch.device) -> None:
    if device.type == "cuda":
        key = [seed, GPU_STREAM, epoch, *([rank] if rank else [])]
        torch.cuda.manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))


def _leaves_some(distiller: Distiller, size: tuple[int, int], device: torch.device) -> bool:
    """Tell whether a backward pass leaves parameters without a gradient, for which processes would wait for ever."""
    distiller.eval()  # so that neither a norm's statistics nor a memory changes
    rows = torch.arange(2, device=device)
    losses, _ = distiller(torch.randn(2, 3, *size).to(device), rows, rows)
    total(losses).backward()
    found = any(p.requires_grad and p.grad is None for p in distiller.parameters())
    distiller.zero_grad(set_to_none=True)
    distiller.train()
    return found


def _sentence(values: Mapping[str, Any], epochs: int) -> str:
    """Say how an epoch went."""
    accuracy = values["validation_accuracy"]
    judged = "" if accuracy is None else f", validation {accuracy:.1%}"
    return f"epoch {values['epoch']}/{epochs}: loss {values['train_loss']:.4g}{judged}, {values['seconds']:.0f} s"
