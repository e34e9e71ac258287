"""A student in JupyterLab: runs a chapter, adds a sentence, and finds it in the report."""

import subprocess
import sys
from pathlib import Path

CLONE = Path.cwd()
SENTENCE = "A student adds a sentence that stands in the report."
sys.path[:0] = [str(CLONE / "tests" / "pages")]

from chromium import chromium  # noqa: E402
from jupyterlab_window import Lab, open_notebook, run_all, save, window  # noqa: E402


def report() -> str:
    command = ["make", "report", "PROFILE=smoke"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main() -> None:
    report()
    lab = Lab(CLONE, Path.home())
    try:
        with chromium() as browser, window(browser, lab) as page:
            notebook = open_notebook(page, "04_mlp.py")
            run_all(page, notebook)
            text = notebook.locator(".jp-MarkdownCell").first
            text.dblclick()
            text.locator(".cm-content").click()
            page.keyboard.press("Control+End")
            page.keyboard.insert_text(f"\n{SENTENCE}")
            save(page, lab)
    finally:
        lab.stop()
    changed = lab.git("diff", "--numstat").split()
    assert changed == ["1", "0", "notebooks/04_mlp.py"], changed
    assert "nothing to fit" in report()
    page = (CLONE / "build" / "smoke" / "report.html").read_text(encoding="utf-8")
    assert SENTENCE in page


if __name__ == "__main__":
    main()
