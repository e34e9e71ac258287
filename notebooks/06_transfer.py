# %% tags=["parameters"]
profile: str = "lesson"  # a file of params/: "lesson" takes seconds, "cpu" is the report's
seed: int = 9  # of everything random in a model's training

# %% [markdown]
# # Transfer learning
#
# A network trained to tell a thousand classes apart on 1.3 million photographs has learnt general
# features such as edges, textures and parts. Transfer learning keeps these features and trains the
# network on the classes at hand. The pre-trained network is adapted in three ways, unless its
# settings ask for a new first layer.
#
# - **One channel instead of three.** A grey image is a colour image whose three channels are the
#   same, $x_r = x_g = x_b = x$, and a convolution is linear, so the first layer's weights can be
#   added up,
#   $$ \sum_{c \in \{r, g, b\}} w_c * x_c = \Big(\sum_c w_c\Big) * x , $$
#   and nothing is lost but rounding error. A random first layer, often used instead, discards the
#   filters that all later layers were trained on.
# - **Inputs as in pre-training.** The images are normalised to the mean and standard deviation of
#   those the network was pre-trained on.
# - **A new head.** The last layer, of a thousand classes, is replaced by a new one.
#
# Where the settings name a probe, training has two stages. First the backbone is frozen: its
# features are computed once for every image, and the head alone is trained on them, the *linear
# probe*, which shows how good the pre-trained features are. Then the network is *fine-tuned*,
# except the stages that its settings leave frozen. Layers near the input learn more slowly than
# those near the head, since their features are general.
#
# Where the ImageNet weights of an architecture are not available, the same network is trained from
# scratch, and its results are named so. They show what the architecture can do in the time, and
# nothing about transfer learning. The time that a profile allows sets the number of epochs and the
# image size, not what a network could use: a score here says what fits into that time.

# %% [markdown]
# ## Where a network looks
#
# Grad-CAM shows which places of the image the score of the predicted class depends on: it weights
# the channels of a layer, here the last whose map is at least 4 pixels wide, by the gradient of
# that score ([Selvaraju et al. 2017](https://arxiv.org/abs/1610.02391)). On small images that is a
# layer in the middle of the network with a coarse map, which shows roughly where a network looks
# and not why: heat beside an object may belong to its outline.
#
# *Source:* R. Selvaraju et al., *Grad-CAM: visual explanations from deep networks*, 2017,
# arXiv:1610.02391.

# %% tags=["hide-input"]
from fmlib.profiles import load_profile
from fmreport import sections

settings = load_profile(profile)
data = settings.data()

# %% [markdown] tags=["model-vgg16"]
# ## VGG16
#
# VGG16 is a plain deep network: thirteen 3 × 3 convolutions in five blocks, each followed by a
# maximum over 2 × 2 pixels, and three dense layers that hold nine tenths of its 138 million weights
# ([Simonyan and Zisserman 2014](https://arxiv.org/abs/1409.1556)). It has no batch normalisation,
# which slows the start of its training. At 32 pixels the last map is a single pixel; the average
# pool that follows repeats it 49 times, so the first dense layer can be folded into one of 512
# inputs that computes the same with a forty-ninth of the weights.
#
# *Source:* K. Simonyan and A. Zisserman, *Very deep convolutional networks for large-scale image
# recognition*, 2014, arXiv:1409.1556.

# %% tags=["model-vgg16", "hide-input"]
sections.show_model(settings, "vgg16", seed, data)

# %% [markdown] tags=["model-resnet34"]
# ## ResNet34
#
# A residual network learns what to add to its input, $y = x + f(x)$, so that a layer can pass its
# input on unchanged, and gradients can skip it. That made very deep networks trainable; this one
# has 34 layers in four stages ([He et al. 2015](https://arxiv.org/abs/1512.03385)). At 28 or 32
# pixels the maps of the last stage are a single pixel, so that in each 3 × 3 kernel but the stage's
# first all weights except the middle one meet only padding. These, half of all weights, are left
# out, and every output stays the same. Where a map has 2 × 2 pixels, a kernel joins every pixel
# with every other: on a processor the convolution is computed as one dense layer from the whole map
# to the whole map, which multiplies no padding. The output is the same and is computed faster than
# by convolution routines, as in VGG16's last block.
#
# *Source:* K. He, X. Zhang, S. Ren and J. Sun, *Deep residual learning for image recognition*,
# 2015, arXiv:1512.03385.

# %% tags=["model-resnet34", "hide-input"]
sections.show_model(settings, "resnet34", seed, data)

# %% [markdown] tags=["model-mobilenet_v3_small"]
# ## MobileNetV3-small
#
# MobileNetV3 was found by a search for speed on mobile phones ([Howard et al.
# 2019](https://arxiv.org/abs/1905.02244)). Its convolutions are split into a depthwise one, one
# filter per channel, and a pointwise one, a weighted sum of the channels at every pixel, which
# together need about a ninth of the arithmetic; small side branches (squeeze-and-excitation) weight
# the channels.
#
# *Source:* A. Howard et al., *Searching for MobileNetV3*, 2019, arXiv:1905.02244.

# %% tags=["model-mobilenet_v3_small", "hide-input"]
sections.show_model(settings, "mobilenet_v3_small", seed, data)

# %% [markdown] tags=["model-efficientnet_lite0"]
# ## EfficientNet-Lite0
#
# EfficientNet scales depth, width and image size together, starting from a small network found by
# search ([Tan and Le 2019](https://arxiv.org/abs/1905.11946)). The Lite variant drops what is slow
# on small processors: the squeeze-and-excitation branches, and the swish activation, which is
# replaced by a ReLU cut off at 6. It has 4.7 million weights with its head of a thousand classes.
# On images this small its late maps are a few pixels wide, for which a processor's convolution
# routines are not made; there its pointwise convolutions, and the gradients of its depthwise ones,
# are computed as matrix products instead, with the same result in less time.
#
# *Source:* M. Tan and Q. Le, *EfficientNet: rethinking model scaling for convolutional neural
# networks*, 2019, arXiv:1905.11946.

# %% tags=["model-efficientnet_lite0", "hide-input"]
sections.show_model(settings, "efficientnet_lite0", seed, data)

# %% [markdown] tags=["model-mobilenet_v3_as_run"]
# ## The study's “MobileNetV3”
#
# This is the network that the original study ran under the name of MobileNetV3: its code builds a
# ResNet34.

# %% tags=["model-mobilenet_v3_as_run", "hide-input"]
sections.show_model(settings, "mobilenet_v3_as_run", seed, data)

# %% [markdown] tags=["exercise"]
# ## Try it
#
# Change the first line of the next cell, and run it. The changed model is fitted in seconds and
# compared with the one above on the validation images.
#
# - `"efficientnet_lite0", {"new_stem": True}`: a random first layer, as in the study.
# - `"efficientnet_lite0", {"weights": "none"}`: no pre-trained weights, all of it from scratch.
# - `"efficientnet_lite0", {"frozen_stages": 4}`: more stages keep their pre-trained weights.

# %% tags=["exercise"]
model, change = "efficientnet_lite0", {"new_stem": True}
sections.show_change(settings, model, change, seed)
