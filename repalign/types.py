"""The values that flow through repalign: stimuli → encoder → activations → alignment.

Symbols in shapes: `n` stimuli, `d` features, `la` and `lb` layers of the two sides.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from repalign.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image

Layout = Literal["nchw", "nhwc", "tokens", "vector"]
Role = Literal["stem", "block", "norm", "inner"]
Geometry = Literal["features", "rdm", "repeats"]


@dataclass(frozen=True)
class Stimuli:
    """Pictures with what is known about them; nothing is decoded before `load(i)`.

    `ids (n,)` are unique and order the set; `groups (n,)` says what is exchangeable (video, photograph,
    subject); `labels (n,)` are classes; `extent (n,)` is the fraction of the scene's width each picture
    shows; `notes` are said wherever a number from these stimuli stands; `skipped` lists what was left out
    and why. `content(i)` digests what stimulus i is made of, without decoding it; None where nobody knows.
    """

    name: str
    ids: tuple[str, ...]
    load: "Callable[[int], Image]"
    groups: tuple[str, ...] | None = None
    labels: tuple[str, ...] | None = None
    extent: tuple[float, ...] | None = None
    notes: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    content: Callable[[int], bytes] | None = None

    def __post_init__(self) -> None:
        n = len(self.ids)
        if len(set(self.ids)) != n:
            twice = sorted({i for i in self.ids if self.ids.count(i) > 1})[:5]
            raise InputError(f"{self.name}: ids must be unique, but {', '.join(twice)} stand more than once")
        for what in ("groups", "labels", "extent"):
            given: Sequence[object] | None = getattr(self, what)
            if given is not None and len(given) != n:
                raise InputError(f"{self.name}: {len(given)} {what} for {n} stimuli; give one each or none")

    def __len__(self) -> int:
        return len(self.ids)

    def extent_of(self, i: int) -> float:
        """Give the fraction of the scene's width that stimulus `i` shows: all of it unless said otherwise."""
        return self.extent[i] if self.extent else 1.0

    def take(self, index: Sequence[int]) -> "Stimuli":
        """Keep the stimuli at `index`, in that order."""
        rows = list(index)
        load, content = self.load, self.content

        def pick(values: tuple | None) -> tuple | None:
            return None if values is None else tuple(values[i] for i in rows)

        return replace(
            self,
            ids=tuple(self.ids[i] for i in rows),
            load=lambda i: load(rows[i]),
            groups=pick(self.groups),
            labels=pick(self.labels),
            extent=pick(self.extent),
            content=None if content is None else lambda i: content(rows[i]),
        )


