"""Time the all-pairs engine as a ratio to its matrix products, and show that many stimuli stay within --memory.

    python benchmarks/engine.py             # 48 × 48 layers at n = 2,000, then 24 layers at n = 10,000 in 4 GB
    python benchmarks/engine.py --small     # the first part only; the lines of the other stay, as with --large

The floor is what no engine can leave out: `X Xᵀ` of every layer in float64 into one matrix, and one product of the
stacked matrices. Repeats alternate with it, and the median ratio is printed. Every number is checked against the
plain definition. The second part runs in processes of its own, whose peak memory the system counts. Writes
`benchmarks/engine.json` beside this file.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from common import own_peak
from scipy.stats import rankdata

import repalign
from repalign.align import prepare
from repalign.metrics import parse_metric
from repalign.types import Activations
from repalign.wrap import as_activations

AIM, AIM_PEAK = 1.5, 4.5e9
METRICS = ("cka_linear", "cka_rbf", "rsa")
MEMORY = 4 * 10**9
RELATIVE = 1e-8  # agreement with the definition


def layers(name: str, n: int, d: int, count: int, seed: int) -> Activations:
    """Draw layers that share a little with each other, float64."""
    rng = np.random.default_rng(seed)
    shared = np.random.default_rng(0).normal(size=(n, 8))
    return as_activations(
        name, {f"{name}{k}": shared @ rng.normal(size=(8, d)) + 4 * rng.normal(size=(n, d)) for k in range(count)}
    )


def defined(spec: str, x: np.ndarray, y: np.ndarray) -> float:
    """Compute a score from its definition, in numpy, the memory of a few matrices (n, n)."""
    if spec == "rsa":
        a, b = (_ranks(v) for v in (x, y))
        return float(a @ b / np.sqrt((a @ a) * (b @ b)))
    a, b = (_u_centred(_kernel(spec, v)) for v in (x, y))
    return float(np.vdot(a, b) / np.sqrt(np.vdot(a, a) * np.vdot(b, b)))


def _ranks(x: np.ndarray) -> np.ndarray:
    x = x - x.mean(1, keepdims=True)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    ranks = rankdata((1 - x @ x.T)[np.triu_indices(len(x), 1)])
    return ranks - ranks.mean()


def _kernel(spec: str, x: np.ndarray) -> np.ndarray:
    x = x - x.mean(0)
    k = x @ x.T
    if spec == "cka_linear":
        return k
    squares = k.diagonal().copy()
    k *= -2
    k += squares[:, None]
    k += squares
    np.fill_diagonal(k, 0.0)
    return np.exp(k / (-2 * np.median(k)))


def _u_centred(k: np.ndarray) -> np.ndarray:
    """Song et al. 2012 by Székely & Rizzo 2014, eq. 2.1."""
    n = len(k)
    np.fill_diagonal(k, 0.0)
    rows, total = k.sum(0) / (n - 2), k.sum() / ((n - 1) * (n - 2))
    k -= rows[:, None]
    k -= rows
    k += total
    np.fill_diagonal(k, 0.0)
    return k


def floor(sides: tuple[Activations, Activations], stacks: list[torch.Tensor]) -> float:
    """Time the products that can't be left out."""
    product = stacks[0][0]
    began = time.perf_counter()
    for x in (x for side in sides for x in side.layers.values()):
        torch.mm(x, x.T, out=product)
    _ = stacks[0].flatten(1) @ stacks[1].flatten(1).T
    return time.perf_counter() - began


