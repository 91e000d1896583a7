"""Annotations as they are found in the wild: every usual layout, and what is broken is named, never swallowed."""

import json
import os
import re
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blemish.dataset.audit import audit_dataset
from blemish.dataset.ground_truth import known_boxes, read_class_masks, read_defect_mask
from blemish.dataset.info import describe
from blemish.dataset.labels import LabelEvidence
from blemish.dataset.read import FORMATS, read_dataset
from blemish.dataset.sample import AnnotationWarning, Dataset, Sample
from blemish.dataset.write import convert
from blemish.errors import DataError
from blemish.geometry import Box, Polygon
from blemish.imaging.read import write_image

SIZE = (40, 80)


def picture(path, seed=0, size=SIZE):
    write_image(path, np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8))
    return path


def text(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


def voc_xml(*objects):
    def item(name, bounds):
        corners = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), bounds, strict=False))
        return f"<object><name>{name}</name><difficult>0</difficult><bndbox>{corners}</bndbox></object>"

    return "<annotation><filename>x.jpg</filename>" + "".join(item(*o) for o in objects) + "</annotation>"


def make_voc(root):
    for i in range(3):
        picture(root / f"JPEGImages/{i}.png", i)
    text(root / "Annotations/0.xml", voc_xml(("dent", (1, 1, 80, 40)), ("pit", (5, 6, 7, 8))))
    text(root / "Annotations/1.xml", voc_xml())
    text(root / "ImageSets/Main/train.txt", "0\n1\n")
    text(root / "ImageSets/Main/test.txt", "2 -1\n")
    return {
        "0": ("train", None, (Box(0, 0, 80, 40, "dent"), Box(4, 5, 7, 8, "pit"))),
        "1": ("train", "good", ()),
        "2": ("test", None, None),
    }


def make_voc_beside(root):
    picture(root / "train/a.png")
    text(root / "train/a.xml", voc_xml(("dent", (2, 2, 3, 3))))
    picture(root / "valid/b.png", 1)
    text(root / "valid/b.xml", voc_xml(("pit", (2, 2, 3, 3))))
    return {"a": ("train", "dent", (Box(1, 1, 3, 3, "dent"),)), "b": ("val", "pit", (Box(1, 1, 3, 3, "pit"),))}


def make_neu(root):
    picture(root / "IMAGES/rolled-in_scale_1.jpg")
    picture(root / "IMAGES/patches_12.jpg", 1)
    text(root / "ANNOTATIONS/rolled-in_scale_1.xml", voc_xml(("patches", (1, 1, 10, 10))))
    text(root / "ANNOTATIONS/patches_12.xml", voc_xml(("patches", (1, 1, 10, 10))))
    box = (Box(0, 0, 10, 10, "patches"),)
    return {"rolled-in_scale_1": (None, "rolled-in_scale", box), "patches_12": (None, "patches", box)}


def coco_of(names, annotations):
    return json.dumps(
        {
            "info": {},
            "images": [{"id": i, "file_name": name, "height": 40, "width": 80} for i, name in enumerate(names, 5)],
            "categories": [{"id": 3, "name": "dent"}, {"id": 9, "name": "pit"}],
            "annotations": annotations,
        }
    )


def make_coco(root):
    picture(root / "val2017/a.png")
    picture(root / "val2017/b.png", 1)
    one = {"id": 1, "image_id": 5, "category_id": 9, "bbox": [1, 2, 3, 4], "iscrowd": 0}
    text(root / "annotations/instances_val2017.json", coco_of(["a.png", "b.png"], [one]))
    text(root / "annotations/captions_val2017.json", '{"images": [], "annotations": [{"caption": ""}]}')
    return {"a": ("val", "pit", (Box(1, 2, 4, 6, "pit"),)), "b": ("val", "good", ())}


def make_coco_roboflow(root):
    for split in ("train", "valid"):
        picture(root / split / f"{split}.png")
        one = {"id": 1, "image_id": 5, "category_id": 3, "bbox": [0, 0, 8, 9], "segmentation": []}
        text(root / split / "_annotations.coco.json", coco_of([f"{split}.png"], [one]))
    box = (Box(0, 0, 8, 9, "dent"),)
    return {"train": ("train", "dent", box), "valid": ("val", "dent", box)}


