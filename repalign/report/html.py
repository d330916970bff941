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

from repalign.report.chart import curve_chart, ratio_chart
from repalign.report.colours import DASHES, LINES, LINES_ON_DARK, STRIKE, gradient, score_rgba, tail_end
from repalign.report.maps import make_map
from repalign.report.page_parts import facts, layer_rows, made_from, picture_strip, score_tables, summary_rows
from repalign.report.scores import matched_layers
from repalign.report.sentences import answer, caveats, described, precision, question, sides
from repalign.report.study_folder import Study
from repalign.report.wording import number

STROKE = 2
"""Pixels of a curve's line, as in `report.css`; dashes are counted in line widths."""

DIGITS = 4
"""Decimals of the scores a card can show; it shows three."""


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
        "precision": precision(study),
        "caveats": caveats(study),
        "sides": sides(study),
        "facts": facts(study),
        "summary": summary_rows(study),
        "layer_rows": layer_rows(study),
        "tables": score_tables(study),
        "made": made_from(study),
    }


def _drawings(study: Study) -> dict[str, Any]:
    """Collect the maps, curves and pictures of the page."""
    dashes = [" ".join(f"{STROKE * part:g}" for part in dash) or "none" for dash in DASHES]
    return {
        "maps": [make_map(study, k) for k in range(len(study.metrics))],
        "scale": _scale(study),
        "charts": {"curve": curve_chart(study), "ratio": ratio_chart(study)},
        "lines": list(zip(LINES, LINES_ON_DARK, dashes, strict=True)),
        "strip": picture_strip(study),
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
    """Collect what a card shows: every measure's numbers row by row, and only the columns the study fills."""
    columns = [c for c in ("ci_low", "ci_high", "p", "q") if study.has(c)]
    return {
        "a": {
            "name": described(study.a),
            "layers": study.a.layers,
            "depths": [round(float(z), DIGITS) for z in study.a.depths],
        },
        "b": {
            "name": described(study.b),
            "layers": study.b.layers,
            "depths": [round(float(z), DIGITS) for z in study.b.depths],
        },
        "matched": [int(j) for j in matched_layers(study.a, study.b)],
        "metrics": [
            {
                "label": metric.label,
                "higher": metric.higher_is_similar,
                "value": _listed(study.matrix(metric)),
                **{c: _listed(study.matrix(metric, c)) for c in columns},
            }
            for metric in study.metrics
        ],
    }


def _listed(values: np.ndarray) -> list[float | None]:
    return [round(v, DIGITS) if math.isfinite(v) else None for v in values.ravel().tolist()]
