"""On a GPU: extraction beside the bare bfloat16 forward pass, and the all-pairs engine beside the matrix product."""

from collections.abc import Sequence
from dataclasses import replace

import definition
import numpy as np
import torch
from common import Result, Settings, Work, alternate, keeping, ratio, timed
from pair import as_encoder, as_stimuli, forward_bfloat16, network, pictures
from torch import Tensor

from repalign.align import prepare
from repalign.metrics import parse_metric
from repalign.sides import Options, Side, load_sides
from repalign.types import Activations, Alignment

NETWORKS = ("vit_base_patch16_224", "resnet50")  # dino_vitb16 has the first one's shape
PICTURES = 4096
BATCH = 256
LAYERS, STIMULI, WIDTH = 50, 4096, 768
METRICS = ("cka_linear", "cka_rbf", "rsa:compare=pearson")
CHECKED = 2  # layers a side that are compared with the definition: each takes seconds there
EXTRACTION = "GPU: extraction, share of the bare bfloat16 forward"
ENGINE = "GPU: engine, share of the float32 product's rate"
SQUARE = 8192  # side of the product whose rate is the engine's floor


def measure(_names: Sequence[str], settings: Settings) -> dict[str, list[Result]]:
    """Measure both lines, or say that there is no GPU."""
    if not torch.cuda.is_available():
        aims = {EXTRACTION: 0.8, ENGINE: 0.5}
        return {"gpu": [Result(what, None, "", at_least=aim, note="no GPU at hand") for what, aim in aims.items()]}
    return {"gpu": [extraction(settings), engine(settings)]}


def extraction(settings: Settings) -> Result:
    """Compare images a second: all blocks of both networks kept, against nothing kept."""
    n = min(PICTURES, 4 * settings.stimuli)
    pixels, stimuli = pictures(n).pin_memory(), as_stimuli(n)
    networks = [network(name, ()) for name in NETWORKS]
    encoders = [as_encoder(one, pixels) for one in networks]
    kept: dict[str, tuple[Side, Side]] = {}
    options = Options(device="cuda", batch_size=BATCH, precision="bf16")
    for one in networks:
        one.module.cuda().to(memory_format=torch.channels_last)

    def floor() -> None:
        for part in pixels.split(BATCH):
            forward_bfloat16(networks, part.to("cuda", non_blocking=True), BATCH)
        torch.cuda.synchronize()

    works: dict[str, Work] = {
        "floor": timed(floor),
        "ours": keeping(lambda: load_sides(encoders[0], encoders[1], stimuli, None, options), kept, "ours"),
    }
    for work in works.values():
        work()
    taken = alternate(works, settings.repeats)
    value, spread = ratio(taken["floor"], taken["ours"])
    float32 = replace(options, precision="fp32")
    exact, _ = load_sides(encoders[0], encoders[1], as_stimuli(BATCH), None, float32)
    apart = _apart(kept["ours"][0].activations, exact.activations)
    layers = sum(len(side.layers) for side in kept["ours"])
    rate = n / min(taken["ours"])
    note = f"{rate:.0f} images a second, {layers} layers; features within {apart:.0e} of float32's norm"
    return Result(EXTRACTION, value, "", None, 0.8, spread, note=note)


def engine(settings: Settings) -> Result:
    """Compare the rate of the engine's own products with that of one float32 product, TF32 off."""
    a, b = (_drawn(name, k) for k, name in enumerate("ab"))
    metrics = [parse_metric(name) for name in METRICS]
    kept: dict[str, list[Alignment]] = {}
    square = torch.randn(SQUARE, SQUARE, device="cuda")
    torch.backends.cuda.matmul.allow_tf32 = False

    def product() -> None:
        for _ in range(10):
            torch.mm(square, square)
        torch.cuda.synchronize()

    def ours() -> list[Alignment]:
        return [prepare(a, b, metric, device=torch.device("cuda")).alignment() for metric in metrics]

    works: dict[str, Work] = {"product": timed(product), "ours": keeping(ours, kept, "ours")}
    for work in works.values():
        work()
    taken = alternate(works, settings.repeats)
    grams, stacked = 2 * LAYERS * 2 * STIMULI**2 * WIDTH, 2 * LAYERS**2 * STIMULI**2
    rates = [10 * 2 * SQUARE**3 / s for s in taken["product"]]
    shares = [len(METRICS) * (grams + stacked) / s / r for s, r in zip(taken["ours"], rates, strict=True)]
    few = [dict(list(side.layers.items())[:CHECKED]) for side in (a, b)]
    left, right = few
    truth = [definition.cka(left, right), definition.cka(left, right, definition.rbf)]
    truth.append(definition.rsa(left, right, ranked=False))
    worst = max(definition.worst(f.scores[:CHECKED, :CHECKED], t) for f, t in zip(kept["ours"], truth, strict=True))
    rate = float(np.median(rates)) / 1e12
    note = f"{LAYERS} × {LAYERS} layers of {WIDTH}, n = {STIMULI}, three metrics; product {rate:.0f} TFLOP/s"
    value, spread = float(np.median(shares)), (min(shares), max(shares))
    return Result(ENGINE, value, "", None, 0.5, spread, worst, note)


def _drawn(name: str, seed: int) -> Activations:
    """Draw layers that share a little with each other and with the other side."""
    shared = torch.randn(STIMULI, 16, generator=torch.Generator().manual_seed(99))
    generator = torch.Generator().manual_seed(seed)
    layers: dict[str, Tensor] = {}
    for k in range(LAYERS):
        mixed = shared @ torch.randn(16, WIDTH, generator=generator)
        layers[f"l{k}"] = mixed + 4 * torch.randn(STIMULI, WIDTH, generator=generator)
    ids = tuple(map(str, range(STIMULI)))
    return Activations(name, "drawn", ids, layers, dict.fromkeys(layers, 0.0))


def _apart(found: Activations, exact: Activations) -> float:
    """Take the largest relative difference of any layer's features on the stimuli that both hold."""
    rows = found.join(exact.ids).layers
    return max(float((rows[k] - x).norm() / x.norm()) for k, x in exact.layers.items())
