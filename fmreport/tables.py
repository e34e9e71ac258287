"""The tables of a comparison, with their captions: what ``notebooks/01_comparison.py`` shows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from IPython.display import Markdown, display

from fmlib.models.registry import MODELS
from fmlib.profiles import Profile
from fmlib.project import Project
from fmlib.results import load
from fmlib.scores import CALIBRATION_BINS, SMALLEST
from fmlib.sources import some
from fmreport import plots, studies
from fmreport.compare import calibration, errors, table
from fmreport.compare.significance import MARGIN
from fmreport.compare.verdict import Comparison, Finding, compare
from fmreport.show import show_figure, show_table
from fmreport.text import (
    interval,
    kind_of_memory,
    listed,
    literal,
    need_words,
    share_answered,
)

COSTS = {  # columns of the overview, as the table calls them, and how it writes their numbers
    "train_seconds": ("Training (s)", ",.1f"),
    "fit_wall_seconds": ("Whole fit (s)", ",.1f"),
    "latency_ms": ("One image (ms)", ",.2f"),
    "latency_ms_p95": ("95% of images (ms)", ",.2f"),
    "predict_seconds": ("All images (s)", ",.2f"),
    "vram_mb": ("Video memory (MiB)", ",.0f"),
    "memory_mb": ("Added (MiB)", ",.0f"),
    "process_mb": ("Process (MiB)", ",.0f"),
    "model_mb": ("Disk (MiB)", ",.1f"),
}
NEEDED = {  # of a need: a value, its scale, and how it is written
    "Correct (%)": ("accuracy", 100, ".1f"),
    "Train (s)": ("train_seconds", 1, ",.1f"),
    "Image, 95% (ms)": ("latency_ms_p95", 1, ",.2f"),
}
ACCURACY = "Accuracy (%)"
TARGETS = (0.95, 0.98, 0.99)  # accuracies that one may want of answers


def show_needs(needs: Sequence[Finding]) -> None:
    """Which model to take for which need; nothing without results."""
    if not needs:
        return
    rows = []
    for need in needs:
        label, why = need_words(need)
        row = {"You want": label, "Take": some(need.models)}
        for name, (value, scale, _) in NEEDED.items():
            row[name] = scale * need.values.get(value, np.nan)
        rows.append(row | {"Why": why})
    show_table(
        pd.DataFrame(rows),
        "Which model for which need: what training takes, and what 95% of single images need.",
        "needs",
        formats={name: form for name, (_, _, form) in NEEDED.items()},
    )


def show_models(found: Comparison) -> None:
    """Every model's accuracy and what it costs most."""
    costs = _costs(found.local, "train_seconds", "fit_wall_seconds", "latency_ms_p95", "memory_mb")
    medians = ", the median over its fits" if found.seeds["seeds"].max() > 1 else ""
    show_table(
        _accuracies(found.table).join(costs),  # a dash where it was measured elsewhere
        f"Every model: accuracy on {found.images:,} test images with its 95% interval, and what it "
        f"costs{medians}, on {_machine(found)}. “Training” counts training steps only, “whole fit” "
        "everything until the model is ready; 95% of single images take no longer than given; "
        f"“added” memory{_kind_of_memory(found)} is what the fit needs on top of up to "
        f"{found.local['baseline_mb'].max():,.0f} MiB that Python, the libraries and the images "
        "take. Bold: the best of a column.",
        "models",
        best={ACCURACY: "max"} | dict.fromkeys(costs, "min"),
        formats={ACCURACY: ".1f"} | _formats(costs),
    )


def show_costs(found: Comparison) -> None:
    """Every model's time for an image, its memory and its size."""
    names = ("latency_ms", "latency_ms_p95", "predict_seconds", "memory_mb", "process_mb")
    costs = _costs(found.local, *names, "model_mb")
    size = "; and the fitted model's size on disk" if COSTS["model_mb"][0] in costs else ""
    show_table(
        costs,
        f"Time for a single image, the median and what 95% of images stay below, and for all "
        f"{found.images:,} test images together; memory{_kind_of_memory(found)} that a fit adds, "
        f"and the peak of its whole process{size}. All on {_machine(found)}.",
        "costs",
        best=dict.fromkeys(costs, "min"),
        formats=_formats(costs),
    )


