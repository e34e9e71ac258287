"""What every model's section of the report shows, in one call; and what the appendix looks up."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from IPython.display import Markdown, display
from torch import nn

from fmlib.data import Dataset
from fmlib.device import default_device, has_bfloat16
from fmlib.fitting import FitError, Job, fit_or_load, fresh, job_of, known_jobs, stale
from fmlib.models.base import Estimator, Model, Network
from fmlib.models.registry import MODELS, build, changed
from fmlib.models.transfer import Backbone, Transfer
from fmlib.profiles import Profile
from fmlib.results import Result, ResultError, load, record_folder
from fmlib.scores import scores
from fmlib.sources import SAMPLE
from fmreport import plots
from fmreport.compare.significance import wilson
from fmreport.show import show_code, show_figure, show_notice, show_table
from fmreport.text import listed, literal

LAYER_NAMES = {
    nn.Linear: "dense",
    nn.Conv2d: "convolution",
    nn.BatchNorm1d: "batch normalisation",
    nn.BatchNorm2d: "batch normalisation",
    nn.MaxPool2d: "max pool",
    nn.AdaptiveMaxPool2d: "global max pool",
    nn.Dropout: "dropout",
    nn.Flatten: "flatten",
}
# settings without effect on a network that starts at random
OF_WEIGHTS = ("frozen_stages", "layer_decay", "new_stem", "probe", "scratch")
EACH = 3  # images classified correctly, and wrongly, on which it is shown where a network looks


def show_model(profile: Profile, name: str, seed: int, data: Dataset | None = None) -> None:
    """A model's section: its code, its figures, what it learnt, where it fails.

    The model is fitted first where the profile's record of it is not fresh; where that fails, a
    notice says why. With ``data``, a transfer model also shows where it looks.
    """
    if name not in profile.models:  # a notebook opened by hand has cells that a report leaves out
        show_notice(f"{MODELS[name].title} is no model of the profile {profile.name}.")
        return
    job = job_of(profile, name, seed)
    try:
        result = published(profile, job)
        fitted = result is None
        if fitted:
            result, model = fit_or_load(job)
        else:
            model = unfitted(result)
    except (FitError, ResultError) as error:
        show_notice(f"{MODELS[name].title} has no result: {error}")
        return
    if not fitted:
        show_notice(f"{result.title}: published, not fitted here. {profile.command} fits it.")
    fits = [one for one in known_jobs(profile) if one.model == name and not stale(one)]
    if len(fits) > 1:
        one_of = f"Of {len(fits)} fits this section shows the one with seed {job.seed}"
        display(Markdown(f"{one_of}; the comparison has the mean of all."))
    show_code(inspect.getsource(type(model)).strip())
    show_facts(result)
    if isinstance(model, Network):
        show_training(model, result)
    elif fitted:
        show_importances(model, result)
    display(Markdown(outcome_sentence(result)))
    if fitted and isinstance(model, Transfer) and data is not None:
        show_where_it_looks(model, result, data)


def by_hand() -> bool:
    """Whether a notebook is opened by hand, and not told for a report, which fits nothing."""
    return os.environ.get("FMLIB_FIT") != "never"


def published(profile: Profile, job: Job) -> Result | None:
    """The published record of a job that is not fitted here, for a notebook opened by hand."""
    results = profile.project.published(profile.name) / "results"
    folder = record_folder(results, job.model, job.seed)
    return load(folder) if by_hand() and folder.is_dir() and stale(job) else None


def unfitted(result: Result) -> Model:
    """The model of a record without a fitted one: what its settings say."""
    model = build(result.model, result.parameters)
    if isinstance(model, Transfer) and result.weights:
        model.weights_ = (result.weights.source, result.weights.sha256)
    return model


def records(profile: Profile) -> list[Result]:
    """The profile's records, in the order of its jobs.

    In a notebook opened by hand, published ones stand in for what is not fitted here, and where
    there are none the models of the sample are fitted, which takes seconds each; a notice names
    what is missing, and what would fit it.
    """
    found, missing = [], []
    for job in known_jobs(profile):
        try:
            if result := fresh(job) or published(profile, job):
                found.append(result)
            elif by_hand() and profile.dataset == SAMPLE:
                found.append(fit_or_load(job)[0])
            else:
                missing.append(job.title)
        except (FitError, ResultError):
            missing.append(job.title)
    if missing:
        names = listed(dict.fromkeys(missing))
        words = f"No result of the profile {profile.name}: {names}"
        show_notice(f"{words}. {profile.command} makes them.")
    return found


def show_change(profile: Profile, name: str, change: Mapping[str, Any], seed: int) -> None:
    """Fit a model as the profile has it, and with a change; show both on the validation images.

    ``change``: new values by name, with dots between levels: ``{"recipe.lr": 0.01}``; raises
    ParameterError for what cannot be. Only on the sample, where a fit takes seconds.
    """
    if profile.dataset != SAMPLE:
        show_notice('Exercises run on the sample: set `profile = "lesson"` in the first code cell.')
        return
    job = job_of(profile, name, seed)
    words = "; ".join(f"{key}: {value}" for key, value in change.items())
    parameters = changed(dict(job.parameters), dict(change))
    build(name, parameters)  # is refused here, in words, rather than in another process
    digest = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode()).hexdigest()
    other = replace(
        job, parameters=parameters, folder=profile.folder / "tries" / name / digest[:12]
    )
    rows = []
    for what, one in (("as it is", job), (words, other)):
        try:
            result, _ = fit_or_load(one)
        except FitError as error:
            show_notice(f"{job.title}, {what}: {error}")
            return
        judged = scores(result.validation_proba, result.validation_labels, result.class_names)
        rows.append((what, judged["accuracy"], judged["log_loss"], result.train_seconds))
    columns = ["settings", "accuracy", "log loss", "training (s)"]
    show_table(
        pd.DataFrame(rows, columns=columns),
        f"{literal(job.title)}: what a change gives on the validation images.",
        f"{name}-change",
        best={"accuracy": "max", "log loss": "min"},
        formats={"accuracy": ".3f", "log loss": ".3f", "training (s)": ".1f"},
    )


# --- Words ------------------------------------------------------------------------------------


def outcome_sentence(result: Result) -> str:
    """What the model started from, where that needs saying, and where it fails."""
    words = []
    if result.weights and result.weights.source == "none":
        words.append("**No ImageNet weights were at hand**, so it is trained from scratch.")
    elif result.weights:
        words.append(f"It starts from the ImageNet weights in `{result.weights.source}`.")
    if result.parameters_used not in (None, result.parameter_count):
        words.append(
            f"Of its {result.parameter_count:,} parameters {result.parameters_used:,} make a "
            "difference to such small images."
        )
    worst = min(result.classes, key=lambda score: score.f1)
    words.append(f"By F1 its hardest class is {literal(worst.name)} ({worst.f1:.3f}).")
    errors = np.array(result.confusion_matrix)
    images = errors.sum(1)
    np.fill_diagonal(errors, 0)
    true, guess = np.unravel_index(errors.argmax(), errors.shape)
    if errors[true, guess]:
        names = [literal(result.class_names[number]) for number in (true, guess)]
        words.append(
            f"Its most frequent error: {errors[true, guess]:,} of {images[true]:,} images of "
            f"{names[0]} are taken for {names[1]}."
        )
    return " ".join(words)


# --- A section's parts ------------------------------------------------------------------------


def show_facts(result: Result) -> None:
    """Show a model's figures in one row: accuracy, times, memory, size."""
    low, high = wilson(result.accuracy * result.test_size, result.test_size)
    size = result.model_bytes and result.model_bytes / 2**20
    facts = {
        "accuracy (%)": f"{result.accuracy:.2%} ({low:.1%}\N{EN DASH}{high:.1%})".replace("%", ""),
        "training (s)": _figure(result.train_seconds),
        "whole fit (s)": _figure(result.fit_wall_seconds),
        "one image (ms)": _figure(result.latency_ms_p50),
        "memory (MiB)": _figure(result.memory_mb),
        "GPU memory (MiB)": _figure(result.peak_vram_mb),
        "on disk (MiB)": _figure(size),
        "parameters": _figure(result.parameter_count),
        "operations": _figure(result.flops_per_image),
    }
    known = {name: value for name, value in facts.items() if value}
    show_table(
        pd.DataFrame([known]),
        f"{literal(result.title)} in figures: accuracy with its 95% interval; the median of one "
        "image alone.",
        f"{result.model}-facts",
    )


