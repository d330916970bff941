"""Run every benchmark, one after the other, and print the table.

python benchmarks/all.py [--quick]
"""

import argparse
import subprocess
import sys

from common import HERE

SCRIPTS = ("speed.py", "engine.py", "streaming.py")
LONG_ONLY = ("inference.py", "filters.py")  # they always write their results: a try must not take their place


def main() -> None:
    """Run the scripts; one that fails is named, and the others go on."""
    parser = argparse.ArgumentParser(description="Run every benchmark and print the table.")
    parser.add_argument("--quick", action="store_true", help="few stimuli, one round; no claim to the numbers")
    quick = parser.parse_args().quick
    failed: list[str] = []
    how = ["--quick"] if quick else []
    for script in SCRIPTS if quick else (*SCRIPTS, *LONG_ONLY):
        print(f"\n{script}", flush=True)
        if subprocess.run([sys.executable, str(HERE / script), *how], check=False).returncode:
            failed.append(script)
    print(flush=True)
    subprocess.run([sys.executable, str(HERE / "table.py"), *how], check=True)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
