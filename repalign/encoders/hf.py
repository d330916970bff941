"""Encoders of Hugging Face transformers: a hub id (`hf:org/name`) or a folder that `save_pretrained` wrote."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from PIL.Image import Image
from torch import Tensor, nn

from repalign.encoders import hub
from repalign.encoders.checkpoint import read_checkpoint
from repalign.encoders.finish import finish, seeded
from repalign.encoders.fit import Differences, judge
from repalign.encoders.spec import Spec
from repalign.errors import InputError, WeightsError
from repalign.types import Encoder

PIXELS = "pixel_values"
VISION_PART = "vision_model"
WRAPPERS = ("module.", "_orig_mod.")  # of DistributedDataParallel and torch.compile
Result = TypeVar("Result")
UNSUITED = (ValueError, ImportError, KeyError)  # what transformers raises for a repository it can't use


@dataclass(frozen=True)
class Loaded:
    """A network of transformers, the name of its input and of its backbone, and which tensors did not fit."""

    module: nn.Module
    input_name: str
    prefix: str
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    reshaped: tuple[str, ...] = ()


@dataclass(frozen=True)
class Preprocess:
    """An image processor of transformers as a function of one picture."""

    processor: Callable[..., Mapping[str, Tensor]]

    def __call__(self, picture: Image) -> Tensor:
        """Turn a PIL RGB picture into `(3, h, w)`."""
        return self.processor(images=picture, return_tensors="pt")[PIXELS][0]


def load(spec: Spec, *, allow_partial: bool = False) -> Encoder:
    """Load a vision network of transformers with its own image processor.

    Of a network for pictures and text (CLIP, SigLIP) the vision part is taken. Code from a repository is never run.

    Raises InputError for a folder or a network that can't be used, HubError when nothing is cached or in reach,
    WeightsError when weights are missing or don't fit.
    """
    place = _place(spec)
    with _quiet():
        config = _read(spec, place, _config, InputError)
        processor = _read(spec, place, _processor, InputError)
        loaded, notes = _network(spec, place, config, allow_partial)
    module, part = _vision(spec, loaded)
    return finish(
        spec, module, Preprocess(processor),
        source=f"hf:{spec.name}", untrained=spec.untrained, notes=(*part, *notes),
    )  # fmt: skip


def _place(spec: Spec) -> str:
    """Check that the name is a folder with a configuration, or could be a hub id."""
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    folder = Path(spec.name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise InputError(f"{spec}: the folder {folder} has no config.json; write it with model.save_pretrained(…)")
        return str(folder)
    try:
        validate_repo_id(spec.name)
    except HFValidationError as error:
        raise InputError(f"{spec}: {spec.name!r} is neither a folder that exists nor a hub id (org/name)") from error
    return spec.name


def _config(place: str, **where: bool) -> object:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(place, trust_remote_code=False, **where)


def _processor(place: str, **where: bool) -> Callable[..., Mapping[str, Tensor]]:
    from transformers import AutoImageProcessor

    return AutoImageProcessor.from_pretrained(place, trust_remote_code=False, **where)


def _pretrained(place: str, **where: bool) -> Loaded:
    from transformers import AutoModel

    with seeded():  # what the files leave out is drawn at random, and judged afterwards
        whole, report = AutoModel.from_pretrained(
            place, trust_remote_code=False, output_loading_info=True, ignore_mismatched_sizes=True, **where
        )
    return _loaded(whole, report)


def _untrained(config: object) -> Loaded:
    from transformers import AutoModel

    with seeded():
        return _loaded(AutoModel.from_config(config, trust_remote_code=False), {})


def _from_tensors(config: object, tensors: Mapping[str, Tensor]) -> Loaded:
    """Let transformers put tensors in: it knows the names that older versions of it gave them."""
    from transformers import AutoModel

    for wrapper in WRAPPERS:
        if all(k.startswith(wrapper) for k in tensors):
            tensors = {k.removeprefix(wrapper): v for k, v in tensors.items()}
    with torch.device("meta"):
        kind = type(AutoModel.from_config(config, trust_remote_code=False))
    with seeded():
        whole, report = kind.from_pretrained(
            None, config=config, state_dict=dict(tensors), output_loading_info=True, ignore_mismatched_sizes=True
        )
    return _loaded(whole, report)


def _loaded(whole: nn.Module, report: Mapping[str, Iterable]) -> Loaded:
    """Sort transformers' loading report."""
    reshaped = (
        f"{name}: {tuple(given)} in the file, {tuple(wanted)} in the network"
        for name, given, wanted in report.get("mismatched_keys", ())
    )
    return Loaded(
        whole,
        str(whole.main_input_name),
        str(whole.base_model_prefix),
        tuple(sorted(report.get("missing_keys", ()))),
        tuple(sorted(report.get("unexpected_keys", ()))),
        tuple(sorted(reshaped)),
    )


