#!/usr/bin/env bash
# A contributor with a new model, by CONTRIBUTING.md: its class, its block, its words, the gate.
set -euo pipefail

cat >fmlib/models/two_layers.py <<'MODEL'
"""A model for a walk."""

from __future__ import annotations

from torch import Tensor, nn

from fmlib.data import Spec
from fmlib.models.base import Network
from fmlib.models.registry import register


@register("two_layers", title="Two layers", family="mlp")
class TwoLayers(Network):
    """Two dense layers."""

    width: int = 32

    def build(self, spec: Spec, examples: Tensor) -> nn.Module:
        """Pixels, ``width`` units, classes."""
        first = nn.Linear(spec.pixels, self.width)
        last = nn.Linear(self.width, spec.num_classes)
        return nn.Sequential(nn.Flatten(), first, nn.ReLU(), last)
MODEL
sed -i 's/^    transfer,/&\n    two_layers,/; s/^    "transfer",/&\n    "two_layers",/' fmlib/models/__init__.py
sed -i 's/^models:/models:\n  two_layers: {width: 64, recipe: {epochs: 3}}/' params/smoke.yaml
cat >>notebooks/04_mlp.py <<'CELLS'

# %% [markdown] tags=["model-two_layers"]
# ## Two layers
#
# Own words about this model.

# %% tags=["model-two_layers"]
sections.show_model(settings, "two_layers", seed)
CELLS

.venv/bin/python -m ruff format fmlib
make check
make report PROFILE=smoke MODELS=two_layers
grep -q "Own words about this model" build/smoke/report.html