def make_yolo_roboflow(root):
    text(root / "data.yaml", "train: ../train/images\nval: ../valid/images\nnc: 2\nnames: ['dent', 'pit']\n")
    for split in ("train", "valid"):
        picture(root / split / "images" / f"{split}.png")
        text(root / split / "labels" / f"{split}.txt", "1 0.5 0.5 0.25 0.5\n")
    box = (Box(30, 10, 50, 30, "pit"),)
    return {"train": ("train", "pit", box), "valid": ("val", "pit", box)}


def make_yolo_lists(root):
    for i in range(2):
        picture(root / f"images/{i}.png", i)
    text(root / "labels/0.txt", "0 0.5 0.5 0.25 0.5 0.93\n")  # with a confidence
    text(root / "train.txt", "./images/0.png\n")
    text(root / "test.txt", "./images/1.png\n")
    text(root / "set.yml", "path: /nowhere\ntrain: train.txt\ntest: test.txt\nnames: {0: dent}\n")
    return {"0": ("train", "dent", (Box(30, 10, 50, 30, "dent"),)), "1": ("test", "good", ())}


def make_yolo_bare(root):
    for i in range(2):
        picture(root / f"images/{i}.png", i)
    text(root / "labels/0.txt", "1 0.5 0.5 0.25 0.5\n")
    text(root / "labels/1.txt", "")
    return {"0": (None, "1", (Box(30, 10, 50, 30, "1"),)), "1": (None, "good", ())}


def make_yolo_listed(root):
    picture(root / "images/train/0.png")
    text(root / "labels/train/0.txt", "1 0.5 0.5 0.25 0.5\n")
    text(root / "classes.txt", "dent\npit\n")
    return {"0": ("train", "pit", (Box(30, 10, 50, 30, "pit"),))}


def make_yolo_names(root):
    picture(root / "0.png")
    text(root / "0.txt", "scratch 0.5 0.5 0.25 0.5\n")
    return {"0": (None, "scratch", (Box(30, 10, 50, 30, "scratch"),))}


def make_labelme(root):
    picture(root / "a.png")
    picture(root / "b.png", 1)
    shape = {"label": "dent", "points": [[9, 8], [1, 2]], "shape_type": "rectangle"}
    text(root / "a.json", json.dumps({"version": "5", "shapes": [shape], "imagePath": "a.png", "imageData": None}))
    return {"a": (None, "dent", (Box(1, 2, 9, 8, "dent"),)), "b": (None, None, None)}


def make_deeppcb(root):
    for stem in ("01_test", "01_temp", "02_test", "02_temp"):
        picture(root / f"group0/0/{stem}.jpg")
    text(root / "group0/0_not/01.txt", "1 2 30 20 3\n4,5,6,7,6\n")
    text(root / "group0/0_not/02.txt", "")
    text(root / "trainval.txt", "group0/0/01.jpg group0/0_not/01.txt\n")
    text(root / "test.txt", "group0/0/02.jpg group0/0_not/02.txt\n")
    return {
        "01_test": ("train", None, (Box(1, 2, 30, 20, "mousebite"), Box(4, 5, 6, 7, "pin-hole"))),
        "02_test": ("test", "good", ()),
    }


