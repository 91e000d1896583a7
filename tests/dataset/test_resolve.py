"""What an image is, by what is stated of it and by its annotation; names, matching and frames of annotations."""

import json
import warnings

import numpy as np
import pytest
from PIL import Image

from blemish.dataset.audit import audit_dataset
from blemish.dataset.formats.base import Convention
from blemish.dataset.ground_truth import read_defect_mask
from blemish.dataset.info import describe
from blemish.dataset.labels import LabelEvidence, extra_good_names, is_defect_name, is_doubtful_name, is_good_name
from blemish.dataset.read import read_dataset
from blemish.dataset.resolve import count_evidence, explain_no_good, resolve_labels
from blemish.dataset.sample import AnnotationWarning, Sample
from blemish.dataset.split import check_given_splits
from blemish.dataset.valid_mask import valid_mask
from blemish.errors import DataError
from blemish.geometry import Box, Polygon
from blemish.imaging.read import write_image

SIZE = 24, 32
E = LabelEvidence
SQUARE = (((4.0, 4.0), (12.0, 4.0), (12.0, 12.0), (4.0, 12.0)),)


def picture(path, seed=0, size=SIZE):
    write_image(path, np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8))
    return path


def box(label):
    return (Box(4, 4, 12, 12, label),)


def resolve(tmp_path, convention=None, skipped=False, unlabelled="unknown", **fields):
    image = picture(tmp_path / "a.png")
    own = [AnnotationWarning("broken", image)] if skipped else []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (sample,) = resolve_labels([Sample(image, **fields)], convention or Convention(), own, unlabelled)
    return sample


@pytest.mark.parametrize(
    ("fields", "label", "evidence", "boxes"),
    [
        ({"label": "dent", "evidence": E.FOLDER, "boxes": ()}, "dent", E.FOLDER, None),
        ({"label": "dent", "evidence": E.FOLDER, "boxes": box("pit")}, "dent", E.FOLDER, box("pit")),
        ({"label": "dent", "evidence": E.FOLDER, "boxes": box("OK")}, "dent", E.FOLDER, None),
        ({"label": "good", "evidence": E.FOLDER, "boxes": box("dent")}, None, E.NONE, None),
        ({"label": "good", "evidence": E.COLUMN, "boxes": box("ok")}, "good", E.COLUMN, ()),
        ({"boxes": ()}, "good", E.EMPTY_ANNOTATION, ()),
        ({"boxes": box("Normal")}, "good", E.CLASS, ()),
        ({"boxes": box("dent")}, "dent", E.ANNOTATION, box("dent")),
        ({"boxes": (*box("dent"), *box("good"))}, "dent", E.ANNOTATION, box("dent")),
        ({"boxes": box("_background_")}, None, E.NONE, None),
        ({"boxes": box("__ignore__")}, None, E.NONE, None),
        ({}, None, E.NONE, None),
        ({"unlabelled": "good"}, "good", E.OPTION, None),
        ({"convention": Convention("label file", absent_is_good=True)}, "good", E.CONVENTION, ()),
        ({"boxes": (), "skipped": True}, None, E.NONE, None),
        ({"boxes": box("dent"), "skipped": True}, None, E.NONE, None),
        ({"label": "dent", "evidence": E.COLUMN, "boxes": box("dent"), "skipped": True}, "dent", E.COLUMN, None),
        ({"label": "good", "evidence": E.COLUMN, "skipped": True}, None, E.NONE, None),
        ({"unlabelled": "good", "skipped": True}, None, E.NONE, None),
    ],
)
def test_precedence(tmp_path, fields, label, evidence, boxes):
    sample = resolve(tmp_path, **fields)
    assert (sample.label, sample.evidence, sample.boxes) == (label, evidence, boxes)


def test_outlines_to_be_ignored_are_valid_pixels_of_no_image(tmp_path):
    shapes = (Polygon(SQUARE, "dent"), Polygon((((20.0, 10.0), (30.0, 10.0), (30.0, 20.0), (20.0, 20.0)),), "void"))
    sample = resolve(tmp_path, shapes=shapes)
    assert (sample.label, sample.shapes) == ("dent", shapes[:1])
    valid = valid_mask(sample, SIZE)
    assert (~valid).sum() == 100
    assert not valid[10:20, 20:30].any()


def test_names():
    for name in ("OK", "0.normal", "good_01", "ok_front", "Front OK", "no defect", "defect-free", "good1"):
        assert is_good_name(name), name
    for name in ("NG", "1.abnormal", "not ok", "anomaly"):
        assert is_defect_name(name), name
        assert not is_good_name(name), name
    for name in ("0", "1", "ok_spots", "good dent"):
        assert is_doubtful_name(name), name
    for name in ("dent", "n.ok", "wood", "book", "normalized", "pass-line"):
        assert not is_good_name(name), name
    with extra_good_names(["0", "IO"]):
        assert is_good_name("0")
        assert is_good_name("io")
    assert not is_good_name("0")


