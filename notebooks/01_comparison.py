# %% [markdown]
# # The comparison
#
# Which classifier is best, and best for what? The answer comes first, then what it rests on. All of
# it is computed from two files that each model left: what was measured of it, and its probabilities
# for every test image. No sentence here names a winner that the numbers did not pick, and on other
# numbers the sentences are others.

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
from fmreport.show import show_figure, show_table

settings = load_profile(profile)
data = settings.data()

# %%
# what a reader can afford: seconds of training, milliseconds for 95% of images, MiB to train in
budgets = {"train_seconds": 60, "latency_ms_p95": 10, "memory_mb": 500}
near_best = 1.0  # how many points of accuracy below the best still count as near it

# %% tags=["key-code"]
records = sections.records(settings)
found = verdict.compare(records)

# %% tags=["remove-input"]
there = {(result.model, result.seed) for result in records}
missing = [job.title for job in jobs(settings) if (job.model, job.seed) not in there]
table.check_images(found.runs, data.test_labels)
local = found.local  # times and memory are compared on one machine only
machine = local["machine"].iloc[0] if len(local) else "no machine"

# %% [markdown]
# ## The answer first

# %% tags=["remove-input"]
display(Markdown(text.summarise(records, budgets, near_best, missing).markdown()))

# %% tags=["remove-input"]
tables.show_models(found)

# %% tags=["remove-input"]
show_figure(
    plots.tradeoffs(local, table.pareto_fronts(local, ["train_seconds"])),
    f"Accuracy against training time on {machine}. A line joins the Pareto front.",
    "answer",
)

# %% [markdown]
# ## How sure is that?
#
# A test set is a sample. Other photographs would give every model another score, and the question
# is whether they would give the models another order. Two tools answer it.
#
# The first is an interval for each accuracy. For $k$ images right of $n$, Wilson's interval (1927)
# is the set of all true accuracies $p$ that a test would not reject,
#
# $$ \frac{|k/n - p|}{\sqrt{p\,(1 - p)/n}} \le 1.96 . $$
#
# *Source:* E. B. Wilson, *Probable inference, the law of succession, and statistical inference*,
# Journal of the American Statistical Association 22, 1927.

# %% tags=["remove-input"]
show_figure(
    plots.accuracy_bars(found.table),
    "Test accuracy, and the same close up with 95% intervals.",
    "accuracy",
)

# %% [markdown]
# Intervals that overlap prove nothing, because the models are not tested on different samples: they
# see the same images, and most of these are easy for all or hard for all. What tells two models
# apart is only the images on which one is right and the other wrong. If they were equally good,
# such an image would fall to either with even odds, and McNemar's test (1947) asks how odd the
# observed split is. The exact form is used here: a binomial test, with no approximation. For models
# that are each trained once it is the test to use (Dietterich 1998).
#
# Training again with another seed gives another score, and that is the second uncertainty. Where a
# model has several fits, what is compared are their means, and the interval of a difference covers
# both: the variance over images, paired, and that over each model's seeds, divided by their number
# (Obuchowski and Rockette 1995; degrees of freedom by Satterthwaite's rule). Where it has one,
# every statement is about that fitted model and not about its recipe.
#
# Every other model is compared with the best, and Holm's correction raises each $p$-value so that
# the chance of even one false alarm among these comparisons stays below 5%. The best was picked on
# the same images, so that its lead is a little too large.
#
# *Sources:* N. A. Obuchowski and H. E. Rockette, *Hypothesis testing of diagnostic accuracy for
# multiple readers and multiple tests*, Communications in Statistics 24, 1995; Q. McNemar, *Note on
# the sampling error of the difference between correlated proportions or percentages*, Psychometrika
# 12, 1947; T. G. Dietterich, *Approximate statistical tests for comparing supervised classification
# learning algorithms*, Neural Computation 10, 1998.

# %% tags=["key-code"]
display(Markdown(text.evidence(found)))

# %% tags=["remove-input"]
tables.show_behind(found)
show_figure(
    plots.pairs_matrix(found.p_values, found.table["accuracy"]),
    "Which models are told apart, all pairs for reference: the same tests, with Holm's correction "
    "for the number of pairs, at the 5% level.",
    "all-pairs",
)

