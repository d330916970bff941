"""From names to activations: load both sides of a comparison, extract them, pair them by id."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from repalign.align import prepare
from repalign.encoders import ENCODERS, load_encoder
from repalign.encoders.group import Subjects
from repalign.encoders.spec import parse_spec
from repalign.encoders.structure import select
from repalign.errors import InputError
from repalign.extract import Request, extract, pick_device
from repalign.filters import Filter
from repalign.infer.over_subjects import Compared, prepare_subjects
from repalign.metrics import Metric
from repalign.pooling import Pool, can_pool, parse_pool
from repalign.progress import Track, silent
from repalign.subjects.aligned import rejoin, rename, stand_in
from repalign.subjects.load import LOADERS, load_subjects
from repalign.types import Activations, Encoder, Layer, Stimuli
from repalign.viewing import View, load_filters, load_shown

Source = str | Encoder | Activations | Subjects


@dataclass(frozen=True)
class Side:
    """One side of a comparison: its encoder (None for saved features), stimuli, filter, layers and activations.

    `pooled` holds the activations under other pools, by their names. With several `subjects`, `activations` say what
    the stimuli and layers are, with the values of the first.
    """

    activations: Activations
    encoder: Encoder | None
    stimuli: Stimuli | None
    layers: tuple[Layer, ...]
    notes: tuple[str, ...] = ()
    pooled: Mapping[str, Activations] = field(default_factory=dict)
    subjects: Subjects | None = None
    filter: Filter | None = None


@dataclass(frozen=True)
class Options:
    """How two sides are made comparable; every field has the command line's name and default.

    `pools` are further poolings whose scores show how much the choice of `pool` matters. `groups` says what is
    exchangeable: what the stimuli say ("own"), the "folder" of each picture, its "label", or "none". `filter` is what
    the second view of a single encoder passes; `filter_a` and `filter_b` what each side's pictures do.
    """

    pool: str = "mean"
    layers: str = "blocks"
    layers_b: str | None = None
    limit: int | None = None
    seed: int = 0
    device: str = "auto"
    batch_size: int = 32
    workers: int | None = None
    skip_unreadable: bool = False
    allow_partial: bool = False
    pools: tuple[str, ...] = ()
    groups: str = "own"
    filter: str | None = None
    filter_a: str | None = None
    filter_b: str | None = None


def load_sides(
    a: Source,
    b: Source | None,
    data: str | Stimuli | None,
    data_b: str | Stimuli | None,
    options: Options,
    track: Track = silent,
) -> tuple[Side, Side]:
    """Load, extract and pair both sides: the same ids in the same order. The same object twice for one side.

    A name of several files of features or RDMs gives a side of several subjects, joined by id.

    Raises InputError for anything that can't be used as asked, before any encoder runs where that is possible.
    """
    pools = [parse_pool(name) for name in dict.fromkeys([options.pool, *options.pools])]
    device = pick_device(options.device)
    b = a if b is None or (isinstance(b, str) and b == a) else b
    filters = load_filters(options.filter, options.filter_a, options.filter_b, b is a, data_b is not None)
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
    plans = [_plan(e, view, glob, pools[0]) for e, view, glob in wanted[: 1 if same else 2]]
    sides = _extract(plans, pools, device, options, track)
    return _pair(sides[0], sides[-1])


def prepare_sides(left: Side, right: Side, metric: Metric, pairs: str = "between") -> Compared:
    """Take and embed every layer of both sides, and of every subject where a side has several.

    Warns and raises as `align` does.
    """
    several = left.subjects or right.subjects
    if several is None:
        return prepare(left.activations, right.activations, metric, pairs)
    return prepare_subjects(left.activations, right.activations, several, several is left.subjects, metric, pairs)


@dataclass(frozen=True)
class _Loaded:
    source: Encoder | Activations
    subjects: Subjects | None = None


@dataclass(frozen=True)
class _Plan:
    loaded: _Loaded
    view: View
    layers: tuple[Layer, ...]
    notes: tuple[str, ...]


def _load(source: Source, options: Options) -> _Loaded:
    """Load an encoder, saved features or RDMs, or those of several subjects."""
    name = source.strip() if isinstance(source, str) else "subjects"
    if isinstance(source, str) and parse_spec(source, ENCODERS).source in LOADERS:
        source = load_subjects(source)
    if not isinstance(source, Subjects):
        return _Loaded(load_encoder(source, allow_partial=options.allow_partial))
    if len(source.names) == 1:
        return _Loaded(source.activations[0])
    return _Loaded(stand_in(name, source), source)


def _check_one_group(left: _Loaded, right: _Loaded) -> None:
    """Raise InputError when both sides are several subjects."""
    if left.subjects is None or right.subjects is None:
        return
    sides = [f"{s.source.encoder} ({len(s.subjects.names)})" for s in (left, right)]  # type: ignore[union-attr]
    raise InputError(
        f"both sides are several subjects, {sides[0]} and {sides[1]}, but scores are means over the subjects of one; "
        "for the other, name one subject's file, or save ra.group_rdm(ra.load_subjects(…)) and name that rdm:…"
    )


def _plan(loaded: _Loaded, view: View, choice: str, pool: Pool) -> _Plan:
    """Choose the layers of one side and leave out, with a note, those that the pooling can't serve."""
    source = loaded.source
    if isinstance(source, Activations):
        if view.filter is not None:
            raise InputError(f"{source.encoder} holds saved numbers; --filter {view.filter.spec} needs an encoder")
        return _Plan(loaded, view, (), ())
    if view.stimuli is None:
        raise InputError(f"{source.name} needs pictures; give --data FOLDER, a manifest or bundled:photos")
    chosen = select(source.layers, choice)
    reasons = {layer.name: can_pool(layer, pool) for layer in chosen}
    kept = tuple(layer for layer in chosen if reasons[layer.name] is None)
    if not kept:
        raise InputError(f"{source.name}: no layer can be pooled by {pool}; its layers: {reasons}; use --pool mean")
    out = [f"{name} ({reason})" for name, reason in reasons.items() if reason]
    notes = (f"{source.name}: left out under --pool {pool}: {', '.join(out)}",) if out else ()
    return _Plan(loaded, view, kept, notes)


