"""Several subjects as one side of a comparison: what stands for them, and the ceiling of what they can score."""

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import replace

from repalign.encoders.arrays import FINGERPRINT_BYTES
from repalign.encoders.group import KEPT, Subjects
from repalign.errors import InputError, RepalignWarning
from repalign.infer.over_subjects import OverSubjects
from repalign.metrics.base import UndefinedError
from repalign.subjects.ceiling import NoiseCeiling, ceiling_of
from repalign.subjects.representation import Representation, has_average
from repalign.types import Activations


def stand_in(name: str, subjects: Subjects) -> Activations:
    """Describe several subjects as one side: the first one's rows and layers, and in `meta` where each stands."""
    members = dict(zip(subjects.names, subjects.activations, strict=True))
    prints = "".join(str(one.meta.get("fingerprint", "")) for one in members.values())
    said = [f"{who}: {note}" for who, one in members.items() for note in one.meta.get("notes", ())]  # type: ignore[attr-defined]
    meta = {
        "path": name.partition(":")[2],
        "fingerprint": hashlib.blake2b(prints.encode(), digest_size=FINGERPRINT_BYTES).hexdigest(),
        "ids_by_order": bool(subjects.activations[0].meta.get("ids_by_order")),
        "n_subjects": len(members),
        "subjects": {who: {k: one.meta[k] for k in KEPT if k in one.meta} for who, one in members.items()},
        "notes": said,
    }
    return replace(subjects.activations[0], encoder=name, meta=meta)


def rejoin(subjects: Subjects, ids: Sequence[str]) -> Subjects:
    """Keep the stimuli `ids` of every subject, in that order, joined by name."""
    joined = tuple(one.join(ids) for one in subjects.activations)
    return replace(subjects, ids=tuple(ids), activations=joined, groups=joined[0].groups)


def rename(subjects: Subjects, ids: tuple[str, ...]) -> Subjects:
    """Call the rows of every subject, known by order alone, `ids`."""
    return replace(subjects, ids=ids, activations=tuple(replace(one, ids=ids) for one in subjects.activations))


def ceilings(subjects: Subjects, compared: OverSubjects) -> dict[str, NoiseCeiling]:
    """Bound what a model can score on average over subjects, for each layer, on the very pairs the scores use.

    None for a metric whose geometries have no average; a layer that a subject has no geometry of is left out, and
    so is one whose average has none, with a warning.
    """
    found: dict[str, NoiseCeiling] = {}
    for layer in subjects.layers if has_average(compared.metric) else ():
        geometries = compared.geometries(layer)
        if len(geometries) < len(subjects.names):  # the scores are NaN too, and a warning has named who lacks it
            continue
        members = [Representation(compared.metric, geometries[name]) for name in subjects.names]
        try:
            found[layer] = ceiling_of(subjects, compared.metric, layer, members)
        except (InputError, UndefinedError) as reason:
            warnings.warn(f"layer {layer!r} has no noise ceiling: {reason}", RepalignWarning, stacklevel=2)
    return found