# %% tags=["remove-input"]
tables.show_seeds(found)

# %% [markdown]
# Models are not given the same. Some average their predictions over several views of an image,
# which costs time at every prediction; some train for more epochs; the settings of some were sought
# longer.

# %% tags=["remove-input"]
tables.show_given(found)

# %% [markdown]
# Validation images choose settings and temperatures; test images judge. A score on the former is
# therefore a little too good, the more so the more was chosen by it.

# %% tags=["remove-input"]
tables.show_validation(found)

# %% [markdown]
# ## What does it cost?
#
# A model costs time when it is trained, time when it answers, and memory. Training time is shown
# twice: the training steps alone, and everything from the call to the finished model, with
# validation and preparation. The steps of a classical model are its whole fit, features included,
# but for the calibration of its probabilities; features for a probe of a frozen network count as
# preparation. Where a recipe asks for bfloat16 and the processor has none, its network computes in
# float32 and takes longer, so that times travel badly between machines.

# %% tags=["remove-input"]
away = verdict.left_out(local, found.elsewhere)
alone = f"All times were measured on {machine}, one model at a time, each in a process of its own."
display(Markdown(text.words(away) if away else alone))
display(Markdown(text.surprises(found, data.train_images)))
show_figure(
    plots.time_dots(local), f"Time to train, and to classify the test images, on {machine}.", "time"
)
show_figure(plots.memory_bars(local), f"Peak memory that training needs, on {machine}.", "memory")

# %% tags=["remove-input"]
tables.show_costs(found)
tables.show_spread(found)

# %% [markdown]
# A model is worth considering if no other is at least as accurate for less. Such models form the
# Pareto front; which of them to take depends on what is scarce. The front goes by the accuracies as
# measured, so that a model may stand on it by a hair: whether two are told apart at all is in
# [the matrix of all pairs](#fig-all-pairs).

# %% tags=["remove-input"]
show_figure(
    plots.tradeoffs(
        local, table.pareto_fronts(local, ["latency_ms_p95", "memory_mb", "parameters", "flops"])
    ),
    f"Accuracy against four other costs, on {machine}. A line joins the Pareto front. Operations "
    "are two a multiply-add in a network, all passes of an averaged prediction included, "
    "comparisons in trees, the most there can be in boosted ones, and multiplications and "
    "additions with every support vector; parameters are weights, nodes, and coordinates of "
    "support vectors.",
    "costs",
)

# %% tags=["fashion-mnist", "remove-input"]
tables.show_published(settings, "gpu", data.data_sha256)

# %% [markdown]
# ## Class by class
#
# One accuracy hides one for every class. A class's precision is the share of the images called so
# that are so, its recall the share of its images that are found, and F1 their harmonic mean, which
# is low if either is. Each model's worst class is the one of lowest F1. Its interval comes from
# drawing the test images again and again; a class whose F1 is not clearly better in these draws, at
# the 95% level, counts as tied with it.

# %% tags=["remove-input"]
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
show_figure(
    plots.class_heatmap(errors.per_class(found.runs, "precision"), "Precision"),
    "Precision of every class by every model.",
    "precision",
)
show_figure(
    plots.class_heatmap(errors.per_class(found.runs, "recall"), "Recall"),
    "Recall of every class by every model.",
    "recall",
)

# %% tags=["remove-input"]
pairs = errors.confused_pairs(found.runs)
show_table(
    pairs[["pair", "errors", "share"]]
    .assign(share=100 * pairs["share"])
    .rename(columns={"pair": "Classes", "errors": "Errors a model", "share": "% of all errors"}),
    "The pairs of classes that are confused most, in either direction.",
    "pairs",
    formats={"Errors a model": ".1f", "% of all errors": ".1f"},
)
show_figure(
    plots.case_gallery(
        errors.pair_examples(found.runs, pairs.head(2)),
        data.test_images,
        data.class_names,
        "Most confused pairs:",
    ),
    "Images of the most confused pairs: number and label, and how many models take them for the "
    "other class.",
    "confused",
)

# %% tags=["remove-input"]
missed = errors.missed_by_all(found.runs)
sentence = "No test image is wrong for every model."
if len(missed):
    sentence = (
        f"{len(missed):,} of {len(data.test_labels):,} test images are wrong for every model, so "
        "that no choice among these models would get them right."
    )
