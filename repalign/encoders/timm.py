"""Encoders of timm, by timm's names or by common short ones."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from repalign.encoders import hub
from repalign.encoders.checkpoint import count_classes, read_checkpoint
from repalign.encoders.finish import finish, seeded
from repalign.encoders.fit import Convert, fit
from repalign.encoders.spec import Spec
from repalign.errors import WeightsError, unknown
from repalign.types import Encoder

# Weights are named in full, so that a short name means the same in every version of timm.
ALIASES: dict[str, str] = {
    "dino_vits8": "vit_small_patch8_224.dino",
    "dino_vits16": "vit_small_patch16_224.dino",
    "dino_vitb8": "vit_base_patch8_224.dino",
    "dino_vitb16": "vit_base_patch16_224.dino",
    "dinov2_vits14": "vit_small_patch14_dinov2.lvd142m",
    "dinov2_vitb14": "vit_base_patch14_dinov2.lvd142m",
    "dinov2_vitl14": "vit_large_patch14_dinov2.lvd142m",
    "dinov2_vits14_reg4": "vit_small_patch14_reg4_dinov2.lvd142m",
    "dinov2_vitb14_reg4": "vit_base_patch14_reg4_dinov2.lvd142m",
    "dinov2_vitl14_reg4": "vit_large_patch14_reg4_dinov2.lvd142m",
    "dinov3_vits16": "vit_small_patch16_dinov3.lvd1689m",
    "dinov3_vitb16": "vit_base_patch16_dinov3.lvd1689m",
    "mae_vitb16": "vit_base_patch16_224.mae",
    "mae_vitl16": "vit_large_patch16_224.mae",
    # OpenAI's weights were trained with QuickGELU; timm's plain variants run them with GELU.
    "clip_vitb16": "vit_base_patch16_clip_quickgelu_224.openai",
    "clip_vitb32": "vit_base_patch32_clip_quickgelu_224.openai",
    "siglip_vitb16": "vit_base_patch16_siglip_224.webli",
    "vit_t16": "vit_tiny_patch16_224.augreg_in21k_ft_in1k",
    "vit_s16": "vit_small_patch16_224.augreg_in21k_ft_in1k",
    "vit_b16": "vit_base_patch16_224.augreg2_in21k_ft_in1k",
    "vit_b32": "vit_base_patch32_224.augreg_in21k_ft_in1k",
    "vit_l16": "vit_large_patch16_224.augreg_in21k_ft_in1k",
    "deit_t16": "deit_tiny_patch16_224.fb_in1k",
    "deit_s16": "deit_small_patch16_224.fb_in1k",
    "deit_b16": "deit_base_patch16_224.fb_in1k",
    "deit3_b16": "deit3_base_patch16_224.fb_in1k",
    "beit_b16": "beit_base_patch16_224.in22k_ft_in22k_in1k",
    "beitv2_b16": "beitv2_base_patch16_224.in1k_ft_in22k_in1k",
    "cait_s24": "cait_s24_224.fb_dist_in1k",
    "swin_t": "swin_tiny_patch4_window7_224.ms_in1k",
    "swin_s": "swin_small_patch4_window7_224.ms_in1k",
    "swin_b": "swin_base_patch4_window7_224.ms_in1k",
    "swinv2_t": "swinv2_tiny_window8_256.ms_in1k",
    "convnext_t": "convnext_tiny.fb_in1k",
    "convnext_s": "convnext_small.fb_in1k",
    "convnext_b": "convnext_base.fb_in1k",
    "convnextv2_t": "convnextv2_tiny.fcmae_ft_in1k",
    "mobilenetv2": "mobilenetv2_100.ra_in1k",
    "mobilenetv3": "mobilenetv3_large_100.ra_in1k",
    "mixer_b16": "mixer_b16_224.goog_in21k_ft_in1k",
    "resmlp_12": "resmlp_12_224.fb_in1k",
    "resmlp_24": "resmlp_24_224.fb_in1k",
}


@dataclass(frozen=True)
class Published:
    """Where timm's weights of a network are: on the hub, else at `url`; and what its classifier is called."""

    repository: str
    files: tuple[str, ...]
    url: str
    classifier: tuple[str, ...]

    @property
    def remote(self) -> hub.Remote:
        """Describe the server that has them and the cache they would be in."""
        import torch

        if self.repository:
            return hub.on_hub(self.repository)
        return hub.Remote(self.files[0], self.url, Path(torch.hub.get_dir()) / "checkpoints", "TORCH_HOME")

    @property
    def cached(self) -> Path | None:
        """Find them in the hub's cache, or in torch's for the few that are not on the hub."""
        if self.repository:
            return hub.cached(self.repository, self.files)
        file = self.remote.cache / self.files[0]
        return file if file.is_file() else None


