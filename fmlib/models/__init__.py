"""The models, all behind one contract, known by name."""

from fmlib.models.base import Estimator, Model, Network
from fmlib.models.registry import register

from fmlib.models import classical, cnn, mlp, transfer  # isort: skip - which register themselves

__all__ = ["Estimator", "Model", "Network", "classical", "cnn", "mlp", "register", "transfer"]
