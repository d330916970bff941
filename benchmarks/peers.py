"""The other libraries on the same pictures, networks and layers, each in a process of its own.

    python benchmarks/peers.py pytorch-cka pixels.npy 2     # one timed run, printed as JSON; speed.py calls it so

Libraries that hook networks themselves do so; the others get the layers from the plain hooks of `pair.py`, whose time
counts. What a library lays side by side, it does: all positions of a layer, the class token with them.
"""

import contextlib
import importlib.util
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from common import own_peak
from numpy.typing import NDArray
from pair import BATCH, Network, features, flat, forward, pair
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

FOLDER = os.environ.get("REPALIGN_PEERS", "")  # where libraries lie that would not install beside the others
PEER_BATCH = 64  # pytorch-cka's and torch-cka's estimates improve with the batch
LIMIT_S = 1800  # a peer that takes longer on one run is stopped

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Peer:
    """A library: its module, the measure that it says it computes, and the run that computes it."""

    module: str
    measure: str  # a name in speed.py's table of definitions
    run: Callable[[Network, Network, Tensor], Matrix]


@dataclass(frozen=True)
class Run:
    """One timed run: seconds, the process's peak memory in GB, and the matrix of scores; or why there is none."""

    seconds: float = math.nan
    peak: float = math.nan
    scores: Matrix | None = None
    failure: str = ""


def pytorch_cka(a: Network, b: Network, pixels: Tensor) -> Matrix:
    """Estimate debiased CKA from minibatches."""
    from cka import compute_cka  # pyright: ignore[reportMissingImports]

    found = compute_cka(
        a.module, b.module, _loader(pixels), layers=list(a.layers), model2_layers=list(b.layers), device="cpu",
        progress=False,
    )  # fmt: skip
    return found[0].double().numpy()


def torch_cka(a: Network, b: Network, pixels: Tensor) -> Matrix:
    """Estimate debiased CKA from minibatches, as its manual says to call it: with the graph of gradients."""
    from torch_cka import CKA  # pyright: ignore[reportMissingImports]

    run = CKA(
        a.module, b.module, model1_name=a.name, model2_name=b.name, model1_layers=list(a.layers),
        model2_layers=list(b.layers), device="cpu",
    )  # fmt: skip
    loader = _loader(pixels)
    run.compare(loader, loader)
    return run.export()["CKA"].detach().double().numpy()


def torch_cka_no_grad(a: Network, b: Network, pixels: Tensor) -> Matrix:
    """Do the same as a user does who knows that it keeps the graph."""
    with torch.no_grad():
        return torch_cka(a, b, pixels)


def rsatoolbox_cka(a: Network, b: Network, pixels: Tensor) -> Matrix:
    """Compute the whitened cosine of squared Euclidean RDMs, which is biased linear CKA."""
    return _rsatoolbox(a, b, pixels, "euclidean", "cosine_cov")


def rsatoolbox_rsa(a: Network, b: Network, pixels: Tensor) -> Matrix:
    """Compute Spearman's ρ of correlation RDMs."""
    return _rsatoolbox(a, b, pixels, "correlation", "spearman")


def ckatorch_core(a: Network, b: Network, pixels: Tensor) -> Matrix:
    """Compute debiased CKA pair by pair; its own class CKA gives the last batch only, so its function is called."""
    from ckatorch.core import cka_base

    left, right = (features(one, pixels, flat, PEER_BATCH) for one in (a, b))
    return np.array([[float(cka_base(x, y, unbiased=True)) for y in right.values()] for x in left.values()])


def netrep_loop(a: Network, b: Network, pixels: Tensor) -> Matrix:
    """Compute the cosine of the angle that it gives for biased linear CKA, pair by pair."""
    from netrep.metrics.cka import LinearCKA  # pyright: ignore[reportMissingImports]

    left, right = ([x.numpy() for x in features(one, pixels, flat, PEER_BATCH).values()] for one in (a, b))
    angle = LinearCKA().score
    return np.cos([[float(angle(x, y)) for y in right] for x in left])


PEERS: dict[str, Peer] = {
    "pytorch-cka": Peer("cka", "debiased CKA", pytorch_cka),
    "torch-cka": Peer("torch_cka", "debiased CKA", torch_cka),
    "torch-cka under no_grad": Peer("torch_cka", "debiased CKA", torch_cka_no_grad),
    "ckatorch.core": Peer("ckatorch", "debiased CKA", ckatorch_core),
    "rsatoolbox, euclidean and cosine_cov": Peer("rsatoolbox", "biased CKA", rsatoolbox_cka),
    "rsatoolbox, correlation and Spearman": Peer("rsatoolbox", "RSA", rsatoolbox_rsa),
    "netrep": Peer("netrep", "biased CKA", netrep_loop),
}


def is_here(peer: Peer) -> bool:
    """Tell whether its library can be imported, from the environment or the folder that REPALIGN_PEERS names."""
    if FOLDER and FOLDER not in sys.path:
        sys.path.append(FOLDER)
    return importlib.util.find_spec(peer.module) is not None


def run_apart(name: str, pixels: Path, threads: int) -> Run:
    """Run a peer once in a process of its own, which may run out of memory or fail without harm to this one."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        command = [sys.executable, __file__, name, str(pixels), str(threads), str(answer)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        except subprocess.TimeoutExpired:
            return Run(failure=f"stopped after {LIMIT_S} s")
        if done.returncode:
            said = done.stderr.strip().splitlines()
            killed = "killed, probably for want of memory" if done.returncode < 0 else ""
            return Run(failure=killed or (said[-1] if said else f"exit code {done.returncode}"))
        found = json.loads(answer.read_text(encoding="utf-8"))
    return Run(found["seconds"], found["peak"], np.array(found["scores"], dtype=np.float64))


def main() -> None:
    """Run one peer once and write what it took."""
    name, pixels, threads, *out = sys.argv[1:]
    torch.set_num_threads(int(threads))
    peer = PEERS[name]
    if not is_here(peer):
        sys.exit(f"{peer.module} is not installed")
    a, b = pair()
    x = torch.from_numpy(np.load(pixels))
    importlib.import_module(peer.module)
    forward((a, b), x[:BATCH])  # the first pass of a process is slower, whoever asks for it
    began = time.perf_counter()
    with contextlib.redirect_stdout(sys.stderr):
        scores = peer.run(a, b, x)
    seconds = time.perf_counter() - began
    peak = own_peak() / 1e9
    said = json.dumps({"seconds": seconds, "peak": peak, "scores": scores.tolist()})
    (Path(out[0]).write_text(said, encoding="utf-8") if out else print(said))


def _loader(pixels: Tensor) -> DataLoader:
    return DataLoader(TensorDataset(pixels), batch_size=PEER_BATCH)


def _rsatoolbox(a: Network, b: Network, pixels: Tensor, distance: str, comparison: str) -> Matrix:
    from rsatoolbox.data.dataset import Dataset
    from rsatoolbox.rdm.calc import calc_rdm
    from rsatoolbox.rdm.compare import compare

    sides = []
    for one in (a, b):
        layers = features(one, pixels, flat, PEER_BATCH)
        sides.append(calc_rdm([Dataset(x.numpy()) for x in layers.values()], method=distance))  # pyright: ignore[reportArgumentType]
    return compare(sides[0], sides[1], method=comparison)


if __name__ == "__main__":
    main()
