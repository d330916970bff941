"""Small classifiers of coloured pictures, one that knows their classes and one that knows less, and the pictures."""

from dataclasses import replace

import numpy as np
import torch
from PIL import Image
from torch import nn

from repalign.encoders.finish import finish
from repalign.encoders.spec import Spec
from repalign.types import Stimuli

CLASSES = ("blue", "green", "red")
SIDE = 16


class Block(nn.Module):
    def __init__(self, a, b):
        super().__init__()
        self.one, self.two = nn.Conv2d(a, b, 3, 2, 1), nn.Conv2d(b, b, 3, 1, 1)

    def forward(self, x):
        return self.two(torch.relu(self.one(x)))


class Net(nn.Module):
    """As many stages as widths, each half the resolution of the one before."""

    def __init__(self, widths=(6, 8, 10, 12), classes=3, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.blocks = nn.Sequential(*(Block(a, b) for a, b in zip((3, *widths), widths, strict=False)))
        self.head = nn.Linear(widths[-1], classes) if classes else nn.Identity()

    def forward(self, x):
        return self.head(self.blocks(x).mean((2, 3)))


def preprocess(picture):
    return torch.tensor(np.asarray(picture.resize((SIDE, SIDE)))).permute(2, 0, 1).float() / 127.5 - 1


def encoder(name, module, **changes):
    return replace(finish(Spec(name, "python", name), module, preprocess, source=f"python:{name}"), **changes)


def coloured(n=48, seed=0, noise=25, labelled=True, groups=None):
    """Make pictures whose colour is their class."""
    rng = np.random.default_rng(seed)
    labels = tuple(CLASSES[i % 3] for i in range(n))
    pictures = []
    for label in labels:
        base = np.zeros((SIDE, SIDE, 3)) + 90
        base[..., 2 - CLASSES.index(label)] += 60  # blue is the last channel
        pictures.append(Image.fromarray((base + rng.normal(0, noise, base.shape)).clip(0, 255).astype(np.uint8)))
    ids = tuple(f"{i:04d}" for i in range(n))
    return Stimuli("coloured", ids, lambda i: pictures[i], labels=labels if labelled else None, groups=groups)


def taught(module, stimuli, share=1.0):
    """Fit the classifier of a random network by least squares to a share of the labels; the rest are shuffled."""
    x = torch.stack([preprocess(stimuli.load(i)) for i in range(len(stimuli))])
    codes = torch.tensor([CLASSES.index(label) for label in stimuli.labels])
    wrong = int(len(codes) * (1 - share))
    codes[:wrong] = codes[:wrong].roll(1)
    with torch.no_grad():
        features = module.blocks(x).mean((2, 3)).double()
        mean, scale = features.mean(0), features.std(0)
        inputs = torch.cat([(features - mean) / scale, torch.ones(len(x), 1)], 1)
        targets = nn.functional.one_hot(codes, 3).double()
        found = torch.linalg.solve(inputs.T @ inputs + 1e-3 * torch.eye(inputs.shape[1]), inputs.T @ targets)
        weight = found[:-1] / scale[:, None]
        module.head.weight.copy_(10 * weight.T)
        module.head.bias.copy_(10 * (found[-1] - mean @ weight))
    return module


def teacher_net():
    return taught(Net(seed=0), coloured(300, seed=1)), preprocess


def student_net():
    return taught(Net(seed=1), coloured(300, seed=1), share=0.7), preprocess


def five_net():
    return Net(classes=5, seed=1), preprocess


def write(folder, stimuli):
    """Save pictures as folder/CLASS/ID.png, or folder/ID.png where there are no labels."""
    for i, name in enumerate(stimuli.ids):
        home = folder / stimuli.labels[i] if stimuli.labels else folder
        home.mkdir(parents=True, exist_ok=True)
        stimuli.load(i).save(home / f"{name}.png")
    return folder
