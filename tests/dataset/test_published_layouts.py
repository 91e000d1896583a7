"""The layouts of published sets: each is known for what it is, and a fault makes no image of it good."""

import numpy as np
import pytest
from reader_cases import (
    change_json,
    cut,
    labels_of,
    mask_of,
    picture,
    read_faulty,
    read_in_silence,
    replace_text,
    save_json,
    save_mask,
    save_text,
    spot,
)

from blemish.dataset.ground_truth import has_mask
from blemish.dataset.read import read_dataset
from blemish.dataset.sample import AnnotationWarning
from blemish.geometry import Box
from blemish.imaging.read import write_image


def pictures(root, *names):
    for i, name in enumerate(names):
        picture(root / name, i)


# VisA


def make_visa(root):
    rows = ["object,split,label,image,mask"]
    for split, kind, label, name in (
        ("train", "Normal", "normal", "0"), ("test", "Normal", "normal", "1"), ("test", "Anomaly", "anomaly", "0"),
        ("test", "Anomaly", "anomaly", "1"), ("test", "Anomaly", "anomaly", "2"),
    ):  # fmt: skip
        image = f"candle/Data/Images/{kind}/{name}.JPG"
        picture(root / image, len(rows))
        mask = f"candle/Data/Masks/Anomaly/{name}.png" if label == "anomaly" else ""
        rows.append(f"candle,{split},{label},{image},{mask}")
    write_image(root / "candle/Data/Masks/Anomaly/0.png", spot().astype(np.uint8) * 3 + spot(18, 20, 2, 2))
    save_mask(root / "candle/Data/Masks/Anomaly/1.png", spot(), 1)
    save_mask(root / "candle/Data/Masks/Anomaly/2.png", spot(), 255)
    save_text(root / "split_csv/1cls.csv", "\n".join(rows) + "\n")
    lines = [
        "image,label,mask",
        "candle/Data/Images/Normal/0.JPG,normal,",
        'candle/Data/Images/Anomaly/0.JPG,"chunk missing,wax",',
        "candle/Data/Images/Anomaly/1.JPG,wax,",
    ]
    save_text(root / "candle/image_anno.csv", "\n".join(lines) + "\n")
    images = "candle/Data/Images"
    return {
        f"{images}/Normal/0": "good", f"{images}/Normal/1": "good", f"{images}/Anomaly/0": ("chunk missing", "wax"),
        f"{images}/Anomaly/1": "wax", f"{images}/Anomaly/2": "defect",
    }  # fmt: skip


def visa_text(old, new):
    return lambda root: replace_text(root / "split_csv/1cls.csv", old, new)


N0, N1 = "candle/Data/Images/Normal/0", "candle/Data/Images/Normal/1"
D0, D1 = "candle/Data/Images/Anomaly/0", "candle/Data/Images/Anomaly/1"
VISA = {
    "label unknown": (visa_text("test,normal", "test,okay"), {N1}, "okay"),
    "label left out": (visa_text("test,normal", "test,"), {N1}, "1cls.csv"),
    "split unknown": (visa_text("train,normal", "learn,normal"), {N0}, "learn"),
    "picture missing": (lambda root: (root / f"{N1}.JPG").unlink(), {N1}, "1.JPG"),
    "mask missing": (lambda root: (root / "candle/Data/Masks/Anomaly/1.png").unlink(), {D1}, "1.png"),
    "mask cut": (lambda root: cut(root / "candle/Data/Masks/Anomaly/1.png"), {D1}, "1.png"),
    "row without a picture": (visa_text(f"{N1}.JPG", ""), {N1}, "names no image"),
    "list cut": (lambda root: save_text(root / "split_csv/1cls.csv", ""), {N0, N1, D0, D1}, "holds no images"),
    "lists disagree": (
        lambda root: replace_text(root / "candle/image_anno.csv", "Normal/0.JPG,normal", "Normal/0.JPG,wax"), {N0},
        "image_anno.csv",
    ),
    "lists disagree on a defect": (
        lambda root: replace_text(root / "candle/image_anno.csv", "1.JPG,wax", "1.JPG,normal"), {D1}, "image_anno.csv",
    ),
}  # fmt: skip

# MVTec AD 2


def make_ad2(root):
    pictures(
        root, "can/train/good/0.png", "can/validation/good/1.png", "can/test_public/good/2_regular.png",
        "can/test_public/bad/3_regular.png", "can/test_private/4.png", "can/test_private_mixed/5.png",
    )  # fmt: skip
    save_mask(root / "can/test_public/ground_truth/bad/3_regular_mask.png", spot())
    return {
        "can/train/good/0": "good", "can/validation/good/1": "good", "can/test_public/good/2_regular": "good",
        "can/test_public/bad/3_regular": "defect", "can/test_private/4": None, "can/test_private_mixed/5": None,
    }  # fmt: skip


