"""Several processes and one cache: what is read is always whole, whoever writes, evicts, clears or is killed."""

import subprocess
import sys

import pytest

TOGETHER = """
import os, sys, warnings
from pathlib import Path
import torch
from repalign.cache import Cache, key_of
from repalign.cache.files import look, remove, remove_empty

warnings.simplefilter("error")
warnings.filterwarnings("ignore", "this run alone")  # of the one whose cap is small
torch.set_num_threads(1)
root = Path(sys.argv[1])
keys = [key_of(k) for k in range(8)]

def work(who):
    hits = 0
    for turn in range(20):
        cache = Cache(root, most=60_000 if who == 0 else None)  # a new run each turn: what it evicts is not its own
        for k, key in enumerate(keys):
            entry = cache.get(key)
            if entry is None:
                cache.put(key, {"x": torch.full((3000,), float(k))}, {"k": k})
            else:
                hits += 1
                assert entry.record == {"k": k}
                assert torch.equal(entry.tensors["x"], torch.full((3000,), float(k)))
        if who == 1 and turn % 5 == 4:
            remove(look(root).entries)
            remove_empty(root)
    assert hits, "nobody ever read what was written"

children = []
for who in range(4):
    child = os.fork()
    if not child:
        try:
            work(who)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    children.append(child)
ends = [os.waitpid(child, 0)[1] for child in children]
assert ends == [0] * 4, ends
assert not look(root).parts
"""

KILLED = """
import os, random, signal, sys, time, warnings
from pathlib import Path
import torch
from repalign.cache import Cache, key_of, store
from repalign.cache.files import look, write

warnings.simplefilter("error")
torch.set_num_threads(1)
root, small = Path(sys.argv[1]), 4096

def slowly(path, header, numbers):
    write(path, header, *(numbers[i : i + small] for i in range(0, len(numbers), small)))

def work():
    store.write = slowly  # most of the time is spent in the middle of a file
    cache, turn = Cache(root), 0
    while True:
        k = turn % 20
        cache.put(key_of(k), {"x": torch.full((100_000,), float(k))}, {"k": k})
        turn += 1

draw, kills = random.Random(0), 0
while kills < 10 or len(look(root).parts) < 3:
    assert kills < 200, "no kill fell into the middle of a file"
    child = os.fork()
    if not child:
        work()
    time.sleep(draw.uniform(0.002, 0.03))
    os.kill(child, signal.SIGKILL)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
    kills += 1
held = look(root)
assert held.entries
for file in held.entries:
    entry = Cache(root).get(file.key)  # a damaged one would warn, which is an error here
    assert torch.equal(entry.tensors["x"], torch.full((100_000,), float(entry.record["k"])))
for part in held.parts:
    os.utime(part.path, (1e9, 1e9))
Cache(root, most=10**12).put(key_of("next run"), {})
assert not look(root).parts
"""


@pytest.mark.parametrize("script", [TOGETHER, KILLED], ids=["together", "killed"])
def test_what_is_read_is_whole(script, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "cache"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
