"""GC10-DET: images in folders 1 to 10, one a defect class, and Pascal VOC boxes in lable/."""

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from blemish.dataset.annotations import annotation_fields, match_files, read_or_skip, warn_skipped
from blemish.dataset.duplicates import identical_files
from blemish.dataset.formats import voc
from blemish.dataset.formats.base import Convention, DataSource, Format
from blemish.dataset.image_files import find_folder, has_images, list_files, list_folders, list_images
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

    Set aside with a warning: boxes of a class that the paper does not know, images without a file of boxes, and files
    of boxes of several images, unless these are copies of one.
    """
    labels = find_folder(source.path, ["lable"])
    folders = sorted(list_folders(source.path), key=lambda f: (len(f.name), f.name))
    images = [image for folder in folders if folder.name in _CLASSES for image in list_images(folder)]
    files = [(file.stem, file) for file in (list_files(labels, (".xml",)) if labels else ())]
    samples = []
    pairs = list(match_files([(image.stem, image) for image in images], files, source.path))
    doubtful = _different_images(pairs)
    for image, file in pairs:
        if file is None:
            warn_skipped(f"{image}: its file lable/{image.stem}.xml does not exist", image)
        elif file in doubtful:
            names = ", ".join(map(str, doubtful[file]))
            warn_skipped(f"{file}: several images have its name: {names}", image)
        boxes = read_or_skip(_read_boxes, file, image) if file and file not in doubtful else None
        fields = {} if boxes is None else annotation_fields(boxes)
        name = _CLASSES[image.parent.name][0]
        samples.append(Sample(image, label=name, evidence=LabelEvidence.FOLDER, **fields))
    return samples


def _different_images(pairs: list[tuple[Path, Path | None]]) -> dict[Path, list[Path]]:
    """Files of several images that are no copies of one another, and these images."""
    owners: defaultdict[Path, list[Path]] = defaultdict(list)
    for image, file in pairs:
        if file is not None:
            owners[file].append(image)
    return {
        file: images
        for file, images in owners.items()
        if len(images) > 1 and not any(len(same) == len(images) for same in identical_files(images))
    }


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
    refused="boxes of other classes than the ten, images without a file of boxes, boxes of several images of one name",
)  # fmt: skip
