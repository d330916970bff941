"""Distillation between architectures: distillers, the stages they may use, and the rules that choose them.

A distiller is one file with a class, its loss as a function, and one line here.
"""

from repalign.distill.base import Distiller
from repalign.distill.ce import CEDistiller
from repalign.distill.crd import CRDDistiller, crd_loss
from repalign.distill.dist import DISTDistiller, dist_loss
from repalign.distill.dkd import DKDDistiller, dkd_loss
from repalign.distill.fitnet import FitNetDistiller, fitnet_loss
from repalign.distill.kd import KDDistiller, kd_loss
from repalign.distill.ofa import OFADistiller
from repalign.distill.ofa_loss import ofa_loss
from repalign.distill.rkd import RKDDistiller, rkd_loss

DISTILLERS: dict[str, type[Distiller]] = {
    "ofa": OFADistiller,
    "kd": KDDistiller,
    "dkd": DKDDistiller,
    "dist": DISTDistiller,
    "fitnet": FitNetDistiller,
    "rkd": RKDDistiller,
    "crd": CRDDistiller,
    "ce": CEDistiller,
}

__all__ = [
    "DISTILLERS",
    "CEDistiller",
    "CRDDistiller",
    "DISTDistiller",
    "DKDDistiller",
    "Distiller",
    "FitNetDistiller",
    "KDDistiller",
    "OFADistiller",
    "RKDDistiller",
    "crd_loss",
    "dist_loss",
    "dkd_loss",
    "fitnet_loss",
    "kd_loss",
    "ofa_loss",
    "rkd_loss",
]