LAYOUTS = {
    make_voc: "voc", make_voc_beside: "voc", make_neu: "neu-det", make_coco: "coco", make_coco_roboflow: "coco",
    make_yolo_roboflow: "yolo", make_yolo_lists: "yolo", make_yolo_bare: "yolo", make_yolo_listed: "yolo",
    make_yolo_names: "yolo", make_labelme: "labelme", make_deeppcb: "deeppcb",
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*bear another class")
@pytest.mark.parametrize("make", LAYOUTS, ids=lambda m: m.__name__)
def test_layouts_with_boxes(make, tmp_path):
    expected = make(tmp_path)
    assert [name for name, known in FORMATS.items() if known.looks_like(tmp_path)] == [LAYOUTS[make]]
    dataset = read_dataset(tmp_path)
    assert {s.image.stem: (s.split, s.label, s.boxes) for s in dataset.samples} == expected
    assert dataset.broken == ()


def test_one_file_is_enough(tmp_path):
    make_coco(tmp_path / "c")
    assert len(read_dataset(tmp_path / "c/annotations/instances_val2017.json")) == 2
    make_yolo_lists(tmp_path / "y")
    assert len(read_dataset(tmp_path / "y/set.yml")) == 2


def test_templates_and_other_classes_are_told(tmp_path):
    make_deeppcb(tmp_path / "d")
    assert [s.template.name for s in read_dataset(tmp_path / "d").samples] == ["01_temp.jpg", "02_temp.jpg"]
    make_neu(tmp_path / "n")
    with pytest.warns(UserWarning, match="1 boxes of 1 images bear another class"):
        dataset = read_dataset(tmp_path / "n")
    assert audit_dataset(dataset).boxes_of_other_class == ["IMAGES/rolled-in_scale_1.jpg: patches"]


@pytest.mark.parametrize("columns", ["ImageId,ClassId,EncodedPixels", "ImageId_ClassId,EncodedPixels"])
def test_severstal(columns, tmp_path):
    for i in range(2):
        picture(tmp_path / f"train_images/{i}.jpg", i)
    joint = "_" if columns.startswith("ImageId_") else ","
    rows = [f"0.jpg{joint}3,41 2 121 1", f"0.jpg{joint}1,1 40", f"1.jpg{joint}2,"]
    text(tmp_path / "train.csv", "\n".join([columns, *rows]))
    first, second = read_dataset(tmp_path).samples
    assert (first.label, second.label, second.defective) == (None, "good", False)
    three, one = read_class_masks(first, ("3", "1"), SIZE)
    assert set(zip(*np.nonzero(three), strict=True)) == {(0, 1), (1, 1), (0, 3)}
    assert one[:, 0].all()
    assert one.sum() == 40


@pytest.mark.parametrize("palette", [True, False])
def test_class_masks_grey_or_with_a_palette(palette, tmp_path):
    values = np.zeros(SIZE, np.uint8)
    values[3:5, 3:9] = 1
    values[20:, 60:] = 2
    for i, own in enumerate((values, np.where(values == 2, 2, 0), np.zeros_like(values))):
        picture(tmp_path / f"images/{i}.png", i)
        mask = Image.fromarray(own.astype(np.uint8))
        if palette:
            mask.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0] + [0] * 759)
        (tmp_path / "masks").mkdir(exist_ok=True)
        mask.save(tmp_path / f"masks/{i}.png")
    text(tmp_path / "classes.txt", "dent\npit\n")
    assert [name for name, known in FORMATS.items() if known.looks_like(tmp_path)] == ["class-masks"]
    dataset = read_dataset(tmp_path)
    assert [s.label for s in dataset.samples] == [None, "pit", "good"]
    dent, pit, none = read_class_masks(dataset.samples[0], ("dent", "pit", "scratch"), SIZE)
    np.testing.assert_array_equal(dent, values == 1)
    np.testing.assert_array_equal(pit, values == 2)
    assert not none.any()
    assert {d.label: d.pixels.count for d in describe(dataset).defects} == {"dent": 1, "pit": 2}
    found = audit_dataset(dataset)
    assert not found.masks_on_good
    assert not found.empty_masks
    (tmp_path / "classes.txt").unlink()
    assert read_dataset(tmp_path, "class-masks").classes == ("good", "1", "2")


def test_a_class_mask_in_colours_is_set_aside(tmp_path):
    picture(tmp_path / "images/0.png")
    picture(tmp_path / "masks/0.png")
    text(tmp_path / "classes.txt", "dent\n")
    with pytest.warns(AnnotationWarning, match="holds colours"):
        dataset = read_dataset(tmp_path)
    assert dataset.samples[0].defective is None


def make_broken_voc(root):
    make_voc(root)
    text(root / "Annotations/2.xml", voc_xml(("", (1, 1, 5, 5)), ("dent", (1, 1, 5)), ("dent", (1, 1, "nan", 5))))
    text(root / "Annotations/gone.xml", voc_xml())
    return [
        "object 1: it has no name",
        "object 2: it has no box",
        "object 3: it has no box",
        "gone.xml: its image does not exist",
    ]


