"""The tables of a study folder: columns checked and numbers made float64."""

from pathlib import Path

import numpy as np
import pandas as pd

from repalign.errors import InputError
from repalign.report.saved import Metric, Point, Tested

POINT_NAMES = ("metric", "kind", "layer_a", "layer_b", "x")
POINT_NUMBERS = ("n", "value", "low", "high", "draws")
TEST_NAMES = ("test", "layer_a", "layer_b", "metric", "note")
TEST_NUMBERS = ("statistic", "null_mean", "p", "p_adjusted", "q", "n", "n_groups", "n_permutations")


def read_table(
    file: Path,
    names: tuple[str, ...],
    numbers: tuple[str, ...],
    later: tuple[str, ...] = (),
    again: str = "run the study again",
) -> pd.DataFrame:
    """Read a CSV with its names as text (a layer may be called "NA") and its numbers as float64.

    `later` are columns of numbers that older studies lack; there they are NaN. `again` is the remedy. Raises
    InputError when the file is not there, can't be read, lacks a column or holds a word where a number belongs.
    """
    if not file.is_file():
        raise InputError(f"{file.parent} has no {file.name}; {again}")
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False)
    except (ValueError, OSError) as error:
        raise InputError(f"{file} can't be read ({error}); {again}") from error
    missing = [name for name in names + numbers if name not in table.columns]
    if missing:
        raise InputError(f"{file} lacks the columns {', '.join(missing)}; {again}")
    for name in later:
        if name not in table.columns:
            table[name] = ""
    for name in numbers + later:
        try:
            table[name] = np.array([float(text) if text else np.nan for text in table[name]], dtype=np.float64)
        except ValueError as error:
            raise InputError(f"{file}: column {name} holds something that is no number ({error})") from error
    return table


def texts(table: pd.DataFrame, column: str) -> list[str]:
    """List a column of names."""
    return [str(text) for text in table[column]]


def read_points(file: Path, metrics: tuple[Metric, ...]) -> tuple[Point, ...]:
    """Read `curves.csv`, nothing when the study has none.

    Raises InputError when a row is about a measure that the study does not have.
    """
    if not file.is_file():
        return ()
    table = read_table(file, POINT_NAMES, POINT_NUMBERS)
    odd = set(texts(table, "metric")) - {metric.id for metric in metrics}
    if odd:
        raise InputError(
            f"{file} is about {', '.join(sorted(odd))}, which study.json does not list; run the study again"
        )
    return tuple(Point(*row) for row in rows_of(table, POINT_NAMES, POINT_NUMBERS))


def read_tests(file: Path) -> tuple[Tested, ...]:
    """Read `tests.csv`, nothing when the study has none."""
    if not file.is_file():
        return ()
    return tuple(Tested(*row) for row in rows_of(read_table(file, TEST_NAMES, TEST_NUMBERS), TEST_NAMES, TEST_NUMBERS))


def rows_of(table: pd.DataFrame, names: tuple[str, ...], numbers: tuple[str, ...]) -> list[tuple]:
    """List the rows: first their names, then their numbers."""
    columns = [texts(table, name) for name in names] + [[float(v) for v in table[name]] for name in numbers]
    return list(zip(*columns, strict=True))
