"""Every layout with every fault that it can have: no image becomes good by it, and what is not read is named."""

import shutil
import warnings
from functools import cache

import numpy as np
import pytest
from fault_table import WHO, count_pairs, pairs, pairs_by_default
from layouts import CLASSES, LAYOUTS, SIZE, Spec

from blemish.dataset.audit import audit_dataset
from blemish.dataset.ground_truth import defect_boxes, has_boxes, read_defect_mask
from blemish.dataset.info import describe
from blemish.dataset.read import FORMATS, read_dataset
from blemish.errors import BlemishError, DataError, ImageError

PAIRS = list(pairs())
DEFAULT = pairs_by_default()
ORPHANS = (
    "image: missing", "annotation of an image that is missing", "image: another name than its annotation",
)  # fmt: skip


def read(built, layout, **options):
    """The set, and all that was said of it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        dataset = read_dataset(built.root, layout.format, **options)
    return dataset, " | ".join([*dataset.broken, *map(str, dataset.notes), *(str(w.message) for w in caught)])


def find(dataset, image):
    return next((s for s in dataset.samples if s.image == image), None)


def label_of(sample):
    """The class, or (for several, or none) whether it is defective."""
    return sample.label if sample.label is not None else sample.defective


def place_of(sample):
    """The defect's pixels, or None where they are not known; those of its boxes where there is no mask."""
    if not sample.defective or not has_boxes(sample):
        return None
    if sample.boxes:
        mask = np.zeros(SIZE, np.bool_)
        for box in defect_boxes(sample, SIZE):
            x0, y0, x1, y1 = (round(v) for v in box.bounds)
            mask[y0:y1, x0:x1] = True
        return mask
    return read_defect_mask(sample, SIZE)


@pytest.fixture(scope="session")
def sound(tmp_path_factory):
    """The labels and places of the sound twin of a layout."""

    @cache
    def make(layout):
        built = layout.build(tmp_path_factory.mktemp("sound") / "set", Spec())
        dataset, said = read(built, layout)
        assert not said, said
        samples = {name: find(dataset, image) for name, image in built.images.items()}
        return (
            {name: label_of(s) for name, s in samples.items()},
            {name: place_of(s) for name, s in samples.items()},
            sum(s.defective is False for s in dataset.samples),
        )

    return make


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda y: y.name)
def test_the_sound_twin_is_read_in_silence(layout, tmp_path):
    built = layout.build(tmp_path / "set", Spec())
    assert [name for name, own in FORMATS.items() if own.looks_like(built.root)] == [layout.format]
    dataset, said = read(built, layout)
    assert not said
    assert dataset.broken == ()
    for item in Spec().items:
        sample = find(dataset, built.images[item.name])
        assert sample.defective == (item.defective or not layout.good)
        if item.defective and layout.classes:
            assert sample.label == layout.labels.get(item.label, item.label)
        if item.defective and layout.kind != "label":
            np.testing.assert_array_equal(place_of(sample), item.mask)
    assert not audit_dataset(dataset).serious


MASKS = [y for y in LAYOUTS if y.kind in ("mask", "numbers", "runs")]


@pytest.mark.parametrize("layout", MASKS, ids=lambda y: y.name)
def test_the_same_masks_through_every_reader_are_the_same_pixels(layout, tmp_path):
    pixels = {}
    for seed, name in enumerate("cde"):
        pixels[name] = np.random.default_rng(seed).random(SIZE) < 0.4  # holes, islands, and the image's borders
    spec = Spec()
    for name, mask in pixels.items():
        spec = spec.change(name, pixels=mask)
    built = layout.build(tmp_path / "set", spec)
    dataset, said = read(built, layout)
    assert not said
    for name, mask in pixels.items():
        np.testing.assert_array_equal(read_defect_mask(find(dataset, built.images[name]), SIZE), mask)


BOXES = [y for y in LAYOUTS if y.kind == "box"]


@pytest.mark.parametrize("layout", BOXES, ids=lambda y: y.name)
def test_the_same_boxes_through_every_reader_are_the_same(layout, tmp_path):
    bounds = {"c": (0, 0, 32, 24), "d": (1, 2, 3, 4), "e": (31, 23, 32, 24)}
    spec = Spec()
    for name, box in bounds.items():
        spec = spec.change(name, box=box)
    built = layout.build(tmp_path / "set", spec)
    dataset, said = read(built, layout)
    assert not said
    for name, box in bounds.items():
        (own,) = find(dataset, built.images[name]).boxes
        np.testing.assert_allclose(own.bounds, box, atol=1e-9)


