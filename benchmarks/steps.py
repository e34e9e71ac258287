"""Where the cpu profile's time goes, by model: steps, augmentation, validation, prediction.

``python -m benchmarks.steps`` measures on this machine and writes ``docs/studies/steps.csv``;
``--avx2`` has a newer processor compute as one with AVX2 alone, and writes ``steps-avx2.csv``.
Networks are measured on a tenth of the images, for one epoch, and the whole is computed from that;
so what is told is of a quiet machine, and of the last stage of training. Other models are fitted as
they are.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.bench import Say, begin, with_epochs
from fmlib import training
from fmlib.data import Dataset
from fmlib.device import Stopwatch
from fmlib.models.base import Model, Network
from fmlib.models.registry import build
from fmlib.profiles import load_dataset, load_profile
from fmlib.project import HERE
from fmlib.transforms import channels_first

AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
TENTH = 5_400  # of the training images
COLUMNS = {
    "model": "model",
    "steps": "seconds of training steps, without augmentation",
    "augmentation": "seconds of augmentation and scaling",
    "validation": "seconds of validation",
    "prediction": "seconds of predicting the test images",
    "gflops": "thousand million operations a second in training steps",
    "peak_share": "per cent of what a large matrix product reaches here, in the same precision",
}


def peak_gflops(dtype: torch.dtype, size: int = 2048, turns: int = 5) -> float:
    """Thousand million operations a second in a product of square matrices, the best of turns."""
    left, right = torch.ones(size, size, dtype=dtype), torch.ones(size, size, dtype=dtype)
    least = float("inf")
    for _ in range(turns):
        start = time.perf_counter()
        left @ right
        least = min(least, time.perf_counter() - start)
    return 2 * size**3 / least / 1e9


def shares(model: Model, data: Dataset, epochs: int, peaks: dict[bool, float]) -> dict[str, float]:
    """Seconds of a whole fit by what they are spent on, and how fast its steps compute.

    ``epochs`` of a network, which is fitted for one; ``peaks``: of ``peak_gflops``, with bfloat16
    and without.
    """
    model.fit(data)
    start = time.perf_counter()
    model.predict_proba(data.test_images)
    prediction = time.perf_counter() - start
    if not isinstance(model, Network):
        return {"steps": model.train_seconds_, "prediction": prediction}
    trainer, device = model.trainer_, model.device_
    images, labels = (torch.from_numpy(array).to(device) for array in data.train)
    images = channels_first(images)
    batches = -(-len(images) // trainer.recipe.batch_size)
    augmentation = _seconds(lambda: list(trainer._batches(images, labels, batches)), device)
    held_out, wanted = (torch.from_numpy(array).to(device) for array in data.validation)
    held_out = channels_first(held_out)
    validation = _seconds(lambda: trainer.validate(held_out, wanted), device)
    steps = trainer.history[-1]["train_seconds"] - augmentation
    operations = _operations(trainer, images[:64], labels[:64]) / 64
    gflops = operations * len(images) / steps / 1e9
    return {
        "steps": epochs * steps,
        "augmentation": epochs * augmentation,
        "validation": epochs * validation,
        "prediction": prediction,
        "gflops": gflops,
        "peak_share": 100 * gflops / peaks[trainer.bfloat16],
    }


def _seconds(work: Callable[[], Any], device: torch.device) -> float:
    watch = Stopwatch(device)
    with watch:
        work()
    return watch.seconds


def _operations(trainer: training.Trainer, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Operations of a training step on these images, forwards and backwards."""
    trainer.network.train()
    optimizer = training.make_optimizer(trainer.network, trainer.recipe, trainer.device)
    with FlopCounterMode(display=False) as counter:
        trainer._step(optimizer, trainer.inputs(images), labels)
    return float(counter.get_total_flops())


def measure_profile(data: Dataset, models: Iterable[str], say: Say = print) -> pd.DataFrame:
    """A row a model of the cpu profile; columns as in ``COLUMNS``, seconds of a whole fit."""
    cpu = torch.device("cpu")
    peaks = {False: peak_gflops(torch.float32)}
    if training.has_bfloat16(cpu):
        peaks[True] = peak_gflops(torch.bfloat16)
    say(f"a large product: {', '.join(f'{peak:,.0f} Gflop/s' for peak in peaks.values())}")
    rows = []
    for name in models:
        parameters = load_profile("cpu").models[name]
        tenth = isinstance(build(name, parameters), Network)
        model = build(name, with_epochs(parameters, 1) | _from_scratch(parameters))
        epochs = _epochs(build(name, parameters | _from_scratch(parameters)))
        row = shares(model, _tenth(data) if tenth else data, epochs, peaks)
        if tenth:  # on a tenth of the images that are trained and validated on
            scale = len(data.train_labels) / TENTH
            row |= {part: scale * row[part] for part in ("steps", "augmentation", "validation")}
        rows.append({"model": name} | row)
        say(f"{name}: " + ", ".join(f"{part} {value:.1f}" for part, value in row.items()))
    return pd.DataFrame(rows, columns=[*COLUMNS])


def _from_scratch(parameters: dict[str, Any]) -> dict[str, Any]:
    return {"weights": "none"} if "scratch" in parameters else {}


def _epochs(model: Model) -> int:
    return model.recipe_.epochs if isinstance(model, Network) else 1


def _tenth(data: Dataset) -> Dataset:
    """A tenth of the training and validation images, and all test images."""
    held_out = len(data.validation_labels) * TENTH // len(data.train_labels)
    return replace(
        data,
        train_images=data.train_images[:TENTH],
        train_labels=data.train_labels[:TENTH],
        validation_images=data.validation_images[:held_out],
        validation_labels=data.validation_labels[:held_out],
    )


def main() -> None:
    """Measure the models that are named, or all, and write the table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("models", nargs="*")
    options.add_argument("--avx2", action="store_true")
    given = options.parse_args()
    if given.avx2:
        if any(os.environ.get(name) != value for name, value in AVX2.items()):
            os.environ.update(AVX2)  # libraries read these once, when they are loaded
            os.execv(sys.executable, [sys.executable, "-m", "benchmarks.steps", *sys.argv[1:]])
        training.has_bfloat16 = lambda device: False  # type: ignore[assignment]
    begin(print)
    data = load_dataset("fashion_mnist")
    every = given.models or list(load_profile("cpu").models)
    table = measure_profile(data, every)
    path = HERE.tables / ("steps-avx2.csv" if given.avx2 else "steps.csv")
    table.round(2).to_csv(path, index=False, lineterminator="\n")
    parts = ["steps", "augmentation", "validation", "prediction"]
    print(f"all: {table[parts].sum().sum() / 60:.0f} min; written: {path}")


if __name__ == "__main__":
    main()