def make_broken_coco(root):
    make_coco(root)
    rows = [
        {"id": 1, "image_id": 5, "category_id": 4, "bbox": [1, 2, 3, 4]},
        {"id": 2, "image_id": 77, "category_id": 3, "bbox": [1, 2, 3, 4]},
        {"id": 3, "image_id": 5, "category_id": 3},
        {"id": 4, "image_id": 5, "category_id": 3, "segmentation": {"size": [40, 80], "counts": [5]}},
        {"id": 5, "image_id": 5, "category_id": 3, "segmentation": [[1, 2, 3]]},
        {"id": 6, "image_id": 5, "category_id": 3, "bbox": [0, 0, float("inf"), 4]},
        {"id": 7, "image_id": 5, "category_id": 3, "bbox": [1, 2, 3, 4]},
    ]
    text(root / "annotations/instances_val2017.json", coco_of(["a.png", "lost.png"], rows))
    return ["category 4 is unknown", "image 77, which is not listed", "annotation 3", "annotation 4", "annotation 5",
            "annotation 6", "image lost.png does not exist"]  # fmt: skip


def make_broken_yolo(root):
    make_yolo_listed(root)
    text(root / "labels/train/0.txt", "1 0.5 0.5 0.25 0.5\n5 0.5 0.5 0.1 0.1\n0 0.5 0.5\n0 a b c d\n0.5 0.5 0.5 1 1\n")
    text(root / "labels/train/gone.txt", "0 0.5 0.5 0.1 0.1\n")
    return ["class 5 is unknown", "line 3: 2 numbers", "line 4: could not convert", "line 5: class 0.5", "gone.txt"]


def make_broken_labelme(root):
    make_labelme(root)
    rows = [
        {"label": "x", "points": [[1, 1], [3, 3]], "shape_type": "line"},
        {"label": "", "points": [[1, 1], [3, 3]], "shape_type": "rectangle"},
        {"label": "x", "points": [["a", 1]], "shape_type": "polygon"},
        {"label": "x", "points": [[1, 1], [2, 2]], "shape_type": "mask", "mask": "!!"},
    ]
    text(root / "a.json", json.dumps({"shapes": rows}))
    text(root / "gone.json", json.dumps({"shapes": []}))
    return ["line are not understood", "shape 2: it has no label", "shape 3", "shape 4", "gone.json"]


def make_broken_deeppcb(root):
    make_deeppcb(root)
    text(root / "group0/0_not/01.txt", "1 2 30 20 7\n1 2 3\n")
    text(root / "group0/0_not/09.txt", "")
    return ["class 7 is unknown", "expected x1 y1 x2 y2 class", "09.txt: its image does not exist"]


def make_broken_severstal(root):
    picture(root / "train_images/0.jpg")
    rows = ["0.jpg,1,3199 9", "0.jpg,2,5", "0.jpg,3,a b", "0.jpg,4,9 5 11 3", "lost.jpg,1,1 5"]
    text(root / "train.csv", "\n".join(["ImageId,ClassId,EncodedPixels", *rows]))
    return ["class 1: run lengths do not fit", "class 2: run lengths are pairs", "class 3", "class 4", "lost.jpg"]


def make_broken_class_masks(root):
    for i, low in enumerate((1, 0)):
        picture(root / f"images/{i}.png", i)
        values = np.zeros(SIZE, np.uint8)
        values[3:5, 3:9], values[20:, 60:] = low, 7
        (root / "masks").mkdir(exist_ok=True)
        Image.fromarray(values).save(root / f"masks/{i}.png")
    text(root / "classes.txt", "dent\n")
    return ["0.png: pixel values without a name: 7", "1.png: pixel values without a name: 7"]


@pytest.mark.parametrize(
    ("make", "spoilt", "defective"),
    [
        (make_broken_class_masks, "0", None),
        (make_broken_class_masks, "1", None),
        (make_broken_voc, "2", None),
        (make_broken_coco, "a", None),  # although one annotation of it is left
        (make_broken_yolo, "0", None),
        (make_broken_labelme, "a", None),
        (make_broken_deeppcb, "01_test", None),
        (make_broken_severstal, "0", None),
    ],
)
def test_broken_annotations_are_named_and_the_rest_is_kept(make, spoilt, defective, tmp_path):
    expected = make(tmp_path)
    with pytest.warns(AnnotationWarning, match=f"{len(expected)} annotations are set aside"):
        dataset = read_dataset(tmp_path)
    (sample,) = (s for s in dataset.samples if s.image.stem == spoilt)
    assert sample.defective is defective  # without its annotations, an image that had some is not a good one
    assert len(dataset) >= 1
    assert len(dataset.broken) == len(expected)
    for words in expected:
        assert sum(words in line for line in dataset.broken) == 1, (words, dataset.broken)
    found = audit_dataset(dataset)
    assert found.broken_annotations == list(dataset.broken)
    assert found.serious