def test_the_good_ones_of_numbered_folders_are_asked_for(tmp_path):
    for i, name in enumerate("001"):
        picture(tmp_path / name / f"{i}.png", i)
    assert "--good NAME, such as '0' or '1'" in explain_no_good(read_dataset(tmp_path))
    dataset = read_dataset(tmp_path, good=["0"])
    assert explain_no_good(dataset) is None
    assert count_evidence(dataset.samples) == {"good": {"folder name": 2}, "defective": {"folder name": 1}}
    assert describe(dataset).as_dict()["evidence"] == count_evidence(dataset.samples)


def yolo(root, images, labels):
    for i, name in enumerate(images):
        picture(root / "images" / name, i)
    for name, line in labels.items():
        (root / "labels").mkdir(exist_ok=True)
        (root / "labels" / name).write_text(line)
    (root / "data.yaml").write_text("names: [dent]\n")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = read_dataset(root)
    return {s.image.name: s.label for s in dataset.samples}, dataset


LINE = "0 0.5 0.5 0.25 0.25\n"


@pytest.mark.parametrize(
    ("images", "labels", "expected"),
    [
        (["a.png", "b.png"], {"a.txt": LINE}, {"a.png": "dent", "b.png": "good"}),  # sound
        (["a.png", "a.bmp"], {"a.txt": LINE}, {"a.png": "dent", "a.bmp": "dent"}),
        (["a.png", "b.png"], {"A.TXT": LINE}, {"a.png": "dent", "b.png": "good"}),
        (["a.png", "b.png"], {"a.png.txt": LINE}, {"a.png": "dent", "b.png": "good"}),
        (["a.png", "b.png"], {"a_1.txt": LINE, "b.txt": LINE}, {"a.png": None, "b.png": "dent"}),
        (["a.png", "b.png"], {"a.txt": LINE, "c.txt": ""}, {"a.png": "dent", "b.png": "good"}),
        (["a.png"], {"a.txt": "0 0.5 0.5 0.25 0.25 45\n"}, {"a.png": None}),
        (["a.png", "b.png"], {"a.txt": LINE, "b.txt": "0 0.5 0.5 0.25 0.25 0.5\n"}, {"a.png": "dent", "b.png": "dent"}),
        (
            ["a.png", "b.png"],
            {"a.txt": LINE[:-1] + " 0.5\n", "b.txt": LINE[:-1] + " 30\n"},
            dict.fromkeys(["a.png", "b.png"]),
        ),
        (["a.png"], {"a.txt": "0 0.1 0.1 0.2 0.1 0.2 0.2 0.1 0.2\n"}, {"a.png": "dent"}),
        (["a.png"], {"a.txt": "0 12 12 3 3\n"}, {"a.png": None}),
        (
            ["a.png", "b.png"],
            {"a.txt": "0 .1 .1 .2 .2\n", "b.txt": "0 .8 .8 .9 .9\n"},
            dict.fromkeys(["a.png", "b.png"]),
        ),
    ],
)
def test_yolo_files_and_numbers(tmp_path, images, labels, expected):
    found, dataset = yolo(tmp_path, images, labels)
    assert found == expected
    said = " ".join(audit_dataset(dataset).broken_annotations)
    assert all(
        any(part in said for part in (name, f"{name[0]}.txt", f"{name[0]}_1.txt"))
        for name in found
        if found[name] is None
    )


@pytest.mark.parametrize(
    ("recorded", "orientation", "expected"),
    [
        ((24, 32), 1, (4, 4, 12, 12)),
        ((48, 64), 1, (2, 2, 6, 6)),  # annotated on a picture of twice the size
        ((32, 24), 1, None),
        ((24, 32), 6, (12, 4, 20, 12)),  # in the frame as stored
        ((32, 24), 6, (4, 4, 12, 12)),  # in the frame as shown
        ((0, 0), 1, (4, 4, 12, 12)),
    ],
)
def test_frame_of_outlines(tmp_path, recorded, orientation, expected):
    tags = Image.Exif()
    tags[0x0112] = orientation
    Image.fromarray(np.full(SIZE, 90, np.uint8)).save(tmp_path / "a.jpg", exif=tags)
    shape = {"label": "dent", "points": [list(p) for p in SQUARE[0]], "shape_type": "polygon"}
    content = {"shapes": [shape], "imageHeight": recorded[0], "imageWidth": recorded[1], "imagePath": "a.jpg"}
    (tmp_path / "a.json").write_text(json.dumps(content))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        (sample,) = read_dataset(tmp_path).samples
    if expected is None:
        assert sample.defective is None
        return
    shown = SIZE if orientation == 1 else SIZE[::-1]
    rows, columns = np.nonzero(read_defect_mask(sample, shown))
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == expected
    assert bool(caught) == (recorded not in ((0, 0), shown))  # it is said where something was done


