"""Labels on the disk: the latest of each person, drawn pixels, and a line that was cut off."""

from pathlib import Path

import numpy as np
import pytest

from blemish.errors import DataError
from blemish.geometry import encode_mask, shape_mask
from blemish.station.labelling.journal import DrawnDefect, ImageLabel, LabelJournal


def test_the_latest_label_of_each_person_is_kept_and_read_again(tmp_path: Path) -> None:
    mask = np.random.default_rng(0).random((20, 30)) > 0.7
    drawn = (DrawnDefect.of(encode_mask(mask, "划痕")),)
    journal = LabelJournal(tmp_path / "labels.jsonl")
    journal.add([ImageLabel(image="a.png", person="anna", labels=("good",))])
    journal.add([ImageLabel(image="a.png", person="otto", labels=("划痕",), drawn=drawn, group="L1")])
    journal.add([ImageLabel(image="a.png", person="anna", labels=("dent",))])
    for one in (journal, LabelJournal(journal.path)):
        assert {person: label.labels for person, label in one.of_image("a.png").items()} == {
            "otto": ("划痕",), "anna": ("dent",),
        }  # fmt: skip
        latest = one.latest("a.png")
        assert latest is not None
        assert latest.person == "anna"
        (again,) = one.of_image("a.png")["otto"].drawn or ()
        assert (shape_mask(again.shape(), mask.shape) == mask).all()
    assert len(journal.path.read_text(encoding="utf-8").splitlines()) == 3  # nothing is ever removed


@pytest.mark.parametrize("cut", [1, 20])
def test_half_a_line_is_dropped_and_the_next_one_is_whole(tmp_path: Path, cut: int) -> None:
    journal = LabelJournal(tmp_path / "labels.jsonl")
    journal.add(ImageLabel(image=f"{n}.png", person="anna", labels=("good",)) for n in range(2))
    content = journal.path.read_bytes()
    journal.path.write_bytes(content[:-cut])
    again = LabelJournal(journal.path)
    assert again.latest("0.png") is not None
    assert again.latest("1.png") is None
    again.add([ImageLabel(image="2.png", person="anna", labels=("good",))])
    assert LabelJournal(journal.path).latest("2.png") is not None


def test_a_full_disk_takes_back_the_half_line(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    journal = LabelJournal(tmp_path / "labels.jsonl")
    first, second = (ImageLabel(image=f"{n}.png", person="anna", labels=("good",)) for n in range(2))
    journal.add([first])
    content = journal.path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(content) + 20, limits[1]))
    try:
        with pytest.raises(OSError, match=r"labels\.jsonl"):
            journal.add([second])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert journal.path.read_bytes() == content
    assert journal.latest("1.png") is None
    journal.add([second])
    assert LabelJournal(journal.path).latest("1.png") == second


def test_a_damaged_line_is_told(tmp_path: Path) -> None:
    (tmp_path / "labels.jsonl").write_text('{"image": "a.png"}\n')
    with pytest.raises(DataError, match=r"labels\.jsonl, line 1 is damaged"):
        LabelJournal(tmp_path / "labels.jsonl")
