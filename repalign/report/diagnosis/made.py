"""The plain parts of the page: both networks beside each other, and how the diagnosis was made."""

import math
import shlex
from collections.abc import Mapping
from typing import Any

from repalign.report.diagnosis.saved import Diagnosis, Network
from repalign.report.wording import number, plain

RANGE, GAPS = ("teacher_min", "teacher_max"), ("teacher_gap_max", "student_gap_max")


def network_rows(found: Diagnosis) -> list[tuple[str, str, str]]:
    """List what the logits of teacher and student come to: what is unknown of both is left out."""
    teacher, student = found.networks
    logits = found.meta.get("logits") or {}
    ends, gaps = ([_known(logits, key) for key in keys] for keys in (RANGE, GAPS))
    rows = [
        ("accuracy, ± one standard error", accuracy(teacher), accuracy(student)),
        ("negative log-likelihood, nats", number(teacher.nll, 3), number(student.nll, 3)),
        ("expected calibration error", number(teacher.ece, 3), number(student.ece, 3)),
        ("widest gap between two logits of a picture", number(gaps[0], 1), number(gaps[1], 1)),
        ("logits", "undefined" if math.isnan(sum(ends)) else f"{number(ends[0], 1)} to {number(ends[1], 1)}", ""),
    ]
    return [row for row in rows if set(row[1:]) - {"undefined", ""}]


def _known(numbers: Mapping[str, Any], key: str) -> float:
    return math.nan if numbers.get(key) is None else float(numbers[key])


def accuracy(one: Network) -> str:
    """Write an accuracy with its standard error in per cent."""
    if math.isnan(one.accuracy):
        return "undefined"
    side = "" if math.isnan(one.accuracy_se) else f" ± {100 * one.accuracy_se:.1f}"
    return f"{100 * one.accuracy:.1f} %{side}"


def said_of_networks(found: Diagnosis) -> list[str]:
    """Say how often the two disagree, what guessing gives, and what the ranges of their logits mean."""
    said = []
    if math.isfinite(found.disagreement):
        said.append(f"They give different classes to {100 * found.disagreement:.1f} % of the pictures.")
    better = found.meta.get("difference") or {}
    ends = [_known(better, key) for key in ("value", "ci_low", "ci_high")]
    if math.isfinite(sum(ends)):
        value, low, high = (number(100 * end, 1) for end in ends)
        said.insert(0, f"Teacher less student: {value} points of accuracy [{low}, {high}] on the same pictures.")
    if math.isfinite(found.chance):
        said.append(f"Guessing gives {100 * found.chance:.1f} %.")
    return said


def overflow(found: Diagnosis) -> tuple[str, bool]:
    """Give the sentence about overflow, and whether it is a warning."""
    logits = found.meta.get("logits") or {}
    said = str(logits.get("said") or "")
    said = f"{said[:1].upper()}{said[1:].rstrip('.')}." if said else ""
    return said, bool(logits.get("float16_overflow") or logits.get("naive_log_softmax_overflow"))


def made_from(found: Diagnosis) -> dict[str, Any]:
    """List how the diagnosis was made, and the command that goes on from here."""
    meta = found.meta
    settings = {"seed": meta.get("seed"), **(meta.get("settings") or {})}
    used = {f"pictures: {key.replace('_', ' ')}": n for key, n in (meta.get("pictures") or {}).items() if n}
    told = str(meta["command"]).startswith("repalign ")  # a diagnosis inside a run has no next command
    prints = [(one.described, f"{one.source} {one.fingerprint}".strip()) for one in found.networks]
    return {
        **how_made(meta),
        "config": [(str(k).replace("_", " "), plain(v)) for k, v in {**settings, **used}.items() if v is not None],
        "prints": [*prints, (str(meta["data"]["name"]), str(meta["data"].get("fingerprint") or ""))],
        "next": f"repalign distill --config {folder_of(meta)}/distill.toml --out RUN" if found.toml and told else "",
        "rules": [(one.name, one.source) for one in found.rules if one.source],
    }


def how_made(meta: Mapping[str, Any]) -> dict[str, Any]:
    """List what the files of diagnoses and of runs say alike: date, command, versions and times."""
    timings = meta.get("timings") or {}
    return {
        "created": str(meta.get("created") or "")[:16].replace("T", " "),
        "command": str(meta["command"]),
        "versions": [(str(k), plain(v)) for k, v in (meta.get("versions") or {}).items()],
        "timings": [(str(k).replace("_", " "), f"{v:.1f} s") for k, v in timings.items() if isinstance(v, int | float)],
    }


def folder_of(meta: Mapping[str, Any]) -> str:
    """Find the folder in the command that wrote it, `DIR` where it does not say."""
    try:
        words = shlex.split(str(meta["command"]))
    except ValueError:
        return "DIR"
    after = [words[k + 1] for k, word in enumerate(words[:-1]) if word == "--out"]
    joined = [word.removeprefix("--out=") for word in words if word.startswith("--out=")]
    return shlex.quote((after + joined + ["DIR"])[0].rstrip("/"))
