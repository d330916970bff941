"""Pictures that are shown many times: decoded once and kept where they fit into memory."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from repalign.decoding import UNREADABLE
from repalign.distill.evaluate import THREADS
from repalign.errors import UnreadableImagesError
from repalign.memory import free
from repalign.stimuli.checks import some
from repalign.types import Stimuli

SAMPLED = 32  # pictures whose size says what all would take
SHARE = 4  # the part of free memory that decoded pictures may take
MOST_BYTES = 8 * 10**9
MOST_CHECKED = 20_000  # pictures of a part; more would take longer to decode than an early error is worth


def held(stimuli: Stimuli, budget: int | None = None, threads: int = THREADS) -> Stimuli:
    """Decode all stimuli and keep them, where they fit into `budget` bytes (a quarter of what is free), else none.

    Raises UnreadableImagesError naming the pictures that can't be decoded, of those that are looked at.
    """
    room = min(free() // SHARE, MOST_BYTES) if budget is None else budget
    n = len(stimuli)
    if not n:
        return stimuli
    sample = _decode(stimuli, _spread(n, SAMPLED), threads)
    if n * max(pixels.nbytes for pixels in sample) > room:
        return stimuli
    pictures = _decode(stimuli, range(n), threads)
    return replace(stimuli, load=lambda i: Image.fromarray(pictures[i]))


def check_readable(stimuli: Stimuli, threads: int = THREADS) -> None:
    """Decode stimuli without keeping them: all up to 20,000, of more as many, evenly spread.

    Raises UnreadableImagesError naming the pictures that can't be decoded.
    """
    _decode(stimuli, _spread(len(stimuli), MOST_CHECKED), threads, lambda _: np.empty(0, np.uint8))


def _spread(n: int, most: int) -> list[int]:
    """Choose up to `most` of n places, evenly."""
    return sorted({round(i) for i in np.linspace(0, n - 1, min(n, most))})


def _decode(
    stimuli: Stimuli, rows: Sequence[int], threads: int,
    keep: Callable[[Image.Image], NDArray[np.uint8]] = np.asarray,
) -> list[NDArray[np.uint8]]:  # fmt: skip
    def decode(i: int) -> NDArray[np.uint8] | str:
        try:
            return keep(stimuli.load(i).convert("RGB"))
        except UNREADABLE as error:
            return f"{stimuli.ids[i]} ({error})"

    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(decode, rows))
    broken = [one for one in found if isinstance(one, str)]
    if broken:
        raise UnreadableImagesError(
            f"{stimuli.name}: {len(broken)} pictures can't be decoded: {some(broken)}; mend or remove them",
            tuple((one.partition(" (")[0], one) for one in broken),
        )
    return [one for one in found if not isinstance(one, str)]
