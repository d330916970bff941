"""Memory and time of linear CKA over many stimuli: 10 layers of 192 features against 10 of 512, debiased, with errors.

    python benchmarks/streaming.py            # n = 5,000 and 50,000, some ten minutes
    python benchmarks/streaming.py --quick    # n = 500 and 2,000, no claim to the numbers

Every block is made from a seed when it is read, so nothing is held but what streaming itself holds. Peak memory is that
of a process of its own (VmHWM), beside one that reads the same rows as often and does nothing with them. The floor of
time is what can't be avoided of two passes in float64, on the rows as they are read: XᵀY of all layers at once and XᵀX
of each, and X times both; processor seconds of one thread, which other work on the machine changes least. The numbers
are checked against the engine that holds all pairs, on n = 600. Writes `streaming.json` beside this file.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence

import numpy as np
import torch
from common import Result, alternate, own_peak, ratio, save

from repalign.align import prepare
from repalign.infer.jackknife import deleted_scores, standard_error
from repalign.infer.resample import deletions
from repalign.metrics.cka import LinearCKA
from repalign.streaming import stream
from repalign.types import Activations, Rows

BLOCK = 256
WIDTHS = {"a": (192,) * 10, "b": (512,) * 10}
MEMORY = 600_000_000
CHECKED = 600  # stimuli whose pairs are held, too
OWN_SEED = {"a": 1, "b": 2}


def made(n: int, side: str) -> Rows:
    """Make the rows of one side, float32, far from zero, block by block from a seed; both sides share something."""
    widths = WIDTHS[side]
    mixing = torch.randn(32, sum(widths), generator=torch.Generator().manual_seed(OWN_SEED[side]))

    def read(k: int, names: Sequence[str]) -> dict[str, torch.Tensor]:
        count = min(BLOCK, n - k * BLOCK)
        shared = torch.randn(count, 32, generator=torch.Generator().manual_seed(1000 + k))
        own = torch.Generator().manual_seed(10**6 * OWN_SEED[side] + k)
        x = torch.randn(count, sum(widths), generator=own).mul_(4).add_(50).addmm_(shared, mixing)
        return dict(zip((f"{side}{i}" for i in range(len(widths))), x.split(list(widths), dim=1), strict=True))

    ids = tuple(tuple(map(str, range(k, min(k + BLOCK, n)))) for k in range(0, n, BLOCK))
    return Rows(ids, None, {f"{side}{i}": d for i, d in enumerate(widths)}, read)


def read_all(a: Rows, b: Rows) -> None:
    """Read every block as often as streaming does."""
    for _ in range(2):
        for k in range(len(a.ids)):
            a.read(k, list(a.widths))
            b.read(k, list(b.widths))


def floor(a: Rows, b: Rows) -> None:
    """Multiply what has to be multiplied, and nothing else."""
    da, db = sum(a.widths.values()), sum(b.widths.values())
    c = torch.zeros(da, db, dtype=torch.float64)
    own = [[torch.zeros(d, d, dtype=torch.float64) for d in side.widths.values()] for side in (a, b)]
    for k in range(len(a.ids)):
        x, y = (torch.cat(list(side.read(k, list(side.widths)).values()), 1).double() for side in (a, b))
        c.addmm_(x.T, y)
        for rows, side, products in ((x, a, own[0]), (y, b, own[1])):
            for layer, product in zip(rows.split(list(side.widths.values()), 1), products, strict=True):
                product.addmm_(layer.T, layer)
    for k in range(len(a.ids)):
        x, y = (torch.cat(list(side.read(k, list(side.widths)).values()), 1).double() for side in (a, b))
        torch.matmul(x, c)
        for rows, side, products in ((x, a, own[0]), (y, b, own[1])):
            for layer, product in zip(rows.split(list(side.widths.values()), 1), products, strict=True):
                torch.matmul(layer, product)


def one(what: str, n: int) -> None:
    """Do one thing in this process, and print its processor seconds and its peak of memory in bytes."""
    a, b = made(n, "a"), made(n, "b")
    began = time.process_time()
    if what == "stream":
        stream(a, b, True, MEMORY)
    else:
        {"read": read_all, "floor": floor}[what](a, b)
    seconds = time.process_time() - began
    print(json.dumps({"seconds": seconds, "peak": own_peak()}))


def alone(what: str, n: int, threads: int) -> dict[str, float]:
    """Do one thing in a process of its own."""
    command = [sys.executable, __file__, "--one", what, "--stimuli", str(n), "--threads", str(threads)]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(found.stdout.splitlines()[-1])


def worst_difference(n: int) -> float:
    """Compare scores and standard errors of n stimuli with those of the engine that holds all pairs, relative."""
    a, b = made(n, "a"), made(n, "b")
    found = stream(a, b, True, MEMORY)
    held = []
    for side, name in ((a, "a"), (b, "b")):
        blocks = [side.read(k, list(side.widths)) for k in range(len(side.ids))]
        layers = {layer: torch.cat([block[layer] for block in blocks]) for layer in side.widths}
        ids = tuple(name for block in side.ids for name in block)
        held.append(Activations(name, "made", ids, layers, dict.fromkeys(layers, 0.0)))
    prepared = prepare(*held, LinearCKA())
    se = standard_error(deleted_scores(prepared, deletions(n, None, n, 0)))
    pairs = ((found.scores, prepared.alignment().scores), (found.se, se))
    return max(float(np.abs(ours / theirs - 1).max()) for ours, theirs in pairs)


def main() -> None:
    """Check, measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--one", choices=("stream", "read", "floor"))
    parser.add_argument("--stimuli", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.one:
        one(given.one, given.stimuli)
        return
    few, many = (500, 2_000) if given.quick else (5_000, 50_000)
    repeats = 1 if given.quick else given.repeats
    load, worst = os.getloadavg()[0], worst_difference(CHECKED)
    peaks = {n: {what: alone(what, n, given.threads)["peak"] for what in ("stream", "read")} for n in (few, many)}
    works = {what: lambda what=what: alone(what, few, given.threads)["seconds"] for what in ("stream", "floor")}
    taken = alternate(works, repeats)
    growth = 100 * (peaks[many]["stream"] / peaks[few]["stream"] - 1)
    above = max(peaks[n]["stream"] - peaks[n]["read"] for n in peaks) / 1e6
    value, spread = ratio(taken["stream"], taken["floor"])
    shape = "10 × 192 against 10 × 512 features, debiased, with standard errors"
    results = [
        Result(f"streaming, n = {few:,} → {many:,}: growth of peak memory", growth, "%", 5.0, worst=worst, note=shape),
        Result("streaming above a process that only reads", above, "MB", 600.0, note=f"--memory 600MB; {shape}"),
        Result("streaming / its bare products in float64", value, "×", spread=spread, note=f"n = {few:,}; {shape}"),
    ]
    settings = {"stimuli": [few, many], "repeats": repeats, "threads": given.threads, "memory": MEMORY, "block": BLOCK}
    save("quick.json" if given.quick else "streaming.json", "streaming", results, settings, load)


if __name__ == "__main__":
    main()
