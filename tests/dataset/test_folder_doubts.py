"""What else stands on an image's path may contradict the label that a folder gives it."""

import json

import cv2
import numpy as np
import pytest

from blemish import read_dataset
from blemish.errors import DataError


def draw(path, value=128, defect=False):
    image = np.full((40, 40), value, np.uint8)
    if defect:
        image[10:20, 10:20] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image)


def labels(folder):
    return {
        s.image.relative_to(folder).as_posix(): (s.label, s.split, s.mask is not None)
        for s in read_dataset(folder).samples
    }


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (["ok/a", "ng/b", "ng/ok/c"], "good and of defective|good by another"),
        (["ok/a", "ng/b", "ok/ng/d"], "good and of defective"),
        (["good/a", "scratch/b", "line/x", "line/good/d"], "of class 'line' by one folder and good by another"),
        (["good/train/a", "good/test/b", "defect/train/c", "defect/test/d"], "is a split and no class"),
        (["good/images/a", "good/masks/a", "defect/images/b", "defect/masks/b"], "in a folder of masks"),
        (["good/a", "scratch/b", "scratch/b_mask", "dent/c"], "by its name the mask of b"),
        (["train/good/a", "test/good/b", "test/scratch/c", "test/scratch/c_mask"], "by its name the mask of c"),
    ],
)
def test_a_path_that_contradicts_itself_is_refused(images, says, tmp_path):
    for name in images:
        draw(tmp_path / f"{name}.png")
    with pytest.raises(DataError, match=says):
        read_dataset(tmp_path)


def test_a_folder_of_images_below_a_class_is_no_class(tmp_path):
    for name in ("good/images/a", "defect/images/b"):
        draw(tmp_path / f"{name}.png")
    assert labels(tmp_path) == {
        "good/images/a.png": ("good", None, False),
        "defect/images/b.png": ("defect", None, False),
    }


def test_splits_below_images_and_masks_are_splits(tmp_path):
    for split in ("train", "val"):
        draw(tmp_path / f"images/{split}/{split}0.png")
        draw(tmp_path / f"images/{split}/{split}1.png")
        draw(tmp_path / f"masks/{split}/{split}1.png", 0, defect=True)
    found = labels(tmp_path)
    assert found == {
        f"images/{split}/{split}{i}.png": (("good", "defect")[i], split, bool(i))
        for split in ("train", "val")
        for i in (0, 1)
    }


def test_folders_of_cameras_are_no_classes(tmp_path):
    for camera in ("cam1", "cam2"):
        draw(tmp_path / f"images/{camera}/{camera}0.png")
        draw(tmp_path / f"images/{camera}/{camera}1.png")
        draw(tmp_path / f"masks/{camera}/{camera}1.png", 0, defect=True)
    with pytest.raises(DataError, match="may be a class or not"):
        read_dataset(tmp_path)