def converted(target):
    """A good image and two with an outline, all with templates, in a format, and the file of the second."""

    def make(root):
        outline = Polygon((((5.0, 5.0), (30.0, 5.0), (30.0, 20.0)),), "open")
        twin = picture(root / "source/twin.png", 9)
        samples = tuple(
            Sample(picture(root / f"source/{i}.png", i), label, split, shapes=(outline,) * (i > 0), template=twin)
            for i, (label, split) in enumerate((("good", "train"), ("open", "test"), ("open", "test")))
        )
        place = root / ("set.csv" if target == "csv" else "set")
        convert(Dataset(samples, root, "csv"), target, place)
        content = samples[1].image.read_bytes()
        files = [samples[1].image] if target == "csv" else place.rglob("*.png")
        return place, next(file for file in files if file.read_bytes() == content)

    return make


def listed_in_yolo(root):
    make_yolo_lists(root)
    text(root / "train.txt", "./images/0.png\n./images/2.png\n")
    text(root / "labels/2.txt", "0 0.5 0.5 0.25 0.5\n")
    return root, picture(root / "images/2.png", 2)


def listed_in_elpv(root):
    text(root / "labels.csv", "a.png 0.0 mono\nb.png 1.0 mono\n")
    picture(root / "a.png")
    return root, picture(root / "b.png")


def boxes_in_files(root):
    for i, stem in enumerate("ab"):
        picture(root / f"{stem}.png", i)
        text(root / f"{stem}.txt", "dent 0.5 0.5 0.25 0.5\n")
    text(root / "list.csv", "image,boxes\na.png,a.txt\nb.png,b.txt\n")
    return root / "list.csv", root / "b.png"


def boxes_gone(root):
    place, image = boxes_in_files(root)
    return place, image.with_suffix(".txt")


def photographs_and_masks(root):
    for i in range(2):
        picture(root / f"{i}.jpg", i)
        write_image(root / f"{i}.png", np.eye(*SIZE, dtype=bool))
    return root, root / "1.jpg"


def tiles(root):
    place, _ = photographs_and_masks(root / "MT_Blowhole/Imgs")
    return root, place / "1.jpg"


NAMING = (
    "csv",
    "coco",
    "labelme",
    "yolo",
    "voc",
    "deeppcb",
    "severstal",
    "mvtec",
    "masks",
    "class-masks",
    "good-defect",
)
MISSING = {name: converted(name) for name in NAMING} | {
    make.__name__: make
    for make in (listed_in_yolo, listed_in_elpv, boxes_in_files, boxes_gone, photographs_and_masks, tiles)
}


@pytest.mark.filterwarnings("ignore::blemish.dataset.sample.AnnotationWarning")
@pytest.mark.parametrize("make", MISSING.values(), ids=MISSING)
def test_an_image_that_is_missing_is_left_out_and_listed_by_the_audit(make, tmp_path):
    place, gone = make(tmp_path)
    before = read_dataset(place)
    gone.unlink()
    with pytest.warns(AnnotationWarning, match=r"not exist"):
        dataset = read_dataset(place)
    kept = [s for s in before.samples if s.image != gone.with_suffix(s.image.suffix)]
    assert len(kept) == len(before) - 1
    if before.format == "severstal":  # its row may be of any image that has none
        kept = [replace(s, label=None, boxes=None) if s.evidence is LabelEvidence.CONVENTION else s for s in kept]
    assert list(dataset.samples) == kept
    (line,) = audit_dataset(dataset).broken_annotations
    assert re.search(rf"[/ ]{gone.stem.removesuffix('_test')}[._]", line)
    assert "not exist" in line
    for sample in dataset.samples:
        sample.image.unlink()
    with pytest.raises(DataError):
        read_dataset(place, before.format)


def test_a_coco_file_that_broke_off_is_listed(tmp_path):
    make_coco(tmp_path)
    text(tmp_path / "annotations/instances_more.json", "{")
    text(tmp_path / "annotations/licences.json", '{"licences": []}')
    with pytest.warns(AnnotationWarning):
        dataset = read_dataset(tmp_path)
    (line,) = dataset.broken
    assert re.search(r"instances_more\.json is not readable as JSON", line)