def _accuracies(overview: pd.DataFrame) -> pd.DataFrame:
    """Accuracy with its interval, in per cent, a row a model."""
    percent = 100 * overview[["accuracy", "low", "high"]]
    columns = {ACCURACY: percent["accuracy"], "95% interval": interval(percent, ".1f")}
    return pd.DataFrame(columns).rename_axis("Model")


def _costs(overview: pd.DataFrame, *costs: str) -> pd.DataFrame:
    """These costs, as the tables call them, a row a model; without what no record knows."""
    overview = overview.assign(model_mb=overview["model_bytes"] / 2**20).rename_axis("Model")
    known = [cost for cost in costs if overview[cost].notna().any()]
    return overview[known].rename(columns={cost: COSTS[cost][0] for cost in known})


def _formats(costs: pd.DataFrame) -> dict[str, str]:
    return {name: form for name, form in COSTS.values() if name in costs}


def _machine(found: Comparison) -> str:
    return found.local["machine"].iloc[0] if len(found.local) else "no machine"


def _kind_of_memory(found: Comparison) -> str:
    return kind_of_memory(bool(found.local["vram_mb"].any()))


def show_behind(found: Comparison) -> None:
    """How far every other model is behind the best."""
    behind = found.behind
    if behind.empty:
        return
    apart = 100 * behind[["value", "low", "high"]].astype(float)
    within = f"within {100 * MARGIN:g} points"
    shown = pd.DataFrame(
        {
            "behind": apart["value"],
            "95% interval": interval(apart, ".2f"),
            "p, corrected": behind["p_holm"].map("{:.2g}".format),
            within: behind["equivalent"].map({True: "yes", False: "no"}),
        }
    )
    words = ""
    if (behind["pairs"] > 1).any():
        shown["pairs lost"] = [f"{row.wins:g} of {row.pairs}" for row in behind.itertuples()]
        words = (
            " “Pairs lost”: of all pairs of a training of the best and one of this model, how many "
            "the best wins; a tie counts half."
        )
    show_table(
        shown.rename_axis("Model"),
        f"How far each model is behind {literal(next(iter(found.runs)))}, in points of accuracy. "
        f"“{within.capitalize()}”: whether two one-sided tests at 5% put the difference there, "
        f"which says more than not telling two models apart.{words}",
        "behind",
        formats={"behind": ".2f"},
    )


def show_seeds(found: Comparison) -> None:
    """How accuracy varies over the seeds of each model."""
    seeds = found.seeds
    if not (seeds["seeds"] > 1).any():
        words = "Here every model was trained once, so that nothing is known of other seeds."
        display(Markdown(words))
        return
    columns = ["mean", "sd", "lowest", "highest"]
    shown = (100 * seeds[columns]).assign(seeds=seeds["seeds"])
    shown["note"] = seeds["deterministic"].map({True: "draws nothing at random", False: ""})
    show_table(
        shown.rename_axis("Model"),
        "Test accuracy (%) over the seeds of each model. With its seed a fit changes its split of "
        "the training images, the random changes to them, and where it starts.",
        "seeds",
        best={"mean": "max"},
        formats=dict.fromkeys(columns, ".2f"),
    )


