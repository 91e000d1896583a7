"""Boxes and outlines survive every format that can hold them; pixels agree with references."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO

from blemish.dataset.annotations import fold_name
from blemish.dataset.export import unique_stems
from blemish.dataset.formats.deeppcb import CLASSES
from blemish.dataset.ground_truth import defect_boxes, has_mask, read_class_masks, read_defect_mask
from blemish.dataset.labels import derive_label
from blemish.dataset.read import detect_format, read_dataset
from blemish.dataset.sample import GOOD, Dataset, Sample
from blemish.dataset.synthetic_samples import check_any_real
from blemish.dataset.write import convert
from blemish.errors import DataError
from blemish.geometry import (
    Box,
    Polygon,
    Rle,
    encode_mask,
    shape_mask,
)
from blemish.imaging.read import write_image

HEIGHT, WIDTH = 14, 18
LABELS = st.sampled_from(CLASSES[:3])


def coordinates(limit):
    whole = st.integers(0, limit).map(float)
    return whole | st.floats(0, limit, allow_subnormal=False)


@st.composite
def boxes(draw, label=LABELS):
    x0, x1 = sorted((draw(coordinates(WIDTH - 1)), draw(coordinates(WIDTH - 1))))
    y0, y1 = sorted((draw(coordinates(HEIGHT - 1)), draw(coordinates(HEIGHT - 1))))
    return Box(x0, y0, x1 + 1 if x1 - x0 < 0.5 else x1, y1 + 1 if y1 - y0 < 0.5 else y1, draw(label))


@st.composite
def rings(draw):
    x, y = draw(st.integers(0, WIDTH - 4)), draw(st.integers(0, HEIGHT - 4))
    corner = (draw(st.floats(1.5, 3.9)), draw(st.floats(1.5, 3.9)))
    return ((float(x), float(y)), (x + corner[0], float(y)), (x + corner[0], y + corner[1]), (float(x), y + 1.5))


def polygons(most):
    return st.builds(Polygon, st.lists(rings(), min_size=1, max_size=most).map(tuple), LABELS)


@st.composite
def runs(draw, many=None):
    rows = draw(st.lists(st.booleans(), min_size=HEIGHT * WIDTH, max_size=HEIGHT * WIDTH).filter(any))
    mask = np.array(rows).reshape(HEIGHT, WIDTH)
    return encode_mask(mask, draw(LABELS), draw(st.booleans()) if many is None else many)


def samples_of(items, split=None):
    """Samples without an image yet, of a list of annotations each; an empty one is a good part."""

    def sample(found):
        own = tuple(i for i in found if isinstance(i, Box))
        shapes = tuple(i for i in found if not isinstance(i, Box))
        label = derive_label(i.label for i in found)
        return Sample(Path(), label=label, boxes=own or (None if shapes else ()), shapes=shapes or None, split=split)

    return st.lists(st.lists(items, max_size=4).map(sample), min_size=1, max_size=3)


def there_and_back(samples, target):
    """(what was written, what came back, what was named as lost)."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        placed = []
        for i, sample in enumerate(samples):
            image = root / "in" / f"part_{i}.png"
            write_image(image, np.full((HEIGHT, WIDTH), i, np.uint8))
            placed.append(replace(sample, image=image, template=image if target == "deeppcb" else None))
        dataset = Dataset(tuple(placed), root / "in", "csv")
        lost = convert(dataset, target, root / ("out.csv" if target == "csv" else "out"))
        out = root / ("out.csv" if target == "csv" else "out")
        assert detect_format(out) == target
        back = read_dataset(out).samples
        assert len(back) == len(samples)
        shown = [read_class_masks(s, CLASSES, (HEIGHT, WIDTH)) if has_mask(s) else None for s in back]
        return placed, back, lost, shown


def same_boxes(found, expected):
    found, expected = found or (), expected or ()
    assert [b.label for b in found] == [b.label for b in expected]
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose([a.x0, a.y0, a.x1, a.y1], [b.x0, b.y0, b.x1, b.y1], atol=1e-9)


def same_shapes(found, expected):
    for a, b in zip(found or (), expected or (), strict=True):
        assert (type(a), a.label) == (type(b), b.label)
        if isinstance(a, Rle):
            assert a == replace(b, many=a.many)
        else:
            assert len(a.rings) == len(b.rings)
            for own, other in zip(a.rings, b.rings, strict=True):
                np.testing.assert_allclose(own, other, atol=1e-9)


HOLDS = {
    "csv": boxes() | polygons(3) | runs(),
    "coco": boxes() | polygons(3) | runs(),
    "labelme": boxes() | polygons(3) | runs(many=False),
    "yolo": boxes() | polygons(1),
    "voc": boxes(),
    "deeppcb": boxes(),
}


