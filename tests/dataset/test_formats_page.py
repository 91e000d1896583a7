"""The page of layouts, made from their declarations, has a whole row for each."""

import importlib.util
from pathlib import Path

import pytest

from blemish.dataset.read import FORMATS

pytest.importorskip("mkdocs")


def test_every_layout_has_a_row():
    spec = importlib.util.spec_from_file_location("hooks", Path(__file__).parents[2] / "docs" / "hooks.py")
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    default, whole = hooks.count_tested_faults()
    assert 300 <= default < whole
    assert f"{whole:,} pairs" in hooks.formats_page()
    table = [line for line in hooks.formats_page().splitlines() if line.startswith("| `")]
    names = [line.split("`")[1] for line in table]
    assert names == list(FORMATS)
    for line in table:
        cells = [cell.strip() for cell in line.strip("| ").replace("\\|", "/").split("|")]
        assert len(cells) == 6
        assert all(cells)
