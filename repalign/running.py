"""Plans become sides: which stimuli are held in memory, in which precision encoders run, one pass for all of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from repalign.chunks import How
from repalign.encoders.group import Subjects
from repalign.errors import InputError
from repalign.extract import Extracted, Request, extract, extract_large
from repalign.metrics import Metric
from repalign.pooling import Pool, can_pool
from repalign.precision import PrecisionCheck, check_precision, sample_size, without_check
from repalign.progress import Track
from repalign.side import Options, Side
from repalign.storage import Storage
from repalign.subset import subset
from repalign.together import Together
from repalign.types import Activations, Encoder, Layer, Stimuli
from repalign.viewing import View


@dataclass(frozen=True)
class Loaded:
    """An encoder or saved features, which may be those of several subjects."""

    source: Encoder | Activations
    subjects: Subjects | None = None


@dataclass(frozen=True)
class Plan:
    """What one side is made of: what it sees, and the layers to be recorded."""

    loaded: Loaded
    view: View
    layers: tuple[Layer, ...]
    notes: tuple[str, ...]

    def requests(self, pools: Sequence[Pool]) -> list[Request]:
        """Ask for the layers under the first pool, and under every other that can serve all of them."""
        first, *others = pools
        able = [p for p in others if all(can_pool(layer, p) is None for layer in self.layers)]
        encoder: Encoder = self.loaded.source  # type: ignore[assignment]  saved features make no requests
        return [Request(encoder, self.layers, pool, self.view.filter) for pool in (first, *able)]


@dataclass(frozen=True)
class Run:
    """What all passes of a comparison share."""

    options: Options
    device: torch.device
    storage: Storage
    together: Together
    track: Track

    @property
    def how(self) -> How:
        """Say how encoders run, before a precision is chosen."""
        options = self.options
        return How(self.device, options.batch_size, options.workers, "fp32", options.compiled)

    def extract(self, requests: Sequence[Request], stimuli: Stimuli, how: How) -> list[Extracted]:
        """Run requests over stimuli; of too many, a subset is held in memory."""
        options = self.options
        if len(stimuli) > options.max_pairwise:
            keep = subset(len(stimuli), stimuli.groups, options.max_pairwise, options.seed)
            return extract_large(
                requests, stimuli, keep, self.storage.spill(), how, skip_unreadable=options.skip_unreadable,
                track=self.track, together=self.together,
            )  # fmt: skip
        found = extract(
            requests, stimuli, how, skip_unreadable=options.skip_unreadable, track=self.track,
            cache=self.storage.cache, together=self.together,
        )  # fmt: skip
        return [Extracted(one, one.ids) for one in found]


def run_sides(
    plans: Sequence[Plan], pools: Sequence[Pool], run: Run, metrics: Sequence[Metric], pairs: str
) -> list[Side]:
    """Extract all sides; those that see the same stimuli share one pass over the pictures."""
    sides: dict[int, Side] = {}
    for k, plan in enumerate(plans):
        if isinstance(saved := plan.loaded.source, Activations):
            if run.together.world > 1:
                raise InputError(f"{saved.encoder} holds saved features; only encoders are shared by processes")
            notes = tuple(map(str, saved.meta.get("notes", ())))  # type: ignore[call-overload]
            sides[k] = Side(
                saved, None, plan.view.stimuli, (), notes, subjects=plan.loaded.subjects, ids=saved.ids
            )  # fmt: skip
    networks = {k: p for k, p in enumerate(plans) if k not in sides}
    check = _check(list(networks.values()), pools, run, metrics, pairs) if networks else None
    how = replace(run.how, precision=check.chosen if check else asked_precision(run.options))
    for stimuli in {id(p.view.stimuli): p.view.stimuli for p in networks.values()}.values():
        assert stimuli is not None  # a plan for an encoder has some
        wanted = [(k, r) for k, p in networks.items() if p.view.stimuli is stimuli for r in p.requests(pools)]
        found = run.extract([request for _, request in wanted], stimuli, how)
        for k in dict.fromkeys(k for k, _ in wanted):
            own, *others = [x for (j, _), x in zip(wanted, found, strict=True) if j == k]
            plan = networks[k]
            sides[k] = Side(
                own.activations, plan.loaded.source, stimuli, plan.layers, plan.notes,  # type: ignore[arg-type]
                {x.activations.pool: x.activations for x in others}, filter=plan.view.filter, rows=own.rows,
                ids=own.ids, how=how, check=check,
            )  # fmt: skip
    return [sides[k] for k in range(len(plans))]


def asked_precision(options: Options) -> str:
    """Take the precision that was asked for; without measures to decide by, `auto` is float32."""
    return "fp32" if options.precision == "auto" else options.precision


def _check(
    plans: Sequence[Plan], pools: Sequence[Pool], run: Run, metrics: Sequence[Metric], pairs: str
) -> PrecisionCheck | None:
    """Choose the precision where the choice is left to us; several processes choose alike."""
    stimuli = plans[0].view.stimuli
    if run.options.precision != "auto" or stimuli is None or not metrics:
        return None
    n = len(stimuli)
    found = without_check(run.device, n)
    if found is None:
        index = subset(n, stimuli.groups, sample_size(n), run.options.seed)
        found = check_precision(_sampler(plans, pools[0], run, index), metrics, n, pairs)
    return agreed(found, run)


def agreed(found: PrecisionCheck, run: Run) -> PrecisionCheck:
    """Take bfloat16 where every process does."""
    if run.together.world == 1:
        return found
    votes = run.together.sum_(torch.tensor(float(found.chosen == "bf16"), device=run.device))
    if found.chosen == "fp32" or votes == run.together.world:
        return found
    return replace(found, chosen="fp32", reason="another process can't run in bfloat16, or saw it change a score")


def _sampler(
    plans: Sequence[Plan], pool: Pool, run: Run, index: Sequence[int]
) -> Callable[[str], tuple[Activations, Activations]]:
    """Give a function that runs both sides on a few stimuli in a precision."""

    def sample(precision: str) -> tuple[Activations, Activations]:
        how, found = replace(run.how, precision=precision), {}
        for stimuli in {id(p.view.stimuli): p.view.stimuli for p in plans}.values():
            assert stimuli is not None  # a plan for an encoder has some
            own = [(k, p) for k, p in enumerate(plans) if p.view.stimuli is stimuli]
            requests = [p.requests([pool])[0] for _, p in own]
            ran = extract(requests, stimuli.take(index), how, skip_unreadable=True)
            found |= {k: one for (k, _), one in zip(own, ran, strict=True)}
        left, right = found[0], found[len(plans) - 1]
        there = set(right.ids)
        ids = [name for name in left.ids if name in there]
        return left.join(ids), left.join(ids) if right is left else right.join(ids)

    return sample