def _figure(value: float | None) -> str:
    return plots.short_number(value) if value else ""


def show_importances(model: Estimator, result: Result) -> None:
    """Show which pixels trees ask about, where a model has trees of pixels."""
    importances = getattr(model.estimator_, "feature_importances_", None)
    spec = model.spec_
    if importances is None or importances.size != spec.pixels:
        return
    weights = importances.reshape(spec.height, spec.width, spec.channels).sum(-1)
    show_figure(
        plots.importance_map(weights),
        f"{literal(result.title)}: how much each pixel contributes to the splits of its trees.",
        f"{result.model}-importances",
    )


def show_training(model: Network, result: Result) -> None:
    """Show how a network learnt, epoch by epoch."""
    notes = []
    for field in ("label_smoothing", "mixup", "cutmix"):
        having = [stage for stage, recipe in model.recipes_.items() if getattr(recipe, field)]
        if having:
            everywhere = len(having) == len(model.recipes_)
            of_stage = "" if everywhere else f" of {listed(having)}"
            notes.append(f" The training loss{of_stage} includes {field.replace('_', ' ')}.")
    if any(recipe.shift_averaging for recipe in model.recipes_.values()):
        notes.append(" Validation averages no moved images; a prediction does.")
    show_figure(
        plots.learning_curves(result.history),
        f"{literal(result.title)}: loss and validation accuracy by epoch.{''.join(notes)}",
        f"{result.model}-learning-curves",
    )
    if len(model.recipes_) > 1:
        show_table(
            stage_table(model, result),
            f"{literal(result.title)}: what each stage of training ended with.",
            f"{result.model}-stages",
            formats={"validation accuracy": ".4f", "training (s)": ".1f"},
        )


