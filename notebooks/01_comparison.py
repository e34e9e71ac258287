# %% [markdown]
# # The answer

# %% tags=["parameters"]
profile: str = "lesson"  # a file of params/: "lesson" takes seconds, "cpu" is the report's
seed: int = 9  # of everything random in a model's training

# %% tags=["remove-input"]
import pandas as pd
from IPython.display import Markdown, display

from fmlib.fitting import jobs
from fmlib.profiles import load_profile
from fmreport import plots, sections, tables, text
from fmreport.compare import calibration, errors, table, verdict
from fmreport.explorer import show_explorer
from fmreport.show import show_figure, show_table

settings = load_profile(profile)
data = settings.data()

# %% tags=["remove-input"]
# what a reader can afford: seconds of training, milliseconds for 95% of images, MiB to train in
budgets = {"train_seconds": 60, "latency_ms_p95": 10, "memory_mb": 500}
near_best = 1.0  # how many points of accuracy below the best still count as near it

# %% tags=["remove-input"]
records = sections.records(settings)
found = verdict.compare(records)
there = {(result.model, result.seed) for result in records}
missing = [job.title for job in jobs(settings) if (job.model, job.seed) not in there]
table.check_images(found.runs, data.test_labels)
local = found.local  # times and memory are compared on one machine only
machine = local["machine"].iloc[0] if len(local) else "no machine"
on_gpu = tables.published(settings, "gpu", data.data_sha256)
needs = list(verdict.needs(found, budgets, on_gpu))

# %% tags=["remove-input"]
display(Markdown(text.advice(needs)))
tables.show_needs(needs)
display(Markdown(f"{text.not_considered(found)} {text.certainty(found)}"))

# %% tags=["remove-input"]
show_figure(
    plots.tradeoffs(local, table.pareto_fronts(local, ["train_seconds"])),
    f"Accuracy against training time on {machine}. A line joins the Pareto front.",
    "answer",
)

# %% [markdown]
# # The comparison
#
# This chapter supports the answer. All of it is computed from each fit's record, which holds its
# measurements and its probabilities for every image, and from the kept tables of searches.

# %% tags=["hide-input"]
tables.show_models(found)

# %% tags=["hide-input"]
display(Markdown(text.summarise(records, budgets, near_best, missing)))

# %% [markdown]
# ## How sure is that?
#
# A test set is a sample: other photographs would give each model another score, and perhaps the
# models another order. Two tools measure this uncertainty.
#
# The first is an interval for each accuracy. For $k$ of $n$ images classified correctly, Wilson's
# interval (1927) is the set of all true accuracies $p$ that a test would not reject,
#
# $$ \frac{|k/n - p|}{\sqrt{p\,(1 - p)/n}} \le 1.96 . $$
#
# *Source:* E. B. Wilson, *Probable inference, the law of succession, and statistical inference*,
# Journal of the American Statistical Association 22, 1927.

# %% tags=["hide-input"]
show_figure(
    plots.accuracy_bars(found.table),
    "Test accuracy, and the same close up with 95% intervals.",
    "accuracy",
)

# %% [markdown]
# The second is a paired test. Overlapping intervals do not show that two models are equal, because
# both are tested on the same images, most of which are easy for all models or hard for all. Only
# the images on which one is right and the other wrong tell two models apart. If the two were
# equally good, each would be correct on half of these images, and McNemar's test (1947) asks how
# unlikely the observed split is. It is used here in its exact form, a binomial test. For models
# that are trained once each it is the recommended test (Dietterich 1998).
#
# Training with another seed gives another score, which is a second source of uncertainty. Where a
# model has several fits, their means are compared, and the interval of a difference covers both
# sources: the variance over images, paired, and that over each model's seeds, divided by their
# number (Obuchowski and Rockette 1995; degrees of freedom by Satterthwaite's rule). Where it has
# one, every statement is about that fitted model and not about its recipe.
#
# Every other model is compared with the best, and Holm's correction raises each $p$-value so that
# the chance of even one false positive among these comparisons stays below 5%. The best was chosen
# on the same images, so its lead is slightly too large.
#
# *Sources:* N. A. Obuchowski and H. E. Rockette, *Hypothesis testing of diagnostic accuracy for
# multiple readers and multiple tests*, Communications in Statistics 24, 1995; Q. McNemar, *Note on
# the sampling error of the difference between correlated proportions or percentages*, Psychometrika
# 12, 1947; T. G. Dietterich, *Approximate statistical tests for comparing supervised classification
# learning algorithms*, Neural Computation 10, 1998.