AD2_MASK = "can/test_public/ground_truth/bad/3_regular_mask.png"
BAD = {"can/test_public/bad/3_regular"}
AD2 = {
    "mask missing": (lambda root: (root / AD2_MASK).unlink(), BAD, "3_regular"),
    "mask cut": (lambda root: cut(root / AD2_MASK), BAD, "3_regular_mask.png"),
    "mask of no picture": (
        lambda root: save_mask(root / AD2_MASK.replace("3_", "8_"), spot()), set(), "8_regular_mask.png",
    ),
    "private pictures beside good names": (lambda root: picture(root / "can/test_private/good/6.png"), set(), ""),
}  # fmt: skip

# KolektorSDD2


def make_ksdd2(root):
    for name, pixels in (("train/1", spot()), ("train/2", spot() & False), ("test/3", spot())):
        picture(root / f"{name}.png", 1)
        save_mask(root / f"{name}_GT.png", pixels)
    return {"train/1": "defect", "train/2": "good", "test/3": "defect"}


KSDD2 = {
    "mask missing": (lambda root: (root / "train/1_GT.png").unlink(), {"train/1"}, "1_GT.png"),
    "mask of a good part missing": (lambda root: (root / "train/2_GT.png").unlink(), {"train/2"}, "2_GT.png"),
    "mask of a good part cut": (lambda root: cut(root / "train/2_GT.png"), {"train/2"}, "2_GT.png"),
    "mask of another size": (
        lambda root: save_mask(root / "train/2_GT.png", np.zeros((9, 9), np.bool_)), {"train/2"}, "2_GT.png",
    ),
    "picture missing": (lambda root: (root / "train/1.png").unlink(), {"train/1"}, "1_GT.png"),
}  # fmt: skip

# DAGM


def make_dagm(root):
    for split in ("Train", "Test"):
        folder = root / "Class1" / split
        pictures(folder, "0001.PNG", "0002.PNG")
        save_mask(folder / "Label/0002_label.PNG", spot())
        save_text(folder / "Label/Labels.txt", "1\n1\t0\t0001.PNG\t0\t0\n2\t1\t0002.PNG\t1\t0002_label.PNG\n")
    return {
        "Class1/Train/0001": "good", "Class1/Train/0002": "defect", "Class1/Test/0001": "good",
        "Class1/Test/0002": "defect",
    }  # fmt: skip


def dagm_text(old, new):
    return lambda root: replace_text(root / "Class1/Train/Label/Labels.txt", old, new)


G, D = {"Class1/Train/0001"}, {"Class1/Train/0002"}
DAGM = {
    "list missing": (lambda root: (root / "Class1/Train/Label/Labels.txt").unlink(), G | D, "0001.PNG"),
    "not in the list": (dagm_text("1\t0\t0001.PNG\t0\t0\n", ""), G, "0001.PNG"),
    "mark unknown": (dagm_text("1\t0\t0001", "1\t7\t0001"), G, "line 2"),
    "marks disagree": (dagm_text("0001.PNG\t0", "0001.PNG\t1"), G, "line 2"),
    "line cut": (dagm_text("1\t0\t0001.PNG\t0\t0", "1\t0"), G, "line 2"),
    "listed twice": (dagm_text("0002.PNG", "0001.PNG"), G | D, "0001.PNG"),
    "mask missing": (lambda root: (root / "Class1/Train/Label/0002_label.PNG").unlink(), D, "0002_label.PNG"),
    "mask cut": (lambda root: cut(root / "Class1/Train/Label/0002_label.PNG"), D, "0002_label.PNG"),
    "mask of a good part": (
        lambda root: save_mask(root / "Class1/Train/Label/0001_label.PNG", spot()), G, "0001",
    ),
    "picture missing": (lambda root: (root / "Class1/Train/0001.PNG").unlink(), G, "0001.PNG"),
    "list of other bytes": (
        lambda root: (root / "Class1/Train/Label/Labels.txt").write_bytes(b"\xff\xfe\x00"), G | D, "Labels.txt",
    ),
}  # fmt: skip

# GC10-DET


def voc(name, box=(5, 7, 14, 10)):
    corners = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    size = "<size><width>32</width><height>24</height></size>"
    return f"<annotation>{size}<object><name>{name}</name><bndbox>{corners}</bndbox></object></annotation>"


