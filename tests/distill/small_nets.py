"""Small networks of three families for 32 × 32 pictures and five classes, and a batch of pictures for them."""

import timm
import torch
from torch import nn

from repalign.distill import base

CLASSES = 5


class Block(nn.Module):
    """Two convolutions and a shortcut where nothing changes; the last ReLU writes in place."""

    def __init__(self, a, b, stride):
        super().__init__()
        self.one, self.two = nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.Conv2d(b, b, 3, 1, 1, bias=False)
        self.norm_one, self.norm_two = nn.BatchNorm2d(b), nn.BatchNorm2d(b)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x):
        y = self.norm_two(self.two(self.act(self.norm_one(self.one(x)))))
        return self.act(y + x if y.shape == x.shape else y)


class ConvNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 1, 1)
        self.blocks = nn.Sequential(Block(8, 8, 2), Block(8, 12, 2), Block(12, 16, 2), Block(16, 20, 2))
        self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(20, CLASSES)

    def forward(self, x):
        return self.head(self.pool(self.blocks(self.stem(x))).flatten(1))


def cnn(seed=0):
    torch.manual_seed(seed)
    return ConvNet()


def vit(seed=0):
    torch.manual_seed(seed)
    return timm.create_model(
        "vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=16, depth=4, num_heads=2, num_classes=CLASSES
    )


def swin(seed=0):
    torch.manual_seed(seed)
    return timm.create_model(
        "swin_tiny_patch4_window7_224", img_size=32, patch_size=2, window_size=4, embed_dim=8, depths=(1, 1, 1, 1),
        num_heads=(1, 2, 2, 2), num_classes=CLASSES,
    )  # fmt: skip


SEEN = {}
NETS = {"cnn": cnn, "vit": vit, "swin": swin}


def pictures(n=6, side=32, seed=0):
    return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(seed))


def labels(n=6):
    return torch.arange(n) % CLASSES


def mixed(n=6):
    """Targets of mixup: 0.7 of one class and 0.3 of the next."""
    one = nn.functional.one_hot(labels(n), CLASSES).float()
    return 0.7 * one + 0.3 * one.roll(1, 1)


def hooks_of(module):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in module.modules())


def step(distiller, optimiser, *batch):
    losses, _ = distiller(*batch)
    total = sum(losses.values())
    optimiser.zero_grad()
    total.backward()
    optimiser.step()
    return float(total.detach())


def examine_once(monkeypatch):
    """Let distillers look up what was seen of an equal network: the tests' type checks make each of its layers slow.

    One that was refused is looked at again.
    """
    examine = base.examine

    def look_up(name, module, example, *remedy):
        key = (repr(module), example.shape)
        if key not in SEEN:
            SEEN[key] = examine(name, module, example, *remedy)
        return SEEN[key]

    monkeypatch.setattr(base, "examine", look_up)
