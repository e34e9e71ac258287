"""The synthetic report, merged and rendered once for all tests."""

from pathlib import Path

import pytest
from nbformat import NotebookNode
from synthetic_report import METADATA, merged_report

from fmlib.report import render


@pytest.fixture(scope="session")
def merged() -> NotebookNode:
    return merged_report()


@pytest.fixture(scope="session")
def report(merged: NotebookNode, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return render(merged, METADATA, tmp_path_factory.mktemp("a report"))