def yolo(folder, labelled):
    for split in ("train", "valid"):
        for i in range(2):
            draw(folder / split / "images" / f"{i}.png")
        if split in labelled:
            (folder / split / labelled[split]).mkdir()
            for i in range(2):
                (folder / split / labelled[split] / f"{i}.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (folder / "data.yaml").write_text("train: train/images\nval: valid/images\nnames: [scratch]\n")


def test_yolo_s_folder_of_labels_is_found_in_whatever_case(tmp_path):
    yolo(tmp_path, {"train": "Labels", "valid": "labels"})
    assert {label for label, *_ in labels(tmp_path).values()} == {"scratch"}


def test_images_of_a_yolo_split_without_any_label_file_are_not_good(tmp_path):
    yolo(tmp_path, {"train": "labels"})
    with pytest.warns(UserWarning, match="none of its 2 images has a label file"):
        found = labels(tmp_path)
    assert [found[f"valid/images/{i}.png"][0] for i in range(2)] == [None, None]


def test_a_labelme_flag_without_an_outline_is_not_good(tmp_path):
    for i, flags in enumerate(({"scratch": True, "good": False}, {"scratch": False, "good": True})):
        draw(tmp_path / f"{i}.png")
        content = {"shapes": [], "flags": flags, "imagePath": f"{i}.png", "imageHeight": 40, "imageWidth": 40}
        (tmp_path / f"{i}.json").write_text(json.dumps(content))
    with pytest.warns(UserWarning, match="flag 'scratch' is set, but nothing is outlined"):
        found = labels(tmp_path)
    assert [found[f"{i}.png"][0] for i in range(2)] == [None, "good"]


@pytest.mark.parametrize("first", ["background", "unlabeled", "0 background"])
def test_a_list_of_classes_may_begin_with_the_background(first, tmp_path):
    class_masks(tmp_path, first)
    assert labels(tmp_path)["images/1.png"][0] == "scratch"


@pytest.mark.parametrize("first", ["good", "OK"])
def test_a_list_of_classes_that_begins_with_a_good_one_is_refused(first, tmp_path):
    """Whether that is the value 0 or 1, nobody knows."""
    class_masks(tmp_path, first)
    with pytest.raises(DataError, match=f"begins with '{first}'"):
        read_dataset(tmp_path)


def class_masks(folder, first):
    for i in range(3):
        draw(folder / f"images/{i}.png")
        mask = np.zeros((40, 40), np.uint8)
        mask[5:15, 5:15] = i
        (folder / "masks").mkdir(exist_ok=True)
        cv2.imwrite(str(folder / f"masks/{i}.png"), mask)
    (folder / "classes.txt").write_text(f"{first}\nscratch\ndent\n")


@pytest.mark.parametrize("column", ["mask", "template"])
def test_a_missing_file_of_an_image_s_name_is_not_the_image(column, tmp_path):
    draw(tmp_path / "1.png", 0, defect=True)
    (tmp_path / "list.csv").write_text(f"image,label,{column}\n1.png,scratch,{column}s/1.png\n")
    with pytest.raises(DataError, match="does not exist"):
        read_dataset(tmp_path / "list.csv")


def test_a_choice_about_a_region_is_no_class_of_the_image(tmp_path):
    draw(tmp_path / "images/1.png")
    box = {"x": 10, "y": 10, "width": 20, "height": 20, "rotation": 0}
    common = {"id": "r", "original_width": 40, "original_height": 40, "to_name": "image"}
    result = [
        {**common, "type": "rectanglelabels", "from_name": "box", "value": {**box, "rectanglelabels": ["scratch"]}},
        {**common, "type": "choices", "from_name": "severity", "value": {**box, "choices": ["minor"]}},
    ]
    task = {"id": 1, "data": {"image": "images/1.png"}, "annotations": [{"was_cancelled": False, "result": result}]}
    (tmp_path / "tasks.json").write_text(json.dumps([task]))
    (sample,) = read_dataset(tmp_path).samples
    assert sample.label == "scratch"


def test_marks_that_are_not_kept_are_noted(tmp_path):
    for kind in ("voc", "coco"):
        draw(tmp_path / kind / "images/1.png")
    box = "<bndbox><xmin>5</xmin><ymin>5</ymin><xmax>20</xmax><ymax>20</ymax></bndbox>"
    (tmp_path / "voc/annotations").mkdir()
    (tmp_path / "voc/annotations/1.xml").write_text(
        "<annotation><size><width>40</width><height>40</height></size>"
        f"<object><name>dent</name><difficult>1</difficult>{box}</object></annotation>"
    )
    row = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 5, 15, 15], "iscrowd": 1}
    images = [{"id": 1, "file_name": "images/1.png", "width": 40, "height": 40}]
    content = {"images": images, "annotations": [row], "categories": [{"id": 1, "name": "dent"}]}
    (tmp_path / "coco/a.json").write_text(json.dumps(content))
    with pytest.warns(UserWarning, match="difficult count like any other"):
        read_dataset(tmp_path / "voc")
    with pytest.warns(UserWarning, match="crowds count as one defect each"):
        read_dataset(tmp_path / "coco")
