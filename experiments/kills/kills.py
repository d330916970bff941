"""Kill a cached comparison at random moments, let it go on, and see that its numbers are the same bytes.

    python experiments/kills/kills.py --data PICTURES --count 50

Every time the cache is empty at first. A run is killed (SIGKILL) after a random part of the time that an undisturbed
run takes, then run again to its end; the undisturbed run has a cache of its own. `results.csv` beside this file says
when each was killed and what the cache held by then; kills of other seeds stay in it.
"""

import argparse
import csv
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

TABLES = ("alignment.csv", "layers.csv")
HERE = Path(__file__).parent
COLUMNS = ("seed", "kill", "after_s", "undisturbed_s", "entries_cached", "had_ended", "had_written", "same_bytes")


def command(data: str, out: Path, limit: int) -> list[str]:
    """Write the comparison of two pocket encoders."""
    return [
        sys.executable, "-m", "repalign", "compare", "--a", "pocket:vit", "--b", "pocket:resnet", "--data", data,
        "--limit", str(limit), "--permutations", "0", "--no-stability", "--precision", "fp32", "--out", str(out),
    ]  # fmt: skip


def start(data: str, out: Path, cache: Path, limit: int) -> subprocess.Popen:
    """Begin a run with its own cache."""
    environment = os.environ | {"REPALIGN_CACHE": str(cache)}
    return subprocess.Popen(command(data, out, limit), env=environment, stdout=subprocess.DEVNULL)


def main() -> None:
    """Run once undisturbed, then kill and go on `--count` times."""
    parser = argparse.ArgumentParser(description="Kill a cached comparison at random moments and let it go on.")
    parser.add_argument("--data", required=True)
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    rng = np.random.default_rng(asked.seed)
    home = Path(tempfile.mkdtemp(prefix="repalign-kills-"))
    began = time.perf_counter()
    if start(asked.data, home / "whole", home / "cache-whole", asked.limit).wait():
        raise SystemExit("the undisturbed run failed")
    lasted = time.perf_counter() - began
    whole = {name: (home / "whole" / name).read_bytes() for name in TABLES}
    rows = []
    for k in range(asked.count):
        out, cache, after = home / "S", home / "cache", float(rng.uniform(0, lasted))
        process = start(asked.data, out, cache, asked.limit)
        time.sleep(after)
        process.send_signal(signal.SIGKILL)
        ended = process.wait() != -signal.SIGKILL
        held, there = len(list(cache.rglob("*.safetensors"))), out.exists()
        if not there and start(asked.data, out, cache, asked.limit).wait():
            raise SystemExit(f"the run after kill {k} failed")
        same = all((out / name).read_bytes() == contents for name, contents in whole.items())
        rows.append([asked.seed, k, f"{after:.2f}", f"{lasted:.2f}", held, int(ended), int(there), int(same)])
        print(rows[-1], flush=True)
        left = [p.name for p in home.iterdir() if p.name.startswith(".")]
        if left and k == asked.count - 1:
            print("half-written folders that the killed runs left:", left)
        shutil.rmtree(out)
        shutil.rmtree(cache, ignore_errors=True)
    keep(rows, asked.seed)
    shutil.rmtree(home)
    differing = sum(not row[-1] for row in rows)
    print(f"{asked.count} kills, {differing} with other bytes")
    sys.exit(bool(differing))


def keep(rows: list[list[object]], seed: int) -> None:
    """Write the kills of one seed; those of other seeds stay."""
    file = HERE / "results.csv"
    kept: list[list[str]] = []
    if file.is_file():
        with file.open(newline="", encoding="utf-8") as older:
            kept = [row for row in list(csv.reader(older))[1:] if row[0] != str(seed)]
    with file.open("w", newline="", encoding="utf-8") as newer:
        writer = csv.writer(newer, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([*kept, *rows])


if __name__ == "__main__":
    main()
