"""Find a network's layers from its structure and one dry run: blocks, stem, final norm, everything else.

A *block* is an element of a list (`Sequential`, `ModuleList`, `ModuleDict`, or children numbered b1, b2, …) that
holds at least two weight matrices, in a list made mostly of such elements, and that holds no smaller block
itself. This finds residual, transformer, MLP-mixer, ConvNeXt, inverted-residual and dense blocks alike, and passes
over the stages that contain them and over single convolutions. No architecture is named anywhere.
"""

import fnmatch
import re
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from math import isqrt

import numpy as np
from torch import Tensor, nn

from repalign.errors import LayerError, unknown
from repalign.hooks import Call, trace
from repalign.types import Layer, Layout, Role

MOST_PREFIX_TOKENS = 16
FEWEST_PARTS = 5
FLAT_STAGES = (2, 2, 6, 2)  # how OFA-KD (Hao et al. 2023) cuts 12 blocks of equal resolution


def find_layers(module: nn.Module, example: Tensor) -> tuple[Layer, ...]:
    """List every layer whose output can be recorded, shallow to deep, from one pass of `example (b, 3, h, w)`.

    Raises LayerError when the network runs no layer whose output has the batch first.
    """
    calls = [c for c in trace(module, example) if _usable(c, len(example))]
    if not calls:
        raise LayerError(f"{type(module).__name__} runs no layer with a float output of 2 to 4 axes, batch first")
    size = (int(example.shape[-2]), int(example.shape[-1]))
    default_nhwc = _mostly_nhwc(calls, size)
    declared = getattr(module, "num_prefix_tokens", 0)  # 9 tokens may be 3 × 3 of them, or 2 × 2 and 5 before
    roles = _roles(module, calls)
    anchors = [i for i, c in enumerate(calls) if c.name in roles]
    depths = np.interp(range(len(calls)), anchors, np.linspace(0, 1, len(anchors)) if len(anchors) > 1 else [1.0])
    return tuple(
        _layer(call, roles.get(call.name, "inner"), float(depth), size, default_nhwc, declared)
        for call, depth in zip(calls, depths, strict=True)
    )


def select(layers: Sequence[Layer], choice: str) -> tuple[Layer, ...]:
    """Choose layers: `blocks` (with stem and final norm), `stages`, or comma-separated globs.

    In a glob `*` stays within one part of a dotted name and `**` crosses dots: `layer3.*` are the blocks of
    layer3, `layer3.**` everything inside them.

    Raises LayerError when a glob matches nothing, or matches a layer that runs more than once.
    """
    if choice == "blocks":
        chosen = [x for x in layers if x.role != "inner"]
    elif choice == "stages":
        chosen = _stages([x for x in layers if x.role == "block"])
    else:
        names = {x.name for x in layers}
        wanted: set[str] = set()
        for glob in choice.split(","):
            pattern = re.compile(_glob(glob.strip()))
            matched = {n for n in names if pattern.fullmatch(n)}
            if not matched:
                raise LayerError(f"{unknown('layer or glob', glob.strip(), names)}; see: repalign layers MODEL --all")
            wanted |= matched
        chosen = [x for x in layers if x.name in wanted]
    for layer in chosen:
        if layer.calls > 1:
            raise LayerError(
                f"layer {layer.name!r} runs {layer.calls} times in a forward pass, so it has no single output; "
                "choose the layers around it"
            )
    return tuple(chosen)


def _stages(blocks: Sequence[Layer]) -> list[Layer]:
    """Take the last block at each resolution; blocks of one resolution are cut 2-2-6-2."""
    runs = [list(run) for _, run in groupby(blocks, key=lambda x: x.grid)]
    if len(runs) > 1:
        return [run[-1] for run in runs]
    count = len(blocks)
    if count <= len(FLAT_STAGES):
        return list(blocks)
    if count >= 8:
        ends = [2, 4, count - 2, count]
    else:
        ends = [round(int(c) * count / sum(FLAT_STAGES)) for c in np.cumsum(FLAT_STAGES)]
    return [blocks[i - 1] for i in ends]


def _glob(text: str) -> str:
    """Translate a glob over dotted names into a regular expression."""
    parts = re.split(r"(\*\*|\*)", text)
    special = {"**": ".*", "*": "[^.]*"}
    return "".join(special.get(p) or re.sub(r"^\(\?s:(.*)\)\\[zZ]$", r"\1", fnmatch.translate(p)) for p in parts)


def _usable(call: Call, batch: int) -> bool:
    shape = call.shape
    return shape is not None and 2 <= len(shape) <= 4 and shape[0] == batch


