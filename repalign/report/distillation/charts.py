"""Charts of a run: losses by part, accuracy, learning rate and alignment over the epochs, accuracies side by side."""

import math

import numpy as np
from jaxtyping import Float

from repalign.report.chart import COLOURS, Box, Chart, Series, Tick, score_box, score_ticks
from repalign.report.distillation.saved import TEACHER, Distillation
from repalign.report.stability_charts import Dot, Dots
from repalign.report.wording import number, significant, ticks

MARKS = 5
"""About so many marks on an axis."""

SMALL = 0.01
"""An axis that ends below this has marks with powers of ten, which are shorter."""

SIDES = 1.96
"""Standard errors from a mean to either end of its 95 % interval."""


def loss_chart(run: Distillation) -> Chart | None:
    """Lay out the mean of every part of the loss, whose sum is minimised, over the epochs; None before the first."""
    curves = [(name, [epoch.losses.get(name, math.nan) for epoch in run.epochs]) for name in run.parts]
    return _over_epochs(run, "loss", "mean over an epoch, with its weight", curves)


def rate_chart(run: Distillation) -> Chart | None:
    """Lay out the learning rate over the epochs."""
    return _over_epochs(run, "rate", "learning rate", [("learning rate", [epoch.rate for epoch in run.epochs])])


def _over_epochs(run: Distillation, name: str, label: str, curves: list[tuple[str, list[float]]]) -> Chart | None:
    values = np.array([values for _, values in curves], dtype=float).reshape(len(curves), len(run.epochs))
    if not np.isfinite(values).any():
        return None
    box = Box(min(0.0, float(np.nanmin(values))), float(np.nanmax(values)) or 1.0)
    marks = nice(box.low, box.high)
    box = Box(min(box.low, marks[0]), max(box.high, marks[-1]))
    epochs = np.array([epoch.number for epoch in run.epochs])
    series = [_line(box, epochs, row, k, one) for k, (one, row) in enumerate(zip(_names(curves), values, strict=True))]
    return Chart(
        name=name,
        alt=f"{label.capitalize()}: " + "; ".join(f"{one.label} {one.said}" for one in series),
        series=tuple(series),
        x_ticks=epoch_ticks(epochs),
        y_ticks=tuple(Tick(box.y(v) / 10, _mark(v, marks[-1])) for v in marks),
        x_label="epoch",
        y_label=label,
    )


def _mark(value: float, top: float) -> str:
    """Write a mark, on an axis of small numbers as "8e−4"."""
    if top >= SMALL or value == 0:
        return f"{value:.3g}".replace("-", "−")
    digits, _, power = f"{value:.1e}".partition("e")
    return f"{digits.removesuffix('.0')}e{int(power)}".replace("-", "−")


def _names(curves: list[tuple[str, list[float]]]) -> list[str]:
    return [name.replace("_", " ").replace("stage", "stage ") for name, _ in curves]


def _line(box: Box, epochs: np.ndarray, values: Float[np.ndarray, " e"], k: int, name: str) -> Series:
    xs, known = along(epochs), values[np.isfinite(values)]
    ends = [significant(float(v)) for v in (known[:1].tolist() + known[-1:].tolist())]
    said = "undefined" if not ends else ends[0] if len(known) == 1 else " → ".join(ends)
    return Series(name, k % COLOURS, box.line(xs, values), box.dots(xs, values), said=said)


def accuracy_chart(run: Distillation) -> Chart | None:
    """Lay out the validation accuracy over the epochs, the best in a ring, beside the teacher's; None without any."""
    values = np.array([epoch.accuracy for epoch in run.epochs])
    if not np.isfinite(values).any():
        return None
    box, epochs = Box(0.0, 1.0), np.array([epoch.number for epoch in run.epochs])
    xs, best = along(epochs), int(np.nanargmax(values))
    said = f"last {per_cent(float(values[-1]))}, best {per_cent(float(values[best]))} after epoch {epochs[best]}"
    peak = (box.x(xs[best]) / 10, box.y(float(values[best])) / 10)
    series = [Series("student", 0, box.line(xs, values), box.dots(xs, values), peak=peak, said=said)]
    teacher = run.outcome(TEACHER)
    if teacher is not None and math.isfinite(teacher.validation):
        level = box.line(np.array([0.0, 1.0]), np.full(2, teacher.validation))
        series.append(Series("teacher", 1, level, "", said=per_cent(teacher.validation)))
    return Chart(
        name="accuracy",
        alt="Accuracy on the validation pictures: " + "; ".join(f"{one.label} {one.said}" for one in series),
        series=tuple(series),
        x_ticks=epoch_ticks(epochs),
        y_ticks=tuple(Tick(box.y(v) / 10, f"{100 * v:.0f} %") for v in (0.0, 0.25, 0.5, 0.75, 1.0)),
        x_label="epoch",
        y_label="accuracy on the validation pictures",
    )


