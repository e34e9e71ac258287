"""The multilayer perceptron."""

from __future__ import annotations

from pydantic import PositiveInt, model_validator
from torch import Tensor, nn

from fmlib.data import Spec
from fmlib.models.base import Dropout, Network
from fmlib.models.registry import register


@register("mlp", title="MLP", family="mlp")
class MLP(Network):
    """Dense layers over the flattened pixels, each with batch normalisation, ReLU and dropout.

    ``dropout``: one probability for every hidden layer, or one for each.
    """

    hidden_sizes: tuple[PositiveInt, ...] = (256, 128)
    batch_norm: bool = True
    dropout: float | tuple[float, ...] = 0.0

    @model_validator(mode="after")
    def _one_rate_a_layer(self) -> MLP:
        count = len(self.hidden_sizes)
        if len(self.rates) != count or not all(0 <= rate < 1 for rate in self.rates):
            wanted = f"one probability below 1, or {count}, one a hidden layer"
            raise ValueError(f"dropout: wanted {wanted}")
        return self

    @property
    def rates(self) -> tuple[float, ...]:
        """The probability of dropout after each hidden layer."""
        if isinstance(self.dropout, tuple):
            return self.dropout
        return (self.dropout,) * len(self.hidden_sizes)

    def build(self, spec: Spec, examples: Tensor) -> nn.Module:
        layers: list[nn.Module] = [nn.Flatten()]
        width = examples[0].numel()
        for size, rate in zip(self.hidden_sizes, self.rates, strict=True):
            layers.append(nn.Linear(width, size, bias=not self.batch_norm))
            if self.batch_norm:
                layers.append(nn.BatchNorm1d(size))
            layers.append(nn.ReLU())
            if rate:
                layers.append(Dropout(rate))
            width = size
        return nn.Sequential(*layers, nn.Linear(width, spec.num_classes))