def show_given(found: Comparison, profile: Profile) -> None:
    """What each model was given that others were not; searches were on FashionMNIST alone."""
    given = table.advantages(found.runs)
    tried = {
        name: studies.trials(fits[0].model, profile.project) if profile.is_fashion else 0
        for name, fits in found.runs.items()
    }
    shown = pd.DataFrame(
        {
            "settings tried": pd.Series(tried),
            "epochs": given["epochs"],
            "views": given["views"],
            "accuracy (%)": 100 * given["accuracy"],
            "of one view (%)": 100 * given["one_view"],
        }
    )
    show_table(
        shown.loc[list(found.runs)].rename_axis("Model"),
        "What each model was given: settings tried on validation images, in searches and "
        "ablations; of networks also epochs of the last stage of training, the views of an image "
        "that a prediction averages, and the accuracy with and without that.",
        "given",
        formats={"epochs": ",.0f", "views": ",.0f"}
        | dict.fromkeys(("accuracy (%)", "of one view (%)"), ".2f"),
    )


def show_validation(found: Comparison) -> None:
    """Accuracy on the validation and on the test images."""
    held_out = table.validation_table(found.runs)
    fits, higher = int(held_out["fits"].sum()), int(held_out["higher"].sum())
    words = f"Of {fits:,} fits {higher:,} score higher on their validation images."
    if higher == fits:
        words = f"All {fits:,} fits score higher on their validation images."
    if 2 * higher > fits:
        words += (
            " They come from the training set, and settings were chosen by them: a model keeps "
            "less than it scores there."
        )
    display(Markdown(words))
    columns = ["validation", "test", "difference"]
    show_table(
        (100 * held_out[columns]).rename_axis("Model"),
        "Accuracy (%) on the validation and on the test images, and the difference.",
        "validation",
        formats={"validation": ".2f", "test": ".2f", "difference": "+.2f"},
    )


def show_spread(found: Comparison) -> None:
    """How times vary over the fits of a model; nothing where no model has several."""
    several = found.local[found.local["seeds"] > 1]
    if several.empty:
        return
    shown = pd.DataFrame(
        {
            "fits": several["seeds"],
            "training (s)": several["train_seconds"],
            "least to most": interval(table.extremes(several, "train_seconds"), ".3g"),
            "95% of images (ms)": several["latency_ms_p95"],
            "from fit to fit": interval(table.extremes(several, "latency_ms_p95"), ".3g"),
        }
    )
    show_table(
        shown.rename_axis("Model"),
        f"How times vary from fit to fit on {several['machine'].iloc[0]}: median, least and most.",
        "spread",
        formats={"training (s)": ",.1f", "95% of images (ms)": ",.2f"},
    )


def show_calibration(found: Comparison) -> None:
    """Log loss and calibration error, before and after temperature scaling."""
    drawn = calibration.calibration_uncertainty(found.runs, found.temperatures)
    calibrated = found.calibrated.join(drawn)
    names = {"temperature": "T", "log_loss": "Log loss", "log_loss_scaled": "Log loss scaled"}
    names |= {"ece": "ECE", "ece_scaled": "ECE scaled"}
    shown = calibrated[[*names]].rename(columns=names)
    shown["95% interval"] = interval(calibrated, ".3f")
    shown["equal mass"] = calibrated["ece_mass_scaled"]
    perfect = calibrated[["floor", "floor_most"]].set_axis(["low", "high"], axis=1)
    shown["if perfect"] = interval(perfect, ".3f")
    best = ["Log loss", "Log loss scaled"]
    for column in ("ece", "ece_scaled"):
        lowest = calibrated[calibrated[column] == calibrated[column].min()]
        if (lowest[column] > lowest["floor_most"]).all():  # else it cannot be told from perfect
            best.append(names[column])
    show_table(
        shown.rename_axis("Model"),
        f"Log loss and expected calibration error (ECE, {CALIBRATION_BINS} bins of equal width) on "
        "the test images, before and after temperature scaling; the interval is that of the scaled "
        "ECE, and “equal mass” is the scaled ECE in bins of equally many images. “If perfect”: the "
        "ECE expected of perfectly calibrated probabilities, its mean to its 95th percentile; a "
        "value in this range shows no miscalibration, and none is marked as the best there. "
        f"Probabilities below {SMALLEST:g} count as that before scaling, because tree leaves give "
        "some classes probability 0.",
        "calibration",
        best=dict.fromkeys(best, "min"),
        formats={"T": ".2f"} | dict.fromkeys([*[*names.values()][1:], "equal mass"], ".3f"),
    )


