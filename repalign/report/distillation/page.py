"""The page of a run: one file that needs nothing else, neither network nor scripts to be read."""

import math
from typing import Any

import numpy as np

from repalign.report.diagnosis.made import how_made
from repalign.report.distillation import charts
from repalign.report.distillation.compared import Both, both, number_rows, probe_dots, similarity_dots
from repalign.report.distillation.maps import alignment_maps, card_data, shown_maps
from repalign.report.distillation.saved import Distillation, Outcome
from repalign.report.distillation.sentences import answer, brief, caveats, facts, question
from repalign.report.page_base import colour_scale, environment, line_looks, script
from repalign.report.wording import plain


def distillation_page(run: Distillation) -> str:
    """Write the whole page of a run."""
    template = environment().get_template("distillation.html.j2")
    return template.render(run=run, **script(card_data(run)), **_words(run), **_drawings(run))


def _words(run: Distillation) -> dict[str, Any]:
    """Collect sentences and tables."""
    return {
        "command": "distill",
        "question": question(run),
        "answer": answer(run),
        "caveats": caveats(run),
        "brief": brief(run),
        "facts": facts(run),
        "outcomes": [(one.name, f"{one.epoch}" if one.epoch else "", *_accuracies(one)) for one in run.outcomes],
        "sides": (run.student.name, run.teacher.name if run.teacher else "teacher"),
        "made": made_from(run),
    }


def _accuracies(one: Outcome) -> tuple[str, str]:
    pairs = ((one.validation, one.validation_se), (one.test, one.test_se))
    written = [charts.per_cent(v) + ("" if math.isnan(se) else f" ± {100 * se:.1f}") for v, se in pairs]
    return ("" if written[0] == "undefined" else written[0]), ("" if written[1] == "undefined" else written[1])


def _drawings(run: Distillation) -> dict[str, Any]:
    """Collect charts, dots and maps."""
    found = both(run)
    shown = [scores[np.isfinite(scores)] for _, _, scores in shown_maps(run.alignment)] if run.alignment else []
    known = np.concatenate([np.zeros(1), *shown])
    return {
        "lines": line_looks(),
        "scale": colour_scale(float(known.min()), float(known.max())),
        "accuracies": charts.outcome_dots(run),
        "training": [(title, chart) for title, draw in charts.OVER_EPOCHS.items() if (chart := draw(run))],
        "alignment": charts.alignment_chart(run),
        "maps": alignment_maps(run),
        "compared": _compared(found) if found else None,
    }


def _compared(found: Both) -> dict[str, Any]:
    return {"similarity": similarity_dots(found), "probe": probe_dots(found), "rows": number_rows(found)}


def made_from(run: Distillation) -> dict[str, Any]:
    """List how the run was made."""
    meta, configuration = run.meta, run.meta["configuration"]
    evidence = configuration.get("evidence") or {}
    settings = {key: value for key, value in configuration.items() if key not in ("options", "evidence")}
    parts = meta["data"].get("parts") or {}
    networks = [("teacher", run.teacher), ("student", run.student)]
    prints = [(who, f"{one.source} {one.fingerprint}".strip()) for who, one in networks if one]
    if meta.get("trained_fingerprint"):
        prints.append(("student, trained", str(meta["trained_fingerprint"])))
    prints += [(f"{name}: {part['name']}", str(part.get("fingerprint") or "")) for name, part in parts.items()]
    return {
        **how_made(meta),
        "config": _listed({**settings, "state": run.state, "seed": meta.get("seed")}),
        "options": _listed(configuration.get("options") or {}),
        "recipe": _listed(meta["recipe"]),
        "evidence": _listed({k: v for k, v in evidence.items() if k in ("verdict", "rule", "tau", "pictures")}),
        "prints": prints,
        "split": [(name, f"{part['n']:,}") for name, part in parts.items()],
    }


def _listed(values: dict[str, Any]) -> list[tuple[str, str]]:
    return [(str(k).replace("_", " "), plain(v)) for k, v in values.items() if v not in (None, "", {})]
