"""Labelled pictures in parts: training, validation and test, checked once and cut by a seed."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from repalign.errors import InputError
from repalign.stimuli.checks import some
from repalign.types import Stimuli

FEWEST_CLASSES = 2
MOST_DIGESTED = 100_000  # pictures whose files are compared: reading them once costs less than one epoch does
ENOUGH_HELD, ENOUGH_HELD_A_CLASS = 2_000, 10  # validation pictures: the larger of the two; more say little more
SPLIT_STREAM, LABELS_STREAM = 1, 2  # keep the two draws of one seed apart


@dataclass(frozen=True)
class Labelled:
    """Pictures to learn from and to be judged on; label `classes[c]` is class c of every network.

    `validation` is what choices are made on; `test` is for the end. `notes` say how the parts came about.
    """

    classes: tuple[str, ...]
    train: Stimuli
    validation: Stimuli | None = None
    test: Stimuli | None = None
    notes: tuple[str, ...] = ()

    @property
    def parts(self) -> dict[str, Stimuli]:
        """Give the parts that are there, by name."""
        every = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: part for name, part in every.items() if part is not None}

    def targets(self, part: Stimuli) -> Int[Tensor, " n"]:
        """Give the class number of each picture of a part."""
        number = {name: c for c, name in enumerate(self.classes)}
        return torch.tensor([number[label] for label in part.labels or ()], dtype=torch.long)


def labelled(
    train: Stimuli, validation: Stimuli | None = None, test: Stimuli | None = None,
    classes: Sequence[str] | None = None, official: bool = False,
) -> Labelled:  # fmt: skip
    """Put parts together; the order of classes is that of their sorted names unless it is given.

    Raises InputError naming a part without labels, class sets that differ, fewer than two classes, and pictures that
    stand in two parts (by the bytes of their files, for sets up to 100,000 pictures); of `official` parts, which can't
    be changed, a note counts them.
    """
    given = Labelled((), train, validation, test)
    for name, part in given.parts.items():
        _check_labels(name, part)
    present = set(train.labels or ())
    if len(present) < FEWEST_CLASSES:
        raise InputError(f"{train.name} has one class only, {some(sorted(present))}; learning needs at least two")
    for name, part in given.parts.items():
        _check_same_classes(present, name, part)
    order = tuple(classes) if classes is not None else tuple(sorted(present))
    if not present <= set(order):
        raise InputError(f"{train.name} has classes that are not listed: {some(sorted(present - set(order)))}")
    twice = _in_two_parts(given.parts)
    if twice and not official:
        raise InputError(
            f"{twice[0]}, so a score there would be too good ({len(twice)} such); remove them from one of the parts"
        )
    notes = (f"{len(twice)} pictures stand in two of the official parts ({twice[0]})",) if twice else ()
    return replace(given, classes=order, notes=notes)


def with_validation(data: Labelled, fraction: float, seed: int) -> Labelled:
    """Keep the data's own validation part, or take that fraction of each class from the training part.

    At most 2,000 pictures, or 10 a class where that is more: an accuracy is known to ±1.1 points by then, and they are
    judged after every epoch. Pictures of one group (video, subject) and copies stay together. Raises InputError when a
    class is too small for it.
    """
    if data.validation is not None or not fraction:
        return data
    most = max(ENOUGH_HELD, ENOUGH_HELD_A_CLASS * len(data.classes))
    fraction = min(fraction, most / len(data.train))
    taken = set(_share(data.train, fraction, np.random.default_rng([seed, SPLIT_STREAM])))
    rows = range(len(data.train))
    held, rest = data.train.take([i for i in rows if i in taken]), data.train.take([i for i in rows if i not in taken])
    lost = set(data.classes) & (set(data.train.labels or ()) - set(rest.labels or ()))
    if lost or not len(held):
        what = f"class {min(lost)} has too few groups" if lost else "none is left for it"
        raise InputError(
            f"{data.train.name} is too small to take a validation part of {fraction:g} from: {what}; add pictures or "
            "give a folder validation/"
        )
    grouped = ", groups kept together" if data.train.groups else ""
    note = f"{len(held)} of {len(data.train)} training pictures are set aside for validation (seed {seed}{grouped})"
    named = replace(held, name=f"{data.train.name} (validation)")
    return replace(data, train=rest, validation=named, notes=(*data.notes, note))


def with_labels(data: Labelled, count: int | None, seed: int) -> Labelled:
    """Keep `count` training pictures, each class in proportion; all without a count.

    Raises InputError for fewer than one a class, and for more than there are.
    """
    if count is None:
        return data
    n, labels = len(data.train), data.train.labels or ()
    if not len(data.classes) <= count <= n:
        raise InputError(f"--labels {count}: give from {len(data.classes)} (one a class) to {n} (all of them)")
    members = _by_class(labels)
    quota = _apportion({name: len(rows) for name, rows in members.items()}, count)
    rng = np.random.default_rng([seed, LABELS_STREAM])
    kept = sorted(int(i) for name in sorted(members) for i in rng.permutation(members[name])[: quota[name]])
    note = f"{count} of {n} training pictures are used (seed {seed}, each class in proportion)"
    return replace(data, train=data.train.take(kept), notes=(*data.notes, note))


def digest(part: Stimuli) -> str:
    """Hash a part's ids, labels and, up to 100,000 pictures, files: 32 hexadecimal digits."""
    found = hashlib.blake2b(digest_size=16)
    contents = _contents(part) if len(part) <= MOST_DIGESTED else None
    for i, name in enumerate(part.ids):
        label = part.labels[i] if part.labels else ""
        found.update(f"{name}\n{label}\n".encode() + (contents[i] if contents else b""))
    return found.hexdigest()


