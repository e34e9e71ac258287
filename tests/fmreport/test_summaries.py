"""Whole summaries of made-up results, as a reader has them, kept beside this file.

After a change of words: ``SUMMARIES=write python -m pytest tests/fmreport/test_summaries.py``, and
read the difference.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import synthetic

from fmlib.results import Result, Weights
from fmreport import text
from fmreport.compare import verdict

FOLDER = Path(__file__).with_name("summaries")


def equal() -> list[Result]:
    """Two models of one accuracy that err on different images."""
    even = np.arange(2000) % 10 > 0
    return [synthetic.record("One", even), synthetic.record("Two", np.roll(even, 1))]


def constant() -> list[Result]:
    """A model that gives every image the first class, alone."""
    held_out = synthetic.predict(synthetic.labels_of(200, 5), np.arange(200) % 5 == 0, 5, 0.9)
    first = synthetic.labels_of(2000, 5) == 0
    return [synthetic.record("Constant", first, confidence=0.9, validation=held_out)]


def best_elsewhere() -> list[Result]:
    elsewhere = synthetic.record("Delta", 0.97, machine=synthetic.ELSEWHERE, train_seconds=1)
    return [*synthetic.clear_winner(), elsewhere]


def transfer() -> list[Result]:
    weights = {"vgg16": Weights(source="none"), "efficientnet_lite0": Weights(source="package")}
    scores = {"vgg16": 0.9, "efficientnet_lite0": 0.94, "cnn": 0.93}
    return [
        synthetic.record(name, score, history=3, views=2, weights=weights.get(name))
        for name, score in scores.items()
    ]


CASES = {
    "none": [],
    "one": synthetic.clear_winner()[:1],
    "two": synthetic.clear_winner()[:2],
    "three": synthetic.clear_winner(),
    "ten": synthetic.ten_models(),
    "tied": synthetic.all_tied(),
    "equal": equal(),
    "constant-alone": constant(),
    "best-elsewhere": best_elsewhere(),
    "first-seed-ahead": [
        *synthetic.of_seeds("First", 0.95, 0.85, 0.86),
        *synthetic.of_seeds("Steady", 0.9, 0.91, 0.9),
    ],
    "recipes": [
        *synthetic.of_seeds("Best", 0.95, 0.951, 0.949),
        *synthetic.of_seeds("Second", 0.90, 0.902, 0.898),
        synthetic.record("svm", 0.85),
    ],
    "transfer": transfer(),
}


@pytest.mark.parametrize("case", CASES)
def test_a_summary_reads_as_it_was_read_and_approved(case):
    records = CASES[case]
    found = verdict.compare(records)
    needs = list(verdict.needs(found))
    rows = [
        f"- {label}: {text.some(need.models)} ({why})"
        for need in needs
        for label, why in [text.need_words(need)]
    ]
    answer = [text.advice(needs), *rows, text.not_considered(found), text.certainty(found)]
    summary = text.summarise(records)
    told = "\n\n".join([*filter(None, answer), summary, text.evidence(found)]) + "\n"
    path = FOLDER / f"{case}.md"
    if os.environ.get("SUMMARIES") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(told, encoding="utf-8")
    assert told == path.read_text(encoding="utf-8")