def _roles(module: nn.Module, calls: Sequence[Call]) -> dict[str, Role]:
    """Name the stem, the blocks and the final norm; a network without blocks is taken by its parts."""
    blocks = _blocks(module, calls)
    if not blocks:
        return dict.fromkeys(_parts(calls), "block")
    roles: dict[str, Role] = dict.fromkeys(blocks, "block")
    ran = [c for c in calls if c.name in roles]
    first, last = min(c.started for c in ran), max(c.finished for c in ran)
    before = [c for c in calls if c.finished < first and not _passes_through(c.module)]
    after = [c for c in calls if c.started > last and "Norm" in type(c.module).__name__ and _parameters(c.module)]
    if before:
        roles[before[-1].name] = "stem"
    if after:
        roles[after[0].name] = "norm"
    return roles


def _parts(calls: Sequence[Call]) -> list[str]:
    """Take the network's own children, or every weighted leaf where there are too few of them (as in VGG)."""
    children = [c.name for c in calls if "." not in c.name and _weights(c.module)]
    leaves = [c.name for c in calls if _weights(c.module) and not any(True for _ in c.module.children())]
    return children if len(children) >= FEWEST_PARTS else leaves or children


def _blocks(module: nn.Module, calls: Sequence[Call]) -> list[str]:
    modules = dict(module.named_modules())
    ran = {c.name for c in calls}
    lists = {n for n, m in modules.items() if _is_list(m)}
    heavy = {n for n, m in modules.items() if n and _parent(n) in lists and _weights(m) >= 2}
    weighted = Counter(_parent(n) for n, m in modules.items() if n and _weights(m))
    share = Counter(_parent(n) for n in heavy)
    found = {n for n in heavy & ran if 2 * share[_parent(n)] >= weighted[_parent(n)]}
    holders = {ancestor for n in found for ancestor in _ancestors(n)}
    return [c.name for c in calls if c.name in found - holders]


def _is_list(module: nn.Module) -> bool:
    """Tell whether a module holds its children as a list: one of torch's, or all of one class, numbered alike."""
    if isinstance(module, nn.Sequential | nn.ModuleList | nn.ModuleDict):
        return True
    children = dict(module.named_children())
    stems = {name.rstrip("0123456789") for name in children}
    return len(stems) == 1 and not stems & set(children) and len({type(c) for c in children.values()}) == 1


def _weights(module: nn.Module) -> int:
    """Count the weight matrices inside, kernels included."""
    return sum(any(p.ndim >= 2 for p in m.parameters(recurse=False)) for m in module.modules())


def _parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _passes_through(module: nn.Module) -> bool:
    return isinstance(module, nn.Identity) or "Drop" in type(module).__name__


def _parent(name: str) -> str:
    return name.rpartition(".")[0]


def _ancestors(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:i]) for i in range(1, len(parts))]


def _mostly_nhwc(calls: Sequence[Call], size: tuple[int, int]) -> bool:
    """Let the unambiguous four-axis outputs vote on where the channels are."""
    votes = Counter(_channels(c.shape[1:], size) for c in calls if c.shape and len(c.shape) == 4)
    return votes["nhwc"] > votes["nchw"]


def _channels(shape: tuple[int, ...], size: tuple[int, int]) -> str:
    first, last = _is_grid(shape[:2], size), _is_grid(shape[1:], size)
    return "unclear" if first == last else "nhwc" if first else "nchw"


def _is_grid(shape: tuple[int, ...], size: tuple[int, int]) -> bool:
    """Tell whether `shape` could be positions: the picture's aspect ratio, to within one row of rounding."""
    slack = 0 if size[0] == size[1] else max(size)
    return abs(shape[0] * size[1] - shape[1] * size[0]) <= slack


def _token_grid(tokens: int, size: tuple[int, int], declared: int) -> tuple[int, tuple[int, int] | None]:
    """Split a token count into prefix tokens, as many as declared if that fits, and a grid of the picture's ratio."""
    for prefix in sorted(range(min(MOST_PREFIX_TOKENS, tokens - 1) + 1), key=lambda count: count != declared):
        area = tokens - prefix
        height = isqrt(area * size[0] // size[1])
        if height and area % height == 0 and height * size[1] == area // height * size[0]:
            return prefix, (height, area // height)
    return 0, None


def _layer(call: Call, role: Role, depth: float, size: tuple[int, int], default_nhwc: bool, declared: int) -> Layer:
    assert call.shape is not None  # _usable has seen to it
    shape = call.shape[1:]
    layout: Layout = "vector"
    prefix, grid = 0, None
    if len(shape) == 2:
        layout = "tokens"
        prefix, grid = _token_grid(shape[0], size, declared)
    elif len(shape) == 3:
        channels = _channels(shape, size)
        nhwc = default_nhwc if channels == "unclear" else channels == "nhwc"
        layout = "nhwc" if nhwc else "nchw"
        grid = (shape[0], shape[1]) if nhwc else (shape[1], shape[2])
    parameters, kind = _parameters(call.module), type(call.module).__name__
    return Layer(call.name, kind, shape, layout, prefix, grid, parameters, depth, role, call.calls)
