"""Time the filter `cat` against the package catvision, per picture, in one run on one thread.

    pip install 'repalign[cat]'
    python benchmarks/filters.py            # 224 × 224 pixels, batches of 64

Both get the same pictures in the form that each takes: catvision 8-bit BGR arrays one by one, `cat` batches of sRGB
float32. Repeats alternate, and medians are printed. `aim` is the ratio that the filter is built for, at 224 × 224.
Writes `benchmarks/filters.json` beside this file.
"""

import argparse
import json
import os
import platform
import statistics
import time
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from repalign.filters import load_filter
from repalign.filters.flow import Scene
from repalign.filters.light import decode, encode

AIM = 4.0  # times as fast as catvision
FILTERS = (
    "cat:fov_deg=60",
    "cat:fov_deg=8",
    "cat:fov_deg=60,mtf50=inf",
    "cat:fov_deg=8,pupil=slit,defocus=1",
    "cat:fov_deg=8,eccentricity=true",
)


def pictures(n: int, height: int, width: int) -> np.ndarray:
    """Draw smooth 8-bit pictures with noise, `(n, height, width, 3)`."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(n, 3, 6, 6, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic")
    noisy = smooth + 0.05 * torch.randn(n, 3, height, width, generator=generator)
    return (noisy.clamp(0, 1) * 255).byte().permute(0, 2, 3, 1).contiguous().numpy()


def milliseconds(work, n: int) -> float:  # noqa: ANN001
    """Time one call, per picture."""
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) / n * 1e3


def main() -> None:
    """Time and print."""
    import cv2
    from catvision import CatVisionFilter

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--height", type=int, default=224)
    parser.add_argument("--width", type=int, default=224)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    n, published = arguments.batch, CatVisionFilter()
    rgb = pictures(n, arguments.height, arguments.width)
    bgr = np.ascontiguousarray(rgb[..., ::-1])
    x = torch.from_numpy(rgb).permute(0, 3, 1, 2).contiguous().float() / 255
    works = {"catvision": lambda: [published.apply_cat_vision(one) for one in bgr]}
    works["sRGB decoding and encoding alone"] = lambda: [encode(decode(part)) for part in x.split(1)]
    works |= {spec: partial(load_filter(spec).batch, x) for spec in FILTERS}
    light, cat = decode(x[:1]), load_filter(FILTERS[0]).steps[0]
    taken: dict[str, list[float]] = {name: [] for name in works} | {"colour and optics alone": []}
    for _ in range(arguments.repeats + 1):
        for name, work in works.items():
            taken[name].append(milliseconds(work, n))
        taken["colour and optics alone"].append(milliseconds(lambda: cat.render(light, Scene((1.0,))), 1))
    found = {name: statistics.median(times[1:]) for name, times in taken.items()}  # the first call warms caches
    for name, value in found.items():
        print(f"{name:36s} {value:7.2f} ms a picture   {found['catvision'] / value:5.1f} × catvision's speed")
    ratio = found["catvision"] / found[FILTERS[0]]
    print(f"aim at 224 × 224: ≥ {AIM:g} ×; {'reached' if ratio >= AIM else 'MISSED'}: {ratio:.1f} ×")
    machine = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count(), "threads": 1}
    versions = {name: version(name) for name in ("torch", "numpy", "catvision", "opencv-python-headless")}
    record = {"settings": vars(arguments), "machine": machine, "versions": versions, "ms_per_picture": found}
    Path(__file__).with_suffix(".json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
