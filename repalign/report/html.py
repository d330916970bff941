"""The page: one file that needs nothing else, neither network nor scripts to be read."""

import base64
import hashlib
import json
import math
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import numpy as np
from jinja2 import Environment, FunctionLoader, StrictUndefined
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup
from matplotlib.colors import to_hex

from repalign.report.ceilings import ceiling_rows, said_of_ceilings
from repalign.report.certainty import certainty_notes, how_sure, level
from repalign.report.colours import DASHES, LINES, LINES_ON_DARK, STRIKE, gradient, score_rgba, tail_end
from repalign.report.condition_tables import control_notes, control_table, layer_scores, rests_on, summary_table
from repalign.report.conditions import error_rate, said_of_filters, units
from repalign.report.control_charts import control_panels
from repalign.report.depth_charts import curve_chart, ratio_chart, share_chart
from repalign.report.maps import make_map
from repalign.report.page_parts import facts, layer_rows, made_from, score_tables, summary_rows
from repalign.report.pictures import picture_strip
from repalign.report.saved import Side, Study
from repalign.report.scores import matched_layers
from repalign.report.sentences import answer, caveats, described, question, sides
from repalign.report.stability import growths, said_of_growths, said_of_halves, said_of_pools
from repalign.report.stability_charts import growth_charts, half_dots, pool_dots
from repalign.report.tested import result_tables
from repalign.report.wording import number

STROKE = 2
"""Pixels of a curve's line, as in `report.css`; dashes are counted in line widths."""

DIGITS, SCORE_PARTS, P_PARTS = 4, 10_000, 1_000
"""Decimals of depths, and parts of a score and of a p that a card can show; `report.js` divides by the same."""


def page(study: Study) -> str:
    """Write the whole page of a study."""
    environment = Environment(
        loader=FunctionLoader(_template),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = _template("report.js")
    return environment.get_template("report.html.j2").render(
        study=study,
        style=Markup(_template("report.css")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii"),
        data=htmlsafe_json_dumps(_cell_data(study), dumps=_compact),
        **_words(study),
        **_drawings(study),
    )


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
    dashes = [" ".join(f"{STROKE * part:g}" for part in dash) or "none" for dash in DASHES]
    return {
        "maps": [make_map(study, k) for k in range(len(study.metrics))],
        "scale": _scale(study),
        "charts": {"curve": curve_chart(study), "layers": [ratio_chart(study), share_chart(study)]},
        "stability": _stability(study),
        "lines": list(zip(LINES, LINES_ON_DARK, dashes, strict=True)),
        "strip": picture_strip(study),
    }


def _stability(study: Study) -> dict[str, Any]:
    """Collect what `curves.csv` gives: charts, the numbers behind them, and what to read from each."""
    return {
        "growth": {"charts": growth_charts(study), "rows": growths(study), "said": said_of_growths(study)},
        "halves": {"dots": half_dots(study), "said": said_of_halves(study)},
        "pools": {"dots": pool_dots(study), "said": said_of_pools(study)},
    }


def _template(name: str) -> str:
    return (files("repalign.report") / "templates" / name).read_text(encoding="utf-8")


def _compact(value: object, **_options: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _scale(study: Study) -> dict[str, Any]:
    """Describe the one colour scale of all maps: its gradient, its marks in per cent, and a muted 0."""
    low = tail_end(study.lowest())
    marks = ([low] if low < 0 else []) + [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    muted = score_rgba(np.zeros((1, 1)), np.ones((1, 1), dtype=bool))[0, 0]
    return {
        "gradient": gradient(low),
        "marks": [(100 * (v - low) / (1 - low), number(v, 1)) for v in marks],
        "muted": to_hex(muted),
        "strike": STRIKE,
        "above": study.highest() > 1,
    }


def _cell_data(study: Study) -> Mapping[str, object]:
    """Collect what a card shows: every measure's numbers row by row, and only the columns the study fills.

    Numbers are whole: scores in units of 10⁻⁴, p- and q-values of 10⁻³, 0 for anything below.
    """
    scores = [c for c in ("value", "ci_low", "ci_high", "null_mean", "independent") if study.has(c) or c == "value"]
    chances = [c for c in ("p", "p_adjusted", "q") if study.has(c)]
    return {
        **{side.key: _side_data(side) for side in (study.a, study.b)},
        "matched": [int(j) for j in matched_layers(study.a, study.b)],
        "metrics": [
            {
                "label": metric.label,
                "higher": metric.higher_is_similar,
                **{c: _whole(SCORE_PARTS * study.matrix(metric, c)) for c in scores},
                **{c: _whole(_told(study.matrix(metric, c))) for c in chances},
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


def _told(p: np.ndarray) -> np.ndarray:
    """Count thousandths of p, none where the page says "<0.001"."""
    return np.where(p < 1 / P_PARTS, 0.0, P_PARTS * p)


def _whole(values: np.ndarray) -> list[int | None]:
    return [round(v) if math.isfinite(v) else None for v in values.ravel().tolist()]
