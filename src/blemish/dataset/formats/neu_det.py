"""The layout of NEU-DET: IMAGES/<class>_<number>.jpg and Pascal VOC boxes in ANNOTATIONS/<class>_<number>.xml."""

import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path

from blemish.dataset.annotations import entries, no_shape
from blemish.dataset.formats import voc
from blemish.dataset.image_files import class_label, copy_image, new_folder
from blemish.dataset.sample import Dataset, Sample

SAYS = "IMAGES/<class>_<number>.jpg with ANNOTATIONS/<class>_<number>.xml, in capitals"
looks_like = voc.numbered_in_capitals


def read(path: Path) -> list[Sample]:
    """The image's label is that of its file's name; each box keeps the class of its own, which may be another.

    In the published set 188 boxes of 123 images bear another class than the file. They are real: those images show
    two kinds of defect, so neither the boxes nor the label are changed, and a warning gives their number.
    """
    samples, boxes, images = [], 0, 0
    for sample in voc.read_pair(path / "IMAGES", path / "ANNOTATIONS"):
        name = voc.NUMBERED.match(sample.image.stem)
        label = class_label(name.group(1)) if name else sample.label
        others = sum(box.label != label for box in sample.boxes or ())
        boxes, images = boxes + others, images + bool(others)
        samples.append(replace(sample, label=label))
    if boxes:
        warnings.warn(
            f"{path}: {boxes} boxes of {images} images bear another class than their file; boxes and labels are kept",
            stacklevel=2,
        )
    return samples


def write(dataset: Dataset, out: Path) -> list[str]:
    """Write labels and boxes as this layout; returns what could not be kept, a line each."""
    labelled = dataset.where(lambda s: s.label is not None)
    found, lost = entries(labelled, no_shape, {"label"})
    if len(labelled) < len(dataset):
        lost.append(f"{len(dataset) - len(labelled)} images without a label are left out")
    lost.append("images are named by their class and a number")
    new_folder(out, found, "a label of one class")
    numbers: Counter[str] = Counter()
    for entry in found:
        label = str(entry.sample.label)
        numbers[label] += 1
        stem = f"{label}_{numbers[label]}"
        name = stem + entry.sample.image.suffix.lower()
        copy_image(entry.sample.image, out / "IMAGES" / name)
        if entry.items is not None:
            voc.write_xml(entry, out / "ANNOTATIONS" / f"{stem}.xml", name)
    return lost