def _read(spec: Spec, place: str, read: Callable[..., Result], error: type[InputError]) -> Result:
    """Call `read` on what is here and, only where something is missing, on the hub if it answers in time."""
    folder = place if Path(place).is_dir() else hub.snapshot(place)
    try:
        if folder:
            return read(str(folder), local_files_only=True)
    except UNSUITED as problem:
        raise _unsuited(spec, problem) from problem
    except OSError as problem:
        if folder == place:
            raise error(
                f"{spec}: {hub.first_line(problem)}. The folder must hold config.json, preprocessor_config.json and "
                "model.safetensors; write them with model.save_pretrained(…) and processor.save_pretrained(…)"
            ) from problem
    remote = hub.on_hub(place)
    hub.require_reachable(spec, remote)
    try:
        return read(place, local_files_only=False)
    except UNSUITED as problem:
        raise _unsuited(spec, problem) from problem
    except OSError as problem:
        raise hub.unavailable(spec, remote, hub.first_line(problem)) from problem


def _unsuited(spec: Spec, problem: Exception) -> InputError:
    return InputError(
        f"{spec}: transformers can't use it: {hub.first_line(problem)} (code from a repository is not run here; "
        "a network of your own comes in as python:package.module:function)"
    )


def _network(spec: Spec, place: str, config: object, allow_partial: bool) -> tuple[Loaded, tuple[str, ...]]:
    """Build the network with its own weights, those of a checkpoint, or untrained ones."""
    if spec.untrained:
        return _untrained(config), ()
    if spec.path is None:
        loaded = _read(spec, place, _pretrained, WeightsError)
        return loaded, _judge(spec, loaded, allow_partial)
    checkpoint = read_checkpoint(spec.path)
    loaded = _from_tensors(config, checkpoint.tensors)
    return loaded, (*checkpoint.notes, *_judge(spec, loaded, allow_partial))


def _judge(spec: Spec, loaded: Loaded, allow_partial: bool) -> tuple[str, ...]:
    """Ask that the part that sees pictures is complete; a pooler behind it need not be.

    Tensors too many inside the network are an error only in a checkpoint that the user named: a published
    repository's own files are left to transformers.
    """
    children = {name for name, _ in loaded.module.named_children()}
    inside = "" if loaded.input_name == PIXELS else f"{VISION_PART}."
    extra = [k.removeprefix(f"{loaded.prefix}.") for k in loaded.unexpected if spec.path]
    poolers = [k for k in loaded.missing if k.startswith("pooler.")]
    differences = Differences(
        wanted=len(loaded.module.state_dict()),
        missing=tuple(k for k in loaded.missing if k.startswith(inside) and k not in poolers),
        unexpected=tuple(k for k in extra if k.startswith(inside) and k.partition(".")[0] in children),
        reshaped=tuple(k for k in loaded.reshaped if k.startswith(inside)),
    )
    notes = ("the pooler keeps untrained values (not in the file)",) if poolers else ()
    return (*notes, *judge(differences, name=str(spec), allow_partial=allow_partial))


def _vision(spec: Spec, loaded: Loaded) -> tuple[nn.Module, tuple[str, ...]]:
    """Take the part that sees pictures."""
    if loaded.input_name == PIXELS:
        return loaded.module, ()
    kind, parts = type(loaded.module).__name__, dict(loaded.module.named_children())
    if VISION_PART not in parts:
        raise InputError(f"{spec}: {kind} takes {loaded.input_name} and no pictures; name a vision model")
    return parts[VISION_PART], (f"the vision part of {kind}, before its projection",)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back transformers' reports and bars while it loads; what matters of them becomes an error or a note."""
    import sys

    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