def test_audit_lists_boxes_that_do_not_fit(tmp_path):
    image = picture(tmp_path / "a.png")
    beyond = Polygon((((70.0, 5.0), (90.0, 5.0), (90.0, 9.0)),), "a")
    nothing = Polygon((((7.0, 5.0), (9.0, 5.0), (8.0, 5.0)),), "a")
    gone = (5, 5, 5, 9), (90, 0, 95, 5), (9, 9, 3, 3)
    samples = (
        Sample(image, boxes=(Box(-1, 0, 5, 5, "a"), Box(0, 0, 80, 40, "a"))),
        Sample(picture(tmp_path / "b.png", 1), boxes=tuple(Box(*b, "a") for b in gone)),
        Sample(picture(tmp_path / "c.png", 2), shapes=(beyond, nothing)),
    )  # fmt: skip
    found = audit_dataset(Dataset(samples, tmp_path, "csv"))
    assert found.boxes_outside == ["a.png: 1", "c.png: 1"]
    assert found.boxes_empty == ["b.png: 3", "c.png: 1"]
    assert found.serious


def test_a_defective_image_without_a_box_left_is_of_unknown_truth(tmp_path):
    image = picture(tmp_path / "a.png")
    outside = Sample(image, label="a", boxes=(Box(90, 0, 95, 5, "a"),))
    assert known_boxes(outside, SIZE) is None
    assert known_boxes(replace(outside, boxes=(*outside.boxes, Box(1, 1, 2, 2, "a"))), SIZE) == (Box(1, 1, 2, 2, "a"),)
    assert known_boxes(Sample(image, label="good", boxes=()), SIZE) == ()
    assert known_boxes(Sample(image, label="a"), SIZE) is None


def test_labels_without_any_mask_are_no_masks(tmp_path):
    for i in range(30):
        picture(tmp_path / f"images/{i:02d}.png", i)
        text(tmp_path / f"labels/{i:02d}.txt", "")
    text(tmp_path / "labels/07.txt", "0 300 200 30 40\n")  # in pixels: of no layout that is known
    with pytest.raises(DataError, match="in no layout"):
        read_dataset(tmp_path)
    text(tmp_path / "labels/29.txt", "0 0.5 0.5 0.25 0.5\n")
    dataset = read_dataset(tmp_path)  # the one file of boxes is found among those of good images
    assert dataset.format == "yolo"
    assert dataset.samples[29].boxes == (Box(30, 10, 50, 30, "0"),)


def test_rectangles_of_four_corners(tmp_path):
    picture(tmp_path / "a.png")
    corners = [[3, 4], [20, 4], [20, 9], [3, 9]]
    shapes = [{"label": "dent", "shape_type": "rectangle", "points": corners}]
    # Parts in the order of the alphabet: the picture comes before the shapes.
    text(tmp_path / "a.json", json.dumps({"imageData": "A" * 100000, "shapes": shapes}))
    (sample,) = read_dataset(tmp_path).samples
    assert sample.boxes == (Box(3, 4, 20, 9, "dent"),)


def test_voc_files_of_one_name_belong_to_their_folders(tmp_path):
    for at, folder in enumerate("ab"):
        picture(tmp_path / f"images/{folder}/0.png", at)
        text(tmp_path / f"annotations/{folder}/0.xml", voc_xml(("dent", (at + 1, 1, 9, 9))))
        picture(tmp_path / f"images/{folder}/{folder}1.png", at)
        text(tmp_path / f"annotations/{folder}1.xml", voc_xml(("pit", (at + 1, 1, 9, 9))))
        picture(tmp_path / f"images/{folder}/2.png", at)
    text(tmp_path / "annotations/2.xml", voc_xml())  # of which of the two?
    with pytest.warns(AnnotationWarning, match="several images or files have its name"):
        dataset = read_dataset(tmp_path)
    boxes = {f"{s.image.parent.name}/{s.image.stem}": s.boxes for s in dataset.samples}
    assert boxes == {
        "a/0": (Box(0, 0, 9, 9, "dent"),), "a/a1": (Box(0, 0, 9, 9, "pit"),), "a/2": None,
        "b/0": (Box(1, 0, 9, 9, "dent"),), "b/b1": (Box(1, 0, 9, 9, "pit"),), "b/2": None,
    }  # fmt: skip


