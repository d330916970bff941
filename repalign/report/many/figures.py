"""The figures of a study of many encoders on paper: PNG and SVG, the same bytes from the same folder."""

from collections.abc import Iterator
from pathlib import Path

from matplotlib.figure import Figure

from repalign.report.figures import drawing, metric_files, save
from repalign.report.many.controls import contrasts
from repalign.report.many.controls_figure import controls_figure
from repalign.report.many.depth import depth_curves
from repalign.report.many.depth_figure import depth_figure
from repalign.report.many.encoder_map import encoder_map
from repalign.report.many.heatmaps_figure import heatmaps_figure
from repalign.report.many.map_figure import map_figure
from repalign.report.many.ranking_figure import ranking_figure
from repalign.report.many.saved import Condition, ManyStudy
from repalign.report.wording import slug


def draw_many_figures(study: ManyStudy) -> list[Path]:
    """Draw ranking, depth curves, heatmaps, controls and map, each where there is something to draw."""
    folder = study.path / "figures"
    folder.mkdir(exist_ok=True)
    written = []
    with drawing():
        for name, figure in _figures(study):
            written += save(figure, folder / name)
    return written


def _figures(study: ManyStudy) -> Iterator[tuple[str, Figure]]:
    """Draw one figure after the other, so that only one is in memory."""
    measures = metric_files(study.metrics)
    for k, condition in enumerate(study.conditions):
        if study.seen_under(condition):
            yield from _under(study, condition, _file(study, k), measures)
    for metric, measure in zip(study.metrics, measures, strict=True):
        found = encoder_map(study, metric)
        figure = map_figure(study, found) if found else None
        if figure:
            yield f"map_{measure}", figure


def _under(study: ManyStudy, condition: Condition, name: str, measures: list[str]) -> Iterator[tuple[str, Figure]]:
    yield f"ranking_{name}", ranking_figure(study, condition)
    for metric, measure in zip(study.metrics, measures, strict=True):
        yield f"depth_{measure}_{name}", depth_figure(study, depth_curves(study, condition, metric))
        yield f"heatmaps_{measure}_{name}", heatmaps_figure(study, condition, metric)
        found = contrasts(study, condition, metric)
        if found:
            yield f"controls_{measure}_{name}", controls_figure(study, condition, metric, found)


def _file(study: ManyStudy, k: int) -> str:
    """Name a condition's files by its id, with a number where two ids give one name."""
    names = [slug(one.id) for one in study.conditions]
    return names[k] if names.count(names[k]) == 1 else f"{names[k]}_{k}"