def ratios(arguments: argparse.Namespace) -> list[dict[str, object]]:
    """Time each metric beside the floor."""
    n, count = arguments.stimuli, arguments.layers
    sides = layers("a", n, 512, count, 1), layers("b", n, 512, count, 2)
    stacks = [torch.ones(count, n, n, dtype=torch.float64) for _ in sides]
    found = []
    for spec in METRICS:
        metric, shares, floors = parse_metric(spec), [], []
        scores = np.zeros(())
        for _ in range(arguments.repeats):
            floors.append(floor(sides, stacks))
            began = time.perf_counter()
            scores = prepare(*sides, metric, memory=16 * n * n * count * 3).alignment().scores
            shares.append((time.perf_counter() - began) / floors[-1])
        worst = _worst(spec, scores, sides, [(0, 0), (count - 1, 1)])
        line = {"line": f"{spec}, {count}×{count} layers, n = {n:,}", "ratio": statistics.median(shares), "aim": AIM}
        found.append(line | {"floor_s": statistics.median(floors), "ratios": shares, "worst_relative": worst})
        print(f"{line['line']:42s} {line['ratio']:5.2f} × the floor (aim ≤ {AIM})   off by {worst:.1e}", flush=True)
    return found


def _worst(
    spec: str, scores: np.ndarray, sides: tuple[Activations, Activations], places: list[tuple[int, int]]
) -> float:
    a, b = ([x.numpy() for x in side.layers.values()] for side in sides)
    worst = max(abs(scores[i, j] / defined(spec, a[i], b[j]) - 1) for i, j in places)
    if not worst < RELATIVE:
        raise SystemExit(f"{spec}: scores differ from their definition by {worst:.1e}")
    return float(worst)


def peak(spec: str, n: int, count: int, folder: Path) -> None:
    """Align `count` layers within `MEMORY`, save the scores and print the peak: the body of a process of its own."""
    torch.set_num_threads(2)
    sides = layers("a", n, 256, count // 2, 1), layers("b", n, 256, count // 2, 2)
    began = time.perf_counter()
    scores = prepare(*sides, parse_metric(spec), memory=MEMORY).alignment().scores
    taken = time.perf_counter() - began
    np.save(folder / "scores.npy", scores)
    print(json.dumps({"peak_bytes": own_peak(), "seconds": taken}))


def peaks(arguments: argparse.Namespace, specs: tuple[str, ...]) -> list[dict[str, object]]:
    """Run each metric that needs all pairs in a process of its own."""
    import tempfile

    n, count, found = arguments.many, arguments.many_layers, []
    for spec in specs:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, __file__, "--peak", spec, "--many", str(n), "--many-layers", str(count)]
            done = subprocess.run([*command, "--folder", folder], check=True, capture_output=True, text=True)
            scores = np.load(Path(folder) / "scores.npy")
        sides = layers("a", n, 256, count // 2, 1), layers("b", n, 256, count // 2, 2)
        worst = _worst(spec, scores, sides, [(0, 0)])
        line = {
            "line": f"{spec}, n = {n:,}, {count} layers, --memory 4GB",
            "aim_bytes": AIM_PEAK,
            "worst_relative": worst,
        }
        found.append(line | json.loads(done.stdout))
        print(
            f"{line['line']:42s} peak {found[-1]['peak_bytes'] / 1e9:.2f} GB (aim ≤ {AIM_PEAK / 1e9}) in "
            f"{found[-1]['seconds']:.0f} s   off by {worst:.1e}",
            flush=True,
        )
    return found


def main() -> None:
    """Check, time and print."""
    parser = argparse.ArgumentParser(description="Time the all-pairs engine.")
    parser.add_argument("--stimuli", type=int, default=2000)
    parser.add_argument("--layers", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--many", type=int, default=10_000)
    parser.add_argument("--many-layers", type=int, default=24)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--large", action="store_true", help="the second part only")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.peak:
        peak(arguments.peak, arguments.many, arguments.many_layers, arguments.folder)
        return
    before = os.getloadavg()[0]
    file = Path(__file__).with_suffix(".json")
    older = json.loads(file.read_text(encoding="utf-8"))["lines"] if file.is_file() else []
    lines = [x for x in older if "ratio" in x] if arguments.large else ratios(arguments)
    lines += [x for x in older if "ratio" not in x] if arguments.small else peaks(arguments, METRICS[1:])
    result = {
        "threads": arguments.threads, "cores": os.cpu_count(), "load_before": before,
        "machine": platform.processor() or platform.machine(),
        "versions": {"repalign": repalign.__version__, "torch": torch.__version__, "python": platform.python_version()},
        "lines": lines,
    }  # fmt: skip
    file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
