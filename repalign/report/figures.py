"""The figures of a study on paper: PNG and SVG, the same bytes from the same folder."""

import io
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from repalign.report.control_figure import control_figure
from repalign.report.curve import curve_figure
from repalign.report.heatmap import heatmap_figure
from repalign.report.saved import Metric, Study
from repalign.report.stability_figure import stability_figure
from repalign.report.wording import slug

RESOLUTION = 200
"""Dots per inch of the PNG."""

LOOK: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "text.parse_math": False,
    "svg.hashsalt": "repalign",
    "svg.fonttype": "path",
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "hatch.linewidth": 0.8,
}
"""What drawing depends on, so that no matplotlibrc changes a figure; `$` in a layer's name is no mathematics."""


def draw_figures(study: Study) -> list[Path]:
    """Draw a heatmap per metric, the depth-matched curve, stability and controls if known; return the files."""
    folder = study.path / "figures"
    folder.mkdir(exist_ok=True)
    written = []
    with drawing():
        for metric, name in zip(study.metrics, metric_files(study.metrics), strict=True):
            written += save(heatmap_figure(study, metric), folder / f"heatmap_{name}")
        written += save(curve_figure(study), folder / "curve")
        if study.points:
            written += save(stability_figure(study), folder / "stability")
        controls = control_figure(study)
        if controls is not None:
            written += save(controls, folder / "controls")
    return written


def draw_each(folder: Path, figures: Iterator[tuple[str, Figure]]) -> list[Path]:
    """Draw named figures one after the other into the folder `figures` of a study's folder; return the files."""
    place = folder / "figures"
    place.mkdir(exist_ok=True)
    written = []
    with drawing():
        for name, figure in figures:
            written += save(figure, place / name)
    return written


@contextmanager
def drawing() -> Iterator[None]:
    """Draw with our look whatever the user set, and without a word about letters that the font lacks."""
    with mpl.rc_context({**mpl.rcParamsDefault, **LOOK}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        yield


def metric_files(metrics: tuple[Metric, ...]) -> list[str]:
    """Name files after metrics: by name, by id where a metric stands twice, with a number where that still meets."""
    names = [slug(metric.name) for metric in metrics]
    names = [n if names.count(n) == 1 else slug(metric.id) for n, metric in zip(names, metrics, strict=True)]
    return [n if names.count(n) == 1 else f"{n}_{k}" for k, n in enumerate(names)]


def write_whole(file: Path, data: bytes) -> Path:
    """Write a file so that it is there whole or not at all."""
    handle, part = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        Path(part).chmod(0o644)
        os.replace(part, file)  # noqa: PTH105 - the pair of mkstemp
    finally:
        Path(part).unlink(missing_ok=True)
    return file


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write a figure as PNG and SVG beside each other; return both files."""
    written = []
    for suffix, metadata in ((".png", {"Software": None}), (".svg", {"Date": None})):
        drawn = io.BytesIO()
        figure.savefig(
            drawn, format=suffix[1:], dpi=RESOLUTION, metadata=metadata, bbox_inches="tight", pad_inches=0.12
        )
        written.append(write_whole(stem.with_name(stem.name + suffix), drawn.getvalue()))
    return written
