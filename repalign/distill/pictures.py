"""Pictures that are shown many times: decoded once and kept where they fit into memory."""

from collections.abc import Sequence
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


def held(stimuli: Stimuli, budget: int | None = None, threads: int = THREADS) -> Stimuli:
    """Decode all stimuli and keep them, where they fit into `budget` bytes (a quarter of what is free), else none.

    Raises UnreadableImagesError naming the pictures that can't be decoded, of those that are looked at.
    """
    room = min(free() // SHARE, MOST_BYTES) if budget is None else budget
    n = len(stimuli)
    if not n:
        return stimuli
    sample = _decode(stimuli, sorted({round(i) for i in np.linspace(0, n - 1, min(n, SAMPLED))}), threads)
    if n * max(pixels.nbytes for pixels in sample) > room:
        return stimuli
    pictures = _decode(stimuli, range(n), threads)
    return replace(stimuli, load=lambda i: Image.fromarray(pictures[i]))


def _decode(stimuli: Stimuli, rows: Sequence[int], threads: int) -> list[NDArray[np.uint8]]:
    def decode(i: int) -> NDArray[np.uint8] | str:
        try:
            return np.asarray(stimuli.load(i).convert("RGB"))
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
