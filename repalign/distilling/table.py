"""The closing table of a run: teacher, student before, after the last epoch and at its best, on validation and test."""

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.table import Table

PARTS = ("validation", "test")


def results_table(meta: Mapping[str, Any]) -> Table:
    """Lay out what `run.json` says of the accuracies, per cent with their standard errors."""
    results = meta["results"]
    rows = {"teacher": meta["teacher"] and meta["teacher"]["name"], "before": meta["student"]["name"]}
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("network", overflow="fold")
    table.add_column("epoch", justify="right")
    for part in PARTS:
        table.add_column(f"{part} (n = {_count(results, part)})", justify="right")
    for name, label in (
        ("teacher", f"teacher {rows['teacher']}"), ("before", f"student {rows['before']} before"),
        ("last", "student, last epoch"), ("best", "student, best on validation"),
    ):  # fmt: skip
        if name in results:
            epoch = str(results[name].get("epoch", "")) if name in ("last", "best") else ""
            table.add_row(label, epoch, *(_accuracy(results[name], part) for part in PARTS))
    return table


def _accuracy(found: Mapping[str, Any], part: str) -> str:
    value, error = found.get(f"{part}_accuracy"), found.get(f"{part}_accuracy_se")
    return "-" if value is None or error is None else f"{100 * value:.1f} ± {100 * error:.1f} %"


def _count(results: Mapping[str, Any], part: str) -> str:
    n = results["last"].get(f"{part}_n")
    return "0" if n is None else f"{n:,}"
