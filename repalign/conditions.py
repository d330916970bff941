"""One encoder, two conditions: what the second one does to the pictures, what it costs, and what controls cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, nan, sqrt
from statistics import fmean

import numpy as np
import pandas as pd

from repalign.align import Prepared, against
from repalign.cache import Cache
from repalign.controls import Control, Sample, controls, sample, tightened
from repalign.extract import Request, extract
from repalign.filters.light import picture_squares
from repalign.infer.difference import score_differences
from repalign.infer.matched import MatchedScores, matched_scores
from repalign.infer.matrix import Plan, approximations
from repalign.infer.peak import peak
from repalign.optics import median_extent, optics_left
from repalign.pooling import parse_pool
from repalign.progress import Track, silent
from repalign.side import Options, Side
from repalign.types import Activations, Inference, Stimuli
from repalign.viewing import View

MOST_NOTES = 5  # of one run of a filter
ENDS = ("se", "_low", "_high")  # of the columns that hold standard errors and intervals
MANTEL_NOTE = (
    "both views show the same scenes, so which picture stands with which matters by construction: p sits at its "
    "smallest for any encoder and cannot rank encoders"
)


Measured = tuple[float, Sample, tuple[Control, ...]]  # how far apart the views are, a sample of them, the controls
Known = dict[object, Measured]  # by pictures, filters, names and seed


@dataclass(frozen=True)
class Conditions:
    """The second view of one encoder: how far it is from the first, and controls with the activations they give.

    `moved` is the root mean square between both views in linear light 0..1, over all pictures; NaN where sizes differ.
    """

    moved: float
    controls: tuple[Control, ...] = ()
    activations: Mapping[str, Activations] | None = None


@dataclass(frozen=True)
class Costs:
    """What one metric says of the second view: its rows of `summary.csv`, `controls.csv` and `deleted.csv`."""

    summary: pd.DataFrame
    controls: pd.DataFrame
    deleted: pd.DataFrame


def two_conditions(left: Side, right: Side) -> bool:
    """Tell whether one encoder sees two versions of the same stimuli, by the same layers."""
    if left.encoder is None or left.encoder is not right.encoder or left.layers != right.layers:
        return False
    return left.stimuli is not right.stimuli or left.activations.filter != right.activations.filter


def load_conditions(
    left: Side, right: Side, names: Sequence[str], options: Options, track: Track = silent, known: Known | None = None,
    cache: Cache | None = None,
) -> Conditions:  # fmt: skip
    """Measure what the second view does to the pictures, and run the encoder on the first view through controls.

    `names` are the controls, each made as strong as the second view. Where the first view is filtered too there are
    none: they would have to be as far from it, not from the pictures. `known` keeps what was found for the same
    pictures and filters, for the next encoder.

    Raises InputError for a name that is no filter, and as `extract` does.
    """
    known = {} if known is None else known
    seen = [(side.activations.meta["fingerprint"], side.activations.filter) for side in (left, right)]
    key = (*seen, tuple(names), options.seed)
    first_time = key not in known
    moved, taken, built = known[key] if key in known else _measured(left, right, names, options.seed)
    found = _seen_through(built, left, options, track, cache)
    if first_time:
        tight = [tightened(c, _strength(c, found, moved), taken, right.filter) for c in built]
        changed = [new for new, old in zip(tight, built, strict=True) if new is not old]
        found |= _seen_through(changed, left, options, track, cache)
        pairs = zip(tight, built, strict=True)
        built = tuple(min(pair, key=lambda c: abs(_strength(c, found, moved) - 1)) for pair in pairs)
        known[key] = (moved, taken, built)
    told = tuple(c if c.filter is None else c.measured(_strength(c, found), moved) for c in built)
    return Conditions(moved, told, {c.filter.spec: found[c.filter.spec] for c in told if c.filter})


def _measured(left: Side, right: Side, names: Sequence[str], seed: int) -> Measured:
    """Compare both views, on all pictures and on a sample of them, and build the controls."""
    first, second = _kept(left), _kept(right)
    views = View(first, left.filter).show, View(second, right.filter).show
    taken = sample(first, *views, seed)
    if left.filter is None and left.stimuli is right.stimuli:
        moved = float(right.activations.meta["difference"])  # type: ignore[arg-type]
    else:
        moved = sqrt(fmean(picture_squares(*(view(i) for view in views)) for i in range(len(first))))
    return moved, taken, () if left.filter is not None else tuple(controls(names, taken, right.filter))


def _seen_through(
    built: Sequence[Control], left: Side, options: Options, track: Track, cache: Cache | None
) -> dict[str, Activations]:
    """Run the encoder on the first view through every control."""
    encoder = left.encoder
    assert encoder is not None  # two_conditions has seen to it
    requests = [Request(encoder, left.layers, parse_pool(options.pool), c.filter) for c in built if c.filter]
    if not requests:
        return {}
    found = extract(requests, _kept(left), left.how, track=track, cache=cache)
    return {x.filter: x for x in found}


def _strength(control: Control, found: Mapping[str, Activations], wanted: float = 1.0) -> float:
    """Give the difference a control makes over all pictures, as a ratio of `wanted`; NaN where there is none."""
    if control.filter is None or not wanted > 0:
        return nan
    return float(found[control.filter.spec].meta["difference"]) / wanted  # type: ignore[arg-type]


def _kept(side: Side) -> Stimuli:
    """Give the stimuli that stayed on both sides, in the order of the activations."""
    assert side.stimuli is not None  # an encoder saw them
    place = {name: i for i, name in enumerate(side.stimuli.ids)}
    return side.stimuli.take([place[name] for name in side.activations.ids])


def costs(prepared: Prepared, conditions: Conditions, plan: Plan, notes: Sequence[str] = ()) -> Costs:
    """Say what the second view costs under one metric: over layers, at the peak, and against every control.

    `notes` are said beside the numbers.
    Layers match one to one. All intervals and p-values come from leaving out the same stimuli, or groups, in turn, and
    from flipping the signs of what each contributes to a difference.
    """
    own, metric = matched_scores(prepared, plan.seed), prepared.metric.spec
    mean = own.mean()
    whole, top = mean.estimate(plan.level), peak(prepared, plan.level, plan.seed)
    said = [n for n in mean.notes if n not in (*prepared.notes, *approximations(prepared.metric))]
    summary = {
        "metric": metric, "n": own.n, "n_groups": own.n_groups, "layers": int(np.isfinite(own.scores).sum()),
        "mean": whole.value[0], "mean_se": whole.se[0], "mean_low": whole.ci_low[0], "mean_high": whole.ci_high[0],
        "peak_layer": top.layer, "peak": top.value, "held_layer": top.held_layer, "held": top.held_value,
        "held_se": top.held_se, "held_low": top.held_low, "held_high": top.held_high, "held_share": top.share,
        "note": "; ".join(dict.fromkeys(filter(None, (*notes, *said, top.note)))),
    }  # fmt: skip
    rows = []
    for spec, activations in (conditions.activations or {}).items():
        other = matched_scores(against(prepared, activations), plan.seed)
        both = np.isfinite(own.scores) & np.isfinite(other.scores)  # a mean and its difference are over the same layers
        for pair in ((own.keep(both).mean(), other.keep(both).mean()), (own, other)):
            rows += _against(*pair, spec, plan)
    deleted = pd.DataFrame({"metric": metric, "unit": mean.units, "value": mean.deleted[:, 0]})
    tables = pd.DataFrame([summary]), pd.DataFrame(rows)
    if plan.interval == "none":
        for table in tables:
            table.loc[:, [name for name in table.columns if name.endswith(ENDS)]] = nan
    return Costs(*tables, deleted)


def _against(own: MatchedScores, other: MatchedScores, spec: str, plan: Plan) -> list[dict[str, object]]:
    """Lay out the score under a control and the difference to it, a row a layer."""
    scored = other.estimate(plan.level)
    found = score_differences(own, other, plan.n_permutations, plan.level, plan.seed)
    return [
        {
            "control": spec, "metric": own.metric, "layer": layer, "value": scored.value[k], "se": scored.se[k],
            "ci_low": scored.ci_low[k], "ci_high": scored.ci_high[k], "difference": found.difference[k],
            "difference_se": found.se[k], "difference_low": found.ci_low[k], "difference_high": found.ci_high[k],
            "p": found.p_value[k], "note": found.note,
        }
        for k, layer in enumerate(own.layers)
    ]  # fmt: skip


def mantel_rows(inference: Inference, spec: str) -> pd.DataFrame:
    """List Mantel's test of each layer's two RDMs: the permutation test of RSA, with what it can't say."""
    found, (p, adjusted, q) = (
        inference.alignment,
        (np.diagonal(v) for v in (inference.p_values, inference.p_adjusted, inference.q_values)),
    )
    return pd.DataFrame(
        {
            "test": "mantel", "layer_a": found.layers_a, "layer_b": found.layers_b, "metric": spec,
            "statistic": np.diagonal(found.scores), "null_mean": np.diagonal(inference.null_mean), "p": p,
            "p_adjusted": adjusted, "q": q, "n": found.n, "n_groups": inference.n_groups,
            "n_permutations": inference.n_permutations, "note": MANTEL_NOTE,
        }
    )  # fmt: skip


