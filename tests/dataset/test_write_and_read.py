"""Every layout that is written: what it holds comes back, and what it does not hold is said."""

import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blemish.dataset.ground_truth import has_boxes, has_mask, known_boxes, read_defect_mask
from blemish.dataset.read import FORMATS, read_dataset
from blemish.dataset.sample import GOOD, Dataset, Sample
from blemish.dataset.write import convert
from blemish.errors import DataError
from blemish.geometry import Box, Polygon, encode_mask
from blemish.imaging.read import write_image

SIZE = HEIGHT, WIDTH = 14, 18
WRITABLE = [name for name, layout in FORMATS.items() if layout.write is not None]
CLASSES = ("open", "short", "mousebite")
ODD_CLASSES = ("Kratzer ü", "pin-hole", "a & b", "<dent>", "no 1")
NAMES = ("a", "b 1", "ü", "c[1]", "d.x", "f&g", "x,y", "0001", "good_1", "it's")
KINDS = ("good", "label", "box", "outline", "runs", "mask", "unknown")


@st.composite
def drawn_sets(draw):
    """(name, kind, class, split, offset) of each image; all or none have a split."""
    names = draw(st.lists(st.sampled_from(NAMES), min_size=2, max_size=5, unique=True))
    classes = draw(st.sampled_from((CLASSES, (*CLASSES, *ODD_CLASSES))))
    split = st.sampled_from(("train", "val", "test")) if draw(st.booleans()) else st.none()
    row = st.tuples(st.sampled_from(KINDS), st.sampled_from(classes), split, st.integers(0, 6))
    rows = draw(st.lists(row, min_size=len(names), max_size=len(names)))
    return [(name, *own) for name, own in zip(names, rows, strict=True)]


def make(root, rows):
    samples = []
    for seed, (name, kind, label, split, at) in enumerate(rows):
        image = root / f"{name}.png"
        write_image(image, np.full((*SIZE, 3), 20 * seed, np.uint8))
        template = root / "templates" / f"{name}.png"
        write_image(template, np.full((*SIZE, 3), 20 * seed + 1, np.uint8))
        pixels = np.zeros(SIZE, np.bool_)
        pixels[at : at + 5, at : at + 7] = True
        box = (float(at), float(at), float(at + 7), float(at + 5))
        ring = tuple((box[x], box[y]) for x, y in ((0, 1), (2, 1), (2, 3), (0, 3)))
        mask = root / "masks" / f"{name}.png"
        fields = {
            "good": {"label": GOOD, "boxes": ()}, "label": {"label": label}, "unknown": {},
            "box": {"label": label, "boxes": (Box(*box, label),)},
            "outline": {"label": label, "shapes": (Polygon((ring,), label),)},
            "runs": {"label": label, "shapes": (encode_mask(pixels, label),)},
            "mask": {"label": label, "mask": mask},
        }[kind]  # fmt: skip
        if kind == "mask":
            write_image(mask, pixels.astype(np.uint8) * 255)
        samples.append(Sample(image, split=split, template=template, **fields))
    return Dataset(tuple(samples), root, "csv")


def known(sample):
    """Label or defectiveness, pixels and bounding boxes, as far as they are known."""
    mask = read_defect_mask(sample, SIZE) if has_mask(sample) else None
    boxes = known_boxes(sample, SIZE) if has_boxes(sample) else None
    return mask, None if boxes is None else sorted(box.bounds for box in boxes)


def same_boxes(boxes, others):
    return others is not None and len(boxes) == len(others) and np.allclose(boxes, others)


def fingerprint(path):
    return path.read_bytes()  # images are copied, and each is of another colour


@pytest.mark.parametrize("target", WRITABLE)
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(rows=drawn_sets())
def test_what_is_written_comes_back_or_is_said_to_be_lost(target, rows):
    with tempfile.TemporaryDirectory() as folder:
        dataset = make(Path(folder) / "in", rows)
        out = Path(folder) / ("out.csv" if target == "csv" else "out")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                lost = " | ".join(convert(dataset, target, out))
                back = read_dataset(out, target)
            except DataError as error:  # none of the images is of the kind that the layout holds
                assert "\n" not in str(error)  # noqa: PT017
                return
        found = {fingerprint(s.image): s for s in back.samples}
        assert len(found) == len(back)
        for sample in dataset.samples:
            other = found.get(fingerprint(sample.image))
            if other is None:
                assert "left out" in lost, (sample, lost)
                continue
            if other.label != sample.label:
                assert "label" in lost or "read back as" in lost, (sample, other, lost)
            assert not (other.defective is False and sample.defective) or "read back as good" in lost or "label" in lost
            if other.split != sample.split:
                assert "split" in lost, (sample, other, lost)
            mask, boxes = known(sample)
            other_mask, other_boxes = known(other)
            if mask is not None and not (other_mask is not None and np.array_equal(mask, other_mask)):
                assert "not kept" in lost or "kept as" in lost or "read back as" in lost, (sample, other, lost)
            if boxes is not None and not same_boxes(boxes, other_boxes):
                assert "not kept" in lost or "kept as" in lost or "read back as" in lost, (sample, other, lost)
