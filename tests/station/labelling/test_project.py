"""A labelling project over a folder: its annotations, labels on top of them, and the data set that is written."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from blemish.dataset.ground_truth import read_class_masks, read_defect_mask
from blemish.dataset.labels import LabelEvidence
from blemish.dataset.read import FORMATS, read_dataset
from blemish.dataset.sample import GOOD
from blemish.errors import DataError, ImageError
from blemish.geometry import encode_mask
from blemish.station.labelling.journal import DrawnDefect, ImageLabel
from blemish.station.labelling.project import ClassRule, LabelProject, LabelProjects, current_label
from blemish.station.pages.label_export import write_labels

SIZE = 24, 32


def write_image(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.random.default_rng(seed).integers(0, 255, SIZE, np.uint8))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for index in range(4):
        write_image(tmp_path / "plates" / f"{index}.png", index)
    return tmp_path / "plates"


def square(x: int, label: str) -> DrawnDefect:
    mask = np.zeros(SIZE, bool)
    mask[4:9, x : x + 5] = True
    return DrawnDefect.of(encode_mask(mask, label))


def test_labels_of_an_unlabelled_folder_are_read_back_in_every_layout(tmp_path: Path, source: Path) -> None:
    project = LabelProjects(tmp_path / "labelling").create(source, "anna")
    assert "no folder says which are good" in project.problem
    assert project.sample("0.png").defective is None
    project.journal.add([
        ImageLabel(image="0.png", person="anna", labels=(GOOD,)),
        ImageLabel(image="1.png", person="anna", labels=("dent",), drawn=(square(3, "dent"),), split="train"),
        ImageLabel(image="2.png", person="anna", labels=("dent", "pit"), drawn=(square(3, "dent"), square(20, "pit"))),
    ])  # fmt: skip
    assert project.sample("1.png").evidence is LabelEvidence.PERSON
    truth = read_class_masks(project.sample("2.png"), ("dent", "pit"), SIZE)
    assert [int(layer.sum()) for layer in truth] == [25, 25]
    with pytest.raises(DataError, match="none of the images has a template"):
        write_labels(project, "deeppcb", tmp_path / "exports")
    assert list((tmp_path / "exports").iterdir()) == []
    renamed = ("deeppcb", "neu-det")  # neu-det names images by their class and a number
    for layout in (name for name, one in FORMATS.items() if one.write is not None and name not in renamed):
        written, _losses = write_labels(project, layout, tmp_path / "exports" / layout)
        back = {sample.image.stem.rpartition("_")[2]: sample for sample in read_dataset(written, layout).samples}
        assert "3" not in back, layout  # nobody labelled it
        if "1" in back and back["1"].shapes is not None:
            assert (read_defect_mask(back["1"], SIZE) == truth[0]).all(), layout
        assert back.get("0") is None or back["0"].defective is False, layout


def test_a_label_goes_on_top_of_the_annotations_that_are_there(tmp_path: Path) -> None:
    for index, kind in enumerate(("good", "good", "dent")):
        write_image(tmp_path / "set" / kind / f"{index}.png", index)
    project = LabelProjects(tmp_path / "labelling").create(tmp_path / "set", "anna")
    assert project.problem == ""
    assert project.sample("dent/2.png").evidence is LabelEvidence.FOLDER
    before = current_label(project.sample("dent/2.png"), "dent/2.png", "otto")
    assert (before.labels, before.drawn) == (("dent",), None)
    project.journal.add([before.model_copy(update={"labels": (GOOD,)})])
    again = LabelProject(project.folder)
    assert again.sample("dent/2.png").label == GOOD
    assert again.sample("dent/2.png", "anna").label == "dent"  # anna said nothing
    assert not again.disputed("dent/2.png")
    again.journal.add([before.model_copy(update={"person": "anna"})])
    assert again.disputed("dent/2.png")
    again.write_book([ClassRule(name="dent", rule="deeper than 0.1 mm")])
    assert LabelProject(project.folder).book[0].rule == "deeper than 0.1 mm"
    assert again.classes()[:2] == (GOOD, "dent")


def test_a_folder_has_one_project_and_uploads_become_part_of_it(tmp_path: Path, source: Path) -> None:
    projects = LabelProjects(tmp_path / "labelling")
    project = projects.create(source, "anna")
    assert LabelProjects(tmp_path / "labelling").create(source, "otto").name == project.name
    content = (source / "0.png").read_bytes()
    assert project.add_image("../../my plate.png", content) == "uploads/my_plate.png"
    assert project.add_image("my plate.png", content) == "uploads/my_plate.png"
    assert project.add_image("my plate.png", (source / "1.png").read_bytes()) == "uploads/my_plate-1.png"
    with pytest.raises(ImageError):
        project.add_image("text.png", b"no image")
    with pytest.raises(DataError, match="no image file"):
        project.add_image("a.exe", content)
    assert sorted(LabelProject(project.folder).samples) == [
        *(f"{n}.png" for n in range(4)), "uploads/my_plate-1.png", "uploads/my_plate.png",
    ]  # fmt: skip
    with pytest.raises(DataError, match="unknown labelling project 'x'"):
        projects.open("x")
    with pytest.raises(DataError):
        projects.create(tmp_path / "nothing", "anna")
    assert projects.names() == ["plates"]
