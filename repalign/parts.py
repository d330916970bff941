"""The finished parts of a study, each an encoder under a condition in its own folder, and whether they fit together."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from repalign.design import ConditionEntry, EncoderEntry
from repalign.errors import InputError

NEEDED = ("alignment", "layers", "summary", "deleted")  # the tables without which a part can't be gathered


@dataclass(frozen=True)
class Part:
    """One finished part of a study: an encoder under a condition, in its folder."""

    encoder: EncoderEntry
    condition: ConditionEntry
    folder: Path

    def meta(self) -> dict[str, Any]:
        """Read its `study.json`."""
        return json.loads((self.folder / "study.json").read_text(encoding="utf-8"))

    def table(self, name: str) -> pd.DataFrame:
        """Read one of its tables as text, empty where it has none.

        Raises InputError naming the file when it is cut or can't be read.
        """
        file = self.folder / f"{name}.csv"
        if not file.is_file():
            return pd.DataFrame()
        try:
            if not file.read_bytes().endswith(b"\n"):
                raise ValueError("its last line is cut")
            return pd.read_csv(file, dtype=str, keep_default_na=False)
        except ValueError as error:
            raise _damaged(self.folder, f"{file.name} can't be read: {error}") from None


def finished(folder: Path) -> dict[str, Any] | None:
    """Read the `study.json` of a finished part; None when there is none in the folder, or a damaged one."""
    try:
        meta = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    whole = isinstance(meta, dict) and "config" in meta
    return meta if whole and all((folder / f"{name}.csv").is_file() for name in NEEDED) else None


def check_tables(part: Part, metrics: Sequence[str]) -> None:
    """Raise InputError naming a part whose tables lack rows of a metric."""
    sides = list(part.table("layers")["side"])
    pairs = sides.count("a") * sides.count("b")
    for name, wanted in (("alignment", pairs), ("summary", 1), ("deleted", None)):
        rows = list(part.table(name)["metric"])
        for metric in metrics:
            found = rows.count(metric)
            if not found or (wanted is not None and found != wanted):
                raise _damaged(part.folder, f"{name}.csv has {found} rows of {metric}, not {wanted or 'one a unit'}")


def check_agreement(parts: Sequence[Part], metas: Sequence[Mapping[str, Any]]) -> None:
    """Raise InputError naming two parts that were computed on different pictures, or with different weights.

    The originals of two conditions are compared where as many of the same names were used: a second set of pictures
    may have lost some, or be matched by other names.
    """
    seen: dict[tuple[object, ...], tuple[Part, str]] = {}
    for part, meta in zip(parts, metas, strict=True):
        for key, what, found in _claims(part, meta):
            other, known = seen.setdefault(key, (part, found))
            if found != known:
                raise InputError(
                    f"{part.folder} was computed {what} than {other.folder} ({found}, and {known}), so the study "
                    "can't be gathered; remove the folder that is out of date, or give --force to compute all again"
                )


def _claims(part: Part, meta: Mapping[str, Any]) -> list[tuple[tuple[object, ...], str, str]]:
    """List what a part rests on: whatever shares a key must be the same; then in words how it could differ."""
    first, second = meta["stimuli"]["a"], meta["stimuli"].get("b")
    names = tuple(one["id"] for one in meta["thumbs"])
    weights = f"fingerprint {meta['encoders']['a']['fingerprint']}"
    claims: list[tuple[tuple[object, ...], str, str]] = [
        (("first", part.condition.id), "on other pictures", _pictures(first)),
        (("first", first["n"], names), "on other pictures", _pictures(first)),
        (("weights", part.encoder.slug), f"with other weights of {part.encoder.name}", weights),
    ]
    if second:
        claims.append((("second", part.condition.id), "on other pictures of data_b", _pictures(second)))
    return claims


def _pictures(described: Mapping[str, Any]) -> str:
    return f"{described['n']} with fingerprint {described['fingerprint']}"


def _damaged(folder: Path, what: str) -> InputError:
    return InputError(f"{folder} is damaged ({what}); remove that folder, and run the study again to compute it anew")