@dataclass(frozen=True)
class Layer:
    """One place in a network whose output can be recorded.

    `shape` is the output's without the batch; `layout` says where the channels are; `prefix` counts tokens
    before the patches (class, distillation, registers); `grid` is the height and width of the positions;
    `depth` runs from 0 (stem) to 1 (last); `calls` counts how often one forward pass runs it.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    layout: Layout
    prefix: int
    grid: tuple[int, int] | None
    parameters: int
    depth: float
    role: Role
    calls: int = 1


@dataclass(frozen=True)
class Encoder:
    """A frozen network in eval mode with its own preprocessing, `PIL RGB → (3, h, w)`.

    `input_size` is the height and width of what `preprocess` gives; `layers` are in the order in which the
    network finishes them; `fingerprint` hashes the weights;
    `untrained` is said in every table, figure and file; `notes` stand beside every number.
    """

    name: str
    source: str
    module: nn.Module
    preprocess: "Callable[[Image], Tensor]"
    layers: tuple[Layer, ...]
    input_size: tuple[int, int]
    fingerprint: str
    untrained: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Activations:
    """What one encoder says about each stimulus: `layers[name]` is `(n, d)`, row i belongs to `ids[i]`.

    With `geometry="rdm"` each entry is a square dissimilarity matrix `(n, n)`, NaN where a pair is missing, and
    only RSA can use it; with `"repeats"` it is `(r, n, d)`, the same stimuli measured r times. `groups (n,)` says
    what is exchangeable. `depths` give each layer's place between 0 and 1; `meta` holds plain values for
    `study.json`.
    """

    encoder: str
    stimuli: str
    ids: tuple[str, ...]
    layers: Mapping[str, Float[Tensor, "... n d"]]
    depths: Mapping[str, float]
    pool: str = "none"
    filter: str = ""
    geometry: Geometry = "features"
    untrained: bool = False
    groups: tuple[str, ...] | None = None
    meta: Mapping[str, object] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def join(self, ids: Sequence[str]) -> "Activations":
        """Keep the rows of `ids`, in that order, joined by name.

        Raises InputError naming the ids that are not there.
        """
        if tuple(ids) == self.ids:
            return self
        place = {name: i for i, name in enumerate(self.ids)}
        missing = [i for i in ids if i not in place]
        if missing:
            raise InputError(
                f"{self.encoder}: {len(missing)} of {len(ids)} stimuli are missing ({', '.join(missing[:5])}); "
                "give features for every stimulus, with the same ids"
            )
        index = torch.tensor([place[i] for i in ids])
        kept = {k: self._rows(v, index) for k, v in self.layers.items()}
        groups = None if self.groups is None else tuple(self.groups[i] for i in index.tolist())
        return replace(self, ids=tuple(ids), layers=kept, groups=groups)

    def _rows(self, values: Tensor, index: Tensor) -> Tensor:
        match self.geometry:
            case "rdm":
                return values[index][:, index]
            case "repeats":
                return values[:, index]
            case _:
                return values[index]


@dataclass(frozen=True)
class Rows:
    """All rows of an encoder's features where they are too many to hold: blocks, read one at a time.

    `ids` and `groups` are those of each block; `widths` the number of features of each layer. `read(k, layers)` gives
    those layers' rows of block k, `(rows, d)` each, in the order of `ids[k]`. Both sides of a comparison have the same
    blocks; of several processes, each holds its own.
    """

    ids: tuple[tuple[str, ...], ...]
    groups: tuple[tuple[str, ...], ...] | None
    widths: Mapping[str, int]
    read: Callable[[int, Sequence[str]], Mapping[str, Tensor]]

    def __len__(self) -> int:
        return sum(map(len, self.ids))

    def __bool__(self) -> bool:
        return True  # a process that got no block has rows all the same


@dataclass(frozen=True)
class Alignment:
    """Similarity of every layer of `a` with every layer of `b`: `scores (la, lb)` float64, NaN with a reason."""

    metric: str
    options: Mapping[str, object]
    layers_a: tuple[str, ...]
    layers_b: tuple[str, ...]
    n: int
    scores: NDArray[np.float64]
    undefined: Mapping[str, str] = field(default_factory=dict)

    def to_frame(self) -> "pd.DataFrame":
        """List one row per layer pair: layer_a, layer_b, metric, n, value."""
        import pandas as pd

        rows = [
            (a, b, self.metric, self.n, float(self.scores[i, j]))
            for i, a in enumerate(self.layers_a)
            for j, b in enumerate(self.layers_b)
        ]
        return pd.DataFrame(rows, columns=["layer_a", "layer_b", "metric", "n", "value"])


@dataclass(frozen=True)
class Inference:
    """How sure each score is: matrices `(la, lb)` float64 beside `alignment.scores`, NaN where there is no answer.

    `se`, `ci_low` and `ci_high` come from `interval` (jackknife, half or none); `null_mean`, `p_values` (one test
    each), `p_adjusted` (family-wise, max-T step-down over all layer pairs) and `q_values` (Benjamini–Hochberg) from
    `n_permutations` arrangements of the stimuli or groups; `independent` is what independent Gaussian features of
    the same n and d score, for biased measures. `n_groups` is None when stimuli are exchangeable one by one;
    `notes` say what is approximate and why something is missing.
    """

    alignment: Alignment
    se: NDArray[np.float64]
    ci_low: NDArray[np.float64]
    ci_high: NDArray[np.float64]
    null_mean: NDArray[np.float64]
    p_values: NDArray[np.float64]
    p_adjusted: NDArray[np.float64]
    q_values: NDArray[np.float64]
    independent: NDArray[np.float64]
    interval: str
    n_permutations: int
    n_groups: int | None
    seed: int
    notes: tuple[str, ...] = ()

    def to_frame(self) -> "pd.DataFrame":
        """List one row per layer pair: those of `Alignment.to_frame` and what is known of each score."""
        columns = {
            "se": self.se, "ci_low": self.ci_low, "ci_high": self.ci_high, "null_mean": self.null_mean,
            "p": self.p_values, "p_adjusted": self.p_adjusted, "q": self.q_values, "independent": self.independent,
        }  # fmt: skip
        return self.alignment.to_frame().assign(**{name: values.ravel() for name, values in columns.items()})
