"""The command line as a user runs it, in processes of its own: a second run, two processes, `--help`."""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from common import Result, Settings, Work, alternate, ratio, timed
from pair import SIZE, pictures
from PIL import Image
from torch import Tensor

HEAVY = ("vit_base_patch16_224@random", "resnet50@random")  # about 0.3 s a picture on two cores
HEAVY_PICTURES = 800  # so that the first run takes 200 s or more
LIGHT = ("pocket:resnet", "pocket:vit")
LIGHT_PICTURES = 8192  # long beside the seconds in which processes start, and whole chunks of 256 for each
SHORTER = 4  # times fewer in the run that takes the start out
MOST_PAIRWISE = 256  # stimuli held for the measures that need all pairs; the others stream
SCORES = ("--metric", "cka_linear", "--permutations", "0", "--no-stability", "--device", "cpu", "--precision", "fp32")


class FailedError(Exception):
    """Raised with what a command said last when it failed."""


@dataclass(frozen=True)
class Ran:
    """A finished command: seconds from its start until the scores were on disk, until its end, and the scores."""

    saved: float
    whole: float
    scores: pd.DataFrame


def measure(names: Sequence[str], settings: Settings) -> dict[str, list[Result]]:
    """Measure each line by itself, in folders that go afterwards."""
    lines = {"cache": cache_line, "processes": processes_line, "help": help_line}
    found: dict[str, list[Result]] = {}
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            found[name] = lines[name](Path(folder), settings)
    return found


def cache_line(folder: Path, settings: Settings) -> list[Result]:
    """Run the same command twice with one empty cache; once only, since the first takes minutes."""
    what = "second run from the cache / first run, start to saved scores"
    networks, n = (LIGHT, 128) if settings.quick else (HEAVY, HEAVY_PICTURES)
    write_jpegs(folder / "data", pictures(n, SIZE))
    environment = {"REPALIGN_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": str(settings.threads)}
    try:
        first, second = (compare(folder, networks, f"run{k}", environment) for k in (1, 2))
    except FailedError as error:
        return [Result(what, None, at_most=0.05, note=str(error))]
    apart = float(np.abs(first.scores["value"] - second.scores["value"]).max())
    note = (
        f"{first.saved:.0f} s, then {second.saved:.1f} s (whole commands {first.whole:.0f} s, {second.whole:.1f} s; "
        f"{n} pictures, {' and '.join(networks)}, one run each); scores differ by {apart:.0e}"
    )
    return [Result(what, second.saved / first.saved, at_most=0.05, note=note)]


def processes_line(folder: Path, settings: Settings) -> list[Result]:
    """Compare pictures a second of two processes with those of one, all of one thread, streaming.

    Each number of processes runs a short set and a long one; the difference is free of the seconds in which Python and
    the networks start.
    """
    what = "two processes of one thread / one process of one thread, images per second"
    n = 1024 if settings.quick else LIGHT_PICTURES
    small = pictures(n, 32)
    write_jpegs(folder / "long", small)
    write_jpegs(folder / "short", small[: n // SHORTER])
    kept: dict[str, Ran] = {}

    def work(count: int, data: str) -> Work:
        def run() -> float:
            kept[f"{count} {data}"] = compare(
                folder, LIGHT, f"{count}{data}", {"OMP_NUM_THREADS": "1"}, data, count,
                ("--max-pairwise", str(MOST_PAIRWISE), "--no-cache", "--workers", "1"),
            )  # fmt: skip
            return kept[f"{count} {data}"].saved

        return run

    works = {f"{count} {data}": work(count, data) for count in (1, 2) for data in ("short", "long")}
    try:
        taken = alternate(works, 1 if settings.quick else settings.repeats)
    except FailedError as error:
        return [Result(what, None, at_least=1.8, note=str(error))]
    seconds = {c: [a - b for a, b in zip(taken[f"{c} long"], taken[f"{c} short"], strict=True)] for c in (1, 2)}
    if min(seconds[1] + seconds[2]) <= 0:
        return [
            Result(what, None, at_least=1.8, note=f"the long run of {n} took no longer: too few, or a busy machine")
        ]
    value, spread = ratio(seconds[1], seconds[2])
    whole, _ = ratio(taken["1 long"], taken["2 long"])
    rates = [(n - n // SHORTER) / statistics.median(seconds[c]) for c in (1, 2)]
    apart = float(np.abs(kept["1 long"].scores["value"] - kept["2 long"].scores["value"]).max())
    note = (
        f"{rates[0]:.0f} and {rates[1]:.0f} images a second with decoding, in a thread beside; "
        f"whole runs of {n}: {whole:.2f} ×; scores differ by {apart:.0e}"
    )
    return [Result(what, value, "×", None, 1.8, spread, note=note)]


def help_line(_folder: Path, settings: Settings) -> list[Result]:
    """Ask for help."""
    command = [str(Path(sys.executable).with_name("repalign")), "--help"]
    if not Path(command[0]).is_file():
        command = [sys.executable, "-m", "repalign", "--help"]
    work = timed(lambda: subprocess.run(command, capture_output=True, check=True))
    work()  # the first start of all reads files from the disk
    taken = [work() for _ in range(max(5, settings.repeats))]
    return [Result("repalign --help", statistics.median(taken), "s", at_most=0.5, spread=(min(taken), max(taken)))]


def write_jpegs(folder: Path, drawn: Tensor) -> None:
    """Write pictures of mean 0 and standard deviation near 1 as JPEG files."""
    folder.mkdir()
    for i, one in enumerate(drawn):
        pixels = (one * 48 + 128).clamp(0, 255).byte().permute(1, 2, 0).contiguous().numpy()
        Image.fromarray(pixels).save(folder / f"{i:06d}.jpg", quality=90)


def compare(
    folder: Path, networks: tuple[str, str], out: str, environment: Mapping[str, str], data: str = "data",
    processes: int = 1, more: Sequence[str] = (),
) -> Ran:  # fmt: skip
    """Run `repalign compare` on one of the folders, in one process or as torchrun starts several.

    Raises FailedError with what it said last.
    """
    many = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"] if processes > 1 else []
    study = folder / out
    shutil.rmtree(study, ignore_errors=True)
    command = [
        sys.executable, "-m", *many, "repalign", "compare", "--a", networks[0], "--b", networks[1],
        "--data", str(folder / data), "--out", str(study), *SCORES, *more,
    ]  # fmt: skip
    began, clock = time.time(), time.perf_counter()
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
    whole = time.perf_counter() - clock
    if done.returncode:
        said = [line.strip(" │╭╮╰╯─") for line in (done.stderr or done.stdout).splitlines()]
        raise FailedError("failed: " + (next((x for x in reversed(said) if x), f"exit code {done.returncode}")))
    table = study / "alignment.csv"
    return Ran(table.stat().st_mtime - began, whole, pd.read_csv(table))
