"""GC10-DET: images in folders 1 to 10, one a defect class, and Pascal VOC boxes in lable/."""

from dataclasses import replace
from pathlib import Path

from blemish.dataset.annotations import annotation_fields, read_or_skip, warn_skipped
from blemish.dataset.formats import voc
from blemish.dataset.formats.base import Convention, DataSource, Format
from blemish.dataset.image_files import find_folder, has_images, list_folders, list_images
from blemish.dataset.labels import LabelEvidence
from blemish.dataset.sample import Sample
from blemish.geometry import Box

# The classes of the paper, and the words for them in the files.
_CLASSES = {
    "1": ("punching_hole", "chongkong"), "2": ("welding_line", "hanfeng"), "3": ("crescent_gap", "yueyawan"),
    "4": ("water_spot", "shuiban"), "5": ("oil_spot", "youban"), "6": ("silk_spot", "siban"),
    "7": ("inclusion", "yiwu"), "8": ("rolled_pit", "yahen"), "9": ("crease", "zhehen"),
    "10": ("waist_folding", "yaozhe"),
}  # fmt: skip
_NAMES = {word: name for name, word in _CLASSES.values()} | {"yaozhed": "waist_folding"}


def looks_like(path: Path) -> bool:
    """By the folder's name, which is misspelt in the published set."""
    folders = {folder.name: folder for folder in list_folders(path)}
    boxes = folders.pop("lable", None)
    if boxes is None or not folders.keys() <= _CLASSES.keys():
        return False
    return any(map(has_images, folders.values()))


def read(source: DataSource) -> list[Sample]:
    """Samples with the class of their folder and their boxes, which may be of other classes; none is good.

    Set aside with a warning: boxes of a class that the paper does not know, and images without a file of boxes.
    """
    labels = find_folder(source.path, ["lable"])
    files = {file.stem: file for file in sorted(labels.glob("*.xml"))} if labels else {}
    samples = []
    for folder in sorted(list_folders(source.path), key=lambda f: (len(f.name), f.name)):
        for image in list_images(folder) if folder.name in _CLASSES else ():
            file = files.get(image.stem)
            if file is None:
                warn_skipped(f"{image}: its file lable/{image.stem}.xml does not exist", image)
            boxes = read_or_skip(_read_boxes, file, image) if file else None
            fields = {} if boxes is None else annotation_fields(boxes)
            name = _CLASSES[folder.name][0]
            samples.append(Sample(image, label=name, evidence=LabelEvidence.FOLDER, **fields))
    for stem in sorted(files.keys() - {sample.image.stem for sample in samples}):
        warn_skipped(f"{files[stem]}: its image does not exist in {source.path}")
    return samples


def _read_boxes(file: Path, image: Path) -> list[Box]:
    boxes = []
    for box in voc.read_boxes(file, image):
        word = box.label.rpartition("_")[2].lower()
        if word in _NAMES:
            boxes.append(replace(box, label=_NAMES[word]))
        else:
            warn_skipped(f"{file}: class {box.label} is none of the ten of the set", image)
    return boxes


FORMAT = Format(
    "folders 1 to 10 of images, and lable/*.xml of Pascal VOC boxes",
    looks_like, read, convention=Convention("box file", empty_is_good=False),
    refused="boxes of other classes than the ten, images without a file of boxes",
)  # fmt: skip