def make_gc10(root):
    pictures(root, "1/a.jpg", "2/b.jpg", "10/c.jpg")
    for stem, name in (("a", "1_chongkong"), ("b", "7_yiwu"), ("c", "10_yaozhed")):
        save_text(root / f"lable/{stem}.xml", voc(name))
    return {"1/a": "punching_hole", "2/b": "welding_line", "10/c": "waist_folding"}


GC10 = {
    "boxes missing": (lambda root: (root / "lable/a.xml").unlink(), {"1/a"}, "a.xml"),
    "boxes cut": (lambda root: cut(root / "lable/a.xml"), {"1/a"}, "a.xml"),
    "class unknown": (lambda root: replace_text(root / "lable/a.xml", "1_chongkong", "11_new"), {"1/a"}, "11_new"),
    "number is text": (lambda root: replace_text(root / "lable/a.xml", ">5<", ">five<"), {"1/a"}, "a.xml"),
    "no boxes": (lambda root: save_text(root / "lable/a.xml", "<annotation/>"), {"1/a"}, ""),
    "picture missing": (lambda root: (root / "1/a.jpg").unlink(), {"1/a"}, "a.xml"),
}  # fmt: skip

# Real-IAD


def make_real_iad(root):
    entries = {"train": [], "test": []}
    for split, kind, folder in (("train", "OK", "OK/S1"), ("test", "OK", "OK/S2"), ("test", "AK", "NG/AK/S1")):
        for view in (1, 2):
            name = f"{folder}/toy_C{view}"
            picture(root / f"realiad_1024/toy/{name}.jpg", view)
            mask = f"{name}.png" if kind != "OK" else None
            if mask:
                save_mask(root / f"realiad_1024/toy/{mask}", spot())
            entries[split].append({"category": "toy", "anomaly_class": kind, "image_path": f"{name}.jpg",
                                   "mask_path": mask})  # fmt: skip
    meta = {"prefix": "toy/", "normal_class": "OK"}
    save_json(root / "realiad_jsons/realiad_jsons/toy.json", {"meta": meta, **entries})
    views = [f"realiad_1024/toy/{folder}/toy_C{v}" for folder in ("OK/S1", "OK/S2", "NG/AK/S1") for v in (1, 2)]
    return dict(zip(views, ["good"] * 4 + ["pit"] * 2, strict=True))


def entry(split, at, edit):
    file = "realiad_jsons/realiad_jsons/toy.json"
    return lambda root: change_json(root / file, lambda content: edit(content[split][at]))


OK, NG = {"realiad_1024/toy/OK/S1/toy_C1"}, {"realiad_1024/toy/NG/AK/S1/toy_C1"}
ALL = {f"realiad_1024/toy/{f}/toy_C{v}" for f in ("OK/S1", "OK/S2", "NG/AK/S1") for v in (1, 2)}
REAL_IAD = {
    "class unknown": (entry("train", 0, lambda e: e.update(anomaly_class="XX")), OK, "XX"),
    "class missing": (entry("train", 0, lambda e: e.pop("anomaly_class")), OK, "anomaly_class"),
    "path missing": (entry("train", 0, lambda e: e.pop("image_path")), OK, "image_path"),
    "picture missing": (
        lambda root: (root / "realiad_1024/toy/OK/S1/toy_C1.jpg").unlink(), OK, "toy_C1.jpg",
    ),
    "mask missing": (lambda root: (root / "realiad_1024/toy/NG/AK/S1/toy_C1.png").unlink(), NG, "toy_C1.png"),
    "mask not named": (entry("test", 2, lambda e: e.update(mask_path=None)), NG, "toy_C1.jpg"),
    "mask cut": (lambda root: cut(root / "realiad_1024/toy/NG/AK/S1/toy_C1.png"), NG, "toy_C1.png"),
    "list cut": (lambda root: cut(root / "realiad_jsons/realiad_jsons/toy.json"), ALL, "toy.json"),
    "list of another kind": (
        lambda root: save_json(root / "realiad_jsons/realiad_jsons/toy.json", {}), ALL, "toy.json",
    ),
    "pictures of another name": (
        lambda root: (root / "realiad_1024/toy").rename(root / "realiad_1024/other"), ALL, "toy",
    ),
    "defect that is listed as good too": (
        lambda root: change_json(
            root / "realiad_jsons/realiad_jsons/toy.json",
            lambda c: c["train"].append({**c["test"][2], "anomaly_class": "OK", "mask_path": None}),
        ),
        NG, "listed twice",
    ),
}  # fmt: skip

