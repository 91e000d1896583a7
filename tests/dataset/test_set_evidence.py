"""What the numbers, lists, tags and fields of a set mean shows in the whole of it, where one annotation cannot tell."""

import warnings

import pytest
from reader_cases import SIZE, labels_of, picture, save_json, save_text

from blemish.dataset.read import read_dataset
from blemish.errors import DataError
from blemish.geometry import Box

H, W = SIZE


def read(root, **more):
    """The set, and all that was said of it in one text."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        dataset = read_dataset(root, **more)
    return dataset, "\n".join(str(w.message) for w in caught)


def boxes_of(dataset):
    return {s.image.stem: s.boxes for s in dataset.samples}


# YOLO


def yolo_set(root, lines, names="names: [dent, pit]\ntrain: images\n"):
    for name, line in lines.items():
        picture(root / "images" / f"{name}.png", seed=len(name))
        save_text(root / "labels" / f"{name}.txt", line)
    if names:
        save_text(root / "data.yaml", names)
    return root


POSE = {"a": "0 .5 .5 .5 .5 .3 .3 2 .6 .7 1\n", "b": "1 .25 .5 .25 .5 .2 .4 2 0 0 0\n", "c": ""}


def test_lines_of_key_points_are_boxes_where_the_yaml_says_so(tmp_path):
    names = "names: [dent, pit]\ntrain: images\nkpt_shape: [2, 3]\n"
    dataset, said = read(yolo_set(tmp_path, POSE, names))
    assert boxes_of(dataset) == {
        "a": (Box(W / 4, H / 4, 3 * W / 4, 3 * H / 4, "dent"),),
        "b": (Box(W / 8, H / 4, 3 * W / 8, 3 * H / 4, "pit"),),
        "c": (),
    }
    assert "key points are passed over" in said


def test_lines_of_key_points_are_no_outlines(tmp_path):
    dataset, said = read(yolo_set(tmp_path, POSE))
    assert labels_of(dataset) == {"images/a": None, "images/b": None, "images/c": "good"}
    assert "a box and key points" in said
    assert "kpt_shape" in said


def test_outlines_with_corners_of_the_picture_stay_outlines(tmp_path):
    whole = "0 0 0 1 0 1 1 0 1 0 0\n"  # its third numbers are 0 and 1, as of key points that are seen
    some = "1 .1 .1 .5 .1 .5 .5 .3 .7 .1 .5\n"
    dataset, said = read(yolo_set(tmp_path, {"a": whole, "b": some}))
    assert labels_of(dataset) == {"images/a": "dent", "images/b": "pit"}
    assert not said


def test_kpt_shape_that_is_no_pair_is_refused(tmp_path):
    with pytest.raises(DataError, match="kpt_shape"):
        read_dataset(yolo_set(tmp_path, POSE, "names: [dent, pit]\ntrain: images\nkpt_shape: 17\n"))


def test_boxes_with_a_confidence_are_said_to_be_predictions(tmp_path):
    dataset, said = read(yolo_set(tmp_path, {"a": "0 .5 .5 .5 .5 .93\n"}))
    assert labels_of(dataset) == {"images/a": "dent"}
    assert "predictions" in said


def class_lists(root, **lists):
    for split, names in lists.items():
        picture(root / split / "images" / "one.png", seed=len(split))
        save_text(root / split / "labels" / "one.txt", "0 .5 .5 .5 .5\n")
        if names:
            save_text(root / split / "labels" / "classes.txt", "".join(f"{name}\n" for name in names))
    return root


def test_each_split_s_own_list_of_classes_holds_for_it(tmp_path):
    dataset, said = read(class_lists(tmp_path, train=("dent", "pit"), val=("pit", "dent")))
    assert labels_of(dataset) == {"train/images/one": "dent", "val/images/one": "pit"}
    assert "lists of classes differ" in said


def test_the_only_list_of_classes_holds_for_all(tmp_path):
    dataset, said = read(class_lists(tmp_path, train=("dent", "pit"), val=None))
    assert labels_of(dataset) == {"train/images/one": "dent", "val/images/one": "dent"}
    assert not said


def test_a_folder_without_a_list_beside_lists_that_differ_is_refused(tmp_path):
    with pytest.raises(DataError, match="no list of classes"):
        read_dataset(class_lists(tmp_path, train=("dent", "pit"), val=("pit", "dent"), test=None))


# COCO


def coco_set(root, *boxes, **more):
    images, rows = [], []
    for number, box in enumerate(boxes, 1):
        picture(root / f"{number}.png", seed=number)
        images.append({"id": number, "file_name": f"{number}.png", "width": W, "height": H})
        rows.append({"id": number, "image_id": number, "category_id": 1, "bbox": [*box], **more})
    categories = [{"id": 1, "name": "dent"}]
    save_json(root / "all.json", {"images": images, "annotations": rows, "categories": categories})
    return root


def test_boxes_as_two_corners_are_set_aside(tmp_path):
    dataset, said = read(coco_set(tmp_path, (4, 4, 12, 10), (20, 10, 30, 20)))  # the second would end at x = 50
    assert labels_of(dataset) == {"1": None, "2": None}
    assert "two corners" in said


def test_boxes_whose_areas_are_those_of_two_corners_are_set_aside(tmp_path):
    dataset, said = read(coco_set(tmp_path, (4, 4, 12, 10), area=8 * 6))
    assert labels_of(dataset) == {"1": None}
    assert "two corners" in said


def test_boxes_in_shares_of_the_image_are_set_aside(tmp_path):
    dataset, said = read(coco_set(tmp_path, (0.1, 0.1, 0.5, 0.5), (0.5, 0.25, 0.25, 0.25)))
    assert labels_of(dataset) == {"1": None, "2": None}
    assert "shares" in said


def test_boxes_with_their_own_areas_are_boxes(tmp_path):
    dataset, said = read(coco_set(tmp_path, (4, 4, 12, 10), area=12 * 10))
    assert boxes_of(dataset) == {"1": (Box(4, 4, 16, 14, "dent"),)}
    assert not said


def test_one_box_beyond_its_image_says_nothing_of_the_others(tmp_path):
    dataset, _ = read(coco_set(tmp_path, (4, 4, 100, 10), (20, 10, 5, 5)))
    assert boxes_of(dataset)["2"] == (Box(20, 10, 25, 15, "dent"),)


def test_annotations_with_a_score_are_said_to_be_predictions(tmp_path):
    dataset, said = read(coco_set(tmp_path, (4, 4, 12, 10), score=0.9))
    assert labels_of(dataset) == {"1": "dent"}
    assert "predictions" in said


# Tags beside regions


def cvat_set(root, **rows):
    parts = []
    for name, items in rows.items():
        picture(root / f"{name}.png", seed=len(parts))
        parts.append(f'<image id="{len(parts)}" name="{name}.png" width="{W}" height="{H}">{items}</image>')
    save_text(root / "annotations.xml", f"<annotations><version>1.1</version>{''.join(parts)}</annotations>")
    return root


BOX = '<box label="dent" xtl="4" ytl="6" xbr="14" ybr="10"/>'


def tags(*names):
    return "".join(f'<tag label="{name}"/>' for name in names)


def test_a_tag_that_no_region_is_of_is_no_class(tmp_path):
    rows = {"a": BOX + tags("reviewed"), "b": tags("reviewed"), "c": tags("good"), "d": tags("dent", "reviewed")}
    dataset, said = read(cvat_set(tmp_path, **rows))
    assert labels_of(dataset) == {"a": "dent", "b": None, "c": "good", "d": "dent"}
    assert "'reviewed' is taken for a remark" in said
    assert "b.png: its tag 'reviewed' may be a remark" in said


@pytest.mark.parametrize(
    "rows",
    [
        {"a": tags("dent"), "b": tags("pit"), "c": tags("good")},
        {"a": BOX, "b": tags("pit"), "c": tags("good")},
        {"a": BOX + tags("dent"), "b": tags("dent"), "c": tags("good")},
        {"a": BOX + tags("defective"), "b": tags("ok")},
    ],
)
def test_tags_that_are_classes_stay(rows, tmp_path):
    dataset, said = read(cvat_set(tmp_path, **rows))
    assert None not in labels_of(dataset).values()
    assert not said


# Label Studio


def task(number, to_name, **images):
    value = {"x": 25, "y": 25, "width": 50, "height": 50, "rectanglelabels": ["dent"]}
    region = {"id": "r", "type": "rectanglelabels", "to_name": to_name, "original_width": W, "original_height": H}
    return {"id": number, "data": images, "annotations": [{"result": [{**region, "value": value}]}]}


@pytest.mark.parametrize(
    ("to_name", "labels"), [("photo", {"a": "dent", "b": None}), ("reference", {"a": None, "b": "dent"})]
)
def test_the_image_that_was_annotated_is_the_task_s(to_name, labels, tmp_path):
    for name in "ab":
        picture(tmp_path / f"{name}.png", seed=ord(name))
    save_json(tmp_path / "tasks.json", [task(1, to_name, reference="b.png", photo="a.png")])
    dataset, said = read(tmp_path)
    assert {name: label for name, label in labels.items() if label} == labels_of(dataset)
    assert not said


def test_a_task_of_two_images_that_does_not_say_which_is_set_aside(tmp_path):
    for name in "abc":
        picture(tmp_path / f"{name}.png", seed=ord(name))
    save_json(
        tmp_path / "tasks.json", [task(1, "img", reference="b.png", photo="a.png"), task(2, "img", image="c.png")]
    )
    dataset, said = read(tmp_path)
    assert labels_of(dataset) == {"c": "dent"}
    assert "task 1 names several images (reference, photo)" in said


# FiftyOne and DeepPCB


def test_a_field_of_predictions_is_no_truth(tmp_path):
    picture(tmp_path / "data" / "a.png")
    label = {"_cls": "Detections", "detections": [
        {"_cls": "Detection", "label": "dent", "bounding_box": [0.25, 0.25, 0.5, 0.5], "confidence": 0.8}
    ]}  # fmt: skip
    save_json(tmp_path / "samples.json", {"samples": [{"filepath": "data/a.png", "yolo": label}]})
    with pytest.raises(DataError, match="yolo holds predictions"):
        read_dataset(tmp_path)
    dataset, _ = read(tmp_path, format="fiftyone:yolo")
    assert labels_of(dataset) == {"data/a": "dent"}


def test_boards_of_one_name_in_two_folders_keep_their_splits(tmp_path):
    for group, split in (("1", "trainval"), ("2", "test")):
        folder = tmp_path / f"group{group}" / group
        for kind in ("test", "temp"):
            picture(folder / f"01_{kind}.png", seed=int(group))
        save_text(tmp_path / f"group{group}" / f"{group}_not" / "01.txt", "1 1 9 9 1\n")
        line = f"group{group}/{group}/01.jpg group{group}/{group}_not/01.txt\n"
        save_text(tmp_path / f"{split}.txt", line)
    dataset = read_dataset(tmp_path)
    assert {s.image.parent.name: s.split for s in dataset.samples} == {"1": "train", "2": "test"}
