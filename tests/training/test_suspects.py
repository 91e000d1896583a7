"""Suspects: images with another label than they should have come first, and the page shows them."""

import json
import sys
from dataclasses import replace

import pytest

import blemish.cli
from blemish.dataset.read import read_dataset
from blemish.dataset.write import write_csv
from blemish.errors import DataError
from blemish.training.suspects import find_suspects


@pytest.fixture(scope="module")
def labelled(tiny_data):
    return read_dataset(tiny_data.folder / "labelled.csv")


def test_a_defect_among_good_images_alone_comes_first(labelled):
    good = [s for s in labelled.samples if s.label == "good"]
    hidden = [replace(s, label="good", mask=None) for s in labelled.samples if s.label == "pit"][:2]
    found = find_suspects(labelled.with_samples([*good, *hidden]))
    assert len(found) == len(good) + 2
    assert {s.sample.image for s in found[:2]} == {s.image for s in hidden}
    assert (found[0].label, found[0].looks_like) == ("good", "defect")
    assert [s.suspicion for s in found] == sorted((s.suspicion for s in found), reverse=True)


def test_labels_that_were_exchanged_are_among_the_first(labelled):
    pits = [s for s in labelled.samples if s.label == "pit"]
    good = [s for s in labelled.samples if s.label == "good"]
    wrong = {pits[0].image: "good", good[0].image: "pit"}
    changed = [replace(s, label=wrong.get(s.image, s.label)) for s in [*good, *pits]]
    found = find_suspects(labelled.with_samples(changed), seed=1)
    assert set(wrong) <= {s.sample.image for s in found[:4]}


def test_without_two_good_images_there_is_nothing_to_compare_with(labelled):
    with pytest.raises(DataError, match="comparison with good images"):
        find_suspects(labelled.where(lambda s: s.label == "pit"))


def test_the_command_writes_a_page(labelled, tmp_path, monkeypatch, capsys):
    write_csv(labelled.where(lambda s: s.label == "good"), tmp_path / "good.csv")
    page, out = tmp_path / "page.html", tmp_path / "audit.json"
    arguments = ["data", "audit", tmp_path / "good.csv", "--suspects", "--page", page, "--json", out]
    monkeypatch.setattr(sys, "argv", ["blemish", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        blemish.cli.main()
    assert left.value.code == 0, capsys.readouterr().err
    rows = json.loads(out.read_text(encoding="utf-8"))["suspects"]
    assert len(rows) == sum(s.label == "good" for s in labelled.samples)
    text = page.read_text(encoding="utf-8")
    assert text.count("data:image/jpeg;base64,") == min(20, len(rows))
    assert rows[0]["image"] in text
