"""A small exact writer of TOML, which Python's `tomllib` reads back to the same values."""

import json
import re
from collections.abc import Mapping, Sequence

from repalign.errors import InputError

BARE = re.compile(r"[A-Za-z0-9_-]+")


def to_toml(values: Mapping[str, object]) -> str:
    """Write text, numbers, truth values, lists of them, tables (mappings) and lists of tables.

    Whole numbers stay whole, floats keep every digit, also NaN and infinity. Raises InputError naming the key of
    anything else.

    >>> print(to_toml({"stages": [1, 3], "options": {"gamma": 1.0}}), end="")
    stages = [1, 3]
    <BLANKLINE>
    [options]
    gamma = 1.0
    """
    return "\n".join(_table(values, ())).lstrip("\n") + "\n"


def _table(values: Mapping[str, object], path: tuple[str, ...]) -> list[str]:
    """List a table's lines: its own values, then the tables inside it under their full names."""
    inner = {k: v for k, v in values.items() if isinstance(v, Mapping) or _of_tables(v)}
    lines = [f"{_key(k)} = {_value(v, (*path, k))}" for k, v in values.items() if k not in inner]
    for name, value in inner.items():
        full = (*path, name)
        header = ".".join(map(_key, full))
        if isinstance(value, Mapping):
            lines += ["", f"[{header}]", *_table(value, full)]
        else:
            for one in value:  # type: ignore[attr-defined]
                lines += ["", f"[[{header}]]", *_table(one, full)]
    return lines


def _of_tables(value: object) -> bool:
    return isinstance(value, list | tuple) and len(value) > 0 and all(isinstance(v, Mapping) for v in value)


def _key(name: str) -> str:
    return name if BARE.fullmatch(name) else _text(name)


def _value(value: object, path: tuple[str, ...]) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return _text(value)
        case int():
            return str(value)
        case float():
            return repr(float(value))  # NumPy's float64 is a float whose repr names its type
        case Sequence():
            return f"[{', '.join(_value(v, path) for v in value)}]"
    raise InputError(
        f"{'.'.join(path)} is {type(value).__name__}, which TOML does not hold; give text, numbers or lists"
    )


def _text(text: str) -> str:
    """Quote a string: JSON's escapes are TOML's, but for DEL, which TOML forbids as it is."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(f"{text!r} holds characters that are no Unicode, so TOML can't hold it; rename it") from None
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
