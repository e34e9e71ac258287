# %% [markdown]
# # The data

# %% [markdown] tags=["fashion-mnist"]
# FashionMNIST ([Xiao et al. 2017](https://arxiv.org/abs/1708.07747)) is a set of 70,000 small grey
# photographs of clothing from a shop's catalogue, made as a harder replacement for the handwritten
# digits of MNIST. Like MNIST it has 28 × 28 pixels, ten classes, 60,000 training images and 10,000
# test images; its classes are of equal size.
#
# *Source:* H. Xiao, K. Rasul and R. Vollgraf, *Fashion-MNIST: a novel image dataset for
# benchmarking machine learning algorithms*, 2017, arXiv:1708.07747.

# %% tags=["parameters"]
profile: str = "lesson"  # a file of params/: "lesson" takes seconds, "cpu" is the report's
seed: int = 9  # of everything random in a model's training

# %% tags=["hide-input"]
import numpy as np
from IPython.display import Markdown, display
from torch import Generator, from_numpy

from fmlib.profiles import load_profile
from fmlib.transforms import Augmentation, channels_first, channels_last
from fmreport import plots
from fmreport.show import show_figure
from fmreport.text import literal

settings = load_profile(profile)

# %% tags=["key-code"]
data = settings.data()

# %% tags=["hide-input"]
shape = f"{data.spec.height} × {data.spec.width} pixels"
colours = "in colour" if data.spec.channels > 1 else "grey"
most = np.bincount(data.test_labels).max() / len(data.test_labels)
display(
    Markdown(
        f"This report uses {literal(settings.data_title)}: {len(data.class_names)} classes of "
        f"images of {shape}, {colours}, of which {len(data.train_labels):,} are to train on, "
        f"{len(data.validation_labels):,} to validate on and {len(data.test_labels):,} to test on. "
        f"Guessing the commonest class scores {most:.1%}. "
        "The validation images are a random, stratified "
        f"{settings.validation_fraction:.0%} of the training images, for whatever is chosen by "
        "trial: the same ones for every model, others for every seed. A fit looks at the test "
        "images once, at its very end."
        + (f" The images' licence: {literal(settings.licence)}." if settings.licence else "")
    )
)

# %% [markdown] tags=["fashion-mnist"]
# Settings chosen by trial were chosen on the validation images, and the appendix shows what was
# tried; the time that a profile allows set the rest. Earlier publications of this project's results
# scored the test images too, and the appendix lists all of their scores.

# %% [markdown]
# ## The classes

# %% [markdown] tags=["fashion-mnist"]
# The classes are easy to tell apart by their silhouettes, except for T-shirt, pullover, coat, dress
# and shirt, which share an outline; at 28 pixels little more than the outline is left.

# %% tags=["hide-input"]
names = list(data.class_names[: plots.MOST])
first = [int((data.train_labels == c).argmax()) for c in range(len(names))]
some = names[:10]
show_figure(
    plots.sample_grid(data.train_images[first], names),
    "The first training image of each class."
    if names == list(data.class_names)
    else f"The first training image of each of {len(names)} classes.",
    "samples",
)

# %% [markdown]
# ## Balance

# %% [markdown] tags=["other-data"]
# Where classes are of unequal size, the large ones dominate accuracy, and a model that never
# predicts a small class may score high. The recall of each class shows this.

# %% [markdown] tags=["fashion-mnist"]
# Every class has the same number of images in each part, so accuracy is a fair summary, and a
# class's recall is its own accuracy.

# %% tags=["other-data", "hide-input"]
parts = {"train": data.train, "validation": data.validation, "test": data.test}
counts = {
    part: [int((labels == c).sum()) for c in range(len(data.class_names))]
    for part, (_, labels) in parts.items()
}
show_figure(
    plots.class_balance(counts, data.class_names),
    "Images of each class in each part of the data.",
    "class-balance",
)

# %% [markdown]
# ## What a class looks like on average
#
# The mean image of a class shows how much its images have in common: it is sharp where most of them
# fill the same pixels, and blurred where they do not.

# %% tags=["hide-input"]
show_figure(
    plots.mean_images(data.train_images, data.train_labels, data.class_names),
    "The mean training image of each class.",
    "mean-images",
)

# %% [markdown]
# ## Transforms
#
# A network that sees the same training images in every epoch overfits. Changing an image slightly
# and at random each time (mirrored, shifted by a pixel or two, with a patch hidden) keeps its label
# and reduces overfitting. The transforms work on whole batches of raw bytes, on the processor or
# the GPU where the images lie, and draw from one seeded generator. Validation and test images are
# never changed at random: they are resized where a network needs it, and normalised.

# %% tags=["key-code"]
augmentation = Augmentation(flip=True, crop_padding=2, erase_size=data.spec.height * 2 // 7)
before = channels_first(from_numpy(data.train_images[first[: len(some)]]))
after = augmentation(before, Generator().manual_seed(9))

# %% tags=["hide-input"]
show_figure(
    plots.before_after_grid(channels_last(before), channels_last(after), some),
    "Training images before and after one random augmentation: mirrored, shifted, a square "
    "erased. A network's settings say which of these it gets.",
    "transforms",
)

# %% [markdown] tags=["fashion-mnist"]
# The original study, an answer to a course exercise (introduction to deep learning, Federal
# University of Pernambuco) that this project redoes, jittered brightness, contrast, saturation and
# hue. On a grey image the last two have no effect; the first two do this:

# %% tags=["fashion-mnist", "hide-input"]
jittered = Augmentation(flip=True, jitter=0.5)(before, Generator().manual_seed(9))
show_figure(
    plots.before_after_grid(channels_last(before), channels_last(jittered), some),
    "The original study's augmentation: a mirror image half of the time, brightness and contrast "
    "scaled by 0.5 to 1.5.",
    "study-transforms",
)
