"""Plans become sides in one pass over a stream: every picture is decoded once, seen by all encoders, and not kept."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from repalign.chunks import CHUNK, How
from repalign.decoding import Request
from repalign.errors import InputError, UnreadableImagesError
from repalign.incoming import Incoming, passed
from repalign.kept import Kept
from repalign.memory import budget, check_memory
from repalign.metrics import Metric
from repalign.metrics.cka import LinearCKA
from repalign.pooling import Pool
from repalign.precision import PrecisionCheck, check_precision, sample_size, without_check
from repalign.running import Plan, Run, agreed, asked_precision
from repalign.side import Side
from repalign.stimuli.album import Album
from repalign.stimuli.reservoir import Reservoir
from repalign.streaming import Once, Sums
from repalign.together import ALONE
from repalign.types import Activations

SHOWN = 64  # pictures that stand for a stream: in a report, and where the error of a projection is measured
UNKNOWN = "nobody knows how many pictures the stream holds, and so what bfloat16 may change; --precision bf16 takes it"


@dataclass(frozen=True)
class _Job:
    """What one pass is for: the requests of all plans, one plan's after the other's."""

    plans: Sequence[Plan]
    of_plan: tuple[tuple[Request, ...], ...]
    run: Run
    incoming: Incoming

    @property
    def requests(self) -> tuple[Request, ...]:
        """List all requests."""
        return tuple(request for several in self.of_plan for request in several)

    @property
    def ends(self) -> tuple[int, int]:
        """Give the places of the requests whose scores are asked for, under the first pool; one place for one side."""
        return 0, len(self.requests) - len(self.of_plan[-1])

    @property
    def held(self) -> int:
        """Count the pictures whose rows are held at most."""
        most, n = self.run.options.max_pairwise, self.incoming.n
        return most if n is None else min(most, n)


def run_once(
    plans: Sequence[Plan], pools: Sequence[Pool], run: Run, source: Incoming, metrics: Sequence[Metric], pairs: str
) -> tuple[Side, Side]:
    """Read a stream once, and give both sides: their activations are a uniform sample, the sums of linear CKA of all.

    The same object twice for one side. Several processes share the pictures; the first one has the whole sample.

    Raises InputError for saved features, and before anything is decoded where sample or sums don't fit into memory;
    UnreadableImagesError for a picture that can't be decoded, and when none is left.
    """
    for plan in plans:
        if isinstance(plan.loaded.source, Activations):
            raise InputError(
                f"{plan.loaded.source.encoder} holds saved features, one row a stimulus, and of the stream "
                f"{source.stream.name} only a sample is kept; give an encoder, or local stimuli"
            )
    job = _Job(plans, tuple(tuple(plan.requests(pools)) for plan in plans), run, source)
    kept = _begin(job, metrics)
    check = _check(job, metrics, pairs)
    how = replace(run.how, precision=check.chosen if check else asked_precision(run.options))
    began = time.perf_counter()
    sums = _read(job, kept, how)
    known = kept.known
    meta = {
        "fingerprint": known.fingerprint,
        "skipped": list(known.skipped.first),
        "seconds": time.perf_counter() - began,
        "precision": how.precision,
    }
    return _sides(job, kept, sums, how, check, meta)


def _begin(job: _Job, metrics: Sequence[Metric]) -> Kept:
    """Make room for all that is kept."""
    options, requests = job.run.options, job.requests
    need = 4 * job.held * sum(sum(r.widths.values()) for r in requests)
    what = f"features of a sample of {job.held:,} stimuli"
    check_memory(need, what, "--pool mean, a smaller --max-pairwise or fewer --layers")
    once = None
    if any(isinstance(metric, LinearCKA) for metric in metrics):
        first, last = (requests[k].widths for k in job.ends)
        other = last if len(job.plans) > 1 else None
        once = Once(first, other, CHUNK + options.batch_size, budget(options.bytes), job.run.together)
    # a second view of one encoder has controls, which show the pictures through other filters
    views = len(job.plans) > 1 and job.plans[0].loaded.source is job.plans[-1].loaded.source
    album = Album(job.held if views else min(SHOWN, job.held), options.seed)
    samples = [Reservoir(job.held, options.seed) for _ in requests]
    return Kept(samples, album, once, job.ends[1])


def _read(job: _Job, kept: Kept, how: How) -> Sums | None:
    """Let every picture of this process pass by, and bring together what all processes kept."""
    together, stream = job.run.together, job.incoming.stream
    names = " and ".join(dict.fromkeys(r.encoder.name for r in job.requests))
    with job.run.track(f"{names} on {stream.name}", (job.incoming.n or 0) // together.world) as advance:
        for batch, features in passed(job.requests, job.incoming.pictures(together), how):
            kept.add(batch, features)
            advance(len(batch.ids))
    kept.known.skipped = job.incoming.counted(together)
    kept.finish(together)
    known = kept.known
    if together.first and not known.seen:
        said = f"{stream.name} holds no picture that can be decoded, of {known.skipped.count}; check what it names"
        raise UnreadableImagesError(said, tuple(known.skipped.first))
    return kept.once.finish() if kept.once is not None else None


def _check(job: _Job, metrics: Sequence[Metric], pairs: str) -> PrecisionCheck | None:
    """Choose the precision where the choice is left to us, by the first pictures of the stream."""
    n, run, skipped = job.incoming.n, job.run, job.incoming.skipped
    if run.options.precision != "auto" or not metrics:
        return None
    if n is None:
        return without_check(run.device, sample_size(1 << 30)) or PrecisionCheck("fp32", UNKNOWN, 0)
    found = without_check(run.device, n) or check_precision(_sampler(job, sample_size(n)), metrics, n, pairs)
    if skipped is not None:
        skipped.clear()  # all come again
    return agreed(found, run)


def _sampler(job: _Job, m: int) -> Callable[[str], tuple[Activations, Activations]]:
    """Give a function that runs both sides on the first m pictures in a precision."""
    requests, first = [job.requests[k] for k in sorted(set(job.ends))], replace(job.incoming, limit=m)

    def sample(precision: str) -> tuple[Activations, Activations]:
        kept = [Reservoir(m, 0) for _ in requests]
        for batch, features in passed(requests, first.pictures(ALONE), replace(job.run.how, precision=precision)):
            for one, rows in zip(kept, features, strict=True):
                one.add(batch.ids, rows)
        found = [
            r.activations(first.stream.name, one.ids, one.layers, {}) for r, one in zip(requests, kept, strict=True)
        ]
        return found[0], found[-1]

    return sample


def _sides(
    job: _Job, kept: Kept, sums: Sums | None, how: How, check: PrecisionCheck | None, meta: Mapping[str, object]
) -> tuple[Side, Side]:
    known, stream = kept.known, job.incoming.stream
    shown = kept.album.stimuli(stream.name, job.incoming.notes(known))
    samples = iter(kept.samples)
    sides = []
    for plan, requests in zip(job.plans, job.of_plan, strict=True):
        own, *others = [
            r.activations(stream.name, sample.ids, sample.layers, {**meta, **known.said_by_filter(r.spec)})
            for r, sample in zip(requests, samples, strict=False)  # the samples of all plans, one after the other
        ]
        sides.append(
            Side(
                own, requests[0].encoder, shown, plan.layers, plan.notes, {x.pool: x for x in others},
                filter=plan.view.filter, ids=own.ids, how=how, check=check, seen=known.seen, sums=sums,
            )
        )  # fmt: skip
    return sides[0], sides[-1]
