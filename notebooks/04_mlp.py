# %% tags=["parameters"]
profile: str = "lesson"  # a file of params/: "lesson" takes seconds, "cpu" is the report's
seed: int = 9  # of everything random in a model's training

# %% [markdown]
# # A multilayer perceptron
#
# A multilayer perceptron is the simplest network: linear layers with nonlinear activations in
# between. Like most of the classical models it gets a list of numbers and no image; unlike them it
# is trained by gradient descent, on one batch of images at a time, and learns features on the way.

# %% tags=["hide-input"]
from fmlib.profiles import load_profile
from fmreport import sections

settings = load_profile(profile)
data = settings.data()

# %% [markdown] tags=["model-mlp"]
# ## MLP
#
# Layer $l$ turns its input $h_{l-1}$ into
#
# $$ h_l = \mathrm{dropout}\left(\mathrm{ReLU}\left(\mathrm{BN}(W_l h_{l-1})\right)\right) , \qquad
#    \hat p = \mathrm{softmax}(W h_L + b) , $$
#
# where batch normalisation (BN) brings each unit to mean 0 and variance 1 over the batch, then
# scales and shifts it by two learnt numbers ([Ioffe and Szegedy
# 2015](https://arxiv.org/abs/1502.03167)). The weights minimise the cross-entropy between $\hat p$
# and the label, smoothed: a share $\varepsilon$ of the label's weight is spread over all classes,
# of which there are $K$, so that the network is not rewarded for unlimited confidence,
#
# $$ \ell = -\sum_c \left[(1 - \varepsilon)\, 1_{c = y} + \tfrac{\varepsilon}{K}\right]
#    \log \hat p_c . $$
#
# Where the settings call the scaling *roots*, the network's input is the square root of every
# pixel, a gamma correction that spreads the dark shades.
#
# The images stay on the device as one block of bytes. A batch is cut out of it, augmented and
# normalised as a whole.
#
# *Source:* S. Ioffe and C. Szegedy, *Batch normalization*, 2015, arXiv:1502.03167.

# %% [markdown] tags=["model-mlp", "fashion-mnist"]
# The original study's network was narrower and deeper, had no batch normalisation, applied dropout
# of 0.5 and 0.25 after its last two hidden layers, and used a constant learning rate; in the recipe
# of this project the rate rises, then falls to zero. The ablation in the appendix tries most of
# these differences. Time was saved outside the network, in loading and transforming images.

# %% tags=["model-mlp", "hide-input"]
sections.show_model(settings, "mlp", seed)

# %% [markdown] tags=["exercise"]
# ## Try it
#
# Change the first line of the next cell, and run it. The changed model is fitted in seconds and
# compared with the one above on the validation images.
#
# - `"mlp", {"recipe.lr": 0.1}`: a learning rate thirty times as high.
# - `"mlp", {"hidden_sizes": [8]}`: one narrow layer. How wide must it be?
# - `"mlp", {"recipe.scaling": "roots"}`: the square root of every pixel.

# %% tags=["exercise"]
model, change = "mlp", {"recipe.lr": 0.1}
sections.show_change(settings, model, change, seed)
