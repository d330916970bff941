"""Several subjects who saw the same stimuli: their files, joined by id, and the mean of their RDMs."""

import hashlib
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from repalign.encoders.arrays import FINGERPRINT_BYTES, READABLE, natural_order
from repalign.encoders.spec import Spec
from repalign.errors import InputError, RepalignWarning
from repalign.types import Activations, Geometry

FEWEST = 4  # stimuli that all subjects share
WILD = frozenset("*?[")
KEPT = ("path", "fingerprint", "missing")  # of each subject's meta


@dataclass(frozen=True)
class Subjects:
    """What several subjects say about the same stimuli: `activations[s]` belongs to `names[s]`, rows to `ids`.

    Every subject has the same layers, as RDMs, features or repeats; the number of features is each subject's own.
    `groups (n,)` says what is exchangeable; `notes` say what the joining left out.
    """

    names: tuple[str, ...]
    ids: tuple[str, ...]
    activations: tuple[Activations, ...]
    groups: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()

    @property
    def layers(self) -> tuple[str, ...]:
        """List the layers, which all subjects share."""
        return tuple(self.activations[0].layers)

    @property
    def geometry(self) -> Geometry:
        """Say whether layers are features, repeats or RDMs."""
        return self.activations[0].geometry

    def choose(self, layer: str | None) -> str:
        """Take the layer of that name, or, without a name, the only one.

        Raises InputError listing the layers.
        """
        if layer in self.layers:
            return str(layer)
        listed = ", ".join(self.layers)
        if layer is not None:
            raise InputError(f"the subjects have no layer {layer!r}; they have {listed}")
        if len(self.layers) > 1:
            raise InputError(f"the subjects have {len(self.layers)} layers ({listed}); name one, layer=…")
        return next(iter(self.layers))


def is_several(spec: Spec) -> bool:
    """Tell whether the name stands for many files: a folder, or a pattern with `*`, `?` or `[` that is no file."""
    path = Path(spec.name).expanduser()
    return path.is_dir() or (bool(WILD & set(spec.name)) and not path.is_file())


def load_files(spec: Spec, load: Callable[[Spec], Activations]) -> Subjects:
    """Load every file that the folder or pattern stands for as one subject, and join them by id.

    Raises InputError when there is no such file, and as `join` does.
    """
    files = _find(spec)
    return join(str(spec), _names(files), [load(replace(spec, text=f"{spec.source}:{f}", name=str(f))) for f in files])


def join(where: str, names: Sequence[str], given: Sequence[Activations]) -> Subjects:
    """Keep the stimuli that all subjects have, joined by id in the first subject's order; warns of what is dropped.

    Raises InputError naming the subject whose layers, kind or groups differ from the others', when only some carry
    ids, and when fewer than four stimuli are shared.
    """
    _check_alike(where, names, "layers", [tuple(sorted(a.layers)) for a in given])
    _check_alike(where, names, "kind of data", [(a.geometry,) for a in given])
    _check_alike(
        where, names, "ids", [("none, rows by order",) if a.meta.get("ids_by_order") else ("ids",) for a in given]
    )
    if given[0].meta.get("ids_by_order"):
        _check_alike(where, names, "number of rows, without ids,", [(str(len(a)),) for a in given])
    everyone = set.intersection(*(set(a.ids) for a in given))
    ids = tuple(i for i in given[0].ids if i in everyone)
    if len(ids) < FEWEST:
        counts = ", ".join(f"{name}: {len(a)}" for name, a in list(zip(names, given, strict=True))[:5])
        raise InputError(
            f"{where}: the {len(given)} subjects share {len(ids)} stimuli ({counts}), but need at least {FEWEST}; "
            "give the same stimulus the same id in every file"
        )
    notes = _dropped(where, given, ids)
    layers = tuple(given[0].layers)
    joined = [a.join(ids) for a in given]
    groups = _common_groups(where, names, joined)
    depths = given[0].depths
    ordered = tuple(replace(a, layers={k: a.layers[k] for k in layers}, depths=depths, groups=groups) for a in joined)
    for name, subject in zip(names, ordered, strict=True):
        for layer, rdm in subject.layers.items() if subject.geometry == "rdm" else ():
            check_pairs(f"{where}, {name}, on the stimuli that all share", layer, rdm, ids)
    return Subjects(tuple(names), ids, ordered, groups, notes)


def mean_rdm(rdms: Mapping[str, Float[Tensor, "n n"]]) -> Float[Tensor, "n n"]:
    """Average the subjects' RDMs, each first scaled to a root mean square of 1 over the pairs it has.

    A pair is averaged over those who have it, and stays NaN where nobody has.

    Raises InputError naming a subject whose distances are all zero.
    """
    scaled = []
    for name, rdm in rdms.items():
        size = float(rdm.double().abs().nan_to_num(0).max())
        if size == 0:
            raise InputError(f"{name}: all distances are zero, so they have no scale; leave the subject out")
        unit = rdm.double() / size
        off = ~torch.eye(len(unit), dtype=torch.bool)
        scaled.append(unit / unit[off].square().nanmean().sqrt())
    return torch.stack(scaled).nanmean(0)