OVER_EPOCHS = {"Loss": loss_chart, "Accuracy": accuracy_chart, "Learning rate": rate_chart}
"""The charts of training, by title."""


def alignment_chart(run: Distillation) -> Chart | None:
    """Lay out each stage's similarity to the teacher's as far along, over the epochs; None where none was measured."""
    found = run.alignment
    if found is None:
        return None
    epochs, values = np.array(found.epochs), found.values
    box, xs = score_box(values[np.isfinite(values)]), along(np.array(found.epochs))
    series = []
    for k, (i, j) in enumerate(found.pairs):
        line, ends = values[:, i, j], [number(float(v)) for v in values[[0, -1], i, j]]
        branch = ", with a branch" if i + 1 in run.stages else ""
        name = f"stage {i + 1}: {found.student[i]} and {found.teacher[j]}"
        said = (ends[0] if len(epochs) == 1 else " → ".join(ends)) + branch
        series.append(Series(name, k % COLOURS, box.line(xs, line), box.dots(xs, line), said=said))
    return Chart(
        name="alignment",
        alt="Alignment to the teacher over the epochs: " + "; ".join(f"{one.label} {one.said}" for one in series),
        series=tuple(series),
        x_ticks=epoch_ticks(epochs),
        y_ticks=score_ticks(box),
        x_label="epoch, 0 before training",
        y_label="linear CKA, debiased",
    )


def outcome_dots(run: Distillation) -> Dots | None:
    """Lay out the accuracies on validation and on test pictures; None where nothing was judged."""
    rows: list[Dot] = []
    for heading, what in (("validation pictures", "validation"), ("test pictures", "test")):
        known = [one for one in run.outcomes if math.isfinite(getattr(one, what))]
        for k, one in enumerate(known):
            value, side = getattr(one, what), SIDES * getattr(one, f"{what}_se")
            low, high = (max(0.0, value - side), min(1.0, value + side)) if math.isfinite(side) else (value, value)
            text = per_cent(value) + (f" ± {100 * side:.1f}" if math.isfinite(side) else "")
            line = 1 if one.name == TEACHER else 0
            at, width = round(100 * value, 2), round(100 * (high - low), 2)
            rows.append(Dot(one.name, text, at, 100 * low if width else None, width, line, "" if k else heading))
    if not rows:
        return None
    marks = tuple(Tick(100 * v, f"{100 * v:.0f} %") for v in (0.0, 0.25, 0.5, 0.75, 1.0))
    return Dots(tuple(rows), marks, "Accuracies: " + "; ".join(f"{row.name} {row.text}" for row in rows))


def per_cent(value: float) -> str:
    """Write an accuracy, 0..1, with one decimal."""
    return "undefined" if math.isnan(value) else f"{100 * value:.1f} %"


def along(epochs: np.ndarray) -> Float[np.ndarray, " e"]:
    """Place epochs on an axis from 0 to 1; a single one stands in the middle."""
    low, high = int(epochs.min()), int(epochs.max())
    return (epochs - low) / (high - low) if high > low else np.full(len(epochs), 0.5)


def epoch_ticks(epochs: np.ndarray) -> tuple[Tick, ...]:
    """Name a few of the epochs on the axis, the first and the last among them."""
    shown = [int(epochs[k]) for k in ticks(len(epochs), MARKS + 1)]
    low, high = int(epochs.min()), int(epochs.max())
    return tuple(Tick(100 * (e - low) / (high - low) if high > low else 50.0, f"{e}") for e in shown)


def nice(low: float, high: float) -> list[float]:
    """Choose round marks from `low` to at least `high`, about five of them: steps of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / MARKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * k for k in (1, 2, 5, 10) if power * k >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [k * step for k in range(first, last + 1)]