display(Markdown(sentence))
show_figure(
    plots.case_gallery(
        missed.head(10), data.test_images, data.class_names, "Wrong for every model:"
    ),
    "Images that every model gets wrong, the most unanimous first: number and label, and what "
    "most models say.",
    "missed",
)

# %% [markdown]
# ## Beyond accuracy
#
# A probability should mean what it says: of the images to which a model gives 80%, four in five
# should be right. The expected calibration error is the gap between confidence and accuracy,
# averaged over images in bins of confidence of equal width (Naeini et al. 2015). Temperature
# scaling divides the logarithms of a model's probabilities by one number $T$ and normalises again,
# which changes no prediction; $T$ is fitted on the validation images alone ([Guo et al.
# 2017](https://arxiv.org/abs/1706.04599)), and a $T$ above 1 means that the model was too sure of
# itself, one below 1 that it was too timid, as networks trained with label smoothing are. $T$ is
# the one of least log loss, so that the calibration error may even rise. A support-vector machine
# has no probabilities of its own; its scores were turned into some in this very way, so that its
# $T$ is near 1. Log loss charges for both, errors and false confidence.
#
# *Sources:* M. P. Naeini, G. F. Cooper and M. Hauskrecht, *Obtaining well calibrated probabilities
# using Bayesian binning*, AAAI 2015; C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger, *On
# calibration of modern neural networks*, 2017, arXiv:1706.04599.

# %% tags=["remove-input"]
tables.show_calibration(found)
show_figure(
    plots.reliability_diagrams(calibration.curves(found.runs, found.temperatures)),
    "Accuracy against confidence, before and after temperature scaling, where at least "
    f"{plots.FEWEST} images have such a confidence. Below the diagonal: too sure.",
    "reliability",
)

# %% [markdown]
# Whoever may leave the doubtful images to a person can have more accuracy for the others. The
# figure answers the images in the order of a model's scaled confidence, the surest first.

# %% tags=["remove-input"]
tables.show_answered(found)

# %% [markdown]
# Models that err on different images can help each other. The matrix shows how much their errors
# overlap; an average of the probabilities of the best models, chosen on validation images and
# scaled, so that none outvotes the others by mere boldness, shows what that is worth.

# %% tags=["remove-input"]
show_figure(
    plots.agreement_matrix(errors.error_overlap(found.correct)),
    "Of the images that either of two models gets wrong, the share that both get wrong.",
    "overlap",
)
ensemble = calibration.average_ensemble(found.runs, found.temperatures)
display(Markdown(text.ensemble_sentence(ensemble)))

# %% [markdown]
# ## Doubtful labels
#
# Where models are sure, agree with each other and contradict the label, the label may be wrong
# (Northcutt et al. 2021). The images below are candidates. A person should look at them; the models
# may also share a mistake.
#
# *Source:* C. G. Northcutt, L. Jiang and I. L. Chuang, *Confident learning: estimating uncertainty
# in dataset labels*, Journal of Artificial Intelligence Research 70, 2021.

# %% tags=["remove-input"]
share, confidence, lower = 0.75, 0.9, 0.8
likely = errors.noise_candidates(found.runs, found.temperatures, lower, share)
doubtful = likely[likely["confidence"] >= confidence]
unanimous = len(doubtful) and doubtful["share"].min() == 1
agreed = " On every one of them all models agree." if unanimous else ""
display(
    Markdown(
        f"A candidate is an image to which at least {share:.0%} of the models give one and the "
        "same class other than its label, and to that class all models together, after "
        f"temperature scaling, a mean probability of at least {confidence:.0%}. At {lower:.0%} "
        f"there would be {len(likely)}.{agreed}"
    )
)
show_figure(
    plots.case_gallery(
        doubtful.head(15), data.test_images, data.class_names, "Labels that the models contradict:"
    ),
    "The most doubtful labels: number and label, what the models say, and how sure they are. "
    "[All candidates](#table-candidates) are in the appendix.",
    "doubtful",
)

# %% tags=["remove-input"]
display(Markdown(text.relabelled_sentence(found, doubtful)))
