"""What every page shares: templates, the looks of its lines, the colour scale, the script and the data of its cards."""

import base64
import hashlib
import json
import math
from importlib.resources import files
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup
from matplotlib.colors import to_hex

from repalign.report.colours import DASHES, LINES, LINES_ON_DARK, STRIKE, gradient, score_rgba, tail_end
from repalign.report.wording import number

STROKE = 2
"""Pixels of a curve's line, as in `report.css`; dashes are counted in line widths."""

SCORE_PARTS, P_PARTS = 10_000, 1_000
"""Parts of a score and of a p that a card can show; `report.js` divides by the same."""


def environment() -> Environment:
    """Load the templates; a name that a page forgot to give is an error."""
    return Environment(
        loader=PackageLoader("repalign.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def line_looks() -> list[tuple[str, str, str]]:
    """List colour, colour on a dark page, and dashes of every line."""
    dashes = [" ".join(f"{STROKE * part:g}" for part in dash) or "none" for dash in DASHES]
    return list(zip(LINES, LINES_ON_DARK, dashes, strict=True))


def script(data: object) -> dict[str, Any]:
    """Give a page its script, the hash that allows it, and the data of its cards."""
    text = (files("repalign.report") / "templates" / "report.js").read_text(encoding="utf-8")
    return {
        "script": Markup(text),
        "script_hash": base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii"),
        "data": htmlsafe_json_dumps(data, dumps=_compact),
    }


def colour_scale(lowest: float, highest: float) -> dict[str, Any]:
    """Describe the one colour scale of a page's maps: its gradient, its marks in per cent, and a muted 0."""
    low = tail_end(lowest)
    marks = ([low] if low < 0 else []) + [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    muted = score_rgba(np.zeros((1, 1)), np.ones((1, 1), dtype=bool))[0, 0]
    return {
        "gradient": gradient(low),
        "marks": [(100 * (v - low) / (1 - low), number(v, 1)) for v in marks],
        "muted": to_hex(muted),
        "strike": STRIKE,
        "above": highest > 1,
    }


def card_scores(values: np.ndarray) -> list[int | None]:
    """Write scores for the cards, row by row, in whole units of 10⁻⁴."""
    return _whole(SCORE_PARTS * values)


def card_chances(p: np.ndarray) -> list[int | None]:
    """Write p- or q-values for the cards in whole units of 10⁻³, none where the page says "<0.001"."""
    return _whole(np.where(p < 1 / P_PARTS, 0.0, P_PARTS * p))


def _whole(values: np.ndarray) -> list[int | None]:
    return [round(v) if math.isfinite(v) else None for v in values.ravel().tolist()]


def _compact(value: object, **_options: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
