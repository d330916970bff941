"""The page of a diagnosis: one file that needs nothing else, neither network nor scripts to be read."""

from typing import Any

import numpy as np

from repalign.report.diagnosis.charts import chips, gap_dots, head_rows, knee_chart, probe_dots
from repalign.report.diagnosis.made import made_from, network_rows, overflow, said_of_networks
from repalign.report.diagnosis.maps import block_maps, card_data, score_tables, stage_maps, with_untrained
from repalign.report.diagnosis.saved import Diagnosis
from repalign.report.diagnosis.sentences import caveats, compared, explained, facts, question, verdict
from repalign.report.page_base import colour_scale, environment, line_looks, script


def diagnosis_page(found: Diagnosis) -> str:
    """Write the whole page of a diagnosis."""
    template = environment().get_template("diagnosis.html.j2")
    return template.render(found=found, **script(card_data(found)), **_words(found), **_drawings(found))


def _words(found: Diagnosis) -> dict[str, Any]:
    """Collect sentences and tables."""
    said, risky = overflow(found)
    return {
        "command": "diagnose",
        "question": question(found),
        "verdict": verdict(found),
        "caveats": caveats(found),
        "facts": facts(found),
        "compared": compared(found),
        "sides": (found.student.described, found.teacher.described),
        "tables": score_tables(found),
        "networks": {"rows": network_rows(found), "said": said_of_networks(found)},
        "logits": {"said": said, "risky": risky},
        "made": made_from(found),
    }


def _drawings(found: Diagnosis) -> dict[str, Any]:
    """Collect maps, charts and chips."""
    grids = [*with_untrained(found), *found.level("block")]
    known = np.concatenate([np.zeros(1), *(grid.matrix()[np.isfinite(grid.matrix())] for grid in grids)])
    return {
        "lines": line_looks(),
        "scale": colour_scale(float(known.min()), float(known.max())),
        "maps": {"stages": stage_maps(found), "blocks": block_maps(found)},
        "gap": gap_dots(found),
        "rules": [(rule, explained(rule), chips(found, rule)) for rule in found.rules],
        "knee": knee_chart(found),
        "probe": probe_dots(found),
        "heads": head_rows(found),
    }
