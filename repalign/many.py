"""A study of many encoders: one part for each encoder and condition, kept as it is finished, then gathered.

A part is the study folder of one comparison, and appears whole or not at all; a study that was stopped goes on with
the parts it lacks. What the gathered tables hold is read from the parts alone, so a study that was stopped and one that
was not are the same.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from repalign.conditions import Known
from repalign.design import ConditionEntry, Design, EncoderEntry, slug
from repalign.errors import InputError, RepalignError
from repalign.filters import load_filter
from repalign.folder import remove_leftovers
from repalign.gather import gather
from repalign.parts import Part, finished
from repalign.progress import Track, silent
from repalign.report import render
from repalign.report.figures import write_whole
from repalign.side import Options
from repalign.study import Comparison, configuration, run
from repalign.together import processes
from repalign.viewing import load_shown

DESIGN = "design.json"
NOT_NUMBERS = (  # they don't change what is meant
    "out", "force", "device", "batch_size", "workers", "save_features", "memory", "cache",
)  # fmt: skip


@dataclass(frozen=True)
class Failure:
    """An encoder that could not be measured, and why."""

    name: str
    family: str
    error: str


@dataclass(frozen=True)
class Finished:
    """A study folder, how many of its parts it took from an earlier run, and the encoders that failed."""

    folder: Path
    kept: int
    parts: int
    failed: tuple[Failure, ...]


def run_study(
    design: Design, out: Path | None = None, force: bool = False, command: str = "", track: Track = silent
) -> Finished:
    """Run every encoder under every condition, one encoder after the other, and gather the study.

    Parts that are there already, whole and of the same configuration, are kept; `force` removes all of them first. An
    encoder that fails is recorded, and the others go on.

    Raises InputError for stimuli that can't be used as asked, before anything is written; for a folder that is no such
    study, that another run works on, or that holds parts of another configuration; and when no encoder is left.
    """
    if processes() > 1:
        raise InputError("a study of many encoders is run by one process; share a comparison's pictures with torchrun")
    out = out or Path(f"repalign-{slug(design.name)}")
    _check_stimuli(design)
    _claim(out, design)
    with _alone(out):
        remove_leftovers(out / "parts")
        wanted = [(e, [_comparison(design, e, c, out, command) for c in design.conditions]) for e in design.encoders]
        asked = [one for _, several in wanted for one in several]
        if force:  # before anything is computed: a run that goes on after this one must not find old parts
            _remove([one.folder for one in asked])
        kept = sum(map(_is_there, asked))
        _write_design(out, design)
        failed, parts, known = [], [], {}
        for entry, comparisons in wanted:
            try:
                for one in comparisons:
                    _run_part(one, track, known)
            except Exception as error:  # whatever an encoder's own code raises; the others go on
                failed.append(Failure(entry.name, entry.family, _said(error)))
            else:
                pairs = zip(design.conditions, comparisons, strict=True)
                parts += [Part(entry, condition, one.folder) for condition, one in pairs]
        if not parts:
            raise RepalignError(f"every encoder failed: {'; '.join(f'{one.name}: {one.error}' for one in failed)}")
        gather(out, design, parts, [asdict(one) for one in failed], command)
        render(out)
    return Finished(out, kept, len(asked), tuple(failed))


def _check_stimuli(design: Design) -> None:
    """Raise InputError unless every condition's stimuli are there and can be paired."""
    options = design.options
    for second in dict.fromkeys(condition.data_b for condition in design.conditions):
        load_shown(
            design.data, second, options.groups, options.limit, options.seed, skip_unreadable=options.skip_unreadable
        )


def _claim(out: Path, design: Design) -> None:
    """Make the study's folder, or see that it is one."""
    if not out.parent.is_dir():
        raise InputError(f"--out {out}: the folder {out.parent} does not exist; make it first")
    if out.exists() and not (out / DESIGN).is_file():
        raise InputError(f"--out {out} exists and is no study of many encoders; choose another name")
    (out / "parts").mkdir(parents=True, exist_ok=True)
    if not (out / DESIGN).is_file():
        _write_design(out, design)


def _write_design(out: Path, design: Design) -> None:
    text = json.dumps(asdict(design), indent=1, ensure_ascii=False, default=str) + "\n"
    write_whole(out / DESIGN, text.encode())


def _alone(out: Path) -> Any:  # noqa: ANN401  a context manager
    """Keep other runs out of the folder while this one lives."""
    lock = FileLock(out / ".lock", timeout=0)
    try:
        return lock.acquire()
    except Timeout:
        raise InputError(f"another run works on {out}; wait for it, or choose another --out") from None


def _comparison(
    design: Design, encoder: EncoderEntry, condition: ConditionEntry, out: Path, command: str
) -> Comparison:
    """Say what one part computes."""
    options = replace(
        design.options,
        layers=encoder.layers or design.options.layers,
        pool=encoder.pool or design.options.pool,
        filter=condition.filter,
    )
    folder = out / "parts" / encoder.slug
    return Comparison(
        encoder.name, None, design.data, condition.data_b, design.metrics, folder / slug(condition.id), False, options,
        design.plan, design.stability, design.pairs, design.controls if condition.controls else (), design.tests,
        "held" if condition == design.conditions[0] else "none", command,
    )  # fmt: skip


def _run_part(part: Comparison, track: Track, known: Known) -> None:
    """Compute a part unless it is finished; a damaged one makes room."""
    if not _is_there(part):
        _remove([part.folder])
        part.folder.parent.mkdir(exist_ok=True)
        run(part, track, known)


def _remove(folders: Sequence[Path]) -> None:
    """Remove parts: each vanishes whole, under a name that a later run cleans up should this one be killed."""
    for folder in folders:
        if folder.exists():
            folder.replace(_hidden(folder))
    for folder in folders:
        shutil.rmtree(_hidden(folder), ignore_errors=True)


def _hidden(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def _is_there(comparison: Comparison) -> bool:
    """Tell whether a part is finished; one that is damaged is not.

    Raises InputError when it is there with another configuration.
    """
    meta = finished(comparison.folder)
    if meta is None:
        return False
    old = meta["config"]
    new = json.loads(json.dumps(configuration(comparison), default=str))
    old = {k: v for k, v in asdict(Options()).items() if k in new} | old  # a part may be older than an option
    changed = [k for k in old.keys() | new.keys() if k not in NOT_NUMBERS and not _same(k, old.get(k), new.get(k))]
    if changed:
        one = sorted(changed)[0]
        raise InputError(
            f"{comparison.out} was computed with another configuration ({one}: {old.get(one)!r}, now "
            f"{new.get(one)!r}); choose another --out, or give --force to compute everything again"
        )
    return True


def _same(key: str, old: Any, new: Any) -> bool:  # noqa: ANN401  anything that JSON holds
    """Tell whether two options say the same; a filter may be spelled in several ways."""
    if key == "filter" and old and new and old != new:
        return load_filter(old).spec == load_filter(new).spec
    return old == new


def _said(error: Exception) -> str:
    text = str(error).strip().splitlines()
    first = text[0] if text else "no message"
    return first if isinstance(error, RepalignError) else f"{type(error).__name__}: {first}"
