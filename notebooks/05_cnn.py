# %% tags=["parameters"]
profile: str = "lesson"  # a file of params/: "lesson" takes seconds, "cpu" is the report's
seed: int = 9  # of everything random in a model's training

# %% [markdown]
# # Convolutional networks from scratch
#
# A convolution uses what most of the models so far ignore: pixels have neighbours, and an edge is
# an edge wherever it is. Instead of one weight per pixel it learns small filters and slides them
# over the image,
#
# $$ y_{k}(i, j) = \sum_{c} \sum_{u, v} w_{k c}(u, v)\, x_c(i + u, j + v) , $$
#
# so that few weights serve many positions.

# %% tags=["hide-input"]
from fmlib.profiles import load_profile
from fmreport import sections

settings = load_profile(profile)
data = settings.data()

# %% [markdown] tags=["model-cnn"]
# ## A network of our own
#
# The network follows [Jordan's (2024)](https://arxiv.org/abs/2404.00498) for CIFAR-10, designed for
# fast training, cut down to small images and two processor cores.
#
# - **A stem that is computed and not learnt.** The covariance of the 2 × 2 patches of 5,000 grey
#   training images has four eigenvectors; divided by the square roots of their eigenvalues, and
#   each also with its sign flipped, they are eight filters that whiten the image, so that the next
#   layer starts on uncorrelated inputs.
# - **Three blocks**, each a 3 × 3 convolution, a maximum over 2 × 2 pixels, batch normalisation and
#   GELU, and a second convolution with normalisation and GELU. Pooling early, between the two,
#   quarters the cost of the second.
# - **Dirac initialisation**: a new convolution passes its input on, so that the signal crosses the
#   untrained network.
# - **A global maximum** over the last feature map, and one linear layer.
#
# It is trained by stochastic gradient descent with Nesterov momentum, on images that are mirrored
# and shifted at random. The learning rate rises for a fifth of the run and then falls linearly to
# zero. A prediction is the mean over the image and the image shifted up and down by one pixel, each
# with its mirror image, after the same paper. Convolutions run in bfloat16 where the processor has
# it.
#
# *Source:* K. Jordan, *94% on CIFAR-10 in 3.29 seconds on a single GPU*, 2024, arXiv:2404.00498.

# %% [markdown] tags=["model-cnn", "fashion-mnist"]
# The ablation in the appendix leaves these ingredients out one at a time, except the shifted views,
# which were added later and are part of the search.
#
# On a GPU the network is larger. Images are enlarged to 42 pixels, so that the deeper blocks get a
# finer grid; the blocks are wider, and each gets a third convolution and a residual connection
# around the last two, so that these learn only what to add. So large a network overfits before
# training ends unless its training images are harder: in half of the batches each image has a
# rectangle of another pasted over it, and its label is a mixture of the two by area (*cutmix*)
# ([Yun et al. 2019](https://arxiv.org/abs/1905.04899)).
#
# *Source:* S. Yun et al., *CutMix: regularization strategy to train strong classifiers with
# localizable features*, 2019, arXiv:1905.04899.

# %% tags=["model-cnn", "hide-input"]
sections.show_model(settings, "cnn", seed)

# %% [markdown] tags=["model-study_cnn"]
# ## The study's network
#
# This is the original study's own network, for comparison: two convolutions of 4 and 8 channels and
# four dense layers, with dropout after the last two, trained by Adam at a constant learning rate.

# %% tags=["model-study_cnn", "hide-input"]
sections.show_model(settings, "study_cnn", seed)

# %% [markdown] tags=["exercise"]
# ## Try it
#
# Change the first line of the next cell, and run it. The changed model is fitted in seconds and
# compared with the one above on the validation images.
#
# - `"cnn", {"recipe.augmentation": {}}`: no mirror images, no shifts.
# - `"cnn", {"widths": [32, 64, 128]}`: twice as wide, and about three times as slow.
# - `"cnn", {"recipe.epochs": 15}`: three times as long.

# %% tags=["exercise"]
model, change = "cnn", {"recipe.augmentation": {}}
sections.show_change(settings, model, change, seed)
