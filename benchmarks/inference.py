"""Time inference of a full matrix of layers as a ratio to the stacked product that gives the scores themselves.

    python benchmarks/inference.py            # 24 × 24 layers, 1,000 stimuli, two threads

Grams and embeddings exist already in every line, as they do when `compare` comes to inference. Every line is checked
against a plain computation before it is timed; repeats alternate, and the median is printed. Writes
`benchmarks/inference.json` beside this file.
"""

import argparse
import json
import os
import platform
import statistics
import time
from pathlib import Path

import numpy as np
import torch

import repalign
from repalign.align import prepare
from repalign.embedding import scores
from repalign.infer.jackknife import deleted_scores, others, refit
from repalign.infer.permute import permuted_scores
from repalign.infer.resample import deletions, permutations
from repalign.metrics import parse_metric
from repalign.wrap import as_activations

AIM_JACKKNIFE = 2.0  # times the stacked product
AIM_PERMUTATIONS = 60.0  # seconds for 1,000 arrangements


def layers(rng: np.random.Generator, n: int, count: int) -> dict[str, np.ndarray]:
    """Draw layers that share a little with each other."""
    shared = rng.normal(size=(n, 8))
    return {f"l{k}": shared @ rng.normal(size=(8, 64)) + 4 * rng.normal(size=(n, 64)) for k in range(count)}


def seconds(work) -> float:  # noqa: ANN001
    """Time one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> None:
    """Check, time and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stimuli", type=int, default=1000)
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--permutations", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    n, rng = arguments.stimuli, np.random.default_rng(0)
    a, b = (as_activations(name, layers(rng, n, arguments.layers)) for name in "ab")
    found = []
    for spec in ("cka_linear", "cka_linear:debiased=false", "rsa"):
        prepared = prepare(a, b, parse_metric(spec))
        left_out = deletions(n, None, n, 0)
        first = [refit(prepared, others(n, rows)) for rows in left_out[:3]]
        worst = float(np.abs(deleted_scores(prepared, left_out)[:3] - np.stack(first)).max())
        product, jackknife = [], []
        for _ in range(arguments.repeats):
            product.append(seconds(lambda p=prepared: scores(*p.embedded, p.metric)))
            jackknife.append(seconds(lambda p=prepared, d=left_out: deleted_scores(p, d)))
        base, taken = statistics.median(product), statistics.median(jackknife)
        drawn = permutations(n, None, arguments.permutations, 0)
        few = permutations(n, None, 2, 1)
        moved = as_activations("b", {k: x[few.index[1]] for k, x in b.layers.items()})
        plain = prepare(a, moved, prepared.metric).alignment().scores
        apart = float(np.abs(permuted_scores(prepared, few)[1] - plain).max())
        permuted = seconds(lambda p=prepared, d=drawn: permuted_scores(p, d))
        line = {"metric": spec, "product_s": base, "jackknife_s": taken, "jackknife_ratio": taken / base}
        line |= {"permutations": arguments.permutations, "permutations_s": permuted}
        found.append(line | {"jackknife_against_refit": worst, "permuted_against_definition": apart})
        print(
            f"{spec:28s} product {base * 1e3:6.1f} ms   jackknife {taken * 1e3:6.1f} ms = {taken / base:4.2f} × "
            f"(aim ≤ {AIM_JACKKNIFE:g})   {arguments.permutations} permutations {permuted:5.1f} s "
            f"(aim ≤ {AIM_PERMUTATIONS:g})   worst difference {worst:.1e} and {apart:.1e}",
            flush=True,
        )
    result = {
        "stimuli": n, "layers": arguments.layers, "threads": arguments.threads, "cores": os.cpu_count(),
        "machine": platform.processor() or platform.machine(), "load_before": os.getloadavg()[0],
        "versions": {"repalign": repalign.__version__, "torch": torch.__version__, "python": platform.python_version()},
        "lines": found,
    }  # fmt: skip
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