def stage_table(model: Network, result: Result) -> pd.DataFrame:
    """What each stage of training ended with: epochs, validation accuracy kept, seconds."""
    history, rows = pd.DataFrame([epoch.model_dump() for epoch in result.history]), []
    for stage, recipe in model.recipes_.items():
        epochs = history[history["stage"] == stage]
        last, best = epochs.index[-1], epochs["validation_loss"].idxmin()
        kept = last if recipe.patience is None else best
        accuracy, seconds = epochs.loc[kept, "validation_accuracy"], epochs["train_seconds"].sum()
        rows.append((stage, len(epochs), accuracy, seconds))
    columns = ["stage", "epochs", "validation accuracy", "training (s)"]
    return pd.DataFrame(rows, columns=columns)


def show_where_it_looks(model: Transfer, result: Result, data: Dataset) -> None:
    """Show Grad-CAM over the first test images classified correctly, then wrongly."""
    images, labels = data.test_images[:500], data.test_labels[:500]
    predicted = result.proba[: len(images)].argmax(1)  # as the model would say again
    correct = predicted == labels
    chosen = np.concatenate([np.flatnonzero(which)[:EACH] for which in (correct, ~correct)])
    batch = model.inputs(images[chosen])
    classes = torch.from_numpy(predicted[chosen]).to(batch.device)
    maps = grad_cam(model.network_, batch, classes).cpu()
    heat = F.interpolate(maps[:, None], size=images.shape[1:3], mode="bilinear")[:, 0].numpy()
    names = data.class_names
    titles = []
    for guess, label in zip(predicted[chosen], labels[chosen], strict=True):
        truth = "correct" if guess == label else names[label]
        titles.append(f"{names[guess]}\n({truth})")
    show_figure(
        plots.heat_over_images(images[chosen], heat, titles),
        f"{literal(result.title)}: where the score of the prediction depends on the image, for "
        f"images classified correctly and (the last {int((~correct[chosen]).sum())}) wrongly; the "
        "prediction above, the truth in brackets.",
        f"{result.model}-grad-cam",
    )


