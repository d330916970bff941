"""Decoding by itself: JPEG files through loading and preprocessing, pictures a second, beside the networks' rate."""

import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

from commands import write_jpegs
from common import Result, Settings, alternate, timed
from pair import BATCH, forward, pair, pictures

from repalign.encoders import load_encoder
from repalign.stimuli import load_stimuli
from repalign.types import Encoder

PICTURES = 512
PIXELS = 320  # a side; resized to 224 by the preprocessing


def measure(_names: Sequence[str], settings: Settings) -> dict[str, list[Result]]:
    """Decode and preprocess with as many threads as the networks have, alternated with the bare forward pass."""
    encoder = load_encoder("resnet18@random")
    assert isinstance(encoder, Encoder)
    n = min(PICTURES, settings.stimuli)
    networks, pixels = pair(), pictures(min(n, 4 * BATCH))
    with tempfile.TemporaryDirectory() as folder:
        write_jpegs(Path(folder) / "data", pictures(n, PIXELS))
        stimuli = load_stimuli(Path(folder) / "data")

        def decode() -> None:
            with ThreadPoolExecutor(settings.threads) as threads:
                for _ in threads.map(lambda i: encoder.preprocess(stimuli.load(i)), range(n)):
                    pass

        works = {"decode": timed(decode), "forward": timed(lambda: forward(networks, pixels))}
        taken = alternate(works, settings.repeats)
    rates = [n / s for s in taken["decode"]]
    beside = len(pixels) / median(taken["forward"])
    note = f"JPEG of {PIXELS}² to 224², {settings.threads} threads; the pair's bare forward does {beside:.0f} /s"
    spread = min(rates), max(rates)
    return {"decoding": [Result("decoding and preprocessing, images", median(rates), "/s", spread=spread, note=note)]}
