"""Measure how alike two representations are, layer by layer.

The names below are loaded when they are first used, so that `import repalign` costs nothing.
"""

from importlib import import_module

_PARTS = ("distill",)  # packages with names of their own, as in `repalign.distill.ofa_loss`
_HOMES = {
    "similarity": "api",
    "compare": "api",
    "compare_all": "api",
    "compare_arrays": "api",
    "infer_arrays": "api",
    "infer_encoders": "api",
    "mantel": "infer.mantel",
    "diagnose": "diagnosing",
    "two_sample": "infer.two_sample",
    "difference": "infer.difference",
    "Plan": "infer.matrix",
    "load_subjects": "subjects",
    "subjects_from_arrays": "subjects",
    "group_rdm": "subjects",
    "noise_ceiling": "subjects",
    "model_comparison": "subjects",
    "Options": "sides",
    "load_encoder": "encoders",
    "load_stimuli": "stimuli",
    "load_filter": "filters",
    "make_metric": "metrics",
    "parse_metric": "metrics",
    "render": "report",
    "RepalignError": "errors",
    "InputError": "errors",
    "Activations": "types",
    "Alignment": "types",
    "Inference": "types",
    "Encoder": "types",
    "Stimuli": "types",
}
__all__ = [*_HOMES, *_PARTS]  # noqa: PLE0604  the names stand once, above
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Load a public name from its module on first use."""
    if name in _PARTS:
        return import_module(f"repalign.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'repalign' has no attribute {name!r}")
    value = getattr(import_module(f"repalign.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return [*__all__, "__version__"]
