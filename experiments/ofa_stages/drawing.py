"""The figure: what each arm gains over the student alone, against what its heads cost."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats
from students import build_student

STYLES = {  # label, marker, colour
    "kd": ("KD", "s", "#2a78b8"),
    "ofa": ("OFA, logits only", "D", "#0b8a68"),
    "ofa4": ("OFA, last stage", "^", "#7a6a00"),
    "ofa1234": ("OFA, all stages", "o", "#c8580a"),
}
RULES = {
    "gap": ("rule gap", "P", "#a8558c"),
    "lag": ("rule lag", "X", "#5b5bd6"),
    "knee": ("rule knee", "*", "#444444"),
}
OTHER = ("OFA, another subset", ".", "#9aa0a6")
FEWEST_SEEDS = 5  # of such a subset, that its dot be shown: it has no interval to warn of fewer


def draw(rows: pd.DataFrame, decisions: pd.DataFrame, stem: Path) -> None:
    """Write `stem`.png and .svg: one panel a pair and number of labels."""
    regimes, pairs = sorted(set(rows.labels)), list(dict.fromkeys(rows.pair))
    with mpl.rc_context(
        {"font.size": 9, "svg.hashsalt": "repalign", "axes.spines.top": False, "axes.spines.right": False}
    ):
        figure = Figure(figsize=(3.1 * len(pairs), 2.9 * len(regimes) + 0.6), layout="constrained")
        axes = figure.subplots(len(regimes), len(pairs), squeeze=False, sharex="col", sharey="row")
        for i, labels in enumerate(regimes):
            for j, pair in enumerate(pairs):
                _panel(axes[i, j], rows, decisions, labels, pair)
                axes[i, j].set_title(f"{pair}, {labels:,} labels", fontsize=9)
        figure.supxlabel("parameters of the heads divided by the student's", fontsize=9)
        figure.supylabel("gain over the student alone, points", fontsize=9)
        handles = {
            label: handle for ax in axes.flat for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)
        }
        shown = [label for label, *_ in (*STYLES.values(), *RULES.values(), OTHER) if label in handles]
        figure.legend(
            [handles[label] for label in shown], shown, loc="outside upper center", ncols=8, frameon=False, fontsize=8
        )
        figure.savefig(stem.with_suffix(".png"), dpi=160)
        figure.savefig(stem.with_suffix(".svg"), metadata={"Date": None})


def _panel(ax: Axes, rows: pd.DataFrame, decisions: pd.DataFrame, labels: int, pair: str) -> None:
    """Draw one pair: every arm, and each rule at the mean of what it chose seed by seed."""
    own = rows[(rows.labels == labels) & (rows.pair == pair)]
    size = sum(p.numel() for p in build_student(pair.split("→")[1], 0).parameters())
    alone = own[own.arm == "ce"].set_index("seed").test
    for arm in dict.fromkeys(own.arm):
        mine = own[own.arm == arm].set_index("seed")
        if arm in STYLES or (arm != "ce" and len(mine) >= FEWEST_SEEDS):
            _point(ax, mine.head_parameters / size, 100 * (mine.test - alone), STYLES.get(arm, OTHER), arm in STYLES)
    told = decisions[(decisions.labels == labels) & (decisions.pair == pair)]
    for rule, style in RULES.items():
        chosen = told[(told.rule == rule) & told.sufficient].set_index("seed").kept
        if chosen.empty:
            continue
        mine = pd.DataFrame({s: own[(own.seed == s) & (own.arm == a)].iloc[0] for s, a in chosen.items()}).T
        _point(ax, mine.head_parameters.astype(float) / size, 100 * (mine.test.astype(float) - alone), style, True)
    ax.axhline(0, color="#9aa0a6", lw=0.8)


def _point(ax: Axes, cost: pd.Series, gain: pd.Series, style: tuple[str, str, str], main: bool) -> None:
    """Draw a mean with its interval over seeds; subsets that are nobody's choice stay small and without one."""
    label, marker, colour = style
    values = gain.dropna().to_numpy()
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values) if main and len(values) > 1 else np.nan
    ax.errorbar(
        cost.mean(), values.mean(), yerr=None if np.isnan(half) else half, fmt=marker, color=colour, label=label,
        ms=6 if main else 4, lw=1, capsize=2, zorder=3 if main else 2,
    )  # fmt: skip