# %% tags=["hide-input"]
display(Markdown(text.evidence(found)))

# %% tags=["hide-input"]
tables.show_behind(found)

# %% tags=["hide-input"]
tables.show_seeds(found)

# %% [markdown]
# Models are not given the same resources. Some average their predictions over several views of an
# image, which takes time at every prediction; some train for more epochs; for some, more settings
# were tried.

# %% tags=["hide-input"]
tables.show_given(found, settings)

# %% [markdown]
# ## What does it cost?
#
# A model takes time to train, time to predict, and memory. Training time is shown twice: the
# training steps alone, and everything from the call to the finished model, with validation and
# preparation. For a classical model, the steps are its whole fit, features included, except the
# [calibration](#glossary) of its probabilities; computing the features for a probe of a frozen
# network counts as preparation. Where a recipe asks for bfloat16 and the processor has none, its
# network computes in float32 and takes longer, so times do not transfer between machines.

# %% tags=["hide-input"]
away = verdict.left_out(local, found.elsewhere)
alone = f"All times were measured on {machine}, one model at a time, each in a process of its own."
display(Markdown(text.words(away) if away else alone))
display(Markdown(text.surprises(found, data.train_images)))

# %% tags=["hide-input"]
tables.show_costs(found)

# %% [markdown]
# A model is worth considering if no other is at least as accurate for less. Such models form the
# [Pareto front](#glossary); which to choose depends on the cost that matters most. The front uses
# the accuracies as measured, so a small difference can decide; [the matrix of all
# pairs](#fig-all-pairs) shows which models are told apart.

# %% tags=["hide-input"]
show_figure(
    plots.tradeoffs(
        local, table.pareto_fronts(local, ["latency_ms_p95", "memory_mb", "parameters", "flops"])
    ),
    f"Accuracy against four other costs, on {machine}. A line joins the Pareto front. "
    "Operations: networks, 2 per multiply-add over all views; trees, comparisons (at most, for "
    "boosted trees); SVMs, multiplications and additions with every support vector. Parameters: "
    "weights, nodes, coordinates of support vectors.",
    "costs",
)

# %% tags=["fashion-mnist", "hide-input"]
tables.show_published("gpu", on_gpu)

# %% [markdown]
# ## Class by class
#
# Accuracy differs by class. Precision is the share of the images predicted as a class that belong
# to it, recall the share of a class's images that are found, and F1 their harmonic mean, which is
# low if either is. Each model's worst class is the one with the lowest F1. Its interval comes from
# bootstrap samples of the test images; a class whose F1 is not clearly better in these, at the 95%
# level, counts as tied with it.

# %% tags=["hide-input"]
worst = found.worst
shown = pd.DataFrame(
    {
        "Class": worst["class"],
        "F1": worst["f1"],
        "95% interval": text.interval(worst, ".2f"),
        "precision": worst["precision"],
        "recall": worst["recall"],
        "tied with": worst["tied"].map(text.some),
    }
)
show_table(
    shown.rename_axis("Model"),
    "The worst class of each model by F1, with its bootstrap interval, precision and recall.",
    "worst",
    best=dict.fromkeys(["F1", "precision", "recall"], "max"),
    formats=dict.fromkeys(["F1", "precision", "recall"], ".2f"),
)
show_figure(
    plots.class_heatmap(errors.per_class(found.runs, "f1"), "F1"),
    "F1 of every class by every model.",
    "f1",
)