def test_several_masks_of_an_image_are_joined(tmp_path):
    for place in ("train/good/a", "test/good/b", "test/dent/c"):
        picture(tmp_path / f"{place}.png")
    for number, (row, height) in enumerate(((2, 3), (15, 4))):
        mask = np.zeros(SIZE, bool)
        mask[row : row + height, 5:10] = True
        write_image(tmp_path / f"ground_truth/dent/c/{number:03}.png", mask)
    dataset = read_dataset(tmp_path)
    assert not dataset.broken
    (sample,) = (s for s in dataset.samples if s.label == "dent")
    assert read_defect_mask(sample, SIZE).sum() == 35
    assert {shape.label for shape in sample.shapes} == {"dent"}


def test_a_linked_folder_is_read_and_a_loop_ends(tmp_path):
    picture(tmp_path / "set/good/a.png")
    picture(tmp_path / "set/defect/b.png", 1)
    picture(tmp_path / "elsewhere/c.png", 2)
    (tmp_path / "set/good/lot").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set/good/loop").symlink_to(tmp_path / "set/good")
    names = sorted(s.image.name for s in read_dataset(tmp_path / "set").samples)
    assert names == ["a.png", "b.png", "c.png"]


def test_class_lists_that_begin_with_the_background(tmp_path):
    picture(tmp_path / "images/a.png")
    values = np.zeros(SIZE, np.uint8)
    values[4:8, 4:8], values[10:12] = 2, 255
    write_image(tmp_path / "masks/a.png", values)
    for first in ("", "background\n", "__ignore__\n_background_\n"):
        (tmp_path / "classes.txt").write_text(f"{first}pit\ndent\n")
        (sample,) = read_dataset(tmp_path).samples
        assert (sample.label, sample.mask_classes) == ("dent", ("pit", "dent"))
        assert (~valid_mask(sample, SIZE)).sum() == 2 * 32
    (tmp_path / "classes.txt").write_text("ignore\npit\ndent\n")
    with pytest.raises(DataError, match=r"classes\.txt begins with 'ignore'"):
        read_dataset(tmp_path)


def test_files_that_are_passed_over_are_counted(tmp_path):
    picture(tmp_path / "good/a.png")
    picture(tmp_path / "defect/b.png")
    assert read_dataset(tmp_path).passed_over == ()
    picture(tmp_path / "c.png")
    (tmp_path / "good/d.pdf").touch()
    (tmp_path / "good/.e.png").touch()
    found = describe(read_dataset(tmp_path)).passed_over
    assert found == {"images that the layout does not name": 1, ".pdf files": 1, "hidden files": 1}


def test_a_folder_of_no_known_layout_is_described(tmp_path):
    picture(tmp_path / "set/scratches/a.png")
    (tmp_path / "set/notes").mkdir()
    (tmp_path / "set/notes/b.pdf").touch()
    with pytest.raises(
        DataError, match=r"notes/ \(1 \.pdf\), scratches/ \(1 \.png\); nearest is good-defect.*--good NAME"
    ):
        read_dataset(tmp_path / "set")


def test_masks_that_all_mark_most_of_their_image_are_doubted(tmp_path):
    spot = np.zeros(SIZE, np.bool_)
    spot[4:10, 5:9] = True
    for i in range(4):
        picture(tmp_path / f"images/{i}.png", i)
        write_image(tmp_path / f"masks/{i}.png", ~spot)
    with pytest.warns(UserWarning, match="all 4 masks mark more than half of their image"):
        read_dataset(tmp_path)
    write_image(tmp_path / "masks/2.png", spot)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_dataset(tmp_path)


def test_an_image_in_several_splits_is_in_each_of_them(tmp_path):
    """Its annotations do not differ; training then refuses splits that share images."""
    for i in range(2):
        picture(tmp_path / f"images/{i}.png", i)
        (tmp_path / "labels").mkdir(exist_ok=True)
        (tmp_path / f"labels/{i}.txt").write_text("0 .5 .5 .2 .2\n" if i else "")
    (tmp_path / "data.yaml").write_text("names: [dent]\ntrain: images\nval: images\n")
    with pytest.warns(UserWarning, match=r"2 images are in several splits \(train, val\)"):
        dataset = read_dataset(tmp_path)
    expected = [
        ("0.png", "train", "good"),
        ("0.png", "val", "good"),
        ("1.png", "train", "dent"),
        ("1.png", "val", "dent"),
    ]
    assert sorted((s.image.name, s.split, s.label) for s in dataset.samples) == expected
    with pytest.raises(DataError, match="validation images are training images too"):
        check_given_splits(dataset)


@pytest.mark.parametrize("name", ["void", "__ignore__", "background"])
def test_folders_of_neither_good_nor_defective_images(tmp_path, name):
    for folder in ("good", "pit", name):
        picture(tmp_path / folder / f"{folder}.png")
    with pytest.warns(AnnotationWarning, match=f"{name}' says neither good nor defective"):
        dataset = read_dataset(tmp_path)
    assert {s.image.parent.name: s.label for s in dataset.samples} == {"good": "good", "pit": "pit", name: None}
    given = read_dataset(tmp_path, good=[name])
    assert {s.image.parent.name: s.label for s in given.samples} == {"good": "good", "pit": "pit", name: "good"}