def grad_cam(network: Backbone, batch: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Where a network looks for ``classes`` (n,): maps (n, H, W), 0 to 1, for (n, channels, H, W).

    Selvaraju et al. 2017, https://arxiv.org/abs/1610.02391, at the last stage whose map is at least
    4 pixels wide.
    """
    network.eval()
    frozen, network.frozen = network.frozen, 0  # gradients are wanted of every stage
    outputs = list(network.stage_outputs(batch))
    network.frozen = frozen
    every = [output for output in outputs if output.ndim == 4]
    wide = [output for output in every if output.shape[-1] >= 4]
    maps = wide[-1] if wide else every[0]
    score = network.head(outputs[-1]).gather(1, classes[:, None]).sum()
    (gradient,) = torch.autograd.grad(score, maps)
    cam = (gradient.mean((2, 3), keepdim=True) * maps).sum(1, keepdim=True).relu()
    size = batch.shape[-2:]
    cam = F.interpolate(cam.detach(), size=size, mode="bilinear", align_corners=False)[:, 0]
    return cam / cam.amax((1, 2), keepdim=True).clamp_min(1e-9)


# --- What the appendix looks up ---------------------------------------------------------------


def show_settings(profile: Profile, results: Sequence[Result]) -> None:
    """Every model's settings, and a network's layers, as they were fitted."""
    for result in results:
        if result.seed != profile.seeds[0]:
            continue
        job = job_of(profile, result.model, result.seed)
        fitted = not stale(job)
        model = fit_or_load(job)[1] if fitted else unfitted(result)
        words = f"{literal(result.title)}: its settings."
        show_table(settings_table(model), words, f"{result.model}-settings")
        if fitted and isinstance(model, Network):
            count = model.parameters_used()
            words = f"{literal(result.title)}: its layers, {count:,} weights."
            show_table(layer_table(model), words, f"{result.model}-layers")


def show_log(results: Sequence[Result]) -> None:
    """Every epoch of every network's training."""
    for result in results:
        if result.history:
            columns = ["stage", "epoch", "lr", "train_loss", "validation_loss"]
            columns += ["validation_accuracy", "train_seconds"]
            table = pd.DataFrame([epoch.model_dump() for epoch in result.history])[columns]
            table.columns = [column.replace("_", " ") for column in columns]
            formats = dict.fromkeys(table.columns[3:6], ".4f")
            formats |= {"lr": ".2g", "train seconds": ".1f"}
            words = f"{literal(result.title)}, seed {result.seed}: its training, epoch by epoch."
            show_table(table, words, f"{result.model}-{result.seed}-log", formats=formats)


def show_environment(results: Sequence[Result]) -> None:
    """Where and with what each result was measured."""
    rows = [
        (result.title, str(result.seed), result.environment.machine_id, _commit(result))
        for result in results
    ]
    table = pd.DataFrame(rows, columns=["Model", "seed", "machine", "commit"])
    show_table(table, "The machine and the commit of every fit.", "environment")
    versions: dict[str, set[str]] = {}
    for result in results:
        for name, version in result.environment.versions.items():
            versions.setdefault(name, set()).add(version)
    words = [f"{name} {' or '.join(sorted(found))}" for name, found in sorted(versions.items())]
    if words:
        display(Markdown(f"Versions: {listed(words)}."))


def _commit(result: Result) -> str:
    if not result.git_commit:
        return "none"
    return result.git_commit[:10] + (" with local changes" if result.git_dirty else "")


def settings_table(model: Model) -> pd.DataFrame:
    """A model's settings, defaults included, a row each, as text: columns setting and value.

    Of a network, of the recipe that its fit used. What means nothing to this one, as momentum to
    Adam, or a probe to a network from scratch, is left out.
    """
    values = model.parameters()
    if isinstance(model, Network):
        recipe = model.recipe_
        scratch = isinstance(model, Transfer) and model.weights_[0] == "none"
        values.pop("scratch", None)
        values = {name: value for name, value in values.items() if name != "recipe"}
        if scratch:
            values = {name: value for name, value in values.items() if name not in OF_WEIGHTS}
        values |= recipe.model_dump(exclude=set() if recipe.optimizer == "sgd" else {"momentum"})
        if recipe.precision == "bfloat16" and not has_bfloat16(default_device()):
            values["precision"] = "float32, as there is no bfloat16 here"
    rows = [(name, _text(value)) for name, value in _flat(values).items()]
    return pd.DataFrame(rows, columns=["setting", "value"])


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}".replace("_", " ").removeprefix("augmentation ")
        flat |= _flat(value, f"{name} ") if isinstance(value, dict) else {name: value}
    return flat


def _text(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@torch.inference_mode()
def layer_table(model: Network) -> pd.DataFrame:
    """A network's layers in the order of a forward pass: columns layer, output, weights."""
    rows: list[tuple[str, str, int]] = []

    def note(layer: nn.Module, _inputs: Any, output: torch.Tensor) -> None:
        known = (name for kind, name in LAYER_NAMES.items() if isinstance(layer, kind))
        count = sum(parameter.numel() for parameter in layer.parameters(recurse=False))
        shape = " × ".join(map(str, output.shape[1:]))  # noqa: RUF001 - a multiplication sign
        rows.append((next(known, type(layer).__name__), shape, count))

    network = model.network_.eval()
    leaves = [
        layer
        for layer in network.modules()
        if not isinstance(layer, nn.Identity)
        and (list(layer.parameters(recurse=False)) or not list(layer.children()))
    ]
    hooks = [layer.register_forward_hook(note) for layer in leaves]
    network(model.inputs(np.zeros((1, *model.spec_.image_shape), np.uint8)))
    for hook in hooks:
        hook.remove()
    return pd.DataFrame(rows, columns=["layer", "output", "weights"])