SETS = {
    "visa": (make_visa, VISA), "mvtec-ad-2": (make_ad2, AD2), "kolektor-sdd2": (make_ksdd2, KSDD2),
    "dagm": (make_dagm, DAGM), "gc10-det": (make_gc10, GC10), "real-iad": (make_real_iad, REAL_IAD),
}  # fmt: skip


@pytest.mark.parametrize("name", SETS)
def test_sound_sets(tmp_path, name):
    expected = SETS[name][0](tmp_path)
    assert labels_of(read_in_silence(tmp_path, name)) == expected


@pytest.mark.parametrize(("name", "fault"), [(name, fault) for name, (_, faults) in SETS.items() for fault in faults])
def test_faults(tmp_path, name, fault):
    make, faults = SETS[name]
    sound = make(tmp_path)
    spoil, concerned, named = faults[fault]
    spoil(tmp_path)
    if fault == "private pictures beside good names":
        sound["can/test_private/good/6"] = None
    read_faulty(tmp_path, name, sound, concerned, named)


def test_visa_takes_every_class_number_for_a_defect(tmp_path):
    make_visa(tmp_path)
    dataset = read_in_silence(tmp_path, "visa")
    samples = {s.image.stem + s.image.parent.name: s for s in dataset.samples}
    both = spot() | spot(18, 20, 2, 2)
    for name, expected in (("0Anomaly", both), ("1Anomaly", spot()), ("2Anomaly", spot())):
        own = dataset.with_samples([samples[name]])
        assert (mask_of(own, name[0]) == expected).all()
    assert [s.split for s in dataset.samples] == ["train", "test", "test", "test", "test"]
    assert {s.product for s in dataset.samples} == {"candle"}


def test_ad2_splits_and_categories(tmp_path):
    make_ad2(tmp_path)
    dataset = read_in_silence(tmp_path, "mvtec-ad-2")
    assert [s.split for s in dataset.samples] == ["train", "val", "test", "test", "test", "test"]
    assert {s.product for s in dataset.samples} == {"can"}
    assert (mask_of(dataset, "3_regular") == spot()).all()
    one = read_in_silence(tmp_path / "can", "mvtec-ad-2")
    assert [s.label for s in one.samples] == [s.label for s in dataset.samples]


def test_dagm_of_one_class(tmp_path):
    make_dagm(tmp_path)
    dataset = read_in_silence(tmp_path / "Class1", "dagm")
    assert sorted((s.split, s.label) for s in dataset.samples) == [
        ("test", "defect"), ("test", "good"), ("train", "defect"), ("train", "good"),
    ]  # fmt: skip


def test_dagm_lists_whole_file_names(tmp_path):
    """An image of the name of another, but for its suffix, is not in the list."""
    sound = make_dagm(tmp_path)
    picture(tmp_path / "Class1/Train/0001.bmp", 7)
    with pytest.warns(AnnotationWarning, match="0001.bmp is not in"):
        dataset = read_dataset(tmp_path)
    assert {s.image.name: s.label for s in dataset.samples if s.image.stem == "0001" and s.split == "train"} == {
        "0001.PNG": "good", "0001.bmp": None,
    }  # fmt: skip
    (tmp_path / "Class1/Train/0001.bmp").unlink()
    for file in (tmp_path / "Class1").rglob("*_label.PNG"):
        file.rename(file.with_name(file.name.upper()))
    replace_text(tmp_path / "Class1/Test/Label/Labels.txt", "0001.PNG", "0001.png")
    assert labels_of(read_in_silence(tmp_path, "dagm")) == sound


def test_gc10_boxes_of_one_name(tmp_path):
    """Boxes are those of both images only where these are copies."""
    make_gc10(tmp_path)
    picture(tmp_path / "7/a.jpg", 0)
    dataset = read_in_silence(tmp_path, "gc10-det")
    same = [s.boxes for s in dataset.samples if s.image.stem == "a"]
    assert len(same) == 2
    assert same[0] == same[1] != ()
    picture(tmp_path / "7/a.jpg", 9)
    with pytest.warns(AnnotationWarning, match="several images have its name"):
        dataset = read_dataset(tmp_path)
    assert [(s.label, s.boxes) for s in dataset.samples if s.image.stem == "a"] == [
        ("punching_hole", None), ("inclusion", None),
    ]  # fmt: skip
    assert all(s.boxes for s in dataset.samples if s.image.stem != "a")


