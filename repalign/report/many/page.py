"""The page of a study of many encoders: one file that needs nothing else, neither network nor scripts."""

from typing import Any

import numpy as np

from repalign.report.many.control_chart import dumbbells
from repalign.report.many.controls import contrasts, unmatched
from repalign.report.many.depth import depth_curves
from repalign.report.many.depth_chart import depth_charts
from repalign.report.many.heatmaps import small_maps
from repalign.report.many.looks import family_looks, looks_of
from repalign.report.many.made import facts, made_from
from repalign.report.many.map_chart import map_part
from repalign.report.many.optics import optics_table
from repalign.report.many.ranking import ranking_tables
from repalign.report.many.saved import Condition, ManyStudy
from repalign.report.many.sentences import PICKED, answer, brief_caveats, caveats, question
from repalign.report.many.strip import many_strip
from repalign.report.many.tested import tested_tables
from repalign.report.page_base import colour_scale, environment, line_looks


def many_page(study: ManyStudy) -> str:
    """Write the whole page of a study."""
    shown = [one for one in study.conditions if study.seen_under(one)]
    template = environment().get_template("study.html.j2")
    return template.render(
        study=study,
        looks=looks_of(study),
        families=family_looks(study),
        lines=line_looks(),
        scale=_scale(study),
        depth=[_depth(study, one) for one in shown],
        heatmaps=[(one, small_maps(study, one, study.metrics[0])) for one in shown],
        controls=[part for one in shown if (part := _controls(study, one))],
        **_words(study),
    )


def _words(study: ManyStudy) -> dict[str, Any]:
    """Collect sentences, tables and what needs no condition."""
    return {
        "question": question(study),
        "answer": answer(study),
        "picked": PICKED,
        "caveats": caveats(study),
        "brief": brief_caveats(study),
        "facts": facts(study),
        "rankings": ranking_tables(study),
        "map": map_part(study),
        "optics": optics_table(study),
        "strip": many_strip(study),
        "tests": tested_tables(study),
        "made": made_from(study),
    }


def _depth(study: ManyStudy, condition: Condition) -> dict[str, Any]:
    """Collect the depth curves of one condition, a list of panels a measure."""
    found = [depth_curves(study, condition, metric) for metric in study.metrics]
    measures = [
        {"metric": one.metric, "charts": depth_charts(one), "undefined": [e.described for e in one.undefined]}
        for one in found
    ]
    return {"condition": condition, "measures": measures}


def _controls(study: ManyStudy, condition: Condition) -> dict[str, Any] | None:
    """Collect what the controls of one condition say, None when it has none."""
    found = [(metric, contrasts(study, condition, metric)) for metric in study.metrics]
    measures = [{"metric": metric, "panels": dumbbells(some)} for metric, some in found if some]
    missing = unmatched(condition)
    return {"condition": condition, "measures": measures, "unmatched": missing} if measures or missing else None


def _scale(study: ManyStudy) -> dict[str, Any]:
    """Describe the one colour scale of all maps: its gradient and its marks in per cent."""
    first = study.metrics[0].id
    shown = [m[0][np.isfinite(m[0])] for (_, _, metric), m in study.scores.items() if metric == first]
    known = np.concatenate([np.zeros(1), *shown])
    undefined = any(np.isnan(m[0]).any() for (_, _, metric), m in study.scores.items() if metric == first)
    return {**colour_scale(float(known.min()), float(known.max())), "undefined": undefined}
