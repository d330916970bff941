"""What a distillation is asked for: a command line over a distill.toml, settled and checked before anything runs."""

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from repalign.distill.methods import check_options, known_options
from repalign.distill.recipe import Recipe, make_recipe
from repalign.errors import InputError, unknown

FORMAT = 1  # of distill.toml
KEYS = ("format", "teacher", "student", "data", "method", "labels", "options", "recipe", "evidence")
TABLES = ("options", "recipe", "evidence")
AUTO = "auto"
DEFAULT_METHOD, DEFAULT_STAGES = "ofa", "all"
NAMED = ("teacher", "student", "data", "labels", "method")
MAY_CHANGE = ("workers",)  # of the recipe, when a run goes on: no number depends on it


@dataclass(frozen=True)
class Asked:
    """What `repalign distill` was asked for, under the names of its options; None and empty where nothing was said.

    `options` are the method's, `recipe` fields of the recipe; `changes` are `key=value` of either (`--set`).
    """

    teacher: str | None = None
    student: str | None = None
    data: str | None = None
    config: Path | None = None
    method: str | None = None
    stages: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    changes: tuple[str, ...] = ()
    labels: int | None = None
    out: Path | None = None
    resume: bool = False
    force: bool = False
    diagnosis: bool = True
    ignore_evidence: bool = False
    device: str = "auto"
    command: str = ""


@dataclass(frozen=True)
class Settings:
    """A distillation with everything settled; it stands in `run.json`, from which a run goes on."""

    student: str
    data: str
    teacher: str | None = None
    method: str = DEFAULT_METHOD
    options: Mapping[str, Any] = field(default_factory=dict)
    recipe: Recipe = field(default_factory=Recipe)
    labels: int | None = None
    diagnosis: bool = True
    evidence: Mapping[str, Any] = field(default_factory=dict)

    @property
    def undecided(self) -> bool:
        """Tell whether a diagnosis has yet to choose the stages."""
        return self.options.get("stages") == AUTO

    def to_json(self) -> dict[str, Any]:
        """Lay the settings out as JSON takes them: `configuration`, and the `recipe` beside it."""
        configuration = asdict(self)
        return {"recipe": configuration.pop("recipe"), "configuration": configuration}


def from_json(given: Mapping[str, Any]) -> Settings:
    """Read back what `to_json` gave."""
    return Settings(**given["configuration"], recipe=make_recipe(given["recipe"]))


def settle(asked: Asked) -> Settings:
    """Put the command line over the file that it names, and both over the defaults.

    Raises InputError for what is missing, unknown or doesn't go together.
    """
    given = read_config(asked.config) if asked.config else {}
    method = asked.method or given.get("method", DEFAULT_METHOD)
    known = known_options(method)
    options = dict(given.get("options", {})) if method == given.get("method", method) else {}
    recipe = dict(given.get("recipe", {})) | dict(asked.recipe)
    options |= dict(asked.options)
    if asked.stages is not None:
        options["stages"] = asked.stages
    for key, value in map(_change, asked.changes):
        target = options if key in known else recipe
        if key not in known and key not in {f.name for f in fields(Recipe)}:
            raise unknown("key of --set", key, {*known, *(f.name for f in fields(Recipe))})
        target[key] = value
    if "stages" in known:
        options.setdefault("stages", DEFAULT_STAGES)
    check_options(method, options)
    named: dict[str, Any] = {key: getattr(asked, key) or given.get(key) for key in ("teacher", "student", "data")}
    _check_named(named, method)
    settings = Settings(
        **named, method=method, options=options, recipe=make_recipe(recipe),
        labels=asked.labels if asked.labels is not None else given.get("labels"),
        diagnosis=asked.diagnosis and named["teacher"] is not None, evidence=given.get("evidence", {}),
    )  # fmt: skip
    if settings.undecided and not settings.diagnosis:
        raise InputError("--stages auto has a diagnosis choose them, so it can't go with --no-diagnosis")
    return settings


