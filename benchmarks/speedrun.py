"""Train a profile's models against the clock with all its seeds.

``python -m benchmarks.speedrun`` prints the distribution.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from benchmarks.bench import with_epochs
from fmlib import fast
from fmlib.data import Dataset
from fmlib.fitting import Job, jobs
from fmlib.measure import describe_machine
from fmlib.models.registry import build
from fmlib.profiles import load_profile


def run_speedrun(profile: str = "speedrun", say: Callable[[str], None] = print) -> pd.DataFrame:
    """Train the profile's models with each of its seeds, after an epoch that does not count.

    Prints accuracy on the test images and training seconds of every run, then their mean and
    standard deviation over seeds. Returns a row a run.
    """
    settings, rows = load_profile(profile), []
    fast.enable()
    data = settings.data(say)
    say(f"on {describe_machine({})['device_name']}")
    _warm_up(jobs(settings)[0], data)
    for job in jobs(settings):
        run = _run(job, data)
        rows.append(run)
        accuracy, seconds = run["accuracy"], run["train_seconds"]
        say(f"{job.model}, seed {job.seed}: {accuracy:.4f} in {seconds:.2f} s of training")
    table = pd.DataFrame(rows)
    for model, runs in table.groupby("model"):
        accuracy, seconds = runs["accuracy"], runs["train_seconds"]
        say(
            f"{model}: accuracy {accuracy.mean():.4f} ± {accuracy.std():.4f} over {len(runs)} "
            f"seeds, training {seconds.mean():.2f} ± {seconds.std():.2f} s"
        )
    return table


def _warm_up(job: Job, data: Dataset) -> None:
    """A device is slower on the first batches of a kind: no run should be the one to pay."""
    build(job.model, with_epochs(job.parameters, 1)).fit(data, job.seed)


def _run(job: Job, data: Dataset) -> dict[str, Any]:
    model = build(job.model, job.parameters).fit(data, job.seed)
    accuracy = float((model.predict(data.test_images) == data.test_labels).mean())
    return {
        "model": job.model,
        "seed": job.seed,
        "accuracy": accuracy,
        "train_seconds": model.train_seconds_,
    }


if __name__ == "__main__":
    run_speedrun()