def _check_labels(name: str, part: Stimuli) -> None:
    if part.labels is None:
        raise InputError(
            f"{part.name} ({name}) has no labels; give a folder with one sub-folder a class, or a manifest (.csv) with "
            "a column label"
        )
    bare = [i for i, label in zip(part.ids, part.labels, strict=True) if not label]
    if bare:
        raise InputError(f"{part.name} ({name}): {len(bare)} pictures have no label ({some(bare)}); label all of them")


def _check_same_classes(present: set[str], name: str, part: Stimuli) -> None:
    own = set(part.labels or ())
    for what, names in (("lacks", present - own), ("has more than the training part", own - present)):
        if names:
            raise InputError(
                f"{part.name} ({name}) {what}: {some(sorted(names))}; every part must have the same classes"
            )


def _in_two_parts(parts: dict[str, Stimuli]) -> list[str]:
    """Say of each picture that stands in two parts which they are."""
    if len(parts) < 2 or sum(map(len, parts.values())) > MOST_DIGESTED:
        return []
    seen: dict[bytes, tuple[str, str]] = {}
    found = []
    for name, part in parts.items():
        for i, content in enumerate(_contents(part) or ()):
            where, other = seen.setdefault(content, (name, part.ids[i]))
            if where != name:
                found.append(f"{part.ids[i]} of the {name} part is the same picture as {other} of the {where} part")
    return found


def _contents(part: Stimuli) -> list[bytes] | None:
    if part.content is None:
        return None
    try:
        return [part.content(i) for i in range(len(part))]
    except OSError as error:
        raise InputError(f"{error.filename or part.name} can't be read: {error.strerror}; repair it") from error


def _by_class(labels: Sequence[str]) -> dict[str, list[int]]:
    members: dict[str, list[int]] = defaultdict(list)
    for i, label in enumerate(labels):
        members[label].append(i)
    return members


def _share(part: Stimuli, fraction: float, rng: np.random.Generator) -> list[int]:
    """Draw about that fraction of each class, at least one picture, by whole groups; copies of a picture are one."""
    labels, groups = part.labels or (), part.groups or _copies(part) or part.ids
    rows: dict[str, list[int]] = defaultdict(list)
    for i, group in enumerate(groups):
        rows[group].append(i)
    first = {group: labels[members[0]] for group, members in rows.items()}
    wanted = {name: max(1, round(fraction * count)) for name, count in sorted(Counter(labels).items())}
    taken: list[int] = []
    for name, count in wanted.items():
        own, got = [g for g in rows if first[g] == name], 0
        for g in rng.permutation(len(own)):
            if got >= count:
                break
            taken += rows[own[g]]
            got += len(rows[own[g]])
    return taken


def _copies(part: Stimuli) -> list[str] | None:
    """Name pictures by what their files hold, up to 100,000 of them."""
    contents = _contents(part) if len(part) <= MOST_DIGESTED else None
    return None if contents is None else [content.hex() for content in contents]


def _apportion(sizes: dict[str, int], count: int) -> dict[str, int]:
    """Share `count` out in proportion to sizes, at least one each, by largest remainders.

    >>> _apportion({"a": 6, "b": 3, "c": 1}, 5)
    {'a': 3, 'b': 1, 'c': 1}
    """
    total = sum(sizes.values())
    exact = {name: count * size / total for name, size in sizes.items()}
    quota = {name: max(1, int(value)) for name, value in exact.items()}
    while (rest := count - sum(quota.values())) != 0:
        step = 1 if rest > 0 else -1
        able = [n for n in sizes if (quota[n] < sizes[n] if step > 0 else quota[n] > 1)]
        quota[max(sorted(able), key=lambda n: step * (exact[n] - quota[n]))] += step
    return quota
