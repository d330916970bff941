"""One side of a comparison, and the options that say how two sides are made comparable."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from repalign.chunks import How
from repalign.encoders.group import Subjects
from repalign.errors import InputError, unknown
from repalign.filters import Filter
from repalign.forward import PRECISIONS
from repalign.memory import parse_size
from repalign.precision import PrecisionCheck
from repalign.streaming import Sums
from repalign.types import Activations, Encoder, Layer, Rows, Stimuli

CHOICES = ("auto", *PRECISIONS)
FEWEST_PAIRWISE = 64  # stimuli that stand for all: fewer say too little of them


@dataclass(frozen=True)
class Side:
    """One side of a comparison: its encoder (None for saved features), stimuli, filter, layers and activations.

    `pooled` holds the activations under other pools, by their names. With several `subjects`, `activations` say what
    the stimuli and layers are, with the values of the first. `ids` name all stimuli; where there are more of them than
    every pair is taken of, `activations` hold a subset, and `rows` read all those of this process. `how` says how the
    encoder ran, `check` what chose its precision. Of a stream `activations`, `stimuli` and `ids` are a sample of the
    pictures `seen`, and `sums` what linear CKA takes of all of them.
    """

    activations: Activations
    encoder: Encoder | None
    stimuli: Stimuli | None
    layers: tuple[Layer, ...]
    notes: tuple[str, ...] = ()
    pooled: Mapping[str, Activations] = field(default_factory=dict)
    subjects: Subjects | None = None
    filter: Filter | None = None
    rows: Rows | None = None
    ids: tuple[str, ...] = ()
    how: How | None = None
    check: PrecisionCheck | None = None
    seen: int | None = None
    sums: Sums | None = None

    @property
    def n(self) -> int:
        """Count all stimuli."""
        return len(self.ids) if self.seen is None else self.seen


@dataclass(frozen=True)
class Options:
    """How two sides are made comparable; every field has the command line's name and default.

    `pools` are further poolings whose scores show how much the choice of `pool` matters. `groups` says what is
    exchangeable: what the stimuli say ("own"), the "folder" of each picture, its "label", or "none". `filter` is what
    the second view of a single encoder passes; `filter_a` and `filter_b` what each side's pictures do. `precision` is
    that of the forward passes: "fp32", "bf16", or "auto", which takes bfloat16 where it is faster and a sample shows
    that it changes no score by a tenth of its standard error. `memory` bounds what comparing works in, as "4GB";
    None: a quarter of what is free. Of more than `max_pairwise` stimuli a seeded subset of that size serves the
    measures that need every pair. `cache` keeps features for the next run.
    """

    pool: str = "mean"
    layers: str = "blocks"
    layers_b: str | None = None
    limit: int | None = None
    seed: int = 0
    device: str = "auto"
    batch_size: int = 32
    workers: int | None = None
    skip_unreadable: bool = False
    allow_partial: bool = False
    pools: tuple[str, ...] = ()
    groups: str = "own"
    filter: str | None = None
    filter_a: str | None = None
    filter_b: str | None = None
    precision: str = "auto"
    compiled: bool = False
    memory: str | None = None
    max_pairwise: int = 4096
    cache: bool = True

    def __post_init__(self) -> None:
        if self.precision not in CHOICES:
            raise unknown("precision", self.precision, CHOICES)
        if self.max_pairwise < FEWEST_PAIRWISE:
            raise InputError(f"--max-pairwise {self.max_pairwise} is too few; give at least {FEWEST_PAIRWISE}")
        if self.memory is not None:
            parse_size(self.memory)

    @property
    def bytes(self) -> int | None:
        """Give `memory` in bytes, None where nothing was asked for."""
        return None if self.memory is None else parse_size(self.memory)
