#!/usr/bin/env bash
# A contributor with a new model, by CONTRIBUTING.md: its class, its block, its words, the gate.
set -euo pipefail

cat >fmlib/models/tiny.py <<'MODEL'
"""A model for a walk."""

from __future__ import annotations

from torch import Tensor, nn

from fmlib.data import Spec
from fmlib.models.base import Network
from fmlib.models.registry import register


@register("tiny_net", title="Tiny net", family="mlp")
class TinyNet(Network):
    """Two dense layers."""

    width: int = 32

    def build(self, spec: Spec, examples: Tensor) -> nn.Module:
        """Pixels, ``width`` units, classes."""
        first = nn.Linear(spec.pixels, self.width)
        last = nn.Linear(self.width, spec.num_classes)
        return nn.Sequential(nn.Flatten(), first, nn.ReLU(), last)
MODEL
sed -i 's/mlp, transfer  #/mlp, tiny, transfer  #/; s/"register", /&"tiny", /' fmlib/models/__init__.py
sed -i 's/^models:/models:\n  tiny_net: {width: 64, recipe: {epochs: 3}}/' params/smoke.yaml
cat >>notebooks/04_mlp.py <<'CELLS'

# %% [markdown] tags=["model-tiny_net"]
# ## Tiny net
#
# A contributor's own words about it.

# %% tags=["model-tiny_net"]
sections.show_model(settings, "tiny_net", seed)
CELLS

.venv/bin/python -m ruff format fmlib
make check
make report PROFILE=smoke MODELS=tiny_net
grep -q "A contributor's own words about it" build/smoke/report.html
