"""Measure repalign as a whole: against the bare forward pass, other libraries, its own cache and several processes.

    python benchmarks/speed.py                          # everything, about an hour on two quiet cores
    python benchmarks/speed.py --only linear,flatten    # some lines; the others in speed.json stay
    python benchmarks/speed.py --quick                  # a try in minutes: few stimuli, one round, kept in quick.json

Pictures are tensors decoded before, except where decoding is the line. Repeats alternate, and each ratio is the median
over rounds of one run's seconds over the floor's or the peer's in the same round. Every line compares its numbers
with `definition.py`. Libraries that would not install beside the others are found in the folder REPALIGN_PEERS names.
Results go to `speed.json` beside this file, each line with its machine, versions, date, and the load before it.
"""

import argparse
import os
import sys
import traceback
from dataclasses import asdict
from importlib import import_module

import torch
from common import Settings, save

LINES: dict[str, tuple[str, ...]] = {  # by the module that measures them, alternated with one floor
    "commands": ("help", "cache", "processes"),
    "decoding": ("decoding",),
    "ours": ("linear", "everything", "flatten", "auto"),
    "against": ("peers",),
    "many_pairs": ("many",),
    "gpu": ("gpu",),
}
NAMES = tuple(name for names in LINES.values() for name in names)
QUICK = Settings(stimuli=64, repeats=1, quick=True)


def main() -> None:
    """Measure the lines asked for and save each as it ends; one that fails is named, and the others go on."""
    chosen, settings = arguments()
    torch.set_num_threads(settings.threads)
    failed: list[str] = []
    for module, names in LINES.items():
        wanted = [name for name in names if name in chosen]
        try:
            if wanted:
                measured(module, wanted, settings)
        except Exception:
            traceback.print_exc()
            failed += wanted
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def measured(module: str, lines: list[str], settings: Settings) -> None:
    """Measure the lines of one module, which is imported only now, and save them."""
    load = os.getloadavg()[0]
    found = import_module(module).measure(lines, settings)
    for line, results in found.items():
        save("quick.json" if settings.quick else "speed.json", line, results, asdict(settings), load)


def arguments() -> tuple[list[str], Settings]:
    """Read which lines are asked for, and how much."""
    usual = Settings()
    parser = argparse.ArgumentParser(description="Measure repalign as a whole.")
    parser.add_argument("--only", default=",".join(NAMES), help=f"lines, of {', '.join(NAMES)}")
    parser.add_argument("--stimuli", type=int, help=f"default {usual.stimuli}")
    parser.add_argument("--repeats", type=int, help=f"default {usual.repeats}")
    parser.add_argument("--threads", type=int, default=usual.threads)
    parser.add_argument("--quick", action="store_true", help="few stimuli, one round; no claim to the numbers")
    given = parser.parse_args()
    chosen = [name.strip() for name in given.only.split(",")]
    unknown = sorted(set(chosen) - set(NAMES))
    if unknown:
        parser.error(f"there is no line {', '.join(unknown)}; the lines are {', '.join(NAMES)}")
    base = QUICK if given.quick else usual
    return chosen, Settings(given.stimuli or base.stimuli, given.repeats or base.repeats, given.threads, given.quick)


if __name__ == "__main__":
    main()