def show_answered(found: Comparison) -> None:
    """How accurate the models are when they answer only the images that they are sure of."""
    curve = calibration.answered(found.runs, found.temperatures)
    show_figure(
        plots.answered_curves(curve),
        "Accuracy when only the most confident predictions count, of the most accurate "
        f"{min(plots.CURVES, len(found.runs))} models.",
        "answered",
    )
    limits = calibration.thresholds(curve, TARGETS)
    columns = {
        f"{target:.0%} accurate": limits[limits["target"] == target]
        .set_index("model")
        .apply(share_answered, axis=1)
        for target in TARGETS
    }
    show_table(
        pd.DataFrame(columns).loc[list(found.runs)].rename_axis("Model"),
        "Share of images that can be classified at a given accuracy, and the threshold of scaled "
        "confidence, in brackets. Thresholds are chosen on the test images, so they are slightly "
        "optimistic.",
        "thresholds",
    )


def show_looks(project: Project) -> None:
    """How often the test images were looked at: all accuracies that were published."""
    if not project.publications.is_file():
        display(Markdown("No publication is on record."))
        return
    for profile, own in pd.read_csv(project.publications).groupby("profile"):
        scores = 100 * own.pivot_table("accuracy", "model", "publication")
        models = list(scores.index)
        scores.index = [literal(MODELS[one].title) if one in MODELS else one for one in models]
        scores.columns = [str(number) for number in scores.columns]
        days = own.drop_duplicates("publication")["date"]
        show_table(
            scores.rename_axis("Model"),
            f"Accuracy (%) on the test images in each of the {len(days)} publications of the "
            f"profile {profile}, {days.iloc[0]} to {days.iloc[-1]}, means over seeds. Between them "
            "recipes changed, chosen on validation images; yet each publication is one more look "
            "at the test images.",
            f"looks-{profile}",
            formats=dict.fromkeys(scores.columns, ".2f"),
        )


def published(profile: Profile, name: str, data_sha256: str) -> Comparison | None:
    """The published results of another profile on the same data; None of none."""
    folder = profile.project.published(name) / "results"
    if name == profile.name or not folder.is_dir():
        return None
    results = [load(path) for path in sorted(folder.glob("*/seed-*"))]
    if not results or results[0].data_sha256 != data_sha256:
        return None
    return compare(results)


def show_published(name: str, found: Comparison | None) -> None:
    """The published results of another profile, on its own machine; nothing of None."""
    if found is None:
        return
    overview = found.table
    costs = _costs(overview, "train_seconds", "fit_wall_seconds", "latency_ms", "vram_mb")
    machines = listed(dict.fromkeys(overview["machine"]))
    show_table(
        _accuracies(overview).join(costs),
        f"What the profile {name} gives on {machines}; one image: the median. Its recipes are made "
        "for that machine, so its times are compared with no others of this report.",
        f"published-{name}",
        best={ACCURACY: "max"} | dict.fromkeys(costs, "min"),
        formats={ACCURACY: ".1f"} | _formats(costs),
    )


def show_candidates(found: Comparison, names: tuple[str, ...]) -> None:
    """Every test image whose label the models contradict; ``names`` are the classes'."""
    candidates = errors.noise_candidates(found.runs, found.temperatures)
    for column in ("label", "prediction"):
        candidates[column] = [names[number] for number in candidates[column]]
    candidates["share"] *= 100
    candidates.columns = ["image", "label", "models say", "confidence", "models agreeing (%)"]
    show_table(
        candidates,
        "All candidates for a wrong label, the surest first; images by number in the test set.",
        "candidates",
        formats={"image": "d", "confidence": ".3f", "models agreeing (%)": ".0f"},
    )
