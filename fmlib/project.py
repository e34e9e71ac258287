"""Where a project keeps its files: the one place that knows folders by name."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

# What may name a folder, and what links lead to: a model, a figure, a table.
SLUG = re.compile(r"[a-z0-9]+(?:[-_][a-z0-9]+)*")


def sha256_of_file(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Project:
    """The folders below a project's ``root``."""

    root: Path

    @property
    def params(self) -> Path:
        """Profiles, one YAML each."""
        return self.root / "params"

    @property
    def notebooks(self) -> Path:
        """The report's text, as py:percent files."""
        return self.root / "notebooks"

    @property
    def build(self) -> Path:
        """What is derived: a folder a profile."""
        return self.root / "build"

    @property
    def data(self) -> Path:
        """Where FashionMNIST's files lie once they are fetched."""
        return self.root / "data"

    @property
    def docs(self) -> Path:
        """What is published."""
        return self.root / "docs"

    @property
    def studies(self) -> Path:
        """What searches and ablations try."""
        return self.params / "studies"

    @property
    def tables(self) -> Path:
        """What searches and ablations gave."""
        return self.docs / "studies"

    @property
    def publications(self) -> Path:
        """Every accuracy on test images that was ever published, as a table."""
        return self.docs / "publications.csv"

    def published(self, profile: str) -> Path:
        """Where a profile's report is published, and below it ``results``."""
        return self.docs if profile == "cpu" else self.docs / profile

    def results(self, profile: str) -> Path:
        """Where a profile's records lie."""
        return self.build / profile / "results"


HERE = Project(Path(__file__).resolve().parents[1])
