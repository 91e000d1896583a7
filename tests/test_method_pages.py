"""The generated parts of docs/ are up to date with declarations, rules and rows, and every method has its page."""

import re
from pathlib import Path

import pytest

from blemish.methods.catalogue import METHODS, method_class

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "methods"


@pytest.fixture
def pages(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import pages

    return pages


@pytest.mark.parametrize("name", METHODS)
def test_page_is_up_to_date_with_the_declaration(pages, name):
    text = (PAGES / f"{name}.md").read_text()
    for part, content in (("declaration", pages.declaration(name)), ("options", pages.options(name))):
        assert pages.filled(text, part, content) == text, f"docs/methods/{name}.md is out of date; run make docs"
    for head in ("**Idea.**", "**Use it**", "**Do not use it**"):
        assert head in text, f"docs/methods/{name}.md does not say: {head}"


def test_list_of_methods_is_up_to_date(pages):
    text = (PAGES / "index.md").read_text()
    assert pages.method_index(text) == text, "docs/methods/index.md: run make docs"
    assert {path.stem for path in PAGES.glob("*.md")} == {*METHODS, "index"}
    assert set(re.findall(r"^\| \[([\w-]+)\]", text, re.MULTILINE)) == set(METHODS)


def test_every_table_has_its_place(pages):
    text = (ROOT / "docs" / "benchmarks.md").read_text()
    assert set(re.findall(r"<!-- made by benchmarks/pages.py: (.+) -->", text)) == {
        *pages.LISTINGS,
        "memory bank options",
        "advisor rules",
    }


def test_rules_of_the_advisor_are_up_to_date(pages):
    text = (ROOT / "docs" / "benchmarks.md").read_text()
    assert pages.filled(text, "advisor rules", pages.advisor_rules()) == text, "docs/benchmarks.md: run make docs"


def test_evidence_is_a_sentence_made_from_rows(pages, monkeypatch):
    import listings

    row = {"method": "padim", "set": "wood", "options": "", "AUROC": 0.9, "seed": 0}
    rows = [row, row | {"seed": 1, "AUROC": 0.8}, row | {"set": "bottle", "AUROC": 1.0}, row | {"method": "dfm"}]
    monkeypatch.setattr(listings, "rows_named", lambda name: rows if name == "some" else [])
    evidence = listings.Evidence("some", ("AUROC",), {"options": ("",)})
    sentence = listings.evidence_sentence(evidence, ("padim",))
    assert sentence == "AUROC: wood: padim 0.850 ± 0.071; bottle: padim 1.000."
    only = listings.Evidence("some", ("AUROC",), {"set": ("wood",)})
    assert listings.evidence_sentence(only, ()) == "AUROC: padim 0.850 ± 0.071, dfm 0.900."


def test_options_can_be_set_as_they_are_written(pages):
    from blemish.training.learn.options import check_options, parse_settings

    for name in METHODS:
        kind = method_class(name).Options
        rows = re.findall(r"^\| `(\w+)` \| `(.*?)` \|", pages.options(name), re.MULTILINE)
        assert len(rows) == len(kind.model_fields)
        assert check_options(kind, parse_settings(f"{key}={value}" for key, value in rows), name) == kind()


def test_seeds_become_one_row(pages):
    from table import merged

    row = {"method": "padim", "set": "wood", "options": "", "95 %": "0.8–0.9"}
    rows = [row | {"seed": seed, "AUROC": value} for seed, value in ((0, 0.9), (1, 0.5), (1, 0.8), (2, 0.7))]
    other = row | {"seed": 0, "AUROC": 0.1, "options": "steps=9"}
    found = merged([*rows, other])
    assert [one["AUROC"] for one in found] == ["0.8 ± 0.1", 0.1]  # of seed 1 the later
    assert found[0]["seed"] == "3 seeds"


def test_published_figures_are_of_methods(pages):
    from listings import published

    assert {name for name, _ in published()} <= set(METHODS)