def decided(settings: Settings, config: Path, asked_method: str | None = None) -> Settings:
    """Take method, options and evidence from the distill.toml of a diagnosis; options given beside `auto` stay.

    Where the diagnosis advises no branch and the method was asked for by name, OFA-KD keeps the logits alone.
    """
    found = read_config(config)
    method, options = found["method"], dict(found.get("options", {}))
    if method != "ofa" and asked_method is not None:
        method, options = settings.method, {"stages": "none"}
    own = {k: v for k, v in settings.options.items() if k != "stages" and k in known_options(method)}
    return replace(settings, method=method, options=options | own, evidence=found.get("evidence", {}))


def check_same(asked: Asked, settings: Settings) -> Settings:
    """Give a run's settings as they go on, with what may differ as it is asked for now.

    Raises InputError for anything said on the command line that the run was not started with.
    """
    was = {**settings.options, **asdict(settings.recipe), **{key: getattr(settings, key) for key in NAMED}}
    now = _said(asked)
    for key, value in now.items():
        before = list(was[key]) if isinstance(was.get(key), tuple) else was.get(key)
        if _plain(value) != _plain(before) and key not in MAY_CHANGE:
            raise InputError(
                f"--resume goes on with the run as it was started, with {key} {before!r} and not {value!r}; leave the "
                "option out, or start another run with another --out"
            )
    changed = {key: now[key] for key in MAY_CHANGE if key in now}
    return replace(settings, recipe=make_recipe({**asdict(settings.recipe), **changed}))


def _said(asked: Asked) -> dict[str, Any]:
    """Gather what was said in the file and over it on the command line, but what a diagnosis was to decide."""
    file = read_config(asked.config) if asked.config else {}
    line = {key: getattr(asked, key) for key in (*NAMED, "stages")} | dict(asked.options) | dict(asked.recipe)
    line = {key: value for key, value in line.items() if value is not None} | dict(map(_change, asked.changes))
    options = dict(file.get("options", {})) if line.get("method") in (None, file.get("method", DEFAULT_METHOD)) else {}
    named = {key: file[key] for key in NAMED if key in file}
    if AUTO in (line.get("stages"), options.get("stages")):
        options = {}
        named.pop("method", None)
    now = named | options | dict(file.get("recipe", {})) | line
    return {key: value for key, value in now.items() if not (key == "stages" and value == AUTO)}


def _plain(value: object) -> object:
    """Read numbers with commas between them, as in `--stages 1,2`, as the list that a file has."""
    parts = [part.strip() for part in value.split(",")] if isinstance(value, str) else []
    return [int(part) for part in parts] if parts and all(part.isdecimal() for part in parts) else value


def read_config(file: Path) -> dict[str, Any]:
    """Read a distill.toml.

    Raises InputError naming the file and what is wrong in it.
    """
    try:
        given = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"there is no configuration {file}; `repalign diagnose --out DIR` writes one") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{file} can't be read as TOML: {error}") from error
    for key, value in given.items():
        if key not in KEYS:
            raise InputError(f"{file}: {unknown('key', key, KEYS)}")
        wanted = dict if key in TABLES else int if key in ("format", "labels") else str
        if not isinstance(value, wanted):
            raise InputError(f"{file}: {key} must be a {'table' if wanted is dict else wanted.__name__}, not {value!r}")
    if given.get("format", FORMAT) != FORMAT:
        raise InputError(f"{file} has format {given['format']}, and this version reads {FORMAT}; diagnose again")
    return given


def _change(text: str) -> tuple[str, Any]:
    """Read `key=value`, the value as TOML has it; anything that isn't TOML is a text."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise InputError(f"--set {text!r} is no change; write key=value, as in --set momentum=0.8")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value.strip()


def _check_named(named: Mapping[str, str | None], method: str) -> None:
    for key, value in named.items():
        if value is None and not (key == "teacher" and method == "ce"):
            raise InputError(f"no {key} was named; give --{key}, or --config with a distill.toml that names it")