def test_gc10_boxes_keep_their_classes(tmp_path):
    make_gc10(tmp_path)
    dataset = read_in_silence(tmp_path, "gc10-det")
    assert [s.boxes for s in dataset.samples] == [
        (Box(4, 6, 14, 10, name),) for name in ("punching_hole", "inclusion", "waist_folding")
    ]


def test_real_iad_views_are_one_group(tmp_path):
    make_real_iad(tmp_path)
    dataset = read_in_silence(tmp_path, "real-iad")
    assert len({s.group for s in dataset.samples}) == 3
    other = tmp_path / "realiad_jsons/realiad_jsons_sv"
    save_json(other / "toy.json", {"meta": {"prefix": "toy/"}, "train": [], "test": [
        {"anomaly_class": "OK", "image_path": "OK/S1/toy_C1.jpg", "mask_path": None}]})  # fmt: skip
    assert len(read_dataset(tmp_path, "real-iad:realiad_jsons_sv")) == 1


def test_mvtec_loco_is_read_as_mvtec_with_all_masks(tmp_path):
    pictures(
        tmp_path, "train/good/0.png", "validation/good/0.png", "test/good/0.png", "test/logical_anomalies/0.png",
        "test/structural_anomalies/0.png",
    )  # fmt: skip
    save_mask(tmp_path / "ground_truth/logical_anomalies/0/000.png", spot(), 255)
    save_mask(tmp_path / "ground_truth/logical_anomalies/0/001.png", spot(14, 20, 4, 6), 254)
    save_mask(tmp_path / "ground_truth/structural_anomalies/0/000.png", spot(2, 2), 249)
    rows = [("extra", 255), ("missing", 254), ("bent", 249)]
    config = tmp_path / "defects_config.json"
    save_json(config, [{"defect_name": name, "pixel_value": v, "saturation_threshold": 9} for name, v in rows])
    dataset = read_in_silence(tmp_path, "mvtec")
    assert labels_of(dataset) == {
        "train/good/0": "good", "validation/good/0": "good", "test/good/0": "good",
        "test/logical_anomalies/0": "logical_anomalies", "test/structural_anomalies/0": "structural_anomalies",
    }  # fmt: skip
    samples = {s.label: s for s in dataset.samples}
    logical = dataset.with_samples([samples["logical_anomalies"]])
    assert (mask_of(logical, "0") == spot() | spot(14, 20, 4, 6)).all()
    structural = dataset.with_samples([samples["structural_anomalies"]])
    assert (mask_of(structural, "0") == spot(2, 2)).all()
    assert [shape.label for shape in samples["logical_anomalies"].shapes] == ["extra", "missing"]
    assert [shape.label for shape in samples["structural_anomalies"].shapes] == ["bent"]
    for content, unknown in (([{"defect_name": "extra", "pixel_value": 255}], 2), ([{"pixel_value": 255}], 0), ({}, 0)):
        save_json(config, content)
        with pytest.warns(AnnotationWarning, match="pixel value"):
            labels = labels_of(other := read_dataset(tmp_path))
        assert labels == labels_of(dataset)
        assert sum(s.defective and not has_mask(s) for s in other.samples) == unknown


def test_btad_and_mpdd_are_read_as_mvtec(tmp_path):
    for folder, suffix, mask in (("01", "bmp", "png"), ("02", "png", "png"), ("03", "bmp", "bmp")):
        for name in ("train/ok/0", "test/ok/1", "test/ko/2"):
            path = tmp_path / "btad" / folder / f"{name}.{suffix}"
            picture(path.with_suffix(".png"), 1)
            path.with_suffix(".png").rename(path)
        save_mask(tmp_path / "btad" / folder / "ground_truth/ko/2.png", spot()).rename(
            tmp_path / "btad" / folder / f"ground_truth/ko/2.{mask}"
        )
    btad = read_in_silence(tmp_path / "btad", "mvtec")
    assert sorted(s.label for s in btad.samples) == ["good"] * 6 + ["ko"] * 3
    assert all((s.mask is not None) == (s.label == "ko") for s in btad.samples)
    pictures(tmp_path / "mpdd", "tubes/train/good/0.png", "tubes/test/good/1.png", "tubes/test/anomalous/2.png")
    save_mask(tmp_path / "mpdd/tubes/ground_truth/anomalous/2_mask.png", spot())
    mpdd = read_in_silence(tmp_path / "mpdd", "mvtec")
    assert sorted(s.label for s in mpdd.samples) == ["anomalous", "good", "good"]
    assert (mask_of(mpdd, "2") == spot()).all()
