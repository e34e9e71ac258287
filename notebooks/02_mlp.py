# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["once"]
# # A multilayer perceptron
#
# The plainest network: layers of weighted sums with a bend in between. Like the classical models it sees 784 numbers and no
# image; unlike them it is trained by gradient descent, a batch of images at a time, and it learns features on the way.

# %% tags=["parameters"]
model: str = "mlp"  # a network of this family in fmlib.models.registry
parameters: dict = {  # the model's own; what is left out has its default
    "hidden_sizes": [256, 128], "recipe": {"epochs": 8, "lr": 0.003},
}
profile: str = "notebook"  # the name under which the result is filed
dataset: str = "sample"  # "sample": 2,500 images that ship with fmlib; "full": all 70,000, fetched if need be
validation_fraction: float = 0.1  # share of the training images held out for choices
seed: int = 9  # of everything random in this model
results_dir: str = "../build/notebook/results"  # where the result is saved
job_sha256: str = ""  # identifies the inputs of an automatic run; empty when run by hand

# %% tags=["remove-input"]
from fmlib import results
from fmlib.data import load_data
from fmlib.measure import measure
from fmlib.models.registry import build
from fmreport import sections as describe
from fmreport import studies
from fmreport.show import show_table

# %% [markdown] tags=["model-mlp"]
# Layer $l$ turns its input $h_{l-1}$ into
#
# $$ h_l = \mathrm{dropout}\left(\mathrm{ReLU}\left(\mathrm{BN}(W_l h_{l-1})\right)\right) , \qquad
#    \hat p = \mathrm{softmax}(W h_L + b) , $$
#
# where batch normalisation (BN) brings each unit to mean 0 and variance 1 over the batch, then scales and shifts it by two
# learnt numbers.[^bn] The weights minimise the cross-entropy between $\hat p$ and the label, smoothed: a share
# $\varepsilon$ of the label's weight is spread over all classes, so that the network is not rewarded for boundless
# confidence,
#
# $$ \ell = -\sum_c \left[(1 - \varepsilon)\, 1_{c = y} + \tfrac{\varepsilon}{10}\right] \log \hat p_c . $$
#
# Where the settings call the scaling *roots*, what the network sees of a pixel is its square root, a gamma correction that
# spreads the dark shades.
#
# The original study's network was narrower and deeper, had no batch normalisation, dropped half of its last but one layer, and
# learnt at one rate from the first step to the last; in the recipe of this project the rate rises, then falls to zero. The
# ablation below tries most of these. The time is another matter: it was saved outside the network, as the section on training
# tells.
#
# [^bn]: S. Ioffe and C. Szegedy, *Batch normalization*, 2015, [arXiv:1502.03167](https://arxiv.org/abs/1502.03167).

# %% [markdown]
# ## Network and recipe

# %% tags=["key-code"]
data = load_data(dataset, validation_fraction)
classifier = build(model, parameters, seed)
measured = measure(classifier, data)

# %% tags=["remove-input"]
record = results.make_record(
    model, classifier, data, measured, profile=profile, seed=seed, parameters=parameters, job_sha256=job_sha256 or None
)
results.save(record, results_dir)
result = record.result

# %% tags=["remove-input"]
show_table(
    describe.network_table(classifier), f"{result.display_name}: its layers, {result.parameter_count:,} weights.", "network"
)
show_table(describe.parameter_table(classifier), f"{result.display_name}: how it is trained.", "settings")

# %% [markdown]
# ## Training
#
# The images stay on the device as one block of bytes. A batch is cut out of it, augmented and normalised as a whole, so
# that next to nothing but the network's own arithmetic is left to be paid for.

# %% tags=["remove-input"]
describe.show_training(classifier, result)

# %% [markdown]
# ## What was tried

# %% tags=["remove-input"]
studies.show_ablation(model)
studies.show_search(model)

# %% [markdown]
# ## On the test images

# %% tags=["remove-input"]
describe.show_outcome(result)
