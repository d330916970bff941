"""A lesson small enough for tests: coloured pictures on disk, a teacher that knows them, students that don't."""

import shutil

import numpy as np
from PIL import Image

COLOURS = {"blue": (40, 60, 200), "green": (40, 190, 60), "red": (210, 50, 40)}
SIZE = 16
MODULE = """
import torch
from torch import nn
from torchvision import transforms

SIZE = {size}


class Block(nn.Module):
    def __init__(self, a, b):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(a, b, 3, 2, 1, bias=False), nn.BatchNorm2d(b)

    def forward(self, x):
        return torch.relu(self.norm(self.conv(x)))


class Net(nn.Module):
    def __init__(self, widths, classes, dropout=0.0):
        super().__init__()
        pairs = zip((3, *widths), widths)
        self.blocks = nn.Sequential(*(Block(a, b) for a, b in pairs))
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, x):
        return self.head(self.drop(self.blocks(x).mean((2, 3))))


def preprocess(mean, std, size=SIZE):
    return transforms.Compose([
        transforms.Resize(size), transforms.CenterCrop(size), transforms.ToTensor(),
        transforms.Normalize([mean] * 3, [std] * 3),
    ])


class Teacher(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(3, 6, 1), nn.AvgPool2d(2))
        self.head = nn.Linear(6, 3)
        with torch.no_grad():
            self.blocks[1].weight.copy_(torch.eye(3).repeat(2, 1)[:, :, None, None])
            self.blocks[1].bias.zero_()
            self.head.weight.copy_(8 * torch.eye(3).flip(0).repeat(1, 2))
            self.head.bias.zero_()

    def forward(self, x):
        return self.head(self.blocks(x).mean((2, 3)))


def teacher():
    return Teacher(), preprocess(0.5, 0.5)


def broken():
    network = Teacher()
    network.head.weight.data[0, 0] = float("nan")
    return network, preprocess(0.5, 0.5)


def student():
    return Net((8, 12), 3, dropout=0.1), preprocess(0.4, 0.25)


class Plain(nn.Module):  # without batch statistics, so that several processes can do what one does
    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 12, 3, 2, 1), nn.ReLU())
        self.head = nn.Linear(12, 3)

    def forward(self, x):
        return self.head(self.blocks(x).mean((2, 3)))


def plain():
    return Plain(), preprocess(0.4, 0.25)


def four():
    return Net((8, 12), 4), preprocess(0.4, 0.25)
"""


def write_module(folder):
    (folder / "lesson_nets.py").write_text(MODULE.replace("{size}", str(SIZE)))


def write_pictures(folder, parts=(("train", 20), ("test", 6)), seed=0):
    """Write noisy pictures of three colours as `PART/CLASS/NN.png`."""
    rng = np.random.default_rng(seed)
    shutil.rmtree(folder, ignore_errors=True)
    for part, count in parts:
        for name, colour in COLOURS.items():
            place = folder / part / name
            place.mkdir(parents=True)
            for k in range(count):
                noise = rng.normal(0, 60, (SIZE, SIZE, 3))
                pixels = (np.array(colour) + noise).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(place / f"{k:02d}.png")
    return folder
