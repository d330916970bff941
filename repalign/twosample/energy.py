"""Energy distance: what distances between two samples exceed those within them."""

from dataclasses import dataclass
from typing import ClassVar, final

from repalign.twosample.base import TwoSampleStatistic
from repalign.twosample.means import MeanContrast
from repalign.twosample.pooled import Pooled


@final
@dataclass(frozen=True)
class Energy(TwoSampleStatistic):
    """Compute `2 E|X−Y| − E|X−X'| − E|Y−Y'|` of Euclidean distances, in the units of the features.

    The V-statistic: all n² distances of a sample are averaged, the n zeros among them, so it is never negative,
    and 0 for equal samples only. For that it is above 0 on average when distributions are equal, by about
    (E|X−X'| + E|Y−Y'|)/n: compare it with the mean of its null. Sees shifts more than changes of shape, and those in
    the directions of largest variance most. scipy.stats.energy_distance is, up to a factor, its square root in
    one dimension.
    """

    name: ClassVar[str] = "energy"
    reference: ClassVar[str] = (
        "Székely & Rizzo 2013, Energy statistics: a class of statistics based on distances, "
        "doi:10.1016/j.jspi.2013.03.018, eq. 6.1"
    )

    def prepare(self, pooled: Pooled) -> MeanContrast:
        """Take the negative distances as the kernel."""
        return MeanContrast(float(pooled.distances.max()), pooled.unit, -pooled.distances, unbiased=False)
