"""The multilayer perceptron."""

from __future__ import annotations

from typing import Self

from pydantic import PositiveInt, model_validator
from torch import Tensor, nn

from fmlib.data import NUM_CLASSES
from fmlib.models.neural import Dropout, NetworkSpec


class MLP(NetworkSpec):
    """Dense layers over the flattened pixels, each with an optional batch normalisation, a ReLU and dropout.

    ``dropout``: one probability for every hidden layer, or one for each, as in the study (0 after the first, 0.5 after the
    layer of 64, 0.25 after the last).
    """

    hidden_sizes: tuple[PositiveInt, ...] = (256, 128)
    batch_norm: bool = True
    dropout: float | tuple[float, ...] = 0.0

    @model_validator(mode="after")
    def _one_rate_a_layer(self) -> Self:
        if len(self.dropouts) != len(self.hidden_sizes) or not all(0 <= rate < 1 for rate in self.dropouts):
            raise ValueError(f"dropout: wanted one probability below 1, or {len(self.hidden_sizes)}, one a hidden layer")
        return self

    def build(self, examples: Tensor) -> nn.Module:
        layers: list[nn.Module] = [nn.Flatten()]
        width = examples[0].numel()
        for size, rate in zip(self.hidden_sizes, self.dropouts, strict=True):
            layers.append(nn.Linear(width, size, bias=not self.batch_norm))
            layers += [nn.BatchNorm1d(size)] if self.batch_norm else []
            layers += [nn.ReLU(), Dropout(rate)]
            width = size
        layers.append(nn.Linear(width, NUM_CLASSES))
        return nn.Sequential(*(layer for layer in layers if not (isinstance(layer, Dropout) and layer.p == 0)))

    @property
    def dropouts(self) -> tuple[float, ...]:
        rate = self.dropout
        return rate if isinstance(rate, tuple) else (rate,) * len(self.hidden_sizes)