def names_something(text, built):
    """Whether a refusal names a file of the set, its folder, a class or an image."""
    known = {str(built.root), built.root.name, *CLASSES, *built.images}
    known |= {file.name for files in (built.images, built.notes, built.masks) for file in files.values()}
    return any(name in text for name in known | {file.name for file in built.shared})


def is_named(name, text, built, shared):
    files = [group[name] for group in (built.images, built.notes, built.masks) if name in group]
    return any(file.name in text or file.stem in text for file in [*files, *(built.shared if shared else [])])


def check(layout, fault, sound, root):
    """AssertionError where a set with a fault is read wrongly, or in silence."""
    labels, places, good = sound(layout)
    built = layout.build(root / "set", Spec() if fault.spec is None else fault.spec(Spec()))
    for group in (built.images, built.notes, built.masks):
        if fault.renamed in group:
            group[WHO] = group.pop(fault.renamed)
    if fault.files is not None:
        fault.files(built)
    try:
        dataset, said = read(built, layout)
    except BlemishError as error:
        refusal = str(error)
    else:
        refusal = ""
    if refusal:
        assert not fault.harmless, f"refused: {refusal}"
        assert "\n" not in refusal
        assert names_something(refusal, built), refusal
        return
    describe(dataset)
    audit = audit_dataset(dataset)
    allowed = good + sum(right == "good" and labels[name] != "good" for name, right in fault.truth.items())
    assert sum(s.defective is False for s in dataset.samples) <= allowed, said
    for name, label in labels.items():
        sample = find(dataset, built.images[name])
        named = is_named(name, said, built, fault.all)
        concerned = fault.all or name == WHO
        if layout.name == "severstal" and fault.name in ORPHANS:  # any image without a row may be meant
            concerned, named = True, "does not exist" in said
        if sample is None:
            assert concerned, f"{name} is left out"
            assert not fault.harmless
            assert named or dataset.passed_over or not built.images[name].exists(), f"{name} is left out in silence"
        elif label_of(sample) not in (label, fault.truth.get(name, label)):
            assert concerned, f"{name} is {label_of(sample)}: {said}"
            assert not fault.harmless, said
            assert sample.defective is None, label_of(sample)
            counted = fault.name.endswith((": missing", "in a folder of its name", "a folder in place of the file"))
            assert named or (counted and audit.unlabelled), f"{name} is unknown in silence: {said}"
        elif label == label_of(sample) and sample.defective and not (fault.moved and concerned):
            check_place(sample, places[name], concerned and named, audit, said)
    known = set(built.images.values())
    others = [s.image for s in dataset.samples if s.image not in known and s.defective is False]
    assert not others or layout.name == "mvtec-products", f"{others} are good"
    assert all(line in audit.broken_annotations for line in dataset.broken)
    if fault.name in ("image: cut", "image: empty", "image: a text") and find(dataset, built.images[WHO]):
        assert is_named(WHO, " ".join([*audit.unreadable, *audit.broken_annotations]), built, False)
    if fault.name == "copy of a good image among the defective":
        assert len(audit.duplicates_across_labels) == 1


def check_place(sample, right, named, audit, said):
    """The defect is where it is in the sound set, or not known; or something was said."""
    try:
        place = place_of(sample)
    except (DataError, ImageError):  # of a mask's size, which the reader does not check
        findings = [*audit.mask_size_mismatch, *audit.unreadable, *audit.broken_annotations]
        assert any(sample.image.stem in line for line in findings), sample
        return
    if place is not None and right is not None and not np.array_equal(place, right):
        assert named, f"{sample.image.name} has its defect elsewhere, and nothing says so: {said}"


def check_all(tried, layout, sound, tmp_path):
    wrong = []
    for number, fault in enumerate(tried):
        root = tmp_path / str(number)
        root.mkdir()
        try:
            check(layout, fault, sound, root)
        except AssertionError as error:
            wrong.append(f"{fault.name}: {error}".partition("\n")[0])
        shutil.rmtree(root)
    assert tried
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda y: y.name)
def test_faults(layout, sound, tmp_path):
    check_all([fault for own, fault in DEFAULT if own is layout], layout, sound, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda y: y.name)
def test_all_faults(layout, sound, tmp_path):
    check_all([fault for own, fault in PAIRS if own is layout], layout, sound, tmp_path)


def test_enough_pairs_are_tried():
    assert count_pairs(DEFAULT) >= 300
    assert len(DEFAULT) < len(PAIRS) / 3


def test_every_format_is_tried():
    assert {layout.format for layout in LAYOUTS} == set(FORMATS)
