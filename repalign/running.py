"""Plans become sides: which stimuli are held in memory, in which precision encoders run, one pass for all of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from repalign.align import room_for
from repalign.chunks import CHUNK, How
from repalign.encoders.group import Subjects
from repalign.errors import InputError
from repalign.extract import Extracted, Request, extract, extract_large
from repalign.memory import budget
from repalign.metrics import Metric
from repalign.metrics.cka import LinearCKA
from repalign.pooling import Pool, can_pool
from repalign.precision import PrecisionCheck, check_precision, sample_size, without_check
from repalign.progress import Track
from repalign.side import Options, Side
from repalign.storage import Storage
from repalign.streaming.panels import check_room
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
        return How(self.device, options.batch_size, options.workers, "fp32", options.compiled, options.seed)

    def extract(self, requests: Sequence[Request], stimuli: Stimuli, how: How) -> list[Extracted]:
        """Run requests over stimuli; of too many, a subset is held in memory."""
        options = self.options
        if len(stimuli) > options.max_pairwise:
            return self._extract_large(requests, stimuli, how)
        found = extract(
            requests, stimuli, how, skip_unreadable=options.skip_unreadable, track=self.track,
            cache=self.storage.cache, together=self.together,
        )  # fmt: skip
        return [Extracted(one, one.ids) for one in found]

    def _extract_large(self, requests: Sequence[Request], stimuli: Stimuli, how: How) -> list[Extracted]:
        """Run all stimuli under the first pooling, and those that are held under the others, which nobody streams."""
        options = self.options
        if self.together.world > 1 and stimuli.groups is not None:
            raise InputError(
                f"{stimuli.name} has groups, which several processes can't share when there are more than "
                f"--max-pairwise {options.max_pairwise:,} stimuli; run one process, or give --groups none"
            )
        keep = subset(len(stimuli), stimuli.groups, options.max_pairwise, options.seed)
        main = requests[0].pool
        if main.method == "flatten" and not main.features:
            found = extract(  # whole maps are too wide for sums over all stimuli: none but the subset is run
                requests, stimuli.take(keep), how, skip_unreadable=options.skip_unreadable, track=self.track,
                cache=self.storage.cache, together=self.together,
            )  # fmt: skip
            return [Extracted(one, stimuli.ids) for one in found]
        first = [r for r in requests if r.pool == main]
        rest = [r for r in requests if r not in first]
        found = extract_large(
            first, stimuli, keep, self.storage.spill(), how, skip_unreadable=options.skip_unreadable, track=self.track,
            together=self.together,
        )  # fmt: skip
        others = extract(
            rest, stimuli.take(keep), how, skip_unreadable=options.skip_unreadable, track=self.track,
            cache=self.storage.cache, together=self.together,
        ) if rest else []  # fmt: skip
        of_request = dict(zip(map(id, first), found, strict=True))
        of_request |= {id(r): Extracted(one, one.ids) for r, one in zip(rest, others, strict=True)}
        return [of_request[id(r)] for r in requests]


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
    _check_room(list(networks.values()), pools[0], run, metrics)
    check = _check(plans, pools, run, metrics, pairs) if networks else None
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
                {x.activations.pool: x.activations for x in others} if run.together.first else {},
                filter=plan.view.filter, rows=own.rows,
                ids=own.ids, how=how, check=check,
            )  # fmt: skip
    return [sides[k] for k in range(len(plans))]


def _check_room(plans: Sequence[Plan], pool: Pool, run: Run, metrics: Sequence[Metric]) -> None:
    """Raise InputError before any encoder runs when all pairs, or the sums over all stimuli, can't fit into memory."""
    options, n = run.options, max((len(p.view.stimuli) for p in plans if p.view.stimuli is not None), default=0)
    for metric in metrics:
        room_for(metric, min(n, options.max_pairwise), options.bytes)
    if n <= options.max_pairwise or not any(isinstance(m, LinearCKA) for m in metrics):
        return
    if pool.method == "flatten" and not pool.features:
        return  # whole maps are not streamed
    widths = [p.requests([pool])[0].widths for p in (plans[0], plans[-1])]
    check_room(widths[0], widths[1], budget(options.bytes), CHUNK)


def asked_precision(options: Options) -> str:
    """Take the precision that was asked for; without measures to decide by, `auto` is float32."""
    return "fp32" if options.precision == "auto" else options.precision


def _check(
    plans: Sequence[Plan], pools: Sequence[Pool], run: Run, metrics: Sequence[Metric], pairs: str
) -> PrecisionCheck | None:
    """Choose the precision where the choice is left to us; several processes choose alike."""
    stimuli = next((p.view.stimuli for p in plans if isinstance(p.loaded.source, Encoder)), None)
    if run.options.precision != "auto" or stimuli is None or not metrics:
        return None
    n = len(stimuli)
    found = without_check(run.device, n)
    if found is None and not all(_can_be_sampled(p) for p in plans):
        found = PrecisionCheck("fp32", "the saved side can't be sampled by the pictures' names, so none is checked", n)
    if found is None:
        index = subset(n, stimuli.groups, sample_size(n), run.options.seed)
        found = check_precision(_sampler(plans, pools[0], run, index), metrics, n, pairs)
    return agreed(found, run)


def _can_be_sampled(plan: Plan) -> bool:
    """Tell whether a side's rows can be found by a picture's name, and stand for one subject."""
    saved = plan.loaded.source
    return isinstance(saved, Encoder) or (plan.loaded.subjects is None and not saved.meta.get("ids_by_order"))


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
        networks = [(k, p) for k, p in enumerate(plans) if isinstance(p.loaded.source, Encoder)]
        for stimuli in {id(p.view.stimuli): p.view.stimuli for _, p in networks}.values():
            assert stimuli is not None  # a plan for an encoder has some
            own = [(k, p) for k, p in networks if p.view.stimuli is stimuli]
            requests = [p.requests([pool])[0] for _, p in own]
            ran = extract(requests, stimuli.take(index), how, skip_unreadable=True, cache=run.storage.cache)
            found |= {k: one for (k, _), one in zip(own, ran, strict=True)}
        shown = next(iter(found.values())).ids
        saved = {k: p.loaded.source for k, p in enumerate(plans) if k not in found}
        found |= {k: one.join(shown) for k, one in saved.items() if isinstance(one, Activations)}
        left, right = found[0], found[len(plans) - 1]
        there = set(right.ids)
        ids = [name for name in left.ids if name in there]
        return left.join(ids), left.join(ids) if right is left else right.join(ids)

    return sample
