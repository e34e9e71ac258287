"""Tables and sentences about one model, for its notebook."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from matplotlib import colormaps
from matplotlib.figure import Figure
from pydantic import TypeAdapter
from torch import nn

from fmlib.data import Images, Labels
from fmlib.models.base import Classifier
from fmlib.models.neural import TorchClassifier
from fmlib.models.transfer import TransferClassifier, grad_cam
from fmlib.results import Result
from fmlib.training import default_device, has_bfloat16
from fmreport import plots
from fmreport.compare.table import listed
from fmreport.show import show_figure, show_table

LAYER_NAMES = {
    nn.Linear: "dense", nn.Conv2d: "convolution", nn.BatchNorm1d: "batch normalisation", nn.BatchNorm2d: "batch normalisation",
    nn.MaxPool2d: "max pool", nn.AdaptiveMaxPool2d: "global max pool", nn.Dropout: "dropout", nn.Flatten: "flatten",
}  # fmt: skip
OF_WEIGHTS = ("frozen_stages", "layer_decay", "new_stem")  # settings without effect on a network that starts at random


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _text(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def parameter_table(classifier: Classifier) -> pd.DataFrame:
    """The classifier's settings, defaults included, a row each: columns setting and value, as text.

    Of a transfer model it is the recipe that its fit used, and of the probe what differs from a default; what means nothing
    to this one, as momentum to Adam, or a probe to a network from scratch, is left out.
    """
    if isinstance(classifier, TorchClassifier):
        values = _flat(classifier.network.model_dump(exclude={"recipe", "scratch", "probe"}))
        recipe, probe = getattr(classifier, "recipe_", classifier.recipe), getattr(classifier.network, "probe", None)
        if getattr(classifier, "weights_", {}).get("source") == "none":
            values = {name: value for name, value in values.items() if name not in OF_WEIGHTS}
        elif probe:
            values |= _flat({"probe": probe.model_dump(exclude_defaults=True)})
        values |= _flat(recipe.model_dump(exclude=set() if recipe.optimizer == "sgd" else {"momentum"}))
        if values["precision"] == "bfloat16" and not has_bfloat16(getattr(classifier, "device_", default_device())):
            values["precision"] = "float32, as there is no bfloat16 here"
    else:
        values = _flat(TypeAdapter(type(classifier)).dump_python(classifier))
    rows = [(key.removeprefix("augmentation.").replace("_", " "), _text(value)) for key, value in values.items()]
    return pd.DataFrame(rows, columns=["setting", "value"])


@torch.inference_mode()
def network_table(classifier: TorchClassifier) -> pd.DataFrame:
    """The fitted network's layers in the order of a forward pass: columns layer, output (channels x H x W), weights."""
    rows: list[tuple[str, str, int]] = []
    network = classifier.network_.eval()

    def note(layer: nn.Module, _inputs: Any, output: torch.Tensor) -> None:
        name = next((text for kind, text in LAYER_NAMES.items() if isinstance(layer, kind)), type(layer).__name__)
        count = sum(parameter.numel() for parameter in layer.parameters())
        rows.append((name, " × ".join(map(str, output.shape[1:])), count))  # noqa: RUF001 - a multiplication sign is meant

    leaves = [layer for layer in network.modules() if not list(layer.children())]
    hooks = [layer.register_forward_hook(note) for layer in leaves]
    network(classifier.inputs(np.zeros((1, *classifier.image_shape_), np.uint8)))
    for hook in hooks:
        hook.remove()
    return pd.DataFrame(rows, columns=["layer", "output", "weights"])


def class_report(result: Result) -> pd.DataFrame:
    """Precision, recall, F1 and number of test images of each class, and their mean over classes."""
    table = pd.DataFrame([score.model_dump() for score in result.classes])
    table.columns = ["class", "precision", "recall", "F1", "images"]
    mean = {"class": "mean"} | table[["precision", "recall", "F1"]].mean().to_dict() | {"images": table["images"].sum()}
    return pd.concat([table, pd.DataFrame([mean])], ignore_index=True)


def training_sentence(result: Result) -> str:
    """How long the fit took and what memory it needed, in words."""
    vram = f" and {result.peak_vram_mb:,.0f} MiB of GPU memory" if result.peak_vram_mb else ""
    wall = result.fit_wall_seconds
    rest = f"; with all that is no training step, such as validation, the whole fit took {wall:.1f} s"
    rest = rest if wall > result.train_seconds * 1.02 else ""
    return (f"Training took {result.train_seconds:.1f} s on {result.environment.machine_id}{rest}. It needed "
            f"{result.memory_mb:,.0f} MiB of memory beyond what the process held before{vram}.")