def load(spec: Spec, *, allow_partial: bool = False) -> Encoder:
    """Load a timm network: pretrained, from a checkpoint (`@path`) or untrained (`@random`).

    Raises InputError for an unknown name, HubError when the weights are neither cached nor in reach, WeightsError
    when a checkpoint does not fit.
    """
    name = resolve(spec.name)
    if spec.untrained:
        module, notes = _create(name), ()
    elif spec.path:
        module, notes = _from_checkpoint(spec, name, allow_partial)
    else:
        module, notes = _pretrained(spec, name), ()
    source = f"timm:{name}"
    return finish(spec, module, _preprocessing(module), source=source, untrained=spec.untrained, notes=notes)


def resolve(name: str) -> str:
    """Turn an alias into timm's name and complete a plain architecture with timm's default weights.

    Raises InputError with near matches when timm has no such network.
    """
    import timm
    from timm.models import get_pretrained_cfg

    full = ALIASES.get(name, name)
    architecture, _, tag = full.partition(".")
    if not timm.is_model(architecture) or (tag and full not in timm.list_pretrained(f"{architecture}.*")):
        known = {*timm.list_models(), *timm.list_pretrained(), *ALIASES}
        raise unknown("encoder", name, known)
    config = get_pretrained_cfg(full)
    return f"{architecture}.{config.tag}" if config and config.tag else full


def _preprocessing(module: nn.Module) -> Callable[..., Tensor]:
    """Build the preprocessing with which the network was evaluated."""
    from timm.data.config import resolve_model_data_config
    from timm.data.transforms_factory import create_transform

    return create_transform(**resolve_model_data_config(module), is_training=False)  # pyright: ignore[reportReturnType]


def _create(name: str, num_classes: int | None = None) -> nn.Module:
    """Build the network with the same untrained weights every time."""
    import timm

    with seeded():
        return timm.create_model(name, pretrained=False, num_classes=num_classes)


def _from_checkpoint(spec: Spec, name: str, allow_partial: bool) -> tuple[nn.Module, tuple[str, ...]]:
    """Build the network with as many classes as the checkpoint has, and put its weights in."""
    checkpoint = read_checkpoint(str(spec.path))
    classifier = _published(name).classifier
    module = _create(name, num_classes=count_classes(checkpoint, classifier))
    notes = fit(
        module, checkpoint, name=str(spec), classifier=classifier, allow_partial=allow_partial,
        convert=_checkpoint_filter(module),
    )  # fmt: skip
    return module, notes


def _pretrained(spec: Spec, name: str) -> nn.Module:
    """Build the network with its published weights, from the cache where they are."""
    import timm

    published = _published(name)
    if not published.files:
        raise WeightsError(f"{spec}: timm has no trained weights for {name}; give {spec}@path or {spec}@random")
    file = published.cached
    if file:
        overlay = {"file": str(file), "custom_load": False}  # the hub's files are in timm's own format
        return timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay)
    hub.require_reachable(spec, published.remote)
    try:
        return timm.create_model(name, pretrained=True)
    except (OSError, ValueError) as error:  # the hub's and urllib's errors are OSErrors
        raise hub.unavailable(spec, published.remote, hub.first_line(error)) from error


def _published(name: str) -> Published:
    """Read timm's configuration of a network; without weights `files` is empty."""
    from timm.models import get_pretrained_cfg

    config = get_pretrained_cfg(name)
    if config is None:
        return Published("", (), "", ())
    classifier = (config.classifier,) if isinstance(config.classifier, str) else tuple(config.classifier or ())
    url, file = config.url or "", config.hf_hub_filename
    url, in_cache = (url, url.rpartition("/")[2]) if isinstance(url, str) else url
    if config.hf_hub_id:
        return Published(config.hf_hub_id, (file,) if file else hub.WEIGHT_FILES, url, classifier)
    return Published("", (in_cache,) if in_cache else (), url, classifier)


def _checkpoint_filter(module: nn.Module) -> Convert | None:
    """Find the function with which timm renames published weights of this network (Swin, ConvNeXt, DINOv2, …)."""
    return vars(sys.modules[type(module).__module__]).get("checkpoint_filter_fn")
