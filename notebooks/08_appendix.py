# %% [markdown]
# # Appendix
#
# What a reader looks up: how every model was set, how each network learnt, and with what all of it
# was measured.

# %% tags=["parameters"]
profile: str = "lesson"  # a file of params/: "lesson" takes seconds, "cpu" is the report's
seed: int = 9  # of everything random in a model's training

# %% tags=["remove-input"]
from fmlib.profiles import load_profile
from fmreport import sections, tables
from fmreport.compare import verdict
from fmreport.studies import show_studies

settings = load_profile(profile)
records = sections.records(settings)

# %% [markdown]
# ## Settings and layers
#
# Defaults are included. Of a network, these are the settings of the recipe that its fit used.

# %% tags=["remove-input"]
sections.show_settings(settings, records)

# %% [markdown] tags=["fashion-mnist"]
# ## Searches and ablations
#
# Hyperparameters are tried on the validation images, never on the test images. An ablation leaves
# one ingredient of a recipe out at a time. Both are kept as tables with the project.

# %% tags=["fashion-mnist", "remove-input"]
for model in settings.models:
    show_studies(model, settings.project)

# %% [markdown] tags=["fashion-mnist"]
# ## How often the test images were looked at
#
# A test set is worn out by looking. The project's history has every publication of its results.

# %% tags=["fashion-mnist", "remove-input"]
tables.show_looks(settings.project)

# %% [markdown]
# ## Training, epoch by epoch

# %% tags=["remove-input"]
sections.show_log(records)

# %% [markdown]
# ## Doubtful labels
#
# How candidates are found is told in the comparison.

# %% tags=["remove-input"]
tables.show_candidates(verdict.compare(records), settings.data().class_names)

# %% [markdown]
# ## Environment

# %% tags=["remove-input"]
sections.show_environment(records)
