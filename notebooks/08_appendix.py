# %% [markdown]
# # Appendix
#
# Settings, training curves and environment.

# %% tags=["parameters"]
profile: str = "lesson"  # a file of params/: "lesson" takes seconds, "cpu" is the report's
seed: int = 9  # of everything random in a model's training

# %% tags=["hide-input"]
from fmlib.profiles import load_profile
from fmreport import plots, sections, tables
from fmreport.compare import calibration, errors, verdict
from fmreport.show import show_figure
from fmreport.studies import show_studies

settings = load_profile(profile)
records = sections.records(settings)
found = verdict.compare(records)

# %% [markdown]
# ## Glossary
#
# - **Calibration**: how well probabilities agree with frequencies. Of the images to which a
#   calibrated model gives 80%, four in five are classified correctly. The expected calibration
#   error is the mean gap between confidence and accuracy.
# - **Confidence interval**: a range computed so that, over many repetitions, 95% of such ranges
#   hold the true value.
# - **Epoch**: one pass through all training images.
# - **F1**: the harmonic mean of precision (the share of the images predicted as a class that belong
#   to it) and recall (the share of a class's images that are found).
# - **Latency**: the time to classify one image alone, from raw pixels to probabilities.
# - **Log loss**: the mean of −log of the probability given to the true class. It penalises errors
#   and false confidence.
# - **Pareto front**: the models for which no other is at least as accurate at no more cost, and
#   better in one of the two.
# - **Seed**: the number from which everything random in a fit is drawn: the split into training and
#   validation images, the changes to images, the initial weights.
# - **Temperature**: the number that divides the logarithms of a model's probabilities to calibrate
#   them. It is fitted on the validation images and changes no prediction.

# %% [markdown]
# ## More of the comparison
#
# The matrix shows which models are told apart: all pairs, by the tests of [the
# comparison](#how-sure-is-that), with Holm's correction for the number of pairs, at the 5% level.

# %% tags=["hide-input"]
show_figure(
    plots.pairs_matrix(found.p_values, found.table["accuracy"]),
    "Which models are told apart: all pairs.",
    "all-pairs",
)

# %% [markdown]
# Settings and temperatures are chosen on validation images; test images give the final scores.
# Validation scores are therefore slightly too high, the more so the more was chosen by them.

# %% tags=["hide-input"]
tables.show_validation(found)
tables.show_spread(found)
for score in ("precision", "recall"):
    show_figure(
        plots.class_heatmap(errors.per_class(found.runs, score), score.capitalize()),
        f"{score.capitalize()} of every class by every model.",
        score,
    )
show_figure(
    plots.reliability_diagrams(calibration.curves(found.runs, found.temperatures)),
    "Accuracy against confidence, before and after temperature scaling, where at least "
    f"{plots.FEWEST} images have such a confidence. Below the diagonal: overconfident.",
    "reliability",
)

# %% [markdown]
# ## Settings and layers
#
# Defaults are included. For a network, these are the settings of the recipe that its fit used.

# %% tags=["hide-input"]
sections.show_settings(settings, records)

# %% [markdown] tags=["fashion-mnist"]
# ## Searches and ablations
#
# Hyperparameters are tried on the validation images, never on the test images. An ablation leaves
# one ingredient of a recipe out at a time. Both are kept as tables with the project.

# %% tags=["fashion-mnist", "hide-input"]
for model in settings.models:
    show_studies(model, settings.project)

# %% [markdown] tags=["fashion-mnist"]
# ## How often the test images were looked at
#
# Repeated use of a test set biases scores upward. The tables list every publication of this
# project's results.

# %% tags=["fashion-mnist", "hide-input"]
tables.show_looks(settings.project)

# %% [markdown]
# ## Training, epoch by epoch

# %% tags=["hide-input"]
sections.show_log(records)

# %% [markdown]
# ## Doubtful labels
#
# [Hard images and doubtful labels](#hard-images-and-doubtful-labels) explains how candidates are
# found.

# %% tags=["hide-input"]
tables.show_candidates(found, settings.data().class_names)

# %% [markdown]
# ## Environment

# %% tags=["hide-input"]
sections.show_environment(records)
