"""What a notebook would show, noted instead."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import pytest
from IPython.display import Markdown

from fmreport import sections, studies


class Shown:
    """Everything that was displayed, in order: Markdown as text, all else as its metadata."""

    def __init__(self) -> None:
        self.things: list[str | dict[str, Any]] = []

    def note(self, thing: Any, metadata: dict[str, Any] | None = None, raw: bool = False) -> None:
        """Takes the place of IPython's ``display``."""
        if isinstance(thing, Markdown):
            self.things.append(thing.data)
        else:
            self.things.append(metadata["fmreport"] | {"text": thing["text/plain"]})

    @property
    def prose(self) -> list[str]:
        """Markdown texts."""
        return [thing for thing in self.things if isinstance(thing, str)]

    @property
    def notices(self) -> list[str]:
        """The texts of notices."""
        return [one["text"] for one in self.of_kind("notice")]

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        """Figures, tables or notices."""
        others = [thing for thing in self.things if not isinstance(thing, str)]
        return [one for one in others if one["kind"] == kind]

    def names(self, kind: str) -> list[str]:
        """The names of figures or tables."""
        return [one["name"] for one in self.of_kind(kind)]

    def table(self, name: str) -> list[dict[str, str]]:
        """A table's rows as text."""
        meta = next(one for one in self.of_kind("table") if one["name"] == name)
        return [dict(zip(meta["columns"], row, strict=True)) for row in meta["rows"]]


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Shown:
    """What the test's code displays."""
    shown = Shown()
    monkeypatch.setattr("IPython.display.display", shown.note)
    for module in (sections, studies):
        monkeypatch.setattr(module, "display", shown.note)
    yield shown
    plt.close("all")


@pytest.fixture(autouse=True)
def quick_corrections(monkeypatch: pytest.MonkeyPatch) -> None:
    """statsmodels' multipletests collects garbage at every call, which takes half a second here."""
    monkeypatch.setattr("gc.collect", lambda *generation: 0)
