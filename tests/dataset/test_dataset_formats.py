"""Every layout is known for what it is, reads to the right samples, and survives being written."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from blemish.dataset.formats import elpv
from blemish.dataset.read import FORMATS, detect_format, read_dataset
from blemish.dataset.sample import GOOD, Sample
from blemish.dataset.write import convert, dataset_sha256, write_csv
from blemish.errors import DataError
from blemish.imaging.read import read_mask, write_image


def picture(path: Path, seed=0):
    write_image(path, np.random.default_rng(seed).integers(0, 256, (12, 10, 3), dtype=np.uint8))


def mask(path: Path, defect=True):
    values = np.zeros((12, 10), np.uint8)
    values[3:6, 2:7] = 255 * defect
    write_image(path, values)


def make_mvtec(root):
    for i in range(3):
        picture(root / f"train/good/{i:03}.png", i)
    picture(root / "test/good/000.png", 3)
    for i in range(2):
        picture(root / f"test/scratch/{i:03}.png", 4 + i)
        mask(root / f"ground_truth/scratch/{i:03}_mask.{['png', 'jpg'][i]}")
    return {("train", "good", False): 3, ("test", "good", False): 1, ("test", "scratch", True): 2}


def make_mvtec_categories(root):
    make_mvtec(root / "bolt")
    make_mvtec(root / "nut")
    (root / "readme.txt").write_text("two categories")
    return {("train", "good", False): 6, ("test", "good", False): 2, ("test", "scratch", True): 4}


def make_classes(root):
    for i, name in enumerate(("OK", "dent", "scratch")):
        picture(root / name / "a.png", i)
    return {(None, "good", False): 1, (None, "dent", False): 1, (None, "scratch", False): 1}


def make_split_classes(root):
    for i, name in enumerate(("train/good", "train/dent", "validation/dent", "test/good", "test/scratch")):
        picture(root / name / "a.png", i)
    return {
        ("train", "good", False): 1,
        ("train", "dent", False): 1,
        ("val", "dent", False): 1,
        ("test", "good", False): 1,
        ("test", "scratch", False): 1,
    }


def make_good_defect(root):
    picture(root / "ok/a.png")
    picture(root / "NG/b.png", 1)
    picture(root / "NG/c.png", 2)
    mask(root / "masks/b_mask.png")
    return {(None, "good", False): 1, (None, "defect", True): 1, (None, "defect", False): 1}


def make_good_alone(root):
    picture(root / "good/a.png")
    picture(root / "good/night shift/b.png")
    return {(None, "good", False): 2}


def make_defect_classes(root):
    picture(root / "normal/a.png")
    picture(root / "abnormal/dent/b.png", 1)
    mask(root / "ground_truth/dent/b.png")
    return {(None, "good", False): 1, (None, "dent", True): 1}


def make_magnetic_tile(root):
    for i, (kind, defect) in enumerate((("Free", False), ("Blowhole", True), ("Break", True))):
        picture(root / f"MT_{kind}/Imgs/exp{i}.jpg", i)
        mask(root / f"MT_{kind}/Imgs/exp{i}.png", defect)
    picture(root / "dataset.jpg")
    mask(root / "dataset.png")
    return {(None, "good", True): 1, (None, "blowhole", True): 1, (None, "break", True): 1}


def make_images_masks(root):
    picture(root / "images/a.png")
    picture(root / "images/b.png", 1)
    mask(root / "masks/b.png")
    picture(root / "images/c.png", 2)
    mask(root / "masks/c.png", defect=False)
    return {(None, "good", False): 1, (None, "defect", True): 1, (None, "good", True): 1}


def make_same_folder(root):
    for i in range(2):
        picture(root / f"{i}.jpg", i)
        mask(root / f"{i}.png", defect=i > 0)
    return {(None, "good", True): 1, (None, "defect", True): 1}


def make_kolektor(root):
    for part in ("kos01", "kos02"):
        for i in range(2):
            picture(root / part / f"Part{i}.jpg", i)
            mask(root / part / f"Part{i}_label.bmp", defect=i == 1)
    return {(None, "good", True): 2, (None, "defect", True): 2}


def make_elpv(root):
    rows = [("a", "0.0", "mono"), ("b", "1.0", "poly"), ("c", "0.3333333333333333", "mono"), ("d", "0.6666666", "mono")]
    for name, _, _ in rows:
        picture(root / f"images/{name}.png")
    (root / "labels.csv").write_text("".join(f"images/{n}.png  {p}    {t}\n" for n, p, t in rows))
    return {(None, "good", False): 1, (None, "defect", False): 1}


LAYOUTS = {
    "mvtec": (make_mvtec, "mvtec"),
    "mvtec, several categories": (make_mvtec_categories, "mvtec"),
    "classes": (make_classes, "classes"),
    "classes with splits": (make_split_classes, "classes"),
    "good and defect": (make_good_defect, "good-defect"),
    "good alone": (make_good_alone, "good-defect"),
    "good and classes of defects": (make_defect_classes, "good-defect"),
    "magnetic tile": (make_magnetic_tile, "masks"),
    "images and masks": (make_images_masks, "masks"),
    "images and masks in one folder": (make_same_folder, "masks"),
    "kolektor": (make_kolektor, "kolektor"),
    "elpv": (make_elpv, "elpv"),
}


def content(dataset):
    return Counter((s.split, s.label, s.mask is not None) for s in dataset.samples)


@pytest.fixture(params=LAYOUTS)
def layout(request, tmp_path, monkeypatch):
    monkeypatch.setattr("blemish.imaging.read.encode", _bmp_too)
    make, name = LAYOUTS[request.param]
    root = tmp_path / "data"
    root.mkdir()
    return root, name, make(root)


def _bmp_too(image, suffix):
    import cv2

    return cv2.imencode(suffix, image if image.ndim == 2 else image[..., ::-1])[1].tobytes()


def test_auto_detection_and_samples(layout):
    root, name, expected = layout
    assert [known for known in FORMATS if FORMATS[known].looks_like(root)] == [name]
    dataset = read_dataset(root)
    assert dataset.format == name
    assert content(dataset) == expected
    assert read_dataset(root, name).samples == dataset.samples


def test_csv_round_trip(layout, tmp_path):
    dataset = read_dataset(layout[0])
    write_csv(dataset, tmp_path / "absolute.csv")
    back = read_dataset(tmp_path / "absolute.csv")
    assert back.samples == dataset.samples
    write_csv(dataset, tmp_path / "relative.csv", relative=True)
    assert str(tmp_path) not in (tmp_path / "relative.csv").read_text()
    moved = read_dataset(tmp_path / "relative.csv", root=layout[0])
    assert moved.samples == dataset.samples
    assert dataset_sha256(moved) == dataset_sha256(dataset)


@pytest.mark.parametrize("target", ["mvtec", "classes", "good-defect", "masks"])
def test_convert_keeps_what_it_does_not_name(layout, tmp_path, target):
    root, _, expected = layout
    dataset = read_dataset(root)
    lost = convert(dataset, target, tmp_path / "out")
    back = read_dataset(tmp_path / "out", target)
    kept = Counter()
    for (split, label, masked), count in expected.items():
        split = None if any(line.startswith(("split of", "the layout needs splits")) for line in lost) else split
        masked = masked and target != "classes" and (label != GOOD or target == "masks")
        kept[split, label, masked] += count
    found = Counter()
    for (split, label, masked), count in content(back).items():
        found[None if "split" in " ".join(lost) else split, label, masked] += count
    assert found == kept
    if target == "classes" and any(masked for _, _, masked in expected):
        assert any(line.startswith("mask of") for line in lost)
    assert not lost or all("\n" not in line for line in lost)
    for s in back.samples:
        assert s.mask is None or read_mask(s.mask).shape == (12, 10)


def test_masks_follow_their_image(layout):
    for s in read_dataset(layout[0]).samples:
        if s.mask is not None:
            assert s.image.stem in s.mask.stem
            if s.label != GOOD:
                assert read_mask(s.mask)[3:6, 2:7].mean() > 0.9


def test_groups_and_products(tmp_path, monkeypatch):
    monkeypatch.setattr("blemish.imaging.read.encode", _bmp_too)
    make_kolektor(tmp_path / "k")
    assert {s.group for s in read_dataset(tmp_path / "k").samples} == {"kos01", "kos02"}
    make_mvtec_categories(tmp_path / "m")
    dataset = read_dataset(tmp_path / "m")
    assert Counter(s.product for s in dataset.samples) == {"bolt": 6, "nut": 6}
    assert not [line for line in convert(dataset, "mvtec", tmp_path / "out") if "product" in line]
    assert read_dataset(tmp_path / "out").samples[0].product == "bolt"


def test_elpv_threshold_and_package(tmp_path, monkeypatch):
    make_elpv(tmp_path)
    labels = [s.label for s in read_dataset(tmp_path, "elpv:0.5").samples]
    assert labels == ["good", "defect", "good", "defect"]
    for bad in ("elpv:2", "elpv:0", "elpv:x"):
        with pytest.raises(DataError, match=r"elpv:0\.5"):
            read_dataset(tmp_path, bad)
    monkeypatch.setattr(elpv, "find_spec", lambda name: None)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="pip install elpv-dataset"):
        read_dataset("elpv")


def test_masks_of_the_whole_set(tmp_path):
    make_mvtec(tmp_path)
    mask(tmp_path / "roi.png")
    mask(tmp_path / "ignore.bmp".replace("bmp", "tif"))
    dataset = read_dataset(tmp_path)
    assert {s.roi for s in dataset.samples} == {tmp_path / "roi.png"}
    assert {s.ignore for s in dataset.samples} == {tmp_path / "ignore.tif"}


def csv_of(tmp_path, text, name="list.csv"):
    (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path / name


def test_csv_columns_aliases_and_delimiters(tmp_path):
    for name in ("a.png", "b.png", "t.png"):
        picture(tmp_path / "images" / name)
    mask(tmp_path / "m.png")
    text = (
        "\ufeffImage; Label;split;mask;template;group;product;roi;ignore\n"
        "images/a.png;OK;training;;;7;bolt;;\n"
        "images\\b.png;dent;validation;m.png;images/t.png;8;bolt;m.png;m.png\n"
    )
    first, second = read_dataset(csv_of(tmp_path, text)).samples
    assert (first.label, first.split, first.mask, first.group, first.product) == ("good", "train", None, "7", "bolt")
    assert (second.image, second.split, second.mask) == (tmp_path / "images/b.png", "val", tmp_path / "m.png")
    assert (second.template, second.roi, second.ignore) == (tmp_path / "images/t.png", tmp_path / "m.png", second.mask)


def test_csv_warns_of_columns_and_boxes_it_cannot_read(tmp_path):
    picture(tmp_path / "a.png")
    with pytest.warns(UserWarning, match="lable"):
        read_dataset(csv_of(tmp_path, "image,lable\na.png,dent\n"))
    with pytest.warns(UserWarning, match=r"\.odd"):
        dataset = read_dataset(csv_of(tmp_path, "image,label,boxes\na.png,dent,a.odd\n"))
    assert dataset.samples[0].label == "dent"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("picture,label\na.png,x\n", "in no layout"),
        ("image,split\na.png,tset\n", "line 2: split 'tset'"),
        ("image,label\na.png,x\n,y\n", "line 3: the image is missing"),
        ("image\na.png\na.png\n", "twice"),
        ("image\nb.png\nc.png\n", r"names 2 images, none of .*b\.png does not exist; .*c\.png does not exist"),
        ("image\n", "holds no images"),
    ],
)
def test_a_wrong_csv_is_one_line(tmp_path, text, words):
    picture(tmp_path / "a.png")
    with pytest.raises(DataError, match=words) as caught:
        read_dataset(csv_of(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_places_that_are_no_dataset(tmp_path):
    cases = {
        "empty folder": tmp_path / "empty",
        "no folder says which are good": tmp_path / "flat",
        "one image": tmp_path / "a.png",
    }
    (tmp_path / "empty").mkdir()
    picture(tmp_path / "flat/a.png")
    picture(tmp_path / "a.png")
    for words, path in cases.items():
        with pytest.raises(DataError, match=words):
            read_dataset(path)
    with pytest.raises(DataError, match="does not exist"):
        read_dataset(tmp_path / "absent")
    with pytest.raises(DataError, match="format 'coc' is not known; take auto, mvtec"):
        read_dataset(tmp_path / "flat", "coc")
    with pytest.raises(DataError, match="holds no images in the layout mvtec"):
        read_dataset(tmp_path / "flat", "mvtec")


def test_an_unclear_folder_names_the_candidates(tmp_path):
    make_magnetic_tile(tmp_path)
    make_elpv(tmp_path)
    with pytest.raises(DataError, match="several layouts: masks, elpv; say which with --format"):
        detect_format(tmp_path)
    assert read_dataset(tmp_path, "masks").format == "masks"
    make_mvtec(tmp_path / "other/bolt")
    make_kolektor_name = tmp_path / "other/plain"
    make_kolektor_name.mkdir()
    with pytest.raises(DataError, match=r"in no layout that is known.* mvtec, .*csv.*/good and .*/defect"):
        detect_format(tmp_path / "other")


def test_convert_refuses_to_overwrite_and_to_write_the_unknown(tmp_path):
    make_mvtec(tmp_path / "data")
    dataset = read_dataset(tmp_path / "data")
    with pytest.raises(DataError, match="not an empty folder"):
        convert(dataset, "classes", tmp_path / "data")
    with pytest.raises(DataError, match="cannot write the layout 'elpv'; take one of: mvtec, classes"):
        convert(dataset, "elpv", tmp_path / "out")
    with pytest.raises(DataError, match=r"ends in \.csv"):
        convert(dataset, "csv", tmp_path / "out")


@pytest.mark.parametrize(
    ("format", "words"),
    [("deeppcb", "template"), ("severstal", "mask"), ("class-masks", "mask"), ("neu-det", "label"), ("mvtec", "label"),
     ("classes", "label"), ("good-defect", "label"), ("masks", "label")],
)  # fmt: skip
def test_convert_refuses_a_layout_that_can_hold_no_image(format, words, tmp_path):
    make_mvtec(tmp_path / "data")
    dataset = read_dataset(tmp_path / "data")
    unknown = dataset.with_samples(Sample(s.image) for s in dataset.samples)
    with pytest.raises(DataError, match=f"none of the images has a {words}"):
        convert(unknown, format, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_hash_tells_label_split_and_content_but_not_order(tmp_path):
    from dataclasses import replace

    make_mvtec(tmp_path)
    dataset = read_dataset(tmp_path)
    own = dataset_sha256(dataset)
    assert dataset_sha256(dataset.with_samples(reversed(dataset.samples))) == own
    for change in ({"label": "dent"}, {"split": "val"}):
        changed = dataset.with_samples((replace(dataset.samples[0], **change), *dataset.samples[1:]))
        assert dataset_sha256(changed) != own
    with dataset.samples[0].image.open("ab") as file:
        file.write(b"x")
    assert dataset_sha256(dataset) != own


def test_folders_of_good_and_defect_one_a_product(tmp_path):
    for product in ("lid", "cup"):
        for place in ("good", "defect/scratch"):
            write_image(tmp_path / product / place / "0.png", np.zeros((8, 8, 1), np.uint8))
    found = read_dataset(tmp_path)
    assert found.format == "good-defect"
    assert {(s.product, s.label) for s in found.samples} == {
        (product, label) for product in ("lid", "cup") for label in ("good", "scratch")
    }
