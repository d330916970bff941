"""Pictures on their way to encoders: decoded once, through every filter, preprocessed for every encoder."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL.Image import Image
from torch import Tensor

from repalign.errors import InputError
from repalign.filters import Filter
from repalign.filters.light import as_batch, as_picture, picture_squares
from repalign.pooling import Pool, width
from repalign.types import Activations, Encoder, Layer, Stimuli

UNREADABLE = (OSError, ValueError, SyntaxError)  # what Pillow raises for a picture that it can't decode
Sight = tuple[int, str]  # an encoder and a filter's spec


@dataclass(frozen=True)
class Request:
    """One encoder, the layers wanted from it, how positions become one vector, and what the pictures pass before."""

    encoder: Encoder
    layers: tuple[Layer, ...]
    pool: Pool
    filter: Filter | None = None

    @property
    def spec(self) -> str:
        """Name the filter; "" is none."""
        return self.filter.spec if self.filter else ""

    @property
    def sight(self) -> Sight:
        """Tell requests apart that need a forward pass of their own."""
        return id(self.encoder), self.spec

    @property
    def widths(self) -> dict[str, int]:
        """Count the features of each layer."""
        return {layer.name: width(layer, self.pool) for layer in self.layers}

    def activations(
        self, stimuli: str, ids: tuple[str, ...], layers: Mapping[str, Tensor], meta: Mapping[str, object],
        groups: tuple[str, ...] | None = None,
    ) -> Activations:  # fmt: skip
        """Name the rows `(n, d)` of each layer after what was asked for."""
        return Activations(
            encoder=self.encoder.name,
            stimuli=stimuli,
            ids=ids,
            layers=layers,
            depths={layer.name: layer.depth for layer in self.layers},
            pool=str(self.pool),
            filter=self.spec,
            untrained=self.encoder.untrained,
            groups=groups,
            meta=meta,
        )


@dataclass(frozen=True)
class Seen:
    """What a filter did to one picture: the share of its pixels that was cut, how far it moved, what it had to say.

    `squares` is the mean squared difference in linear light 0..1, NaN when the filter changes the picture's size.
    """

    clipped: float = 0.0
    squares: float = 0.0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Decoded:
    """One picture as the input `(3, h, w)` of every encoder through every filter, or the reason why there is none.

    `digest` hashes the decoded pixels; `seen` is by the filter's spec. `passing`: the reason is the machine's, such as
    too many open files, and may be gone another time.
    """

    inputs: dict[Sight, Tensor]
    seen: dict[str, Seen]
    digest: str = ""
    reason: str = ""
    passing: bool = False


def decode(requests: Sequence[Request], stimuli: Stimuli, index: int) -> Decoded:
    """Decode stimulus `index` for all requests. A filter acts before preprocessing; its result is rounded to 8 bits.

    Raises InputError naming the picture when a filter can't take it.
    """
    try:
        picture = stimuli.load(index)
    except UNREADABLE as error:
        return Decoded({}, {}, reason=said(error), passing=_of_the_machine(error))
    return see(requests, picture, stimuli.ids[index], stimuli.extent_of(index))


def see(requests: Sequence[Request], picture: Image, name: str, extent: float = 1.0) -> Decoded:
    """Bring a decoded picture to all requests, as `decode` does; `extent` is the share of its scene that it shows.

    Raises InputError naming the picture when a filter can't take it.
    """
    shown, seen = {}, {}
    for spec, filter_ in {r.spec: r.filter for r in requests}.items():
        shown[spec], seen[spec] = _through(picture, filter_, extent, name)
    inputs = {r.sight: r.encoder.preprocess(shown[r.spec]) for r in {r.sight: r for r in requests}.values()}
    return Decoded(inputs, seen, hashlib.blake2b(picture.tobytes(), digest_size=16).hexdigest())


def _of_the_machine(error: BaseException) -> bool:
    """Tell a system's error from a picture's: only the first has a number."""
    return any(isinstance(e, OSError) and e.errno is not None for e in (error, error.__cause__))


def said(error: BaseException) -> str:
    """Take the first line of what an error says, or its name."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _through(picture: Image, filter_: Filter | None, extent: float, name: str) -> tuple[Image, Seen]:
    if filter_ is None:
        return picture, Seen()
    try:
        found = filter_.apply(as_batch(picture), extent)
    except InputError as error:
        raise InputError(f"{name} through {filter_.spec}: {error}") from None
    shown = as_picture(found.pictures[0])
    return shown, Seen(float(found.clipped[0]), picture_squares(picture, shown), found.notes)
