"""Repalign in several processes, as torchrun starts them."""

import os
import subprocess
import sys


def together(count, *command, cwd):
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count), "-m",
         "repalign", *map(str, command)],
        cwd=cwd, capture_output=True, text=True, timeout=300, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