def test_sentence(result: Result) -> str:
    """Accuracy, log loss, the speed of prediction and the worst class, in words."""
    worst = min(result.classes, key=lambda score: score.f1)
    return (f"Of {result.test_size:,} test images {result.accuracy:.2%} are classified rightly, at a log loss of "
            f"{result.log_loss:.3f}. All of them take {result.predict_seconds:.2f} s, one alone {result.latency_ms_p50:.2f} ms "
            f"(median). By F1 the hardest class is {worst.name} ({worst.f1:.3f}).")


def show_outcome(result: Result) -> None:
    """Show how a model did on the test images: in words, by class, and what it takes for what."""
    from IPython.display import Markdown, display

    display(Markdown(test_sentence(result)))
    show_table(
        class_report(result), f"{result.display_name}: precision, recall and F1 of each class on the test images.",
        "class-report", formats={"precision": ".3f", "recall": ".3f", "F1": ".3f"},
    )  # fmt: skip
    show_figure(
        plots.confusion_matrix(result.confusion_matrix, result.class_names),
        f"{result.display_name}: confusion matrix on the test images. Rows are true classes, columns predictions.",
        "confusion-matrix",
    )


def stage_table(classifier: TorchClassifier) -> pd.DataFrame:
    """What each stage of training ended with: columns stage, epochs, mirror average (of predictions: yes or no), validation
    accuracy (of the weights that it left), training (s)."""
    rows, table = pd.DataFrame(classifier.history_), []
    for stage, recipe in classifier.recipes_.items():
        epochs = rows[rows["stage"] == stage]
        kept = epochs.index[-1] if recipe.patience is None else epochs["validation_loss"].idxmin()
        table.append((stage, len(epochs), _text(recipe.flip_averaging), epochs.loc[kept, "validation_accuracy"],
                      epochs["train_seconds"].sum()))
    return pd.DataFrame(table, columns=["stage", "epochs", "mirror average", "validation accuracy", "training (s)"])


def show_training(classifier: TorchClassifier, result: Result) -> None:
    """Show how a network learnt, epoch by epoch, and what that took."""
    from IPython.display import Markdown, display

    notes = []
    for name in ("label smoothing", "mixup", "cutmix"):
        having = [stage for stage, recipe in classifier.recipes_.items() if getattr(recipe, name.replace(" ", "_"))]
        if having:
            of_stage = "" if len(having) == len(classifier.recipes_) else f" of {listed(having)}"
            notes.append(f" The training loss{of_stage} includes {name}.")
    if any(recipe.shift_averaging for recipe in classifier.recipes_.values()):
        notes.append(" Validation looks at the images as they are, a prediction also at the same images moved.")
    show_figure(
        plots.learning_curves(result.history),
        f"{result.display_name}: loss and validation accuracy by epoch.{''.join(notes)}", "learning-curves",
    )  # fmt: skip
    display(Markdown(training_sentence(result)))


def grad_cam_gallery(
    classifier: TransferClassifier, images: Images, labels: Labels, class_names: Sequence[str], each: int = 5
) -> tuple[tuple[Figure, str], int]:
    """Grad-CAM maps over the first ``each`` images (n, H, W) classified rightly, then wrongly, for the predicted class.

    Returns the plot and the number of wrong ones in it.
    """
    predicted = classifier.predict(images)
    chosen = np.concatenate([np.flatnonzero((predicted == labels) == right)[:each] for right in (True, False)])
    batch = classifier.inputs(images[chosen])
    maps = grad_cam(classifier.network_, batch, torch.from_numpy(predicted[chosen]).to(batch.device)).cpu()
    heat = F.interpolate(maps[:, None], size=images.shape[1:], mode="bilinear")[:, 0].numpy()
    pictures = 0.45 * images[chosen][..., None] / 255 + 0.55 * colormaps["inferno"](heat)[..., :3]
    titles = [f"{class_names[guess]}\n({'right' if guess == label else class_names[label]})"
              for guess, label in zip(predicted[chosen], labels[chosen], strict=True)]
    wrong = int((predicted[chosen] != labels[chosen]).sum())
    alt = (f"Grad-CAM heat maps over {len(chosen)} test images, {len(chosen) - wrong} classified rightly and {wrong} wrongly: "
           + "; ".join(title.replace("\n", " ") for title in titles))
    return (plots.sample_grid(pictures, titles)[0], alt), wrong
