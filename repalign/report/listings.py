"""Terminal tables of layers and of models."""

from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from repalign.types import Layer


def layer_table(layers: Sequence[Layer]) -> RenderableType:
    """List layers shallow to deep: name, type, output shape without the batch, parameters, depth 0..1."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("layer", "type", "output", "positions"):
        table.add_column(heading, overflow="fold")
    for heading in ("parameters", "depth"):
        table.add_column(heading, justify="right")
    for layer in layers:
        shape = "×".join(map(str, layer.shape))
        name = layer.name if layer.calls == 1 else f"{layer.name} (runs {layer.calls} times)"
        table.add_row(name, layer.kind, shape, _positions(layer), f"{layer.parameters:,}", f"{layer.depth:.2f}")
    return Group(table, Text(f"{len(layers)} layers"))


def model_table(pocket: Sequence[Mapping[str, object]], aliases: Mapping[str, str]) -> RenderableType:
    """List the pocket encoders with what was measured of them, then the short names of timm models."""
    bundled = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="pocket encoders, in the package", title_justify="left")
    for heading in ("name", "parameters", "trained", "measured on CIFAR-10's test pictures"):
        bundled.add_column(heading, overflow="fold")
    for row in pocket:
        measured = str(row.get("measured", "no weights here"))
        bundled.add_row(f"pocket:{row['name']}", f"{row['parameters']:,}", str(row.get("trained", "")), measured)
    short = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="short names of timm models", title_justify="left")
    short.add_column("name")
    short.add_column("model", overflow="fold")
    for name, target in aliases.items():
        short.add_row(name, target)
    rest = Text("and every other timm model by its name, hf:ID or hf:FOLDER, python:module:callable, @weights")
    return Group(bundled, short, rest)


def _positions(layer: Layer) -> str:
    if layer.grid is None:
        return "-"
    prefix = f" + {layer.prefix} prefix" if layer.prefix else ""
    return f"{layer.grid[0]}×{layer.grid[1]}{prefix}"