@pytest.mark.parametrize("target", HOLDS)
@pytest.mark.parametrize("split", [None, "train", "val", "test"])
@given(data=st.data())
@settings(max_examples=12, deadline=None)
def test_what_a_format_holds_comes_back(target, split, data):
    written, back, lost, _ = there_and_back(data.draw(samples_of(HOLDS[target], split)), target)
    assert lost == []
    for before, after in zip(written, back, strict=True):
        assert (after.label, after.split) == (before.label, before.split)
        if target == "csv":
            assert after == before
        same_boxes(after.boxes, before.boxes)
        same_shapes(after.shapes, before.shapes)


def test_an_outline_of_two_points_becomes_its_box_in_yolo():
    line = Polygon((((2.0, 3.0), (9.0, 7.0)),), "short")
    other = Polygon((((1.0, 1.0), (5.0, 1.0), (5.0, 6.0)),), "open")
    _, (back,), lost, _ = there_and_back([Sample(Path(), shapes=(line, other))], "yolo")
    assert lost == ["label of 1 images is not kept"] or lost == []
    same_boxes(back.boxes, [Box(2, 3, 9, 7, "short")])
    same_shapes(back.shapes, [other])


@given(samples=samples_of(boxes(st.just("short"))))
@settings(max_examples=12, deadline=None)
def test_neu_det_comes_back_with_labels_by_name(samples):
    written, back, lost, _ = there_and_back(samples, "neu-det")
    assert lost == ["images are named by their class and a number"]
    for before in written:
        same = [a for a in back if a.label == before.label and len(a.boxes) == len(before.boxes)]
        assert any(np.allclose([b.x0 for b in a.boxes], [b.x0 for b in before.boxes]) for a in same)


@pytest.mark.parametrize("target", ["severstal", "class-masks"])
@given(samples=samples_of(polygons(2) | runs()))
@settings(max_examples=12, deadline=None)
def test_masks_of_classes_come_back(target, samples):
    written, _, lost, found = there_and_back(samples, target)
    for before, after in zip(written, found, strict=True):
        expected = read_class_masks(before, CLASSES, (HEIGHT, WIDTH))
        if target == "class-masks" and any("overlap" in line for line in lost):
            np.testing.assert_array_equal(after.any(axis=0), expected.any(axis=0))
            assert not (after & ~expected).any()
        else:
            np.testing.assert_array_equal(after, expected)


@pytest.mark.parametrize("target", ["voc", "yolo", "deeppcb", "severstal", "mvtec", "masks", "classes"])
def test_what_a_format_cannot_hold_is_named(target, tmp_path):
    write_image(tmp_path / "a.png", np.zeros((HEIGHT, WIDTH), np.uint8))
    image = tmp_path / "a.png"
    two = (((0.0, 0.0), (3.0, 0.0), (3.0, 3.0)), ((8.0, 8.0), (12.0, 8.0), (12.0, 12.0)))
    shapes = (Polygon(two, "open"), Polygon(two[:1], "short"))
    sample = Sample(image, label="odd", shapes=shapes, template=image, group="7", split="test", roi=image)
    lost = "\n".join(convert(Dataset((sample,), tmp_path, "csv"), target, tmp_path / "out"))
    assert "group of 1" in lost
    assert "roi of 1" in lost
    assert ("template of 1" in lost) == (target != "deeppcb")
    outlines = {
        "voc": "the outlines of 1 images are kept as boxes", "yolo": "the outlines of 1 images are kept as boxes",
        "deeppcb": "the outlines of 1 images are kept as boxes", "severstal": "become one mask",
        "mvtec": "kept as one mask", "masks": "kept as one mask", "classes": "outlines of 1 images are not kept",
    }  # fmt: skip
    assert outlines[target] in lost
    if target in ("voc", "yolo", "deeppcb", "severstal"):
        assert "label of 1 images is not kept" in lost


def synthetic_set(folder):
    """A good image, one elsewhere, and two synthetic images that are made of them."""
    for i, name in enumerate(("good", "made", "made_too", "elsewhere/good")):
        write_image(folder / "in" / f"{name}.png", np.full((HEIGHT, WIDTH), i, np.uint8))
    good, made, too, other = (folder / "in" / f"{n}.png" for n in ("good", "made", "made_too", "elsewhere/good"))
    box = (Box(1, 1, 5, 5, "open"),)
    return Dataset(
        (Sample(good, GOOD, boxes=()), Sample(made, "open", boxes=box, sources=(good,)),
         Sample(too, "open", boxes=box, sources=(good, other))),
        folder / "in", "csv",
    )  # fmt: skip


@pytest.mark.parametrize("target", ["csv", "coco"])
def test_a_synthetic_image_stays_one(target, tmp_path):
    dataset, out = synthetic_set(tmp_path), tmp_path / ("out.csv" if target == "csv" else "out")
    assert convert(dataset, target, out) == []
    if target == "coco":
        out = out.rename(tmp_path / "moved")
    good, made, too = sorted(read_dataset(out).samples, key=lambda s: s.image.name)
    other = dataset.samples[2].sources[1]
    assert (good.sources, made.sources, too.sources) == (None, (good.image,), (good.image, other))
    with pytest.raises(DataError, match="synthetic"):
        check_any_real(Dataset((made, too), out, target))


