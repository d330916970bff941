"""Put a checkpoint's tensors into a network: an exact fit of the backbone, or an error that lists what differs."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from repalign.encoders.checkpoint import Checkpoint
from repalign.encoders.structure import MOST_PREFIX_TOKENS
from repalign.errors import WeightsError

Convert = Callable[[dict[str, Tensor], nn.Module], Mapping[str, Tensor]]

LISTED = 8
# Parts that training puts behind a backbone: they may stand in a file beside it.
HEADS = (
    "head", "heads", "head_dist", "fc", "classifier", "linear", "projector", "projection_head", "predictor",
    "prototypes", "dino_head", "ibot_head", "aux_head",
)  # fmt: skip
SECOND_CHOICE = ("momentum", "encoder_k", "student", "online")  # of two copies in one file, the one not evaluated


@dataclass(frozen=True)
class Differences:
    """Where a checkpoint and a network disagree; no `wanted` name stands in two lists."""

    wanted: int
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    reshaped: tuple[str, ...]
    resized: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.missing) + len(self.unexpected) + len(self.reshaped) + len(self.resized)

    def __str__(self) -> str:
        parts = [
            (self.missing, f"of {self.wanted} tensors missing from the file"),
            (self.unexpected, "unexpected"),
            (self.reshaped, "of another shape or type"),
            (self.resized, "resized to fit"),
        ]
        return "; ".join(f"{len(names)} {what} ({_first(names)})" for names, what in parts if names)


@dataclass(frozen=True)
class _Candidate:
    """The tensors under one prefix, named as the network names them; `aside` counts those elsewhere."""

    tensors: dict[str, Tensor]
    prefix: str = ""
    aside: int = 0
    resized: tuple[str, ...] = ()
    note: str = ""


def fit(
    module: nn.Module, checkpoint: Checkpoint, *, name: str, classifier: Sequence[str] = (),
    allow_partial: bool = False, convert: Convert | None = None,
) -> tuple[str, ...]:  # fmt: skip
    """Load `checkpoint` into `module` and return notes on how it was done.

    The prefix under which most of the network's tensors stand (`module.`, `backbone.`, …) is taken off; `convert`
    (a library's own renaming) is tried where that does not fit. The submodules `classifier` and parts named like
    HEADS may be absent or extra.

    Raises WeightsError with what is missing, unexpected or of another shape, unless `allow_partial`; and always
    when nothing fits.
    """
    wanted = dict(module.state_dict())
    candidates = [_strip(checkpoint.tensors, wanted)]
    if convert and _compare(candidates[0], wanted, classifier):
        candidates += _converted(checkpoint, candidates[0], module, convert)
    compared = [_compare(c, wanted, classifier) for c in candidates]
    best = min(range(len(candidates)), key=lambda i: len(compared[i]))
    candidate, differences = candidates[best], compared[best]
    fitting = {k: v for k, v in candidate.tensors.items() if k in wanted and _misfit(k, v, wanted[k]) is None}
    notes = judge(differences, name=name, allow_partial=allow_partial and bool(fitting))
    module.load_state_dict(fitting, strict=False)
    return (*checkpoint.notes, *_describe(candidate, wanted, fitting, classifier), *notes)


def judge(differences: Differences, *, name: str, allow_partial: bool) -> tuple[str, ...]:
    """Turn differences into a note when `allow_partial`, or raise WeightsError."""
    if not differences:
        return ()
    if not allow_partial:
        raise WeightsError(
            f"{name}: the weights don't fit: {differences}. Check that name and weights belong together; "
            "to load what fits and leave the rest untrained, say --allow-partial (allow_partial=True)"
        )
    untrained = len(differences.missing) + len(differences.reshaped)
    return (f"loaded in part, {untrained} of {differences.wanted} tensors keep untrained values: {differences}",)


def within(name: str, parts: Iterable[str]) -> bool:
    """Tell whether the tensor `name` belongs to one of the submodules `parts`."""
    return any(name.startswith(f"{part}.") for part in parts)


def _strip(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> _Candidate:
    """Choose the prefix under which most tensors have the network's names and shapes, and take it off."""
    shapes, names = Counter[str](), Counter[str]()
    for key, value in tensors.items():
        parts = key.split(".")
        for i in range(len(parts)):
            tail = ".".join(parts[i:])
            if tail in wanted:
                prefix = key.removesuffix(tail)
                names[prefix] += 1
                shapes[prefix] += value.shape == wanted[tail].shape

    def rank(prefix: str) -> tuple[int, int, bool, int, str]:
        second = any(word in prefix for word in SECOND_CHOICE)
        return -shapes[prefix], -names[prefix], second, len(prefix), prefix

    prefix = min(names, key=rank, default="")
    inside = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    return _Candidate(inside, prefix, len(tensors) - len(inside))


def _converted(checkpoint: Checkpoint, plain: _Candidate, module: nn.Module, convert: Convert) -> list[_Candidate]:
    """Rename with the library's own function; nothing where it does not know the names."""
    before = plain.tensors if plain.prefix else checkpoint.tensors
    try:
        after = dict(convert(dict(before), module))
    except (KeyError, ValueError, RuntimeError, TypeError, AttributeError, IndexError):
        return []
    own_memory = {v.untyped_storage().data_ptr() for v in before.values()}
    resized = tuple(
        f"{k}: {tuple(before[k].shape)} to {tuple(v.shape)}"
        for k, v in after.items()
        if k in before and v.untyped_storage().data_ptr() not in own_memory and _interpolated(before[k], v)
    )
    return [_Candidate(after, plain.prefix, plain.aside, resized, "tensors renamed by timm's checkpoint filter")]


def _interpolated(before: Tensor, after: Tensor) -> bool:
    """Tell a kernel or a grid of positions that was resampled from one that only lost its prefix tokens."""
    return abs(before.numel() - after.numel()) > MOST_PREFIX_TOKENS * (after.shape[-1] if after.ndim else 1)


def _compare(candidate: _Candidate, wanted: Mapping[str, Tensor], classifier: Sequence[str]) -> Differences:
    given = candidate.tensors
    shared = [k for k in given if k in wanted and not within(k, classifier)]
    missing = [k for k in wanted if k not in given and not within(k, classifier) and not _counts_batches(k)]
    parts = (*classifier, *HEADS)
    unexpected = [k for k in given if k not in wanted and not within(k, parts) and not _counts_batches(k)]
    reshaped = [misfit for k in shared if (misfit := _misfit(k, given[k], wanted[k]))]
    return Differences(len(wanted), tuple(missing), tuple(unexpected), tuple(reshaped), candidate.resized)


def _misfit(name: str, given: Tensor, wanted: Tensor) -> str | None:
    """Say why a tensor can't take another's place, or None when it can; float16 may become float32."""
    if given.shape != wanted.shape:
        return f"{name}: {tuple(given.shape)} in the file, {tuple(wanted.shape)} in the network"
    if wanted.is_floating_point() and not given.is_floating_point():
        return f"{name}: {str(given.dtype).removeprefix('torch.')} in the file, float in the network"
    return None


def _counts_batches(name: str) -> bool:
    return name.endswith("num_batches_tracked")  # only training reads it


def _describe(
    candidate: _Candidate, wanted: Mapping[str, Tensor], fitting: Mapping[str, Tensor], classifier: Sequence[str]
) -> tuple[str, ...]:
    notes = [candidate.note] if candidate.note else []
    if candidate.prefix:
        aside = f", {candidate.aside} tensors outside it left aside" if candidate.aside else ""
        notes.append(f"prefix {candidate.prefix!r} taken off{aside}")
    if any(within(k, classifier) and k not in fitting for k in wanted):
        notes.append("the classifier keeps untrained values (not in the file)")
    return tuple(notes)


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:LISTED]) + (f", … {len(names) - LISTED} more" if len(names) > LISTED else "")
