"""The page: one file that needs nothing else, neither network nor scripts to be read."""

from collections.abc import Mapping
from typing import Any

from repalign.report.ceilings import ceiling_rows, said_of_ceilings
from repalign.report.certainty import certainty_notes, how_sure, level
from repalign.report.condition_tables import control_notes, control_table, layer_scores, rests_on, summary_table
from repalign.report.conditions import error_rate, said_of_filters, units
from repalign.report.control_charts import control_panels
from repalign.report.depth_charts import curve_chart, ratio_chart, share_chart
from repalign.report.maps import make_map
from repalign.report.page_base import card_chances, card_scores, colour_scale, environment, line_looks, script
from repalign.report.page_parts import facts, layer_rows, made_from, score_tables, summary_rows
from repalign.report.pictures import picture_strip
from repalign.report.saved import Side, Study
from repalign.report.scores import matched_layers
from repalign.report.sentences import answer, caveats, described, question, sides
from repalign.report.stability import growths, said_of_growths, said_of_halves, said_of_pools
from repalign.report.stability_charts import growth_charts, half_dots, pool_dots
from repalign.report.tested import result_tables

DIGITS = 4
"""Decimals of depths."""


def page(study: Study) -> str:
    """Write the whole page of a study."""
    template = environment().get_template("report.html.j2")
    return template.render(study=study, **script(_cell_data(study)), **_words(study), **_drawings(study))


def _words(study: Study) -> dict[str, Any]:
    """Collect the sentences and tables of the page."""
    return {
        "question": question(study),
        "answer": answer(study),
        "how_sure": how_sure(study),
        "notes": certainty_notes(study),
        "columns": {c: study.has(c) for c in ("null_mean", "independent", "p_adjusted")},
        "caveats": caveats(study),
        "sides": sides(study),
        "facts": facts(study),
        "summary": summary_rows(study),
        "layer_rows": layer_rows(study),
        "tables": score_tables(study),
        "ceilings": {"said": said_of_ceilings(study), "rows": ceiling_rows(study)},
        "results": {"tables": result_tables(study), "alpha": f"{1 - level(study):.2g}"},
        "conditions": _conditions(study),
        "made": made_from(study),
    }


def _conditions(study: Study) -> dict[str, Any]:
    """Collect what the study says of filters, of one encoder under two conditions, and of controls."""
    return {
        "filters": said_of_filters(study),
        "summary": summary_table(study),
        "rests_on": rests_on(study),
        "units": units(study),
        "alpha": f"{error_rate(study):.2g}",
        "panels": control_panels(study),
        "table": control_table(study),
        "measures": [metric.label for metric in study.metrics],
        "notes": control_notes(study),
        "layers": layer_scores(study),
    }


def _drawings(study: Study) -> dict[str, Any]:
    """Collect the maps, curves and pictures of the page."""
    return {
        "maps": [make_map(study, k) for k in range(len(study.metrics))],
        "scale": colour_scale(study.lowest(), study.highest()),
        "charts": {"curve": curve_chart(study), "layers": [ratio_chart(study), share_chart(study)]},
        "stability": _stability(study),
        "lines": line_looks(),
        "strip": picture_strip(study),
    }


def _stability(study: Study) -> dict[str, Any]:
    """Collect what `curves.csv` gives: charts, the numbers behind them, and what to read from each."""
    return {
        "growth": {"charts": growth_charts(study), "rows": growths(study), "said": said_of_growths(study)},
        "halves": {"dots": half_dots(study), "said": said_of_halves(study)},
        "pools": {"dots": pool_dots(study), "said": said_of_pools(study)},
    }


def _cell_data(study: Study) -> Mapping[str, object]:
    """Collect what a card shows: every measure's numbers row by row, and only the columns the study fills."""
    scores = [c for c in ("value", "ci_low", "ci_high", "null_mean", "independent") if study.has(c) or c == "value"]
    chances = [c for c in ("p", "p_adjusted", "q") if study.has(c)]
    return {
        **{side.key: _side_data(side) for side in (study.a, study.b)},
        "matched": [int(j) for j in matched_layers(study.a, study.b)],
        "metrics": [
            {
                "label": metric.label,
                "higher": metric.higher_is_similar,
                **{c: card_scores(study.matrix(metric, c)) for c in scores},
                **{c: card_chances(study.matrix(metric, c)) for c in chances},
            }
            for metric in study.metrics
        ],
    }


def _side_data(side: Side) -> Mapping[str, object]:
    return {
        "name": described(side),
        "layers": side.layers,
        "depths": [round(float(z), DIGITS) for z in side.depths],
    }
