"""What every benchmark needs: alternated repeats, the state of the machine, results that say what they aim at."""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import torch

HERE = Path(__file__).parent
PEERS = ("rsatoolbox", "ckatorch", "pytorch-cka", "torch-cka", "netrep")
PACKAGES = ("repalign", "torch", "timm", "numpy", "scipy", *PEERS)

Found = TypeVar("Found")
Work = Callable[[], float]  # does something and tells how many seconds that took


@dataclass(frozen=True)
class Settings:
    """How much is measured: stimuli, rounds, and whether it is only a try with no claim to its numbers."""

    stimuli: int = 1024
    repeats: int = 5
    threads: int = 2
    quick: bool = False


@dataclass(frozen=True)
class Result:
    """One number of a benchmark and what it aims at; `value` is None where it could not be taken.

    `spread` holds the least and largest of the repeats, `worst` the largest difference of any score from the float64
    definition written out in `definition.py`; `note` says what else must be known to read the number.
    """

    what: str
    value: float | None
    unit: str = "×"
    at_most: float | None = None
    at_least: float | None = None
    spread: Sequence[float] | None = None
    worst: float | None = None
    note: str = ""

    @property
    def aim(self) -> str:
        """Write the aim, or nothing where there is none."""
        if self.at_most is not None:
            return f"≤ {self.at_most:g} {self.unit}".strip()
        return "" if self.at_least is None else f"≥ {self.at_least:g} {self.unit}".strip()

    @property
    def verdict(self) -> str:
        """Say whether the aim is reached or missed, or that the number is not there."""
        if self.value is None:
            return "not run"
        if not self.aim:
            return ""
        above, below = self.at_most, self.at_least
        missed = (above is not None and self.value > above) or (below is not None and self.value < below)
        return "missed" if missed else "reached"

    def __str__(self) -> str:
        value = "–" if self.value is None else f"{self.value:.3g} {self.unit}".strip()
        spread = f" [{self.spread[0]:.3g}–{self.spread[1]:.3g}]" if self.spread else ""
        aim = f" (aim {self.aim}: {self.verdict})" if self.aim else ""
        worst = f"; worst difference {self.worst:.1e}" if self.worst is not None else ""
        return f"{self.what}: {value}{spread}{aim}{worst}{'; ' + self.note if self.note else ''}"


def timed(work: Callable[[], object]) -> Work:
    """Make work of a call, timed by the wall clock."""

    def run() -> float:
        began = time.perf_counter()
        work()
        return time.perf_counter() - began

    return run


def keeping(work: Callable[[], Found], kept: dict[str, Found], name: str) -> Work:
    """Time a call, and keep what it gave last under `name`, to be checked when the clock stands."""

    def run() -> float:
        began = time.perf_counter()
        found = work()
        seconds = time.perf_counter() - began
        kept[name] = found
        return seconds

    return run


def alternate(works: Mapping[str, Work], repeats: int) -> dict[str, list[float]]:
    """Take the seconds of every work `repeats` times, one round after the other.

    Each round begins with another work, so that none always follows the one that heats the machine.
    """
    names, taken = list(works), {name: list[float]() for name in works}
    for turn in range(repeats):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            taken[name].append(works[name]())
            print(f"  {turn + 1}/{repeats} {name}: {taken[name][-1]:.2f} s", file=sys.stderr, flush=True)
    return taken


def ratio(above: Sequence[float], below: Sequence[float]) -> tuple[float, tuple[float, float]]:
    """Take the median, least and largest of the ratios of one round each.

    What slows the machine for minutes slows both of a round and leaves their ratio.
    """
    found = [a / b for a, b in zip(above, below, strict=True)]
    return statistics.median(found), (min(found), max(found))


def own_peak() -> int:
    """Read the most bytes of memory that this process ever held.

    Linux hands `ru_maxrss` on from the process that started this one; VmHWM begins anew.
    """
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024


def machine() -> dict[str, object]:
    """Describe processor, cores, threads and memory, and the GPU where there is one."""
    model = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.is_file():
        lines = information.read_text(encoding="utf-8").splitlines()
        model = next((x.partition(":")[2].strip() for x in lines if x.startswith("model name")), model)
    found: dict[str, object] = {"processor": model, "cores": os.cpu_count(), "threads": torch.get_num_threads()}
    found["memory_GB"] = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return found | ({"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {})


def versions() -> dict[str, str]:
    """List the versions of Python, repalign, its commit and what is measured beside it."""
    found = {"python": platform.python_version(), "commit": _commit()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def save(file: str, line: str, results: Sequence[Result], settings: Mapping[str, object], load_before: float) -> None:
    """Print the results of a line and put them into `file` beside this one, in the place of that line's older ones."""
    for result in results:
        print(result, flush=True)
    path = HERE / file
    content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    content.setdefault("lines", {})[line] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "load_before": load_before,
        "machine": machine(),
        "versions": versions(),
        "settings": dict(settings),
        "results": [asdict(r) for r in results],
    }
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def load(file: str) -> dict[str, dict]:
    """Read the lines of `file` beside this one, by name; none where it does not exist."""
    path = HERE / file
    return json.loads(path.read_text(encoding="utf-8")).get("lines", {}) if path.is_file() else {}


def results_of(line: Mapping[str, list[dict[str, Any]]]) -> list[Result]:
    """Read the results of one saved line."""
    return [Result(**one) for one in line["results"]]


def _commit() -> str:
    """Name the commit that is measured, with a plus where the files differ from it."""
    command = ["git", "describe", "--always", "--abbrev=10", "--dirty=+"]
    said = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False)
    return said.stdout.strip() or "unknown"