def _extract(
    plans: Sequence[_Plan], pools: Sequence[Pool], device: torch.device, options: Options, track: Track
) -> list[Side]:
    """Extract all sides; those that see the same stimuli share one pass over the pictures."""
    sides: dict[int, Side] = {}
    for k, plan in enumerate(plans):
        if isinstance(saved := plan.loaded.source, Activations):
            notes = tuple(map(str, saved.meta.get("notes", ())))  # type: ignore[call-overload]
            sides[k] = Side(saved, None, plan.view.stimuli, (), notes, subjects=plan.loaded.subjects)
    networks = {k: p for k, p in enumerate(plans) if k not in sides}
    for stimuli in {id(p.view.stimuli): p.view.stimuli for p in networks.values()}.values():
        assert stimuli is not None  # _plan has seen to it
        wanted = [
            (k, request)
            for k, p in networks.items()
            if p.view.stimuli is stimuli and isinstance(p.loaded.source, Encoder)
            for request in _requests(p.loaded.source, p.layers, pools, p.view.filter)
        ]
        found = extract(
            [request for _, request in wanted], stimuli, device=device, batch_size=options.batch_size,
            workers=options.workers, skip_unreadable=options.skip_unreadable, track=track,
        )  # fmt: skip
        for k in dict.fromkeys(k for k, _ in wanted):
            own, *others = [x for (j, _), x in zip(wanted, found, strict=True) if j == k]
            pooled = {x.pool: x for x in others}
            plan = networks[k]
            encoder: Encoder = plan.loaded.source  # type: ignore[assignment]
            sides[k] = Side(own, encoder, stimuli, plan.layers, plan.notes, pooled, filter=plan.view.filter)
    return [sides[k] for k in range(len(plans))]


def _requests(
    encoder: Encoder, layers: tuple[Layer, ...], pools: Sequence[Pool], filter_: Filter | None
) -> list[Request]:
    """Ask for the layers under the first pool, and under every other that can serve all of them."""
    first, *others = pools
    able = [p for p in others if all(can_pool(layer, p) is None for layer in layers)]
    return [Request(encoder, layers, pool, filter_) for pool in (first, *able)]


def _pair(left: Side, right: Side) -> tuple[Side, Side]:
    """Join the sides by id: pictures that one side could not read leave the other too."""
    if right is left:
        return left, left
    left, right = _adopt_ids(left, right), _adopt_ids(right, left)
    ids = left.activations.ids
    if left.encoder is not None and right.encoder is not None:
        readable = set(right.activations.ids)
        ids = tuple(i for i in ids if i in readable)
    elif left.encoder is None and right.encoder is not None:
        ids = right.activations.ids
    return _same_groups(_joined(left, ids), _joined(right, ids))


def _same_groups(left: Side, right: Side) -> tuple[Side, Side]:
    """Give a side that has no groups those of the other: what is exchangeable holds for both."""
    known = left.activations.groups or right.activations.groups
    if known is None:
        return left, right
    of_id = dict(zip(left.activations.ids, known, strict=True))

    def grouped(side: Side) -> Side:
        if side.activations.groups is not None:
            return side
        stimuli = side.stimuli and replace(side.stimuli, groups=tuple(of_id.get(i, "") for i in side.stimuli.ids))
        pooled = {name: replace(one, groups=known) for name, one in side.pooled.items()}
        return replace(side, stimuli=stimuli, activations=replace(side.activations, groups=known), pooled=pooled)

    return grouped(left), grouped(right)


def _joined(side: Side, ids: tuple[str, ...]) -> Side:
    pooled = {name: activations.join(ids) for name, activations in side.pooled.items()}
    subjects = None if side.subjects is None else rejoin(side.subjects, ids)
    return replace(side, activations=side.activations.join(ids), pooled=pooled, subjects=subjects)


def _adopt_ids(side: Side, other: Side) -> Side:
    """Give rows saved without ids the ids of the other side, by order, when the counts agree."""
    if side.encoder is not None or not side.activations.meta.get("ids_by_order"):
        return side
    if other.encoder is None and other.activations.meta.get("ids_by_order"):
        return side
    rows, ids = len(side.activations), other.activations.ids
    if rows != len(ids):
        raise InputError(
            f"{side.activations.encoder} has {rows} rows without ids, and {other.activations.encoder} "
            f"{len(ids)} stimuli; give one row a stimulus in the same order, or save the ids with the features"
        )
    note = f"{side.activations.encoder}: rows carry no ids and were joined by order"
    subjects = None if side.subjects is None else rename(side.subjects, ids)
    return replace(side, activations=replace(side.activations, ids=ids), notes=(*side.notes, note), subjects=subjects)