def describe_filter(side: Side) -> dict[str, object] | None:
    """Describe what one side's pictures pass, and how far it moves them, for `study.json`; None when nothing does."""
    filter_, encoder = side.filter, side.encoder
    if filter_ is None or encoder is None:
        return None
    said = [str(note) for note in side.activations.meta.get("filter_notes", ())]  # type: ignore[attr-defined]
    more = [f"and {len(said) - MOST_NOTES} more such notes"] if len(said) > MOST_NOTES else []
    return {
        "spec": filter_.spec,
        "label": filter_.label,
        "reference": filter_.reference,
        "notes": [*filter_.notes, *said[:MOST_NOTES], *more],
        "clipped": side.activations.meta.get("clipped"),
        "difference": finite(float(side.activations.meta["difference"])),  # type: ignore[arg-type]
        "transfer": optics_left(filter_, encoder, median_extent(side.stimuli)),
    }


def describe_controls(conditions: Conditions) -> list[dict[str, object]]:
    """Describe the controls for `study.json`, those that could not be built with the reason."""
    return [
        {
            "name": one.name,
            "spec": one.filter.spec if one.filter else "",
            "label": one.filter.label if one.filter else one.name,
            "difference": finite(one.difference),
            "ratio": finite(one.ratio),
            "clipped": (conditions.activations or {})[one.filter.spec].meta.get("clipped") if one.filter else None,
            "note": one.note,
        }
        for one in conditions.controls
    ]


def finite(value: float) -> float | None:
    """Give a number that JSON can hold."""
    return value if isfinite(value) else None