@pytest.mark.parametrize("target", ["voc", "yolo", "labelme", "cvat", "mvtec", "classes"])
def test_that_synthetic_images_become_real_ones_is_said(target, tmp_path):
    lost = convert(synthetic_set(tmp_path), target, tmp_path / "out")
    (line,) = [line for line in lost if "synthetic" in line]
    assert line.startswith("2 synthetic images read back as real ones")


def test_masks_of_files_become_run_lengths_and_back(tmp_path):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[2:5, 3:9] = 255
    mask[8:12, 1:4] = 255
    write_image(tmp_path / "a.png", mask // 3)
    write_image(tmp_path / "m.png", mask)
    sample = Sample(tmp_path / "a.png", label="open", mask=tmp_path / "m.png")
    dataset = Dataset((sample,), tmp_path, "csv")
    assert convert(dataset, "coco", tmp_path / "coco") == []
    (back,) = read_dataset(tmp_path / "coco").samples
    assert back.shapes[0].many
    np.testing.assert_array_equal(read_defect_mask(back, (HEIGHT, WIDTH)), mask > 0)
    expected = {(3, 2, 9, 5), (1, 8, 4, 12)}  # two defects in one mask, as before
    for found in (sample, back):
        assert {(b.x0, b.y0, b.x1, b.y1) for b in defect_boxes(found, (HEIGHT, WIDTH))} == expected
    convert(read_dataset(tmp_path / "coco"), "masks", tmp_path / "masks")
    (again,) = read_dataset(tmp_path / "masks").samples
    assert again.label == "open"
    np.testing.assert_array_equal(read_defect_mask(again, (HEIGHT, WIDTH)), mask > 0)


def test_a_coco_file_is_understood_by_pycocotools(tmp_path):
    rng = np.random.default_rng(0)
    write_image(tmp_path / "a.png", np.zeros((HEIGHT, WIDTH), np.uint8))
    blob = rng.random((HEIGHT, WIDTH)) > 0.6
    outline = Polygon((((2.0, 2.0), (14.0, 2.0), (14.0, 11.0), (2.0, 11.0)),), "short")
    sample = Sample(tmp_path / "a.png", boxes=(Box(1, 2, 5, 9, "open"),), shapes=(outline, encode_mask(blob, "spur")))
    convert(Dataset((sample,), tmp_path, "csv"), "coco", tmp_path / "out")
    reference = COCO(tmp_path / "out" / "annotations" / "instances.json")
    by_name = {c["name"]: reference.loadAnns(reference.getAnnIds(catIds=[c["id"]])) for c in reference.cats.values()}
    assert by_name["open"][0]["bbox"] == [1, 2, 4, 7]
    np.testing.assert_array_equal(reference.annToMask(by_name["spur"][0]) > 0, blob)
    np.testing.assert_array_equal(reference.annToMask(by_name["short"][0]) > 0, shape_mask(outline, blob.shape))
    assert by_name["spur"][0]["area"] == blob.sum()


def test_boxes_are_cut_to_the_image_and_empty_ones_dropped():
    found = (Box(-3, -2, 4, 5, "a"), Box(10, 3, 30, 9, "b"), Box(5, 5, 5, 9, "c"), Box(40, 1, 50, 2, "d"))
    sample = Sample(Path("a.png"), boxes=found)
    assert defect_boxes(sample, (HEIGHT, WIDTH)) == (Box(0, 0, 4, 5, "a"), Box(10, 3, 18, 9, "b"))


def test_masks_are_known_only_where_every_defect_is_outlined():
    outline = Polygon((((0.0, 0.0), (4.0, 0.0), (4.0, 4.0)),), "a")
    box = Box(1, 1, 3, 3, "b")
    assert has_mask(Sample(Path("a.png"), shapes=(outline,)))
    assert not has_mask(Sample(Path("a.png"), shapes=(outline,), boxes=(box,)))
    assert has_mask(Sample(Path("a.png"), boxes=()))
    with pytest.raises(DataError, match="no annotation says which pixels"):
        read_defect_mask(Sample(Path("a.png"), boxes=(box,)), (4, 4))
    assert not read_defect_mask(Sample(Path("a.png"), label=GOOD), (4, 4)).any()


@given(
    st.lists(
        st.sampled_from(["a", "A", "b", "000001_a", "000002_A", "000000_000001_a", "\u00e9", "e\u0301"]), max_size=9
    )
)
def test_written_stems_differ_in_whatever_case(names):
    stems = unique_stems(Sample(Path(f"{name}.png")) for name in names)
    assert len({fold_name(stem) for stem in stems}) == len(names)
    assert all(stem.endswith(name) for stem, name in zip(stems, names, strict=True))
    folded = [fold_name(name) for name in names]
    assert all(s == n for s, n, f in zip(stems, names, folded, strict=True) if folded.count(f) == 1)
