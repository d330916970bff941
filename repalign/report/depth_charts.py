"""Charts over the depth: the depth-matched scores, and what dominates each layer."""

import numpy as np
from jaxtyping import Float

from repalign.report.chart import COLOURS, Box, Chart, Series, Tick, score_box, score_ticks
from repalign.report.saved import Study
from repalign.report.scores import diagonal, matched_curve, null_bands
from repalign.report.sentences import ONE_CHANNEL, described, sides
from repalign.report.wording import listed, number

ONE_DIRECTION = 2.0
"""A participation ratio below this says that one direction dominates the layer."""

ROOM = 0.2
"""How far an interval may widen the axis of scores; a longer ribbon is cut off there."""

FIRST_TO_LAST = "0 first layer, 1 last"
NULL, INDEPENDENT, CEILING = "mean under the null", "independent features of the same n and d", "noise ceiling"


def curve_chart(study: Study) -> Chart:
    """Lay out the depth-matched curves of all measures on one axis, with ribbons and what chance gives if known."""
    xs = study.a.depths
    box = score_box(axis_values(study))
    series = tuple(_measure(study, k, box) for k in range(len(study.metrics)))
    band = "".join(box.area(xs, low, high) for low, high in null_bands(study))
    capped = [one.label for one in series if one.ceiling]
    return Chart(
        name="curve",
        alt="Scores of each layer with the layer of the other side nearest in depth: "
        + "; ".join(f"{one.label} {one.said}" for one in series),
        series=series,
        x_ticks=_depth_ticks(),
        y_ticks=score_ticks(box),
        x_label=f"relative depth in {described(study.a)}: {FIRST_TO_LAST}",
        y_label="score",
        band=band,
        band_label=NULL if band else "",
        chance_label=INDEPENDENT if any(one.chance for one in series) else "",
        ceiling_label=f"{CEILING} of {listed(capped)}" if capped else "",
    )


def ratio_chart(study: Study) -> Chart | None:
    """Lay out the participation ratio of every layer over depth, or nothing when the study has none."""
    ratios = study.a.ratios, study.b.ratios
    known = np.concatenate([r[np.isfinite(r)] for r in ratios])
    if known.size == 0:
        return None
    box = Box(1.0, max(10.0, float(known.max()) * 1.15), log=True)
    marks = [float(v) for v in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000) if v <= box.high]
    return Chart(
        name="ratio",
        alt=f"Participation ratio of every layer over relative depth, between {known.min():.1f} and {known.max():.1f}",
        series=_both_sides(study, ratios, box),
        x_ticks=_depth_ticks(),
        y_ticks=tuple(Tick(box.y(v) / 10, f"{v:,.0f}") for v in marks),
        x_label=f"relative depth: {FIRST_TO_LAST}",
        y_label="participation ratio",
        band=box.area(np.array([0.0, 1.0]), np.array([1.0, 1.0]), np.array([ONE_DIRECTION, ONE_DIRECTION])),
        band_label="one direction dominates (below 2)",
    )


def share_chart(study: Study) -> Chart | None:
    """Lay out the part of each layer's variance in its strongest channel, or nothing when the study has none."""
    shares = study.a.shares, study.b.shares
    known = np.concatenate([s[np.isfinite(s)] for s in shares])
    if known.size == 0:
        return None
    box, ends = Box(0.0, 1.0), np.array([0.0, 1.0])
    return Chart(
        name="share",
        alt=f"Part of each layer's variance in its strongest channel, between {known.min():.0%} and {known.max():.0%}",
        series=_both_sides(study, shares, box),
        x_ticks=_depth_ticks(),
        y_ticks=tuple(Tick(box.y(v) / 10, f"{100 * v:.0f} %") for v in (0.0, 0.25, 0.5, 0.75, 1.0)),
        x_label=f"relative depth: {FIRST_TO_LAST}",
        y_label="variance in the strongest channel",
        band=box.area(ends, np.full(2, ONE_CHANNEL), np.ones(2)),
        band_label="one channel outweighs all others (above 50 %)",
    )


def axis_values(study: Study) -> Float[np.ndarray, " m"]:
    """List what the axis of the depth-matched curves must span; an interval may widen it by `ROOM` at most."""
    columns = ("value", "null_mean", "independent")
    shown = [matched_curve(study, metric, c) for metric in study.metrics for c in columns]
    shown += [study.a.ceiling(metric).ravel() for metric in study.metrics if along_depth(study)]
    box = score_box(np.concatenate(shown))
    ends = [matched_curve(study, metric, c) for metric in study.metrics for c in ("ci_low", "ci_high")]
    return np.concatenate([*shown, np.clip(np.concatenate(ends), box.low - ROOM, box.high + ROOM)])


def _measure(study: Study, k: int, box: Box) -> Series:
    metric = study.metrics[k]
    xs, curve, along = study.a.depths, matched_curve(study, metric), diagonal(study, metric)
    low, high = (np.clip(matched_curve(study, metric, c), box.low, box.high) for c in ("ci_low", "ci_high"))
    said = "undefined"
    if along is not None:
        peak = along.peak
        said = f"mean {number(along.mean)}, peak {number(peak.value)} at {peak.layer_a} × {peak.layer_b}"
    return Series(
        label=metric.label,
        colour=k % COLOURS,
        line=box.line(xs, curve),
        dots=box.dots(xs, curve),
        ribbon=box.area(xs, low, high),
        peak=None if along is None else (box.x(along.peak_depth) / 10, box.y(along.peak.value) / 10),
        said=said,
        chance=box.line(xs, matched_curve(study, metric, "independent")),
        ceiling=box.area(xs, *study.a.ceiling(metric)) if along_depth(study) else "",
    )


def along_depth(study: Study) -> bool:
    """Tell whether side A has one layer at each depth and more than one, so that a band over the depth has a sense."""
    return 1 < len(study.a.layers) == len(set(study.a.depths.tolist()))


def _both_sides(
    study: Study, values: tuple[Float[np.ndarray, " la"], Float[np.ndarray, " lb"]], box: Box
) -> tuple[Series, ...]:
    drawn = zip((0, 1), sides(study), (study.a.depths, study.b.depths), values, strict=True)
    return tuple(Series(name, k, box.line(z, v), box.dots(z, v)) for k, name, z, v in drawn)


def _depth_ticks() -> tuple[Tick, ...]:
    return tuple(Tick(100 * z, number(z, 2).rstrip("0").rstrip(".")) for z in (0.0, 0.25, 0.5, 0.75, 1.0))
