"""CIFAR-10 pictures as one uint8 tensor, the held-out list, and batched random augmentation."""

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import affine_grid, conv2d, grid_sample

from repalign.encoders.pocket_models import CIFAR_MEAN, CIFAR_STD

HELD_OUT = Path(__file__).with_name("held_out.txt")
HELD_OUT_PER_CLASS = 500
HELD_OUT_SEED = 20261123


@dataclass(frozen=True)
class Pictures:
    """Pictures `(n, 3, 32, 32)` uint8 with class indices `(n,)` and relative names."""

    pixels: Tensor
    labels: Tensor
    names: list[str]

    def subset(self, index: Tensor) -> "Pictures":
        """Keep the rows of `index`."""
        names = [self.names[i] for i in index.tolist()]
        return Pictures(self.pixels[index], self.labels[index], names)


def read_pictures(source: Path, split: str) -> Pictures:
    """Read `split/CLASS/*.jpg` from a folder or a zip file, in name order."""
    if source.is_dir():
        files = {p.relative_to(source).as_posix(): p.read_bytes() for p in source.glob(f"{split}/*/*.jpg")}
    else:
        with zipfile.ZipFile(source) as archive:
            wanted = [n for n in archive.namelist() if n.startswith(f"{split}/") and n.endswith(".jpg")]
            files = {n: archive.read(n) for n in wanted}
    if not files:
        raise SystemExit(f"{source} holds no {split}/CLASS/*.jpg")
    names = sorted(files)
    classes = sorted({n.split("/")[1] for n in names})
    arrays = [np.asarray(Image.open(io.BytesIO(files[n])).convert("RGB")) for n in names]
    pixels = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous()
    labels = torch.tensor([classes.index(n.split("/")[1]) for n in names])
    return Pictures(pixels, labels, names)


def write_held_out(pictures: Pictures) -> None:
    """Choose 500 training pictures per class with a fixed seed and write their names."""
    generator = torch.Generator().manual_seed(HELD_OUT_SEED)
    chosen: list[str] = []
    for label in pictures.labels.unique().tolist():
        rows = (pictures.labels == label).nonzero().squeeze(1)
        order = torch.randperm(len(rows), generator=generator)[:HELD_OUT_PER_CLASS]
        chosen += [pictures.names[i] for i in rows[order].tolist()]
    HELD_OUT.write_text("\n".join(sorted(chosen)) + "\n")


def training_pictures(source: Path) -> Pictures:
    """Read the training split without the held-out list, which no pocket encoder may see."""
    pictures = read_pictures(source, "train")
    if not HELD_OUT.exists():
        write_held_out(pictures)
    held = set(HELD_OUT.read_text().split())
    return pictures.subset(torch.tensor([i for i, n in enumerate(pictures.names) if n not in held]))


def normalise(pixels: Tensor) -> Tensor:
    """Turn uint8 pixels `(n, 3, h, w)` into the networks' float input."""
    mean, std = torch.tensor(CIFAR_MEAN).view(3, 1, 1), torch.tensor(CIFAR_STD).view(3, 1, 1)
    return ((pixels.float() / 255 - mean) / std).contiguous(memory_format=torch.channels_last)


def crop_and_flip(pixels: Tensor, generator: torch.Generator, padding: int = 4) -> Tensor:
    """Shift each picture by up to `padding` pixels (reflected border) and mirror half of them."""
    n, _, h, w = pixels.shape
    padded = torch.nn.functional.pad(pixels.float(), (padding,) * 4, mode="reflect")
    dy, dx = torch.randint(0, 2 * padding + 1, (2, n, 1), generator=generator)
    rows, columns = dy + torch.arange(h), dx + torch.arange(w)
    mirrored = torch.rand(n, 1, generator=generator) < 0.5
    columns = torch.where(mirrored, columns.flip(1), columns)
    return padded[torch.arange(n)[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def resized_crops(pixels: Tensor, size: int, scale: tuple[float, float], generator: torch.Generator) -> Tensor:
    """Cut a random resized crop and mirror half: float 0..1, `(n, 3, size, size)`."""
    n = len(pixels)
    area = torch.empty(n).uniform_(*scale, generator=generator)
    ratio = torch.empty(n).uniform_(-0.2877, 0.2877, generator=generator).exp()  # ln(4/3)
    width, height = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    cx = (torch.rand(n, generator=generator) * 2 - 1) * (1 - width)
    cy = (torch.rand(n, generator=generator) * 2 - 1) * (1 - height)
    sign = torch.where(torch.rand(n, generator=generator) < 0.5, -1.0, 1.0)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0], theta[:, 0, 2], theta[:, 1, 1], theta[:, 1, 2] = sign * width, cx, height, cy
    grid = affine_grid(theta, [n, 3, size, size], align_corners=False)
    return grid_sample(pixels.float() / 255, grid, padding_mode="reflection", align_corners=False)


def colour_jitter(views: Tensor, generator: torch.Generator) -> Tensor:
    """Jitter brightness, contrast, saturation and channel balance, drop colour from a fifth, blur some."""

    def factor(spread: float) -> Tensor:
        return torch.empty(len(views), 1, 1, 1).uniform_(1 - spread, 1 + spread, generator=generator)

    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    out = views * factor(0.4)
    mean = (out * weights).sum(1, keepdim=True).mean((2, 3), keepdim=True)
    out = mean + (out - mean) * factor(0.4)
    grey = (out * weights).sum(1, keepdim=True)
    out = grey + (out - grey) * factor(0.4)
    tint = torch.empty(len(views), 3, 1, 1).uniform_(0.85, 1.15, generator=generator)
    jittered = torch.rand(len(views), 1, 1, 1, generator=generator) < 0.8
    out = torch.where(jittered, out * tint, views)
    drop = torch.rand(len(views), 1, 1, 1, generator=generator) < 0.2
    out = torch.where(drop, (out * weights).sum(1, keepdim=True).expand_as(out), out)
    kernel = torch.tensor([1.0, 2.0, 1.0]).outer(torch.tensor([1.0, 2.0, 1.0]))
    kernel = (kernel / kernel.sum()).expand(3, 1, 3, 3)
    soft = torch.rand(len(views), 1, 1, 1, generator=generator) < 0.3
    return torch.where(soft, conv2d(out, kernel, padding=1, groups=3), out).clamp(0, 1)
