"""From names to activations: load both sides of a comparison, extract them, pair them by id."""

from collections.abc import Sequence

from repalign.encoders import ENCODERS, load_encoder
from repalign.encoders.group import Subjects
from repalign.encoders.spec import parse_spec
from repalign.encoders.structure import select
from repalign.errors import InputError
from repalign.extract import pick_device
from repalign.incoming import incoming
from repalign.metrics import Metric
from repalign.onepass import run_once
from repalign.pairing import pair
from repalign.pooling import Pool, can_pool, parse_pool
from repalign.progress import Track, silent
from repalign.running import Loaded, Plan, Run, run_sides
from repalign.side import Options, Side
from repalign.storage import NO_STORAGE, Storage
from repalign.subjects.aligned import stand_in
from repalign.subjects.load import LOADERS, load_subjects
from repalign.subset import subset
from repalign.together import ALONE, Together
from repalign.types import Activations, Encoder, Stimuli
from repalign.viewing import View, load_filters, load_shown

__all__ = ["Options", "Side", "Source", "load_sides"]

Source = str | Encoder | Activations | Subjects


def load_sides(
    a: Source,
    b: Source | None,
    data: str | Stimuli | None,
    data_b: str | Stimuli | None,
    options: Options,
    track: Track = silent,
    *,
    metrics: Sequence[Metric] = (),
    pairs: str = "between",
    storage: Storage = NO_STORAGE,
    together: Together = ALONE,
) -> tuple[Side, Side]:
    """Load, extract and pair both sides: the same ids in the same order. The same object twice for one side.

    A name of several files of features or RDMs gives a side of several subjects, joined by id. `metrics`, over `pairs`,
    are those whose scores decide whether bfloat16 is precise enough; without any, `precision="auto"` is float32. Of
    more than `options.max_pairwise` stimuli the sides hold a subset, and have `rows`. Where `data` names a stream they
    hold a sample of it, and have `sums` if linear CKA is among the `metrics`.

    Raises InputError for anything that can't be used as asked, before any encoder runs where that is possible.
    """
    pools = [parse_pool(name) for name in dict.fromkeys([options.pool, *options.pools])]
    device = pick_device(options.device)
    b = a if b is None or (isinstance(b, str) and b == a) else b
    filters = load_filters(options.filter, options.filter_a, options.filter_b, b is a, data_b is not None)
    source = incoming(data, data_b, options.groups, options.limit, options.skip_unreadable)
    first, second = None, None
    if source is None:
        first, second = load_shown(
            data, data_b, options.groups, options.limit, options.seed, skip_unreadable=options.skip_unreadable
        )
    views = View(first, filters[0]), View(second or first, filters[1])
    left = _load(a, options)
    right = left if b is a else _load(b, options)
    _check_one_group(left, right)
    globs = options.layers, options.layers_b or options.layers
    same = b is a and views[0] == views[1] and globs[0] == globs[1]
    wanted = list(zip((left, right), views, globs, strict=True))
    plans = [_plan(e, view, glob, pools[0], source is not None) for e, view, glob in wanted[: 1 if same else 2]]
    run = Run(options, device, storage, together, track)
    if source is not None:
        return run_once(plans, pools, run, source, metrics, pairs)
    sides = run_sides(plans, pools, run, metrics, pairs)
    return pair(sides[0], sides[-1], options)


def load_several(
    sources: Sequence[Source], data: str | Stimuli, options: Options, storage: Storage = NO_STORAGE
) -> list[Side]:
    """Run several encoders over the same stimuli in one go: each picture is decoded once for all of them.

    Of more than `options.max_pairwise` stimuli a seeded subset is run; `precision="auto"` is float32.

    Raises InputError for anything that can't be used as asked.
    """
    pool = parse_pool(options.pool)
    shown, _ = load_shown(
        data, None, options.groups, options.limit, options.seed, skip_unreadable=options.skip_unreadable
    )
    assert shown is not None  # there is data
    shown = shown.take(subset(len(shown), shown.groups, options.max_pairwise, options.seed))
    plans = [_plan(_load(one, options), View(shown), options.layers, pool, False) for one in sources]
    saved = [p.loaded.source.encoder for p in plans if isinstance(p.loaded.source, Activations)]
    if saved:
        raise InputError(f"{saved[0]} holds saved numbers; give encoders, or compare arrays")
    return run_sides(plans, [pool], Run(options, pick_device(options.device), storage, ALONE, silent), (), "between")


def _load(source: Source, options: Options) -> Loaded:
    """Load an encoder, saved features or RDMs, or those of several subjects."""
    name = source.strip() if isinstance(source, str) else "subjects"
    if isinstance(source, str) and parse_spec(source, ENCODERS).source in LOADERS:
        source = load_subjects(source)
    if not isinstance(source, Subjects):
        return Loaded(load_encoder(source, allow_partial=options.allow_partial))
    if len(source.names) == 1:
        return Loaded(source.activations[0])
    return Loaded(stand_in(name, source), source)


def _check_one_group(left: Loaded, right: Loaded) -> None:
    """Raise InputError when both sides are several subjects."""
    if left.subjects is None or right.subjects is None:
        return
    sides = [f"{s.source.encoder} ({len(s.subjects.names)})" for s in (left, right)]  # type: ignore[union-attr]
    raise InputError(
        f"both sides are several subjects, {sides[0]} and {sides[1]}, but scores are means over the subjects of one; "
        "for the other, name one subject's file, or save ra.group_rdm(ra.load_subjects(…)) and name that rdm:…"
    )


def _plan(loaded: Loaded, view: View, choice: str, pool: Pool, streamed: bool) -> Plan:
    """Choose the layers of one side and leave out, with a note, those that the pooling can't serve."""
    source = loaded.source
    if isinstance(source, Activations):
        if view.filter is not None:
            raise InputError(f"{source.encoder} holds saved numbers; --filter {view.filter.spec} needs an encoder")
        return Plan(loaded, view, (), ())
    if view.stimuli is None and not streamed:
        raise InputError(f"{source.name} needs pictures; give --data FOLDER, a manifest or bundled:photos")
    chosen = select(source.layers, choice)
    reasons = {layer.name: can_pool(layer, pool) for layer in chosen}
    kept = tuple(layer for layer in chosen if reasons[layer.name] is None)
    if not kept:
        raise InputError(f"{source.name}: no layer can be pooled by {pool}; its layers: {reasons}; use --pool mean")
    out = [f"{name} ({reason})" for name, reason in reasons.items() if reason]
    notes = (f"{source.name}: left out under --pool {pool}: {', '.join(out)}",) if out else ()
    return Plan(loaded, view, kept, notes)
