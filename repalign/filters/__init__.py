"""The registry of stimulus filters. To add one: a file with its class, and a line here."""

from collections.abc import Sequence

from repalign.errors import InputError, unknown
from repalign.filters.base import Filter, Filtered, Step
from repalign.filters.blur import Blur
from repalign.filters.cat import Cat
from repalign.filters.catvision import CatVision
from repalign.filters.chain import Chain
from repalign.filters.grey import Grey
from repalign.filters.human import Deutan, Protan
from repalign.filters.identity import Identity
from repalign.filters.jpeg import Jpeg
from repalign.filters.matched import Pictures, linear_difference, match_strength
from repalign.filters.mtf import nyquist_transfer
from repalign.filters.noise import Noise
from repalign.filters.red_removal import RedRemoval
from repalign.filters.spec import build, split

FILTERS: dict[str, type[Step]] = {
    "identity": Identity,
    "cat": Cat,
    "catvision": CatVision,
    "grey": Grey,
    "blur": Blur,
    "red_removal": RedRemoval,
    "protan": Protan,
    "deutan": Deutan,
    "jpeg": Jpeg,
    "noise": Noise,
}

__all__ = [
    "FILTERS", "Chain", "Filter", "Filtered", "Step", "as_strong", "linear_difference", "load_filter", "make_filter",
    "matched", "nyquist_transfer", "scene_width",
]  # fmt: skip


def load_filter(spec: str | Filter) -> Filter:
    """Build a filter from `name[:key=value,…]`, or a chain of them separated by commas; a filter passes as it is.

    An item `key=value` belongs to the filter before it, every other item starts a filter. Raises InputError for an
    unknown name or option, near matches first, and for a value that the filter does not take.

    >>> load_filter("cat:fov_deg=60,pupil=slit,defocus=2,jpeg:q=50").label
    'cat, scene 60° wide, slit pupil 2 D out of focus + JPEG, quality 50'
    """
    if isinstance(spec, Filter):
        return spec
    steps = tuple(make_filter(name, **options) for name, options in split(spec))
    return steps[0] if len(steps) == 1 else Chain(steps)


def make_filter(name: str, **options: object) -> Step:
    """Build one filter by name. Raises InputError as `load_filter` does.

    >>> make_filter("blur", cpd=2, fov_deg=60).spec
    'blur:cpd=2,fov_deg=60'
    """
    if name not in FILTERS:
        raise unknown("filter", name, FILTERS)
    return build(FILTERS[name], name, options)


def matched(
    name: str,
    reference: str | Filter,
    pictures: Pictures,
    extent: Sequence[float] | None = None,
    **options: object,
) -> Step:
    """Build the control `name` as strong as `reference`: the same RMS difference of linear light within 5 %.

    `pictures` are RGB pictures or sRGB 0..1 `(n, 3, h, w)`, `extent (n,)` as in `Filter.batch`; `options` are the
    control's other ones. A control that needs `fov_deg` takes it from the reference. Raises InputError for a filter
    without a strength, and when no strength comes near enough.
    """
    aim = load_filter(reference)
    options = scene_width(name, aim) | options
    return as_strong(name, linear_difference(aim, pictures, extent), aim.spec, pictures, extent, **options)


def scene_width(name: str, of: Filter | None, otherwise: float | None = None) -> dict[str, object]:
    """Give the filter `name`, if it needs one, the width in degrees of the scene that `of` knows, or another."""
    if name not in FILTERS or "fov_deg" not in FILTERS[name].__dataclass_fields__:
        return {}
    known = [step.options["fov_deg"] for step in of.steps if step.options.get("fov_deg")] if of else []
    width = known[0] if known else otherwise
    return {} if width is None else {"fov_deg": width}


def as_strong(
    name: str, wanted: float, of: str, pictures: Pictures, extent: Sequence[float] | None = None, **options: object
) -> Step:
    """Build the control `name` whose linear RMS difference on `pictures` lies within 5 % of `wanted`.

    `of` names, in errors, what makes that difference. Raises InputError as `matched` does.
    """
    if name not in FILTERS:
        raise unknown("filter", name, FILTERS)
    strength = FILTERS[name].strength
    if strength is None:
        able = ", ".join(known for known, kind in FILTERS.items() if kind.strength)
        raise InputError(f"{name} has no strength that could be matched; these have: {able}")

    def factory(**varied: object) -> Step:
        return make_filter(name, **options, **varied)

    return match_strength(factory, strength, wanted, of, pictures, extent)
