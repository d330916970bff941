"""The map of encoders: what their mutual similarity says in two dimensions and as a tree."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.cluster.hierarchy import dendrogram, linkage
from scipy.spatial.distance import squareform

from repalign.report.many.saved import ManyStudy, SavedEncoder
from repalign.report.saved import Metric

FEWEST = 3
"""Two encoders lie on a line: their one similarity says all."""


@dataclass(frozen=True)
class Scaled:
    """Points in the plane, and the share of the squared distances, 0..1, that the plane keeps; NaN when all are 0."""

    points: Float[np.ndarray, "e 2"]
    share: float


@dataclass(frozen=True)
class Tree:
    """A dendrogram: each link's four corners as distances and places of leaves, and the leaves from first to last."""

    distances: Float[np.ndarray, "k 4"]
    places: Float[np.ndarray, "k 4"]
    leaves: tuple[int, ...]


@dataclass(frozen=True)
class EncoderMap:
    """The encoders whose similarity to all others here is known, how unlike they are, the plane and the tree.

    `left_out` have no defined similarity to some other; plane and tree are None for fewer than three encoders.
    """

    metric: Metric
    encoders: tuple[SavedEncoder, ...]
    similarity: Float[np.ndarray, "e e"]
    unlike: Float[np.ndarray, "e e"]
    left_out: tuple[SavedEncoder, ...]
    scaled: Scaled | None
    tree: Tree | None


def encoder_map(study: ManyStudy, metric: Metric) -> EncoderMap | None:
    """Map the encoders by one measure, None when the study has no similarities by it."""
    similarity = study.similarity.get(metric.id)
    if similarity is None:
        return None
    kept = _kept(similarity)
    left_out = tuple(one for k, one in enumerate(study.encoders) if k not in kept)
    chosen = similarity[np.ix_(kept, kept)]
    unlike = dissimilarity(chosen, metric.higher_is_similar)
    enough = len(kept) >= FEWEST
    return EncoderMap(
        metric=metric,
        encoders=tuple(study.encoders[k] for k in kept),
        similarity=chosen,
        unlike=unlike,
        left_out=left_out,
        scaled=classical_scaling(unlike) if enough else None,
        tree=average_tree(unlike) if enough else None,
    )


def _kept(similarity: Float[np.ndarray, "e e"]) -> list[int]:
    """Drop encoders, the one with most undefined similarities first, until none is left undefined."""
    kept = list(range(len(similarity)))
    known = np.isfinite(similarity) & np.isfinite(similarity.T)
    np.fill_diagonal(known, True)
    while kept:
        missing = (~known[np.ix_(kept, kept)]).sum(axis=1)
        if not missing.any():
            break
        kept.pop(int(missing.argmax()))
    return kept


def dissimilarity(similarity: Float[np.ndarray, "e e"], higher_is_similar: bool) -> Float[np.ndarray, "e e"]:
    """Turn similarity into 1 − similarity, a distance as it is; the mean of both orders, 0 on the diagonal.

    A measure that has no similarity above 1 gives no dissimilarity below 0; a rounding below 0 is cut.
    """
    unlike = 1 - similarity if higher_is_similar else similarity
    unlike = np.maximum((unlike + unlike.T) / 2, 0.0)
    np.fill_diagonal(unlike, 0.0)
    return unlike


def classical_scaling(unlike: Float[np.ndarray, "e e"]) -> Scaled:
    """Place encoders in the plane by classical scaling (Torgerson 1952, Psychometrika 17:401).

    With `B = −½ J D² J`, `D` the dissimilarities and `J` the centring, the coordinates are the two leading
    eigenvectors times the roots of their eigenvalues. `share` is the sum of these two over the sum of the absolute
    values of all (Mardia 1978): dissimilarities that are no distances give negative ones, which no dimension shows.
    Misleads when the share is small: points that lie near may be far apart in what is not shown.
    """
    largest = float(unlike.max())
    if largest == 0:
        return Scaled(np.zeros((len(unlike), 2)), float("nan"))
    squared = (unlike / largest) ** 2
    centred = squared - squared.mean(axis=0) - squared.mean(axis=1, keepdims=True) + squared.mean()
    values, vectors = np.linalg.eigh(-(centred + centred.T) / 4)
    leading = np.clip(values[::-1][:2], 0.0, None)
    points = vectors[:, ::-1][:, :2] * np.sqrt(leading) * largest
    heaviest = points[np.abs(points).argmax(axis=0), np.arange(2)]
    return Scaled(points * np.where(heaviest < 0, -1.0, 1.0), float(leading.sum() / np.abs(values).sum()))


def average_tree(unlike: Float[np.ndarray, "e e"]) -> Tree:
    """Join the encoders, the two groups least unlike first, by their mean dissimilarity (average linkage)."""
    links = linkage(squareform(unlike, checks=False), method="average", optimal_ordering=True)
    drawn = dendrogram(links, no_plot=True)
    # scipy sets leaves 10 apart, the first at 5
    places = (np.array(drawn["icoord"]) - 5) / 10
    return Tree(np.array(drawn["dcoord"]), places, tuple(int(k) for k in drawn["leaves"]))