def check_pairs(where: Spec | str, name: str, rdm: Float[Tensor, "n n"], ids: tuple[str, ...]) -> None:
    """Raise InputError naming the stimuli that have no pair left."""
    off = ~torch.eye(len(rdm), dtype=torch.bool)
    lonely = (rdm.isnan() | ~off).all(1).nonzero().flatten().tolist() if len(rdm) > 1 else []
    if len(lonely) == len(rdm) > 1:
        raise InputError(f"{where}: {name!r} has no distance at all: every pair is missing (NaN)")
    if lonely:
        listed = ", ".join(ids[i] for i in lonely[:5])
        raise InputError(
            f"{where}: {name!r} has no distance left for {len(lonely)} of {len(rdm)} stimuli ({listed}): all their "
            "pairs are missing (NaN); leave these stimuli out of the file"
        )


def group_activations(spec: Spec, subjects: Subjects) -> Activations:
    """Turn the subjects' RDMs into those of the group, `mean_rdm` layer by layer; the files stand in `meta`."""
    members = dict(zip(subjects.names, subjects.activations, strict=True))
    layers = {k: mean_rdm({f"{spec}, {n}, {k!r}": a.layers[k] for n, a in members.items()}) for k in subjects.layers}
    prints = [str(a.meta.get("fingerprint", "")) for a in members.values()]
    missing = {k: int(v.isnan().sum()) // 2 for k, v in layers.items() if v.isnan().any()}
    said = [f"{name}: {note}" for name, a in members.items() for note in a.meta.get("notes", ())]  # type: ignore[attr-defined]
    meta = {
        "path": spec.name,
        "fingerprint": hashlib.blake2b("".join(prints).encode(), digest_size=FINGERPRINT_BYTES).hexdigest(),
        "ids_by_order": bool(subjects.activations[0].meta.get("ids_by_order")),
        "n_subjects": len(members),
        "subjects": {n: {k: a.meta[k] for k in KEPT if k in a.meta} for n, a in members.items()},
        "notes": [f"mean RDM of {len(members)} subjects, each of root mean square 1", *subjects.notes, *said],
    }
    return replace(
        subjects.activations[0], encoder=str(spec), layers=layers, meta=meta | ({"missing": missing} if missing else {})
    )


def _find(spec: Spec) -> list[Path]:
    path = Path(spec.name).expanduser()
    if path.is_dir():
        found = [p for p in path.iterdir() if p.suffix.lower() in READABLE and not p.name.startswith(".")]
    else:
        plain = next(i for i, part in enumerate(path.parts) if WILD & set(part))
        found = [p for p in Path(*path.parts[:plain]).glob(str(Path(*path.parts[plain:]))) if p.is_file()]
    if not found:
        where = f"the folder {path} has no file that ends in" if path.is_dir() else "no file fits this pattern; name"
        raise InputError(f"{spec}: {where} {', '.join(READABLE)}, one for each subject")
    return sorted(found, key=lambda p: natural_order(str(p)))


def _names(files: Sequence[Path]) -> tuple[str, ...]:
    """Name subjects by their files, or, where those are called alike, by their folders too."""
    stems = tuple(f.stem for f in files)
    if len(set(stems)) == len(stems):
        return stems
    return tuple(str(f.with_suffix("")) for f in files)


def _check_alike(where: str, names: Sequence[str], what: str, values: Sequence[tuple[str, ...]]) -> None:
    """Raise InputError naming the first subject that differs from most."""
    usual = Counter(values).most_common(1)[0][0]
    for name, value in zip(names, values, strict=True):
        if value != usual:
            other = names[values.index(usual)]
            raise InputError(
                f"{where}: {what} of {name} ({', '.join(value)}) differ from those of {other} ({', '.join(usual)}); "
                "every subject needs the same"
            )


def _dropped(where: str, given: Sequence[Activations], ids: Sequence[str]) -> tuple[str, ...]:
    union = dict.fromkeys(i for a in given for i in a.ids)
    left_out = [i for i in union if i not in set(ids)]
    if not left_out:
        return ()
    listed = ", ".join(left_out[:5]) + (" …" if len(left_out) > 5 else "")
    note = f"{len(left_out)} of {len(union)} stimuli are not in every subject and left out ({listed})"
    warnings.warn(f"{where}: {note}", RepalignWarning, stacklevel=4)
    return (note,)


def _common_groups(where: str, names: Sequence[str], joined: Sequence[Activations]) -> tuple[str, ...] | None:
    """Take the groups of those who have them, which must be the same."""
    known = [(name, a.groups) for name, a in zip(names, joined, strict=True) if a.groups is not None]
    for name, groups in known[1:]:
        for i, (one, other) in enumerate(zip(known[0][1], groups, strict=True)):
            if one != other:
                raise InputError(
                    f"{where}: stimulus {joined[0].ids[i]!r} is in group {one!r} for {known[0][0]} and in {other!r} "
                    f"for {name}; a stimulus has one group"
                )
    return known[0][1] if known else None
