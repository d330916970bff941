"""Read filters as they are written on the command line.

A specification is a list separated by commas. An item `key=value` is an option of the filter before it; every other
item, `name` or `name:key=value`, starts a filter.
"""

import types
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, get_args, get_type_hints

from repalign.errors import InputError, unknown
from repalign.filters.base import Step


def split(spec: str) -> list[tuple[str, dict[str, str]]]:
    """Cut a specification into names with their options.

    Raises InputError for empty items, options without a filter and options given twice.

    >>> split("cat:fov_deg=60,pupil=round,jpeg:q=50,grey")
    [('cat', {'fov_deg': '60', 'pupil': 'round'}), ('jpeg', {'q': '50'}), ('grey', {})]
    """
    found: list[tuple[str, dict[str, str]]] = []
    opened = False  # whether the filter before wrote a colon
    for item in (part.strip() for part in spec.split(",")):
        head, colon, option = item.partition(":")
        if not colon and "=" in item:
            if not found:
                raise InputError(
                    f"filter {spec!r} starts with the option {item!r}; write the filter first, name:{item}"
                )
            if not opened:
                name = found[-1][0]
                raise InputError(f"filter {spec!r}: options of {name} follow a colon; write {name}:{item}")
            option = item
        else:
            if not head:
                raise InputError(f"filter {spec!r} has an empty part; write name[:key=value,…], more after a comma")
            found.append((head.strip(), {}))
            opened = bool(colon)
        if option or colon:
            _add(spec, found[-1], option)
    return found


def build(factory: Callable[..., Step], name: str, given: Mapping[str, object]) -> Step:
    """Build one filter from its options, written or as values.

    Raises InputError for an unknown option or a value of another kind.
    """
    kinds = get_type_hints(factory)
    known = [field.name for field in fields(factory)]  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for key, value in given.items():
        if key not in known:
            if not known:
                raise InputError(f"{name} takes no options, but was given {key}")
            raise unknown(f"option of {name}", key, known)
        values[key] = _convert(name, key, value, _kind(kinds[key]))
    return factory(**values)


def _add(spec: str, filter_: tuple[str, dict[str, str]], option: str) -> None:
    name, options = filter_
    key, equals, value = (part.strip() for part in option.partition("="))
    if not (key and equals and value):
        raise InputError(f"filter {spec!r}: {option!r} is not an option; write {name}:key=value")
    if key in options:
        raise InputError(f"filter {spec!r}: {name} is given {key} twice, {options[key]} and {value}; give it once")
    options[key] = value


def _kind(hint: object) -> type:
    """Find the type behind `X` or `X | None`."""
    if isinstance(hint, types.UnionType):
        return next(kind for kind in get_args(hint) if kind is not type(None))
    assert isinstance(hint, type)  # a field of ours
    return hint


def _convert(name: str, key: str, value: object, kind: type) -> object:
    text = str(value).lower()
    if kind is bool and text in ("true", "false"):
        return text == "true"
    if kind is str and isinstance(value, str):
        return value
    if kind in (int, float) and not isinstance(value, bool):
        try:
            return kind(text)
        except ValueError:
            pass
    wanted = {bool: "true or false", float: "a number", int: "a whole number", str: "a word"}[kind]
    raise InputError(f"{name}: {key} takes {wanted}, not {value!r}")
