"""The original study beside this one: its figures, its mistakes, and a demonstration of each that takes seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from numpy.typing import NDArray
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from torchvision.models import get_model_weights
from torchvision.transforms.v2 import functional

from fmlib.results import FROM_SCRATCH, Record

FACTS: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("study.yaml").read_text(encoding="utf-8"))
STUDY = pd.DataFrame(FACTS["models"]).set_index("study")
IMAGENET_MEAN = (0.485 + 0.456 + 0.406) / 3


def beside_study(table: pd.DataFrame) -> pd.DataFrame:
    """The study's rows beside our model of the kind that in fact ran, then our other rows; missing figures are NaN.

    ``table`` is an overview; the study's columns end in ``_study``. ``difference`` is in points of accuracy.
    """
    ours = table.rename_axis("ours").reset_index()
    names = [name.removesuffix(FROM_SCRATCH) for name in ours["ours"]]
    ours["model"] = pd.Series([FACTS["stand_ins"].get(name, name) for name in names], dtype=str)
    study = STUDY.reset_index()
    if FACTS["as_run"] in names:
        study.loc[study["model"].duplicated(), "model"] = FACTS["as_run"]
    rows = study.merge(ours, "outer", on="model", suffixes=("_study", ""))
    order = [*study["model"].unique(), *ours["model"]]
    rows = rows.sort_values("model", key=lambda names: names.map(order.index), kind="stable", ignore_index=True)
    return rows.assign(difference=100 * (rows["accuracy"] - rows["accuracy_study"]))


@dataclass(frozen=True)
class Demonstrations:
    """Sentences that show mistakes on some images and on our results; ``show`` in ``study.yaml`` names their methods.

    ``images`` uint8 (n, h, w) and ``labels`` (n,) are training images; a thousand are plenty.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    runs: Mapping[str, Record]

    def markdown(self) -> str:
        """A numbered list: each mistake, its effect, a demonstration where there is one, and what is done here instead."""
        return "\n".join(f"{i}. **{m['what']}** {m['effect']} {self.show(m.get('show'))}*Here:* {m['here']}"
                         for i, m in enumerate(FACTS["mistakes"], 1))

    def show(self, mistake: str | None) -> str:
        """The demonstration of one mistake, or "" where there is none."""
        return f"*Shown:* {getattr(self, f'_{mistake}')()} " if mistake else ""

    def _one_network(self) -> str:
        one, other = STUDY.index[STUDY["model"].duplicated(keep=False)]
        real = [get_model_weights(name).IMAGENET1K_V1.meta["num_params"] / 1e6 for name in ("resnet34", "mobilenet_v3_small")]
        return (f"Its {one} and its {other} trained in {STUDY.loc[one, 'train_seconds']:,.0f} and "
                f"{STUDY.loc[other, 'train_seconds']:,.0f} s. A ResNet34 has {real[0]:.1f} million weights, a "
                f"MobileNetV3-small {real[1]:.1f}.")

    def _half(self, images: NDArray[np.floating], first: bool) -> NDArray[np.floating]:
        return images.reshape(len(images), -1)[0 if first else 1::2]

    def _main_memory(self) -> str:
        ram = STUDY["ram_gb"].dropna()
        text = f"Its RAM goes only from {ram.min()} to {ram.max()} GB over networks of very different size."
        share = [run.result.rss_baseline_mb / run.result.peak_rss_mb for run in self.runs.values() if run.result.peak_rss_mb]
        return text + (f" Of our processes' peaks, at least {min(share):.0%} was there before." if share else "")

    def _stem(self) -> str:
        grey = torch.from_numpy(self.images[:8, None] / 255.0)
        weights = torch.randn(64, 3, 7, 7, dtype=grey.dtype, generator=torch.Generator().manual_seed(9))
        three = torch.nn.functional.conv2d(grey.expand(-1, 3, -1, -1), weights)
        one = torch.nn.functional.conv2d(grey, weights.sum(1, keepdim=True))
        return (f"An RGB layer on a grey image repeated three times, and its sum over channels on the image once, differ by at "
                f"most {(three - one).abs().max():.0e}: nothing need be thrown away. These images' mean is "
                f"{self.images.mean() / 255:.2f}, ImageNet's {IMAGENET_MEAN:.2f}.")

    def _augmented_validation(self) -> str:
        images, rng = self.images / 255.0, np.random.default_rng(9)

        def augmented() -> NDArray[np.floating]:
            mirrored = np.where(rng.random((len(images), 1, 1)) < 0.5, images[..., ::-1], images)
            return np.clip(mirrored * rng.uniform(0.5, 1.5, (len(images), 1, 1)), 0, 1)

        model = KNeighborsClassifier(1).fit(self._half(augmented(), True), self.labels[::2])
        seen = [images, *(augmented() for _ in range(5))]
        clean, *drawn = (model.score(self._half(x, False), self.labels[1::2]) for x in seen)
        return (f"A nearest-neighbour classifier that learnt from flipped and jittered images scores {clean:.1%} on clean ones "
                f"and {min(drawn):.1%} to {max(drawn):.1%} on the same ones, flipped and jittered {len(drawn)} times.")

    def _divided_twice(self) -> str:
        once = self.images[:1000] / 255.0
        shares = []
        for model in (DecisionTreeClassifier(random_state=9), SVC()):
            first, second = (model.fit(self._half(x, True), self.labels[:1000:2]).predict(self._half(x, False))
                             for x in (once, once / 255))
            shares.append(np.mean(first == second))
        return (f"Divided once or twice, a decision tree gives {shares[0]:.1%} and an SVM {shares[1]:.1%} the same answers: "
                "rounding apart, trees only order pixels, and SVC's default gamma undoes the scale.")

    def _no_restore(self) -> str:
        histories = {name: [epoch for epoch in run.result.history if epoch.stage == run.result.history[-1].stage]
                     for name, run in self.runs.items() if run.result.history}
        if not histories:
            return "No network has a result to show it on."
        lowest = {name: min(history, key=lambda epoch: epoch.validation_loss) for name, history in histories.items()}
        past = {name: history[-1].validation_loss - lowest[name].validation_loss for name, history in histories.items()}
        name = max(past, key=past.__getitem__)
        if past[name] == 0:
            return "In these runs every network was at its best in its last epoch, so that nothing could be lost."
        last, best = histories[name][-1], lowest[name]
        was = "would have been" if self.runs[name].result.parameters.get("recipe", {}).get("patience") else "was"
        return (f"Of our networks, {name} {was} tested with the weights of its last epoch, of validation loss "
                f"{last.validation_loss:.3f} and accuracy {last.validation_accuracy:.2%}; its lowest loss was "
                f"{best.validation_loss:.3f}, in epoch {best.epoch}, at an accuracy of {best.validation_accuracy:.2%}.")

    def _grey_jitter(self) -> str:
        x = torch.from_numpy(self.images[:200, None])
        hue, colour = functional.adjust_hue(x, 0.5), functional.adjust_saturation(x, 1.5)
        change = max(int((x.int() - y.int()).abs().max()) for y in (hue, colour))
        return f"The largest hue shift and a saturation of 1.5 change {len(x)} images by at most {change} grey levels."

    def _training_time(self) -> str:
        study = STUDY.loc["MLP", "train_seconds"] / FACTS["epochs"]
        text = f"Its MLP took {study:.1f} s an epoch on {FACTS['machine']}."
        for r in (run.result for run in self.runs.values() if run.result.model == "mlp" and run.result.history):
            training, fit = (seconds / len(r.history) for seconds in (r.train_seconds, r.fit_wall_seconds))
            text += f" Ours takes {training:.2g} s of training on {r.environment.machine_id}, {fit:.2g} s in all."
        return text

    def _one_run(self) -> str:
        n, twins = FACTS["test_size"], STUDY[STUDY["model"].duplicated(keep=False)].sort_values("validation_accuracy")
        best = twins["accuracy"].max()
        error = 100 * np.sqrt(best * (1 - best) / n)
        low, high = twins.iloc[0], twins.iloc[-1]
        return (f"On {n:,} images {best} has a standard error of {error:.2f} points. {low.name} and {high.name} were one "
                f"network, and which is ahead depends on the images: {low.name} on the test's, by {low['accuracy']} to "
                f"{high['accuracy']}, {high.name} on the validation's, by {high['validation_accuracy']:.2%} to "
                f"{low['validation_accuracy']:.2%}. A paired test would need its predictions, which are not published.")
