"""A network's structure beyond its weights: each module's class and the plain values that it computes with.

Two networks of the same weights can differ here: in the activation between layers, the number of heads, an epsilon.
"""

import functools
import hashlib
import re
import types
from collections.abc import Callable, Mapping
from enum import Enum

import numpy as np
import torch
from torch import Tensor, nn

ADDRESS = re.compile(r" at 0x[0-9a-f]+")  # of an object in memory: another one in every process
BOOKKEEPING = frozenset(vars(nn.Module()))  # training, hooks, …: torch's own attributes
HOOKS = ("_forward_pre_hooks", "_forward_hooks")  # those may compute, as weight normalisation does
ORIGIN = frozenset({"_name_or_path", "_commit_hash", "pretrained_cfg", "default_cfg"})  # where from, not what
DEEPEST = 4  # of values within values


def settings(module: nn.Module) -> list[object]:
    """List the printed structure, then name, class and plain attributes of every module, as a key can hold them."""
    listed = [(name, qualified(type(part)), _attributes(part)) for name, part in module.named_modules()]
    return [ADDRESS.sub("", repr(module)), listed]


def qualified(kind: type | Callable[..., object]) -> str:
    """Name a class or a function with its module."""
    return f"{getattr(kind, '__module__', '')}.{getattr(kind, '__qualname__', type(kind).__qualname__)}"


def code_of(what: object) -> object:
    """Describe the code of a function, or of all functions of a class, as a key can hold it.

    It is the compiled code, which changes with Python's version and not with comments.
    """
    match what:
        case type():
            functions = {name: _bare(value) for name, value in vars(what).items()}
            return {name: _compiled(f.__code__) for name, f in functions.items() if isinstance(f, types.FunctionType)}
        case types.FunctionType():
            return _compiled(what.__code__)
    return None


def bits(tensor: Tensor) -> str:
    """Digest shape, dtype and bytes of a tensor."""
    digest = hashlib.blake2b(f"{tuple(tensor.shape)} {tensor.dtype}\n".encode(), digest_size=16)
    digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _attributes(module: nn.Module) -> dict[str, object]:
    own = {k: v for k, v in vars(module).items() if k not in BOOKKEEPING and k not in ORIGIN}
    hooks = {name: [h for h in vars(module).get(name, {}).values() if not _is_ours(h)] for name in HOOKS}
    return {name: _plain(value, DEEPEST) for name, value in (own | hooks).items()}


def _is_ours(hook: Callable[..., object]) -> bool:
    """Tell whether a hook is one of our recordings, which come and go and change nothing."""
    function = hook.func if isinstance(hook, functools.partial) else hook
    return str(getattr(function, "__module__", "")).startswith("repalign.")


def _plain(value: object, depth: int) -> object:
    """Turn a value into what a key can hold: its class and whatever can be told of its content."""
    match value:
        case None | bool() | int() | float() | str() | bytes():
            return value
        case Tensor() | np.ndarray():
            return bits(torch.from_numpy(np.ascontiguousarray(value)) if isinstance(value, np.ndarray) else value)
        case Enum() | torch.dtype() | torch.device() | torch.memory_format() | np.generic() | complex():
            return str(value)
        case nn.Module():
            return qualified(type(value))
    return qualified(type(value)) if depth == 0 else _composed(value, depth - 1)


def _composed(value: object, depth: int) -> object:
    """Describe containers, functions and other objects by their parts."""
    match value:
        case Mapping():
            return [(_plain(k, depth), _plain(v, depth)) for k, v in value.items()]
        case list() | tuple():
            return [_plain(item, depth) for item in value]
        case set() | frozenset():
            return sorted(repr(_plain(item, depth)) for item in value)
        case functools.partial():
            return [_plain(part, depth) for part in (value.func, value.args, value.keywords)]
        case types.MethodType():
            return [_plain(value.__func__, depth), qualified(type(value.__self__))]
        case types.FunctionType():
            kept = [cell.cell_contents for cell in value.__closure__ or () if _filled(cell)]
            return [qualified(value), code_of(value), _plain((value.__defaults__, value.__kwdefaults__, kept), depth)]
        case type() | types.BuiltinFunctionType():
            return qualified(value)
    inside = {k: v for k, v in getattr(value, "__dict__", {}).items() if k not in ORIGIN}
    return [qualified(type(value)), _plain(inside, depth)]


def _compiled(code: types.CodeType) -> object:
    names = [*code.co_names, *code.co_varnames, *code.co_freevars]
    return [code.co_code, [_constant(value) for value in code.co_consts], names]


def _constant(value: object) -> object:
    match value:
        case types.CodeType():
            return _compiled(value)
        case frozenset():  # in another order in every process
            return sorted(map(repr, value))
    return repr(value)


def _bare(value: object) -> object:
    """Take the function out of a static method, a class method or a property."""
    return getattr(value, "__func__", None) or getattr(value, "fget", None) or value


def _filled(cell: types.CellType) -> bool:
    """Tell whether a variable of a closure has a value; one that refers to its own function may have none yet."""
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False
