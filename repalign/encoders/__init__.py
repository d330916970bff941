"""Model sources: where encoders come from. A source is one file with a `load` and one line here."""

from collections.abc import Callable
from dataclasses import replace

from repalign.encoders import features, hf, pocket, python, rdm, timm
from repalign.encoders.spec import parse_spec
from repalign.errors import InputError
from repalign.types import Activations, Encoder

ENCODERS: dict[str, Callable[..., Encoder | Activations]] = {
    "timm": timm.load,
    "hf": hf.load,
    "pocket": pocket.load,
    "python": python.load,
    "features": features.load,
    "rdm": rdm.load,
}


def load_encoder(spec: str | Encoder | Activations, *, allow_partial: bool = False) -> Encoder | Activations:
    """Load the encoder `[source:]name[@weights]`; one that is loaded already passes as it is.

    `features:` and `rdm:` give Activations, every other source an Encoder. `allow_partial` accepts a checkpoint
    that fits in part and says so in the notes.

    Raises InputError for an unknown source or name, WeightsError and HubError for weights that can't be had.
    """
    if not isinstance(spec, str):
        return spec
    parsed = parse_spec(spec, ENCODERS)
    return ENCODERS[parsed.source](parsed, allow_partial=allow_partial)


def load_structure(spec: str) -> Encoder:
    """Load an encoder for its layers alone, with untrained weights: no weights are looked for.

    Raises InputError for saved features, which have no layers to run.
    """
    parsed = parse_spec(spec, ENCODERS)
    if parsed.source in ("timm", "hf", "pocket") and parsed.weights is None:
        parsed = replace(parsed, weights="random")
    loaded = ENCODERS[parsed.source](parsed, allow_partial=True)
    if isinstance(loaded, Activations):
        raise InputError(f"{spec} holds saved values and no network; its layers: {', '.join(loaded.layers)}")
    return loaded
