"""The models, all behind one contract, known by name."""

from fmlib.models.base import Estimator, Model, Network
from fmlib.models.registry import register

from fmlib.models import (  # isort: skip - which register themselves
    classical,
    cnn,
    mlp,
    transfer,
)

__all__ = [
    "Estimator",
    "Model",
    "Network",
    "classical",
    "cnn",
    "mlp",
    "register",
    "transfer",
]
