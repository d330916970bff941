"""What a study folder holds of filters, of one encoder under two conditions, and of the controls beside them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from repalign.filters.matched import TOLERANCE


@dataclass(frozen=True)
class Optics:
    """What the optics of a filter leave to an encoder.

    `pixels` is the width of the encoder's input, `seen` the share of a picture's width that gets there, `extent` the
    share of the scene's width, `fov_deg`, that a picture shows, and `at_nyquist` the contrast, 0..1, that is left of
    the finest grating these pixels can carry.
    """

    fov_deg: float
    pixels: int
    seen: float
    at_nyquist: float
    extent: float = 1.0

    @property
    def shown_deg(self) -> float:
        """Compute the width in degrees of what the encoder is shown."""
        return self.fov_deg * self.seen * self.extent


@dataclass(frozen=True)
class SavedFilter:
    """A filter as `study.json` describes it.

    `clipped` is the mean share of pixels that were cut, `difference` the RMS difference of linear light, white is 1;
    NaN where unknown.
    """

    spec: str
    label: str
    reference: str = ""
    notes: tuple[str, ...] = ()
    clipped: float = math.nan
    difference: float = math.nan
    transfer: tuple[Optics, ...] = ()


@dataclass(frozen=True)
class Control:
    """A control filter beside the condition; `spec` is empty where none could be matched, and `note` says why.

    `ratio` is its RMS difference over the condition's.
    """

    spec: str
    label: str
    name: str
    difference: float
    ratio: float
    clipped: float
    note: str

    @property
    def matched(self) -> bool:
        """Tell whether it changes the pictures as much as the condition, within the tolerance of matching."""
        return abs(self.ratio - 1) <= TOLERANCE


@dataclass(frozen=True)
class Summary:
    """One row of `summary.csv`: a measure between the two conditions, each layer with itself.

    `mean` is over `layers` layers; `peak` was picked and scored on all stimuli, `held` on different halves, and
    `held_share` is the part of the splits, 0..1, that picked this layer.
    """

    metric: str
    peak_layer: str
    held_layer: str
    note: str
    n: float
    n_groups: float
    layers: float
    mean: float
    mean_se: float
    mean_low: float
    mean_high: float
    peak: float
    held: float
    held_se: float
    held_low: float
    held_high: float
    held_share: float


@dataclass(frozen=True)
class Effect:
    """One row of `controls.csv`: a control's score at one layer, "" for the mean over layers.

    `difference` is the condition's score less the control's.
    """

    control: str
    metric: str
    layer: str
    note: str
    value: float
    se: float
    ci_low: float
    ci_high: float
    difference: float
    difference_se: float
    difference_low: float
    difference_high: float
    p: float


@dataclass(frozen=True)
class Conditions:
    """Filters by side, `a` and `b`; one summary a measure where one encoder met two conditions; controls."""

    filters: Mapping[str, SavedFilter] = field(default_factory=dict)
    controls: tuple[Control, ...] = ()
    summaries: tuple[Summary, ...] = ()
    effects: tuple[Effect, ...] = ()

    def label(self, key: str, spec: str) -> str:
        """Name what side `key` looks through; its specification where the study says nothing more."""
        return self.filters[key].label if key in self.filters else spec

    def summary(self, metric: str) -> Summary | None:
        """Find the summary of a measure."""
        return next((one for one in self.summaries if one.metric == metric), None)

    def effect(self, metric: str, control: Control, layer: str = "") -> Effect | None:
        """Find what a control gives under a measure at one layer, or over all."""
        return self._places.get((control.spec, metric, layer))

    @cached_property
    def _places(self) -> dict[tuple[str, str, str], Effect]:
        return {(one.control, one.metric, one.layer): one for one in self.effects}
