"""The registry of metrics. To add one: a file with its class, and a line here."""

import inspect
from collections.abc import Callable

from repalign.errors import InputError, unknown
from repalign.metrics.base import CosineMetric, Metric, PairMetric, UndefinedError
from repalign.metrics.cca import CCA, SVCCA
from repalign.metrics.cka import LinearCKA, RbfCKA
from repalign.metrics.distance_correlation import DistanceCorrelation
from repalign.metrics.minibatch import MinibatchCKA
from repalign.metrics.neighbours import MutualKNN
from repalign.metrics.predictivity import LinearPredictivity
from repalign.metrics.procrustes import Procrustes
from repalign.metrics.rsa import rsa

METRICS: dict[str, Callable[..., Metric]] = {
    "cka_linear": LinearCKA,
    "cka_rbf": RbfCKA,
    "cka_minibatch": MinibatchCKA,
    "rsa": rsa,
    "distance_correlation": DistanceCorrelation,
    "procrustes": Procrustes,
    "cca": CCA,
    "svcca": SVCCA,
    "linear_predictivity": LinearPredictivity,
    "mutual_knn": MutualKNN,
}
DEFAULT_METRICS = ("cka_linear", "cka_rbf", "rsa")

__all__ = [
    "DEFAULT_METRICS", "METRICS", "CosineMetric", "Metric", "PairMetric", "UndefinedError", "make_metric",
    "parse_metric",
]  # fmt: skip


def make_metric(name: str, **options: object) -> Metric:
    """Build a metric by name.

    Raises InputError for an unknown name or option, and for a value the metric does not take.

    >>> make_metric("rsa", compare="pearson").label
    'RSA, Pearson of correlation distances'
    """
    if name not in METRICS:
        raise unknown("metric", name, METRICS)
    kinds = {key: type(p.default) for key, p in inspect.signature(METRICS[name]).parameters.items()}
    given: dict[str, object] = {}
    for key, value in options.items():
        if key not in kinds:
            raise unknown(f"option of {name}", key, kinds)
        given[key] = _convert(name, key, value, kinds[key])
    return METRICS[name](**given)


def parse_metric(spec: str) -> Metric:
    """Build a metric from `name[:key=value,…]`, as the command line takes it.

    >>> parse_metric("cka_linear:debiased=false").options
    {'debiased': False}
    """
    name, _, rest = spec.partition(":")
    options: dict[str, object] = {}
    for item in filter(None, rest.split(",")):
        key, equals, value = item.partition("=")
        if not equals:
            raise InputError(f"metric {spec!r}: {item!r} is not an option; write {name}:key=value")
        options[key.strip()] = value.strip()
    return make_metric(name, **options)


def _convert(metric: str, key: str, value: object, kind: type) -> object:
    text = str(value).lower()
    if kind is bool and text in ("true", "false"):
        return text == "true"
    if kind is float and not isinstance(value, bool):
        try:
            return float(text)
        except ValueError:
            pass
    if kind is int and text.lstrip("-").isdigit():
        return int(text)
    if kind is str and isinstance(value, str):
        return value
    wanted = {bool: "true or false", float: "a number", int: "a whole number", str: "a word"}[kind]
    raise InputError(f"{metric}: {key} takes {wanted}, not {value!r}")
