"""Write the pocket encoders into the package and measure them: the one place that reads CIFAR-10's test pictures.

    python experiments/pocket/evaluate.py --data cifar10-jpeg.zip --runs runs/pocket

Weights are rounded to fp16 first and measured as they will be shipped. Supervised networks: top-1 accuracy.
dino, its untrained twin and raw pixels: 20-NN (cosine of L2-normalised features, votes weighted exp(cos / 0.07),
as in Caron et al. 2021; once more with the bank's mean taken out, which helps raw pixels most), and for the two
networks a linear probe.
The bank and the probe use the 45,000 training pictures. Everything lands in `results.json` and `results.md`.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent))
from dino import knn_accuracy
from pictures import Pictures, normalise, read_pictures, training_pictures
from train import LOGS, RECIPES, SEED

from repalign.encoders.pocket import WEIGHTS
from repalign.encoders.pocket_models import build

HERE = Path(__file__).parent
TESTED = 10_000
PROBE_DECAY = 1e-4
PROBE_STEPS = 200
PROBE_WIDEST = 1024  # features; raw pixels have 3,072


def shipped(name: str, runs: Path) -> tuple[nn.Module, dict[str, Tensor]]:
    """Load a finished backbone, rounded to fp16 as it will be stored."""
    state = torch.load(runs / name / "backbone.pt", weights_only=True)
    stored = {k: v.half().contiguous() for k, v in state.items() if v.is_floating_point()}
    network = build(name)
    network.load_state_dict({k: v.float() for k, v in stored.items()}, strict=False)
    return network.eval(), stored


@torch.inference_mode()
def outputs(network: nn.Module, pictures: Pictures) -> Tensor:
    """Run a network over pictures in batches."""
    return torch.cat([network(normalise(batch)) for batch in pictures.pixels.split(500)])


def linear_probe(bank: Tensor, labels: Tensor, query: Tensor, truth: Tensor) -> float:
    """Fit multinomial logistic regression to standardised features by L-BFGS; give its accuracy."""
    mean, spread = bank.mean(0), bank.std(0).clamp(min=1e-6)
    bank, query = (bank - mean) / spread, (query - mean) / spread
    torch.manual_seed(SEED)
    probe = nn.Linear(bank.shape[1], 10)
    solver = torch.optim.LBFGS(probe.parameters(), max_iter=PROBE_STEPS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        solver.zero_grad()
        loss = nn.functional.cross_entropy(probe(bank), labels) + PROBE_DECAY * probe.weight.square().sum()
        loss.backward()
        return loss

    solver.step(closure)
    return float((probe(query).argmax(1) == truth).float().mean())


def measure_features(bank: Tensor, query: Tensor, train: Pictures, test: Pictures) -> dict[str, float]:
    """Score features that saw no label: 20-NN twice, and the linear probe where they are not too wide for it."""
    arguments = (bank, train.labels, query, test.labels)
    scores = {"20-NN": knn_accuracy(*arguments, centre=False), "20-NN, centred": knn_accuracy(*arguments)}
    return scores | ({"linear probe": linear_probe(*arguments)} if bank.shape[1] <= PROBE_WIDEST else {})


def last_line(name: str) -> dict[str, float]:
    """Read the last epoch of a training log."""
    return json.loads((LOGS / f"{name}.jsonl").read_text().splitlines()[-1])


def main() -> None:
    """Measure every network once, write weights, `results.json` and `results.md`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True)
    options = parser.parse_args()
    train, test = training_pictures(options.data), read_pictures(options.data, "test")
    assert len(test.names) == TESTED
    results: dict[str, dict[str, float]] = {}
    WEIGHTS.mkdir(exist_ok=True)
    for name, recipe in RECIPES.items():
        network, stored = shipped(name, options.runs)
        if name == "dino":
            results[name] = measure_features(outputs(network, train), outputs(network, test), train, test)
            measured = f"20-NN {results[name]['20-NN']:.1%}, linear probe {results[name]['linear probe']:.1%}"
            trained = f"self-supervised (DINO), {recipe.epochs} epochs"
        else:
            accuracy = float((outputs(network, test).argmax(1) == test.labels).float().mean())
            results[name] = {"top-1": accuracy}
            measured, trained = f"top-1 {accuracy:.1%}", f"supervised, {recipe.epochs} epochs"
        results[name]["minutes"] = (
            sum(json.loads(x)["seconds"] for x in (LOGS / f"{name}.jsonl").read_text().splitlines()) / 60
        )
        assert last_line(name)["epoch"] == recipe.epochs, f"{name} is not trained to the end"
        note = {"name": name, "trained": f"{trained}, seed {SEED}", "measured": measured, "data": "CIFAR-10 (JPEG)"}
        save_file(stored, WEIGHTS / f"{name}.safetensors", metadata=note)
        print(name, results[name], flush=True)
    torch.manual_seed(SEED)
    untrained = build("dino").eval()
    results["untrained dino"] = measure_features(outputs(untrained, train), outputs(untrained, test), train, test)
    flat = [(p.pixels.float() / 255).flatten(1) for p in (train, test)]
    results["raw pixels"] = measure_features(flat[0], flat[1], train, test)
    (HERE / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (HERE / "results.md").write_text(table(results))
    print(table(results))


def table(results: dict[str, dict[str, float]]) -> str:
    """Lay the results out as Markdown."""
    columns = ("top-1", "20-NN", "20-NN, centred", "linear probe")
    lines = ["| | " + " | ".join(columns) + " | minutes of one core |", "|---|" + "---:|" * (len(columns) + 1)]
    for name, row in results.items():
        cells = [f"{row[c]:.2%}" if c in row else "" for c in columns]
        minutes = f"{row['minutes']:.0f}" if "minutes" in row else ""
        lines.append(f"| {name} | " + " | ".join([*cells, minutes]) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
