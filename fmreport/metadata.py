"""What the title page says about a report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Paper = Literal["a4", "us-letter"]
PAPERS = get_args(Paper)


@dataclass(frozen=True)
class ReportMetadata:
    """The facts of a report's title block; an empty one is left out. ``date`` is ISO, ``2026-01-31``."""

    title: str
    subtitle: str = ""
    date: str = ""
    profile: str = ""
    machine: str = ""
    commit: str = ""
    keywords: tuple[str, ...] = ()

    @property
    def facts(self) -> list[tuple[str, str]]:
        """The facts below the title, as (label, text)."""
        facts = {"Date": self.date, "Profile": self.profile, "Machine": self.machine, "Commit": self.commit}
        return [(label, text) for label, text in facts.items() if text]
