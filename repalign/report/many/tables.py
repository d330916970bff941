"""The tables of a study of many encoders, checked against what `study.json` lists."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from jaxtyping import Float

from repalign.errors import InputError
from repalign.report.conditions_folder import EFFECT_NAMES, EFFECT_NUMBERS
from repalign.report.many.saved import Interval, Ranked
from repalign.report.saved import Tested
from repalign.report.saved_conditions import Effect
from repalign.report.saved_tables import TEST_NAMES, TEST_NUMBERS, read_table, rows_of, texts

Known = tuple[Sequence[str], Sequence[str], Sequence[str]]
"""The ids of conditions, encoders and metrics that `study.json` lists."""

WHERE = ("condition", "encoder")
SCORES = ("value", "ci_low", "ci_high")
RANKING_NAMES = ("condition", "metric", "encoder", "peak_layer", "held_layer", "note")
RANKING_NUMBERS = (
    "rank", "n", "n_groups", "mean", "mean_low", "mean_high", "peak", "held", "held_low", "held_high", "held_share",
    "difference", "difference_low", "difference_high", "p", "p_adjusted",
)  # fmt: skip
RANKING_LATER = ("layers",)

Row = TypeVar("Row")


def read_scores(
    file: Path, known: Known, layers: Mapping[str, tuple[str, ...]]
) -> dict[tuple[str, str, str], Float[np.ndarray, "3 l l"]]:
    """Lay out scores and intervals of every condition, encoder and measure, layers × layers.

    Raises InputError when a layer pair is missing, stands there twice or is of an unknown layer.
    """
    table = read_table(file, (*WHERE, "metric", "layer_a", "layer_b"), SCORES)
    _check_known(file, table, known)
    found = {}
    for _, rows in table.groupby([*WHERE, "metric"], sort=False):
        condition, encoder, metric = (str(rows[column].iloc[0]) for column in (*WHERE, "metric"))
        found[condition, encoder, metric] = _lay_out(file, rows, layers[encoder], f"{encoder} under {condition}")
    return found


def _lay_out(file: Path, rows: pd.DataFrame, layers: tuple[str, ...], whose: str) -> Float[np.ndarray, "3 l l"]:
    place = {name: k for k, name in enumerate(layers)}
    odd = sorted((set(texts(rows, "layer_a")) | set(texts(rows, "layer_b"))) - set(layers))
    if odd:
        raise InputError(
            f"{file}: {whose} has layers that layers.csv lacks ({', '.join(odd[:5])}); run the study again"
        )
    i, j = ([place[name] for name in texts(rows, column)] for column in ("layer_a", "layer_b"))
    shape = (len(layers), len(layers))
    once = len(set(zip(i, j, strict=True)))
    if len(rows) != once or once != shape[0] * shape[1]:
        raise InputError(
            f"{file}: {whose} has {len(rows)} rows ({once} different) of one measure for {shape[0]} × {shape[1]} "
            "layers; run the study again"
        )
    laid = np.empty((len(SCORES), *shape))
    laid[:, i, j] = np.stack([np.array(rows[column], dtype=np.float64) for column in SCORES])
    laid.setflags(write=False)
    return laid


def read_ranking(
    file: Path, known: Known, scored: set[tuple[str, str, str]]
) -> dict[tuple[str, str], tuple[Ranked, ...]]:
    """Read the ranking of every condition and measure, best first.

    Raises InputError when its encoders are not those that `alignment.csv` has scores of.
    """
    table = read_table(file, RANKING_NAMES, RANKING_NUMBERS, RANKING_LATER)
    _check_known(file, table, known)
    rows = [_ranked(row) for row in rows_of(table, RANKING_NAMES, (*RANKING_NUMBERS, *RANKING_LATER))]
    named = [(row.condition, row.encoder, row.metric) for row in rows]
    odd = sorted(set(named) ^ scored)
    if odd or len(set(named)) < len(named):
        said = f"one of them alone has {' / '.join(odd[0])}" if odd else "a row stands there twice"
        raise InputError(f"{file} and alignment.csv disagree ({said}); run the study again")
    rows.sort(key=lambda row: np.inf if np.isnan(row.rank) else row.rank)
    return _grouped(rows, [(row.condition, row.metric) for row in rows])


def _ranked(row: tuple[Any, ...]) -> Ranked:
    one: dict[str, Any] = dict(zip((*RANKING_NAMES, *RANKING_NUMBERS, *RANKING_LATER), row, strict=True))
    for what in ("mean", "held", "difference"):
        one[what] = Interval(one.pop(what), one.pop(f"{what}_low"), one.pop(f"{what}_high"))
    return Ranked(**one)


def read_effects(file: Path, known: Known) -> dict[tuple[str, str], tuple[Effect, ...]]:
    """Read the means over layers under every control, nothing when the study has no controls."""
    if not file.is_file():
        return {}
    table = read_table(file, (*WHERE, *EFFECT_NAMES), EFFECT_NUMBERS)
    _check_known(file, table, known)
    table = table.loc[table["layer"] == ""]
    effects = [Effect(*row) for row in rows_of(table, EFFECT_NAMES, EFFECT_NUMBERS)]
    return _grouped(effects, _places(table))


def read_tested(file: Path, known: Known) -> dict[tuple[str, str], tuple[Tested, ...]]:
    """Read the tests of every encoder, nothing when the study has none."""
    if not file.is_file():
        return {}
    table = read_table(file, (*WHERE, *TEST_NAMES), TEST_NUMBERS)
    _check_known(file, table, known, metrics=False)
    tests = [Tested(*row) for row in rows_of(table, TEST_NAMES, TEST_NUMBERS)]
    return _grouped(tests, _places(table))


def read_similarity(file: Path, known: Known) -> dict[str, Float[np.ndarray, "e e"]]:
    """Lay out the encoders' mutual similarity by measure, NaN where unknown; nothing when the study has none."""
    if not file.is_file():
        return {}
    table = read_table(file, ("metric", "encoder_a", "encoder_b"), ("similarity",))
    _check_known(file, table.rename(columns={"encoder_a": "encoder"}), known)
    _check_known(file, table.rename(columns={"encoder_b": "encoder"}), known)
    place = {slug: k for k, slug in enumerate(known[1])}
    found = {metric: np.full((len(place), len(place)), np.nan) for metric in known[2] if metric in set(table["metric"])}
    columns = [texts(table, name) for name in ("metric", "encoder_a", "encoder_b")]
    for metric, a, b, value in zip(*columns, table["similarity"], strict=True):
        found[metric][place[a], place[b]] = value
    return found


def _check_known(file: Path, table: pd.DataFrame, known: Known, metrics: bool = True) -> None:
    for column, names in zip(("condition", "encoder", "metric"), known, strict=True):
        if column in table.columns and (metrics or column != "metric"):
            odd = sorted(set(texts(table, column)) - set(names))
            if odd:
                raise InputError(
                    f"{file}: the {column} {', '.join(odd[:5])} is not listed in study.json; run the study again"
                )


def _places(table: pd.DataFrame) -> list[tuple[str, str]]:
    return list(zip(*(texts(table, name) for name in WHERE), strict=True))


def _grouped(rows: list[Row], keys: list[tuple[str, str]]) -> dict[tuple[str, str], tuple[Row, ...]]:
    """Collect the rows of each key, in their order."""
    found: dict[tuple[str, str], list[Row]] = {}
    for key, row in zip(keys, rows, strict=True):
        found.setdefault(key, []).append(row)
    return {key: tuple(some) for key, some in found.items()}
