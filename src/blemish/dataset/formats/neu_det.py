"""The layout of NEU-DET: IMAGES/<class>_<number>.jpg and Pascal VOC boxes in ANNOTATIONS/<class>_<number>.xml."""

import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path

from blemish.dataset.export import copy_image, image_name, no_shape, prepare_entries
from blemish.dataset.formats import voc
from blemish.dataset.formats.base import Convention, DataSource, Format
from blemish.dataset.labels import LabelEvidence, normalize_label
from blemish.dataset.sample import Dataset, Sample


def read(source: DataSource) -> list[Sample]:
    """The image's label is that of its file's name; each box keeps the class of its own, which may be another.

    In the published set 188 boxes of 123 images have another class than the file. They are real: those images show
    two kinds of defect, so neither the boxes nor the label are changed, and a warning gives their number.
    """
    path = source.path
    samples = []
    for sample in voc.read_pair(path / "IMAGES", path / "ANNOTATIONS"):
        name = voc.NUMBERED.match(sample.image.stem)
        samples.append(
            replace(sample, label=normalize_label(name.group(1)), evidence=LabelEvidence.FILE_NAME) if name else sample
        )
    others = [sum(box.label != s.label for box in s.boxes or ()) for s in samples]
    if any(others):
        warnings.warn(
            f"{path}: {sum(others)} boxes of {sum(map(bool, others))} images bear another class than their file; "
            "boxes and labels are kept",
            stacklevel=2,
        )
    return samples


def write(dataset: Dataset, out: Path) -> list[str]:
    """Write labels and boxes as this layout; returns a line for each loss."""
    labelled = dataset.where(lambda s: s.label is not None)
    entries, lost = prepare_entries(
        labelled, out, no_shape, {"label"}, subsets=False, requirement="a label of one class"
    )
    if len(labelled) < len(dataset):
        lost.append(f"{len(dataset) - len(labelled)} images without a label are left out")
    numbers: Counter[str] = Counter()
    for entry in entries:
        label = str(entry.sample.label)
        numbers[label] += 1
        stem = f"{label}_{numbers[label]}"
        name = image_name(entry.sample, stem)
        copy_image(entry.sample.image, out / "IMAGES" / name)
        voc.write_xml(entry, out / "ANNOTATIONS" / f"{stem}.xml", name)
    return [*lost, "images are named by their class and a number"]


FORMAT = Format(
    "IMAGES/<class>_<number>.jpg with ANNOTATIONS/<class>_<number>.xml, in capitals",
    voc.is_neu_det, read, write, convention=Convention("XML file"),
    refused="as voc",
)  # fmt: skip
