"""What the projection of `--pool flatten:k` does to the Grams of a comparison, measured on some of its pictures."""

from collections.abc import Mapping
from dataclasses import replace

from repalign.extract import Request, extract
from repalign.pooling import parse_pool
from repalign.projection import gram_error
from repalign.side import Side

SAMPLE = 64  # stimuli: a full map of 64 of them is held


def gram_errors(side: Side) -> Mapping[str, float]:
    """Measure how far projected Grams are from full ones, `‖K̂ − K‖ / ‖K‖` (Frobenius) of each layer; {} if unprojected.

    Both are of the same 64 stimuli, spread over those that are held; centred.
    """
    pool = parse_pool(side.activations.pool) if side.encoder is not None else None
    if pool is None or not pool.features or side.encoder is None or side.stimuli is None:
        return {}
    place = {name: i for i, name in enumerate(side.stimuli.ids)}
    held = [name for name in side.activations.ids if name in place]  # of a stream, few pictures are kept
    index = [place[held[k * len(held) // min(SAMPLE, len(held))]] for k in range(min(SAMPLE, len(held)))]
    wanted = Request(side.encoder, side.layers, pool, side.filter)
    full, projected = extract([replace(wanted, pool=parse_pool("flatten")), wanted], side.stimuli.take(index), side.how)
    return {name: gram_error(full.layers[name], x) for name, x in projected.layers.items()}


def said_of_projection(side: Side) -> tuple[str, ...]:
    """Say how far the projection moved the Gram of the layer that it moved most."""
    found = gram_errors(side)
    if not found:
        return ()
    layer = max(found, key=lambda name: found[name])
    return (
        f"{side.activations.encoder}: features are projected ({side.activations.pool}), which moves the centred Gram "
        f"of {layer!r} by {found[layer]:.1%} of its length, measured on {min(SAMPLE, len(side.activations))} stimuli, "
        "and those of other layers by less",
    )