def test_coco_in_any_order_and_with_images_elsewhere(tmp_path):
    picture(tmp_path / "pictures/a.png")
    annotations = [
        {"id": i, "image_id": 5, "category_id": 3, "bbox": [0, 0, 8, 9], "note": "x" * 999} for i in range(99)
    ]
    ordered = json.dumps(json.loads(coco_of(["a.png"], annotations)), sort_keys=True)
    text(tmp_path / "truth/all.json", ordered)
    assert ordered.index('"images"') > 65536
    with pytest.raises(DataError, match=r"holds no images.*image a.png does not exist"):
        read_dataset(tmp_path / "truth")
    (sample,) = read_dataset(tmp_path / "truth", root=tmp_path / "pictures").samples
    assert len(sample.boxes) == 99


def test_severstal_rows_of_one_class_are_all_kept(tmp_path):
    picture(tmp_path / "train_images/a.png")
    text(tmp_path / "train.csv", "ImageId,ClassId,EncodedPixels\na.png,1,1 3\na.png,1,41 2\n")
    (sample,) = read_dataset(tmp_path).samples
    assert read_defect_mask(sample, SIZE).sum() == 5


@pytest.mark.parametrize(
    ("rows", "labels"),
    [
        ("a.png,1,1 3\nb.png,1,\n", {"a": True, "b": False, "c": False}),  # whole: b and c have no defect
        ("a.png\x001,1 3\nb.png,1,\n", {"a": None, "b": None, "c": None}),  # a comma of a's is lost
        ("a.png,1,1 3\nb.png,1,\n;;8 173 8\n", {"a": True, "b": None, "c": None}),  # b's run lengths broke off
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_damaged_severstal_row_makes_no_image_good(rows, labels, tmp_path):
    for name in labels:
        picture(tmp_path / f"train_images/{name}.png")
    text(tmp_path / "train.csv", f"ImageId,ClassId,EncodedPixels\n{rows}")
    assert {sample.image.stem: sample.defective for sample in read_dataset(tmp_path).samples} == labels


def make_bad_yolo(root):
    picture(root / "images/a.png")
    text(root / "data.yaml", "names: [a]\ntrain: 5\n")


def make_bad_coco(annotation, name="a.png"):
    def make(root):
        picture(root / "images/a.png")
        text(root / "all.json", coco_of([name], [{"id": 1, "image_id": 5, "category_id": 3, **annotation}]))

    return make


def make_bad_severstal(content):
    def make(root):
        picture(root / "train_images/a.png")
        (root / "train.csv").write_bytes(b"ImageId,ClassId,EncodedPixels\n" + content)

    return make


def make_bad_voc(root):
    make_voc(root)
    (root / "ImageSets/Main/train.txt").write_bytes(b"\xff\xfe0")


def make_bad_voc_encoding(root):
    make_voc(root)
    text(root / "Annotations/0.xml", '<?xml version="1.0" encoding="foo"?><annotation/>')


def make_bad_csv(root):
    picture(root / "a.png")
    rings = "[[[1,1],[9,1],[9,9]]]"
    text(root / "all.csv", f'image,shapes\na.png,"[{{""label"":[1],""rings"":{rings}}}]"\n')


@pytest.mark.parametrize(
    "make",
    [
        make_bad_yolo,
        make_bad_coco({"segmentation": {"size": [40, 80], "counts": [float("inf")]}}),
        make_bad_coco({"segmentation": {"size": [10**5, 10**6], "counts": [10**11]}}),
        make_bad_coco({"segmentation": {"size": [20, 80], "counts": [1600]}}),
        make_bad_coco({"bbox": [1, 2, 3, 4]}, "a" * 5000 + ".png"),
        make_bad_severstal(b"\xff\xfe.png,1,1 5\n"),
        make_bad_severstal(b"a.png,1,99999999999999999999999 5\n"),
        make_bad_voc,
        make_bad_voc_encoding,
        make_bad_csv,
    ],
)
def test_content_that_no_file_should_hold_is_refused_or_left_out(make, tmp_path):
    make(tmp_path)
    place = tmp_path / "all.csv" if (tmp_path / "all.csv").exists() else tmp_path
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            broken = read_dataset(place).broken
        except DataError as error:
            broken = [str(error)]
    assert broken
    assert all("\n" not in line for line in broken)
    assert all(isinstance(w.message, AnnotationWarning) for w in caught)


@pytest.mark.parametrize(
    ("make", "name", "content", "words"),
    [
        (make_voc, "Annotations/0.xml", "<annotation><object>", "not readable as XML"),
        (make_voc, "Annotations/0.xml", "<html></html>", "no Pascal VOC annotation"),
        (make_voc, "Annotations/0.xml", '<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>', "XML entities"),
        (make_labelme, "a.json", '{"shapes": [', "not readable as JSON"),
        (make_labelme, "a.json", '{"shapes": 5}', "no list of shapes"),
        (make_deeppcb, "group0/0_not/01.txt", "\udcff", "not readable as text"),
    ],
)
def test_a_damaged_file_is_one_line_and_leaves_its_image_unknown(make, name, content, words, tmp_path):
    make(tmp_path)
    (tmp_path / name).write_text(content, encoding="utf-8", errors="surrogateescape")
    with pytest.warns(AnnotationWarning, match=words):
        dataset = read_dataset(tmp_path)
    (line,) = dataset.broken
    assert "\n" not in line
    (sample,) = (s for s in dataset.samples if s.image.stem.removesuffix("_test") == Path(name).stem)
    assert (sample.defective, sample.boxes, sample.shapes) == (None, None, None)


@pytest.mark.parametrize(
    ("file", "content", "boxes"),
    [
        ("a.xml", voc_xml(("pit", (1, 1, 9, 9))), (Box(0, 0, 9, 9, "pit"),)),
        ("a.txt", "1 2 30 20 3\n", (Box(1, 2, 30, 20, "mousebite"),)),
        ("a.txt", "dent 0.5 0.5 0.25 0.5\n", (Box(30, 10, 50, 30, "dent"),)),
        ("a.json", '{"shapes": [{"label": "pit", "points": [[1,1],[3,1],[3,4]]}]}', (Box(1, 1, 3, 4, "pit"),)),
    ],
)
def test_box_files_of_a_csv(file, content, boxes, tmp_path):
    picture(tmp_path / "a.png")
    text(tmp_path / file, content)
    text(tmp_path / "list.csv", f"image,boxes\na.png,{file}\n")
    (sample,) = read_dataset(tmp_path / "list.csv").samples
    assert (sample.boxes, sample.label) == (boxes, boxes[0].label)
    text(tmp_path / "list.csv", f"image,boxes\na.png,no_{file}\n")
    with pytest.raises(DataError, match="does not exist"):
        read_dataset(tmp_path / "list.csv")


@pytest.mark.parametrize("cell", ["[[1, 2, 3]]", "[[1, 2, 3, null, a]]", "[[", "[5]"])
def test_a_wrong_cell_is_one_line(cell, tmp_path):
    picture(tmp_path / "a.png")
    text(tmp_path / "list.csv", f'image,boxes\na.png,"{cell}"\n')
    with pytest.raises(DataError, match="line 2: boxes is not understood"):
        read_dataset(tmp_path / "list.csv")


@pytest.mark.filterwarnings("ignore:.*bear another class")
@pytest.mark.skipif(not os.environ.get("BLEMISH_DATA"), reason="set BLEMISH_DATA to the folder of the real images")
@pytest.mark.parametrize(
    ("name", "format", "images", "count"), [("neu_det", "neu-det", 1800, 4189), ("deeppcb", "deeppcb", 300, 2119)]
)
def test_real_sets(name, format, images, count):
    root = Path(os.environ["BLEMISH_DATA"])
    folder, listed = read_dataset(root / name), read_dataset(root / f"splits/{name}.csv", root=root / name)
    assert folder.format == format
    for dataset in (folder, listed):
        assert len(dataset) == images
        assert sum(len(s.boxes) for s in dataset.samples) == count
        assert not dataset.broken
    assert {(s.image, s.boxes) for s in folder.samples} == {(s.image, s.boxes) for s in listed.samples}
    other = sum(box.label != s.label for s in folder.samples for box in s.boxes if s.label)
    assert other == (188 if name == "neu_det" else 0)
    if name == "neu_det":
        assert set(Counter(s.label for s in folder.samples).values()) == {300}
    else:
        assert all(s.template is not None for s in folder.samples)
