"""docs/design.md: what it says of the house and of the tests is so."""

from __future__ import annotations

import re
from itertools import takewhile
from pathlib import Path

import pytest

from fmlib.project import HERE

DESIGN = (HERE.docs / "design.md").read_text(encoding="utf-8")


def table(heading: str) -> list[list[str]]:
    """The cells of the rows below a row that begins so."""
    below = DESIGN.partition(f"| {heading} |")[2].splitlines()[2:]
    rows = takewhile(lambda line: line.startswith("|"), below)
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]


@pytest.mark.parametrize("package", ["fmlib", "fmreport"])
def test_every_module_stands_in_its_packages_table(package):
    told = re.findall(r"`(\w+)`", " ".join(row[0] for row in table(f"`{package}`")))
    folder = HERE.root / package
    parts = [*folder.glob("*.py"), *(one.parent for one in folder.glob("*/__init__.py"))]
    assert sorted(told) == sorted({one.stem for one in parts} - {"__init__"})


def test_every_fault_names_tests_that_there_are():
    files = Path(__file__).parent.rglob("test_*.py")
    known = {
        name
        for path in files
        for name in re.findall(r"^def (test_\w+)", path.read_text("utf-8"), re.M)
    }
    faults = table("fault")
    assert len(faults) > 15
    for fault, _, tests in faults:
        named = re.findall(r"`(\w+)`", tests)
        assert named and {*named} <= known, (fault, {*named} - known)
