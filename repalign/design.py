"""The design of a study: which encoders see what, and what is measured, read from a TOML file and checked whole."""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from repalign.align import PAIRS
from repalign.controls import CONTROLS
from repalign.encoders import ENCODERS
from repalign.encoders.spec import parse_spec
from repalign.errors import InputError, unknown
from repalign.filters import load_filter
from repalign.infer.matrix import Plan
from repalign.metrics import DEFAULT_METRICS, parse_metric
from repalign.side import Options
from repalign.stimuli.checks import FEWEST_STIMULI
from repalign.study import TWO_SAMPLE_DEFAULTS, check_wanted

# biased estimators over all pairs of frames, and the paper's three two-sample statistics (arXiv 2511.02404); which
# estimators it used is not stated in what could be read of it
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "repalign": {},
    "paper": {
        "metrics": ["cka_rbf:debiased=false", "cka_linear:debiased=false", "rsa"],
        "tests": ["mmd2", "energy", "wasserstein1"],
        "pairs": "all",
    },
}
OF_OPTIONS = (
    "pool", "layers", "limit", "seed", "device", "batch_size", "workers", "skip_unreadable", "groups", "precision",
    "memory", "max_pairwise", "cache",
)  # fmt: skip
OF_PLAN = {"interval": "interval", "level": "level", "permutations": "n_permutations", "seed": "seed"}


@dataclass(frozen=True)
class EncoderEntry:
    """One encoder of a study: its name as for `--a`, its family, and layers or pool when they differ from the study's.

    `slug` names its files.
    """

    name: str
    family: str = "other"
    layers: str | None = None
    pool: str | None = None

    @property
    def slug(self) -> str:
        """Write the name as a file's, with the layers and pool that set it apart."""
        return slug(":".join(filter(None, (self.name, self.pool, self.layers))))


@dataclass(frozen=True)
class ConditionEntry:
    """One condition: a filter, or a second set of pictures `data_b`; `controls` says whether it gets controls."""

    id: str
    filter: str | None = None
    data_b: str | None = None
    controls: bool = True


@dataclass(frozen=True)
class Design:
    """Everything a study is asked for; the fields are the keys of its TOML file, options and plan those of `compare`.

    `choices` are sentences about what was decided where a published design leaves something open.
    """

    name: str
    data: str
    encoders: tuple[EncoderEntry, ...]
    conditions: tuple[ConditionEntry, ...]
    title: str = ""
    preset: str = "repalign"
    metrics: tuple[str, ...] = DEFAULT_METRICS
    tests: tuple[str, ...] = TWO_SAMPLE_DEFAULTS
    controls: tuple[str, ...] = CONTROLS
    pairs: str = "between"
    stability: bool = False
    choices: tuple[str, ...] = ()
    options: Options = field(default_factory=Options)
    plan: Plan = field(default_factory=Plan)


def read_design(file: Path, changes: Mapping[str, Any] | None = None) -> Design:
    """Read and check a study's TOML file; `changes` replace keys at its top, as the command line does.

    Paths are relative to the working folder. Raises InputError naming the file and the key that is wrong.
    """
    try:
        given = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"there is no study file {file}; give a .toml file, as in experiments/") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{file} can't be read as TOML: {error}") from error
    given |= {k: v for k, v in (changes or {}).items() if v is not None}
    try:
        return _design(given, file.stem)
    except InputError as error:
        raise InputError(f"{file}: {error}") from None


def slug(text: str) -> str:
    """Write any name as a file's: letters, digits and `-._`.

    >>> slug("pocket:vit@random")
    'pocket-vit-random'
    """
    return "".join(c if c.isalnum() or c in "-._" else "-" for c in text).strip("-.")[:100]