# %% [markdown]
# In the next figure a dark cell means that many images of the row's class are taken for the
# column's; images that are classified correctly are left out.

# %% tags=["hide-input"]
show_figure(
    plots.confusion_matrices(
        {name: errors.confusion(fits) for name, fits in found.runs.items()}, data.class_names
    ),
    "Confusion matrices: the share of each class's test images, the mean over seeds.",
    "confusion",
)
show_explorer(found, data)

# %% tags=["hide-input"]
pairs = errors.confused_pairs(found.runs)
show_table(
    pairs[["pair", "errors", "share"]]
    .assign(share=100 * pairs["share"])
    .rename(columns={"pair": "Classes", "errors": "Errors per model", "share": "% of all errors"}),
    "The pairs of classes that are confused most, in either direction.",
    "pairs",
    formats={"Errors per model": ".1f", "% of all errors": ".1f"},
)

# %% [markdown]
# ## Hard images and doubtful labels
#
# Where confident models agree with each other and contradict the label, the label may be wrong
# (Northcutt et al. 2021). Such images are candidates for a person to check, as the models may also
# share a mistake. The appendix lists them all, in [a table](#table-candidates).
#
# *Source:* C. G. Northcutt, L. Jiang and I. L. Chuang, *Confident learning: estimating uncertainty
# in dataset labels*, Journal of Artificial Intelligence Research 70, 2021.

# %% tags=["hide-input"]
doubtful = errors.noise_candidates(found.runs, found.temperatures)
missed = errors.missed_by_all(found.runs)
display(Markdown(text.hard_sentence(found, missed, doubtful)))
hard = errors.hard_images(found.runs, pairs.head(2), missed, doubtful)
show_figure(
    plots.case_gallery(hard, data.test_images, data.class_names),
    "Hard images: number and label, what most models take them for, and how many do. None is shown "
    "twice.",
    "hard",
)

# %% tags=["hide-input"]
display(Markdown(text.relabelled_sentence(found, doubtful)))

# %% [markdown]
# ## Beyond accuracy
#
# Probabilities should match frequencies: of the images to which a model gives 80%, four in five
# should be classified correctly. The expected calibration error is the gap between confidence and
# accuracy, averaged over images in bins of confidence of equal width (Naeini et al. 2015). Log
# loss, the mean of −log of the probability given to the true class, penalises both errors and false
# confidence. Temperature scaling divides the logarithms of a model's probabilities by one number,
# the temperature $T$, and normalises again, which changes no prediction; $T$ is fitted on the
# validation images alone ([Guo et al. 2017](https://arxiv.org/abs/1706.04599)). A $T$ above 1 means
# that the model was overconfident, one below 1 that it was underconfident, as networks trained with
# label smoothing are. As $T$ minimises log loss, the calibration error may even rise. A
# support-vector machine has no probabilities of its own; its scores are turned into probabilities
# in the same way, so its $T$ is near 1.
#
# *Sources:* M. P. Naeini, G. F. Cooper and M. Hauskrecht, *Obtaining well calibrated probabilities
# using Bayesian binning*, AAAI 2015; C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger, *On
# calibration of modern neural networks*, 2017, arXiv:1706.04599.

# %% tags=["hide-input"]
tables.show_calibration(found)

# %% [markdown]
# If uncertain images go to a person, accuracy on the others rises. The figure orders the images by
# a model's scaled confidence, the most confident first.

# %% tags=["hide-input"]
tables.show_answered(found)

# %% [markdown]
# Models that err on different images can be combined. The matrix shows how much their errors
# overlap. The average of the probabilities of the best models, which are chosen on validation
# images and scaled so that no overconfident model dominates, shows what combining them is worth.

# %% tags=["hide-input"]
show_figure(
    plots.agreement_matrix(errors.error_overlap(found.correct)),
    "Of the images that either of two models gets wrong, the share that both get wrong.",
    "overlap",
)
ensemble = calibration.average_ensemble(found.runs, found.temperatures)
display(Markdown(text.ensemble_sentence(ensemble)))
