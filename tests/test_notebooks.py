"""The notebooks in docs/notebooks, executed as they are."""

import os
import sys
from pathlib import Path

import pytest

jupytext = pytest.importorskip("jupytext", reason="the notebooks need the extra 'docs'")
nbformat = pytest.importorskip("nbformat", reason="the notebooks need the extra 'docs'")
nbclient = pytest.importorskip("nbclient", reason="the notebooks need the extra 'docs'")

# Trainings in the kernel are as brief as those of other tests.
BRIEF = """
from blemish.training.learn import prepare
from blemish.training.ship import estimate_uncertainty, forecast, refine

prepare.FEW_GOOD, estimate_uncertainty.MAX_TRIALS, forecast.TRIALS, refine.MIN_GOOD = 0, 20, 12, 10**6
"""
NOTEBOOKS = sorted((Path(__file__).parents[1] / "docs" / "notebooks").glob("*.md"))
LONG = ("comparison",)


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=[pytest.mark.slow] * (path.stem in LONG)) for path in NOTEBOOKS],
    ids=lambda path: path.stem,
)
def test_the_notebook_runs_to_its_end(path, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")  # for `!blemish`
    notebook = jupytext.read(path)
    assert sum(cell.cell_type == "code" for cell in notebook.cells) >= 3
    notebook.cells.insert(0, nbformat.v4.new_code_cell(BRIEF))
    nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    ).execute()
