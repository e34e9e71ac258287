"""Train a profile's models against the clock with all its seeds: ``python -m benchmarks.speedrun`` prints the distribution."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from benchmarks.bench import with_epochs
from fmlib import fast
from fmlib.fitting import jobs
from fmlib.measure import describe_machine
from fmlib.models.registry import build
from fmlib.profiles import load_profile


def run_speedrun(profile: str = "speedrun", say: Callable[[str], None] = print) -> pd.DataFrame:
    """Train the profile's models with each of its seeds, after an epoch that does not count; print accuracy on the test images
    and training seconds of every run, then mean and standard deviation over seeds. Returns a row a run."""
    settings, rows = load_profile(profile), []
    fast.enable()
    data = settings.data(say)
    say(f"on {describe_machine({})['device_name']}")
    first = next(
        iter(jobs(settings))
    )  # a device is slower on the first batches of a kind: no run should be the one to pay
    build(first.model, with_epochs(first.parameters, 1)).fit(data, first.seed)
    for job in jobs(settings):
        classifier = build(job.model, job.parameters).fit(data, job.seed)
        accuracy = float((classifier.predict(data.test_images) == data.test_labels).mean())
        rows.append(
            {
                "model": job.model,
                "seed": job.seed,
                "accuracy": accuracy,
                "train_seconds": classifier.train_seconds_,
            }
        )
        say(
            f"{job.model}, seed {job.seed}: {accuracy:.4f} in {classifier.train_seconds_:.2f} s of training"
        )
    table = pd.DataFrame(rows)
    for model, runs in table.groupby("model"):
        say(
            f"{model}: accuracy {runs['accuracy'].mean():.4f} ± {runs['accuracy'].std():.4f} over {len(runs)} seeds, "
            f"training {runs['train_seconds'].mean():.2f} ± {runs['train_seconds'].std():.2f} s"
        )
    return table


if __name__ == "__main__":
    run_speedrun()