def _design(given: dict[str, Any], stem: str) -> Design:
    preset = given.get("preset", "repalign")
    if not isinstance(preset, str) or preset not in PRESETS:
        raise unknown("preset", str(preset), PRESETS)
    given = dict(PRESETS[preset]) | given
    own = {f.name for f in fields(Design)} - {"options", "plan"}
    for key in given:
        if key not in own | set(OF_OPTIONS) | set(OF_PLAN):
            raise unknown("key", key, own | set(OF_OPTIONS) | set(OF_PLAN))
    for key in ("data", "encoders", "conditions"):
        if not given.get(key):
            raise InputError(f"{key} is missing; a study needs data, [[encoders]] and [[conditions]]")
    _check_counts(given)
    design = Design(
        **{k: _plain(k, v) for k, v in given.items() if k in own and k not in ("name", "encoders", "conditions")},
        name=str(given.get("name", stem)),
        encoders=tuple(_entry(EncoderEntry, "encoders", one) for one in _tables("encoders", given["encoders"])),
        conditions=tuple(
            _entry(ConditionEntry, "conditions", one) for one in _tables("conditions", given["conditions"])
        ),
        options=_build(Options, {k: given[k] for k in OF_OPTIONS if k in given}),
        plan=_build(Plan, {ours: given[k] for k, ours in OF_PLAN.items() if k in given}),
    )
    _check(design)
    return design


def _check(design: Design) -> None:
    """Raise InputError for what can be seen to be wrong before anything runs."""
    for what, names in (
        ("encoders", [one.slug for one in design.encoders]),
        ("conditions", [slug(one.id) for one in design.conditions]),
        ("metrics", [parse_metric(one).spec for one in design.metrics]),
    ):
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice or not names:
            raise InputError(f"{what} must have names of their own, and {', '.join(twice) or 'none is given'}")
        if "" in names:
            raise InputError(f"{what} must have names that can name a folder: give each a letter or a digit")
    for encoder in design.encoders:
        if parse_spec(encoder.name, ENCODERS).source in ("features", "rdm"):
            raise InputError(
                f"encoder {encoder.name} holds saved numbers, which no condition can change; name a network"
            )
    for one in design.conditions:
        if (one.filter is None) == (one.data_b is None):
            raise InputError(f"condition {one.id!r} needs a filter or data_b, one of them")
        if one.filter is not None:
            load_filter(one.filter)
    check_wanted(design.tests, design.controls)
    if design.pairs not in PAIRS:
        raise unknown("pairs", design.pairs, PAIRS)


def _check_counts(given: Mapping[str, Any]) -> None:
    """Raise InputError for a count that is no whole number or too small."""
    for key, least in (("limit", FEWEST_STIMULI), ("batch_size", 1), ("workers", 1), ("max_pairwise", 1)):
        count = given.get(key, least)
        if not isinstance(count, int) or isinstance(count, bool) or count < least:
            raise InputError(f"{key} must be a whole number from {least} on, not {count!r}")


def _tables(key: str, given: object) -> Iterable[dict[str, Any]]:
    if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
        raise InputError(f"{key} must be a list of tables, [[{key}]]")
    return given


def _entry(kind: type, key: str, given: dict[str, Any]) -> Any:  # noqa: ANN401  one of the two kinds of entries
    known = {f.name: f for f in fields(kind)}
    for name in given:
        if name not in known:
            raise unknown(f"key of [[{key}]]", name, known)
    first = next(iter(known))
    if first not in given:
        raise InputError(f"an entry of [[{key}]] has no {first}")
    for name, value in given.items():
        wanted = bool if name == "controls" else str
        if not isinstance(value, wanted):
            raise InputError(f"{name} of [[{key}]] {given[first]!r} must be a {wanted.__name__}, not {value!r}")
    return kind(**given)


def _plain(key: str, value: object) -> Any:  # noqa: ANN401  a string, a flag or a tuple
    """Check a value at the top of the file and turn lists into tuples."""
    default = next(f for f in fields(Design) if f.name == key).default
    if isinstance(default, tuple):
        if not isinstance(value, list | tuple) or not all(isinstance(one, str) for one in value):
            raise InputError(f"{key} must be a list of strings, not {value!r}")
        return tuple(value)
    wanted = bool if isinstance(default, bool) else str
    if not isinstance(value, wanted):
        raise InputError(f"{key} must be a {wanted.__name__}, not {value!r}")
    return value


def _build(kind: type, given: dict[str, Any]) -> Any:  # noqa: ANN401  Options or Plan
    """Build options or plan; values of another type than the default's are refused by name."""
    for f in fields(kind):
        if f.name in given and isinstance(f.default, bool | int | float | str):
            wanted = (int, float) if isinstance(f.default, float) else type(f.default)
            if not isinstance(given[f.name], wanted) or isinstance(given[f.name], bool) != isinstance(f.default, bool):
                raise InputError(f"{f.name} must be a {type(f.default).__name__}, not {given[f.name]!r}")
    return kind(**given)
