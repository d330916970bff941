"""Train the pocket encoders on CIFAR-10; resumable, one seed, no look at the held-out list or the test set.

    python experiments/pocket/train.py resnet vit swin mixer dino --data cifar10-jpeg.zip --out runs/pocket

Each network logs one JSON line an epoch to `logs/NAME.jsonl` beside this file, keeps `checkpoint.pt` under
`--out/NAME`, starts again where it stopped, and leaves `backbone.pt` when it is done.
"""

import argparse
import json
import math
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import timm.layers
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

sys.path.insert(0, str(Path(__file__).parent))
from dino import Dino, knn_accuracy
from pictures import Pictures, crop_and_flip, normalise, training_pictures

from repalign.encoders.pocket_models import BUILDERS, build

LOGS = Path(__file__).with_name("logs")
SEED = 0


@dataclass(frozen=True)
class Recipe:
    """How one network is trained: `cycles` of epochs, each a warm-up and a cosine to zero from half the last peak."""

    cycles: tuple[int, ...]
    learning_rate: float
    weight_decay: float
    batch_size: int = 128
    sgd: bool = False

    @property
    def epochs(self) -> int:
        """Count the epochs of all cycles."""
        return sum(self.cycles)

    def rate(self, epoch: float) -> float:
        """Give the learning rate at a point of the run (warm restarts: Loshchilov & Hutter 2017)."""
        peak = self.learning_rate
        for length in self.cycles:
            if epoch < length:
                progress = epoch / length
                warm, cosine = min(progress / 0.1, 1.0), math.cos(math.pi * max(0.0, progress - 0.1) / 0.9)
                return peak * warm * 0.5 * (1 + cosine)
            epoch, peak = epoch - length, peak / 2
        return 0.0


RECIPES = {
    "resnet": Recipe(cycles=(16, 10, 14), learning_rate=0.2, weight_decay=5e-4, sgd=True),
    "vit": Recipe(cycles=(12,), learning_rate=1.5e-3, weight_decay=0.05),
    "swin": Recipe(cycles=(10, 5), learning_rate=1.5e-3, weight_decay=0.05),
    "mixer": Recipe(cycles=(8,), learning_rate=1.5e-3, weight_decay=0.05),
    "dino": Recipe(cycles=(9,), learning_rate=8e-4, weight_decay=0.04, batch_size=64),
}


class Classifier(nn.Module):
    """A network with its supervised loss: cross-entropy with label smoothing 0.1."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Compute the loss of one augmented batch."""
        logits = self.network(normalise(crop_and_flip(pixels, generator)))
        return cross_entropy(logits.float(), labels, label_smoothing=0.1)


def optimiser(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Build SGD or AdamW; biases, norms, position embeddings and tokens are not decayed."""
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    plain = [p for n, p in named if p.ndim < 2 or "pos_embed" in n or "cls_token" in n]
    decayed = [p for n, p in named if not (p.ndim < 2 or "pos_embed" in n or "cls_token" in n)]
    groups = [{"params": decayed}, {"params": plain, "weight_decay": 0.0}]
    if recipe.sgd:
        return torch.optim.SGD(
            groups, lr=recipe.learning_rate, momentum=0.9, nesterov=True, weight_decay=recipe.weight_decay
        )
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)


def monitor(name: str, model: nn.Module, pictures: Pictures) -> dict[str, float]:
    """Score 2,000 training pictures: accuracy, or 20-NN of the teacher against 20,000 other training pictures."""
    network = model.teacher["backbone"] if isinstance(model, Dino) else model.network  # type: ignore[union-attr, index]
    network.eval()
    order = torch.randperm(len(pictures.names), generator=torch.Generator().manual_seed(1))
    query, bank = pictures.subset(order[:2000]), pictures.subset(order[2000:22000])
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        outputs = torch.cat([network(normalise(b)).float() for b in query.pixels.split(500)])
        if name != "dino":
            return {"train_accuracy": float((outputs.argmax(1) == query.labels).float().mean())}
        stored = torch.cat([network(normalise(b)).float() for b in bank.pixels.split(500)])
    return {"train_knn": knn_accuracy(stored, bank.labels, outputs, query.labels)}


def train_epoch(
    model: nn.Module, opt: torch.optim.Optimizer, recipe: Recipe, pictures: Pictures,
    epoch: int, generator: torch.Generator,
) -> float:  # fmt: skip
    """Run one epoch and return its mean loss."""
    model.train()
    batches = torch.randperm(len(pictures.names), generator=generator).split(recipe.batch_size)[:-1]
    total = 0.0
    for step, index in enumerate(batches):
        progress = (epoch + step / len(batches)) / recipe.epochs
        for group in opt.param_groups:
            group["lr"] = recipe.rate(epoch + step / len(batches))
        pixels, labels = pictures.pixels[index], pictures.labels[index]
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(pixels, generator) if isinstance(model, Dino) else model(pixels, labels, generator)
        if not math.isfinite(loss.item()):
            raise SystemExit(f"loss is {loss.item()} at epoch {epoch}, step {step}")
        opt.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 3.0)
        opt.step()
        if isinstance(model, Dino):
            model.move_teacher(progress)
        total += loss.item()
    return total / len(batches)


def train(name: str, recipe: Recipe, pictures: Pictures, out: Path) -> None:
    """Train `name` to the end of its recipe, from its checkpoint where there is one."""
    out.mkdir(parents=True, exist_ok=True)
    LOGS.mkdir(exist_ok=True)
    torch.manual_seed(SEED)
    generator = torch.Generator().manual_seed(SEED)
    network = build(name).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model = Dino(network, width=128) if name == "dino" else Classifier(network)
    opt, start = optimiser(model, recipe), 0
    checkpoint = out / "checkpoint.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        opt.load_state_dict(state["optimiser"])
        generator.set_state(state["generator"])
        torch.set_rng_state(state["rng"])
        start = state["epoch"]
    for epoch in range(start, recipe.epochs):
        began = time.time()
        loss = train_epoch(model, opt, recipe, pictures, epoch, generator)
        line = {"epoch": epoch + 1, "loss": round(loss, 4), "seconds": round(time.time() - began, 1)}
        line |= {k: round(v, 4) for k, v in monitor(name, model, pictures).items()} | {"seed": SEED}
        with (LOGS / f"{name}.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")
        print(name, line, flush=True)
        torch.save(
            {
                "model": model.state_dict(), "optimiser": opt.state_dict(), "epoch": epoch + 1,
                "generator": generator.get_state(), "rng": torch.get_rng_state(),
            },
            checkpoint.with_suffix(".part"),
        )  # fmt: skip
        checkpoint.with_suffix(".part").replace(checkpoint)
    backbone = model.teacher["backbone"] if isinstance(model, Dino) else network  # type: ignore[index]
    torch.save(backbone.state_dict(), out / "backbone.pt")  # type: ignore[union-attr]


def main() -> None:
    """Read the arguments and train each network named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="+", choices=list(BUILDERS))
    parser.add_argument("--data", type=Path, required=True, help="folder or zip with train/CLASS/*.jpg")
    parser.add_argument("--out", type=Path, required=True, help="checkpoints, one folder a network")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--epochs", type=int, help="train one cycle of this many epochs instead of the recipe's")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    timm.layers.set_fused_attn(False)  # measured 2.6 times faster on CPU at this size
    pictures = training_pictures(options.data)
    for name in options.names:
        recipe = RECIPES[name]
        if options.epochs:
            recipe = replace(recipe, cycles=(options.epochs,))
        train(name, recipe, pictures, options.out / name)


if __name__ == "__main__":
    main()
