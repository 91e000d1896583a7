"""Pascal VOC: an XML file an image, with boxes whose pixels count from 1 and whose last pixel belongs to them."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

from blemish.dataset.annotations import (
    annotation_fields,
    finite_number,
    read_lines,
    read_or_skip,
    read_xml,
    warn_skipped,
)
from blemish.dataset.export import ExportEntry, copy_image, format_coordinate, no_shape, prepare_entries
from blemish.dataset.formats.base import DataSource, Format
from blemish.dataset.image_files import (
    IMAGE_FOLDER_NAMES,
    find_folder,
    list_folders,
    list_images,
    list_subsets,
    normalize_label,
)
from blemish.dataset.sample import SPLITS, Dataset, Sample
from blemish.errors import DataError
from blemish.files import write_atomic
from blemish.geometry import Box
from blemish.imaging.read import IMAGE_SUFFIXES

NUMBERED = re.compile(r"^(.+)_\d+$")
_ANNOTATIONS = ("annotations", "annotation", "xml", "xmls", "labels")
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def looks_like(path: Path) -> bool:
    return not is_neu_det(path) and any(True for _ in _subsets(path))


def is_neu_det(path: Path) -> bool:
    """Whether this is the layout of NEU-DET: images with numbers, and folders in capitals."""
    if not {"IMAGES", "ANNOTATIONS"} <= {folder.name for folder in list_folders(path)}:
        return False
    images = list_images(path / "IMAGES")
    return bool(images) and all(NUMBERED.match(image.stem) for image in images)


def read(source: DataSource) -> list[Sample]:
    """Samples with their boxes; an image without a file has no annotation, one with an empty file is good."""
    lists = ((split, source.path / "ImageSets" / "Main" / f"{split}.txt") for split in SPLITS)
    listed = {line.split()[0]: split for split, file in lists if file.is_file() for _, line in read_lines(file)}
    return [
        replace(sample, split=split or listed.get(sample.image.stem))
        for split, images, annotations in _subsets(source.path)
        for sample in read_pair(images, annotations)
    ]


def read_pair(images: Path, annotations: Path) -> Iterator[Sample]:
    """Samples of a folder of images and one of XML files of the same names (that may be the same folder)."""
    found, files = list_images(images, deep=images != annotations), sorted(annotations.rglob("*.xml"))
    file_stems, image_stems = Counter(file.stem for file in files), Counter(image.stem for image in found)
    # The file at the image's own place in the folders; or one elsewhere, if it cannot be another image's.
    alone = {file.stem: file for file in files if file_stems[file.stem] == 1 == image_stems[file.stem]}
    existing, used = set(files), set[Path | None]()
    for image in found:
        own = annotations / image.relative_to(images).with_suffix(".xml")
        file = own if own in existing else alone.get(image.stem)
        used.add(file)
        boxes = read_or_skip(read_boxes, file, image) if file else None
        yield Sample(image) if boxes is None else Sample(image, **annotation_fields(boxes))
    for file in (file for file in files if file not in used):
        why = "several images or files have its name" if image_stems[file.stem] else "its image does not exist"
        warn_skipped(f"{file}: {why} in {images}")


def read_boxes(path: Path, image: Path | None = None) -> tuple[Box, ...]:
    """Boxes of an XML file, from the first pixel's left to the last one's right edge.

    An object without name or four numbers is skipped with a warning. Marks such as `difficult` are not kept.
    """
    root = read_xml(path)
    if root.tag != "annotation":
        raise DataError(f"{path} is no Pascal VOC annotation: it begins with <{root.tag}>")
    boxes = []
    for at, item in enumerate(root.iter("object"), 1):
        label = normalize_label(item.findtext("name") or "")
        try:
            x0, y0, x1, y1 = (finite_number(item.findtext(f"bndbox/{key}")) for key in _CORNERS)
        except (TypeError, ValueError):
            warn_skipped(f"{path}: object {at} has no box of four numbers", image)
            continue
        if label:
            boxes.append(Box(x0 - 1, y0 - 1, x1, y1, label))
        else:
            warn_skipped(f"{path}: object {at} has no name", image)
    return tuple(boxes)


def write(dataset: Dataset, out: Path) -> list[str]:
    """Write boxes as JPEGImages, Annotations and ImageSets/Main; returns a line for each loss."""
    entries, lost = prepare_entries(dataset, out, no_shape)
    for entry in entries:
        copy_image(entry.sample.image, out / "JPEGImages" / entry.file_name)
        write_xml(entry, out / "Annotations" / f"{entry.stem}.xml", entry.file_name)
    for split in SPLITS if entries[0].subset.name else ():
        stems = "".join(f"{e.stem}\n" for e in entries if e.sample.split == split)
        write_atomic(out / "ImageSets" / "Main" / f"{split}.txt", stems)
    return lost


def write_xml(entry: ExportEntry, target: Path, name: str) -> None:
    """One image's boxes; nothing where they are not known."""
    if entry.items is None:
        return
    root = ElementTree.Element("annotation")
    _add(root, folder=target.parent.name, filename=name)
    _add(ElementTree.SubElement(root, "size"), width=entry.size[1], height=entry.size[0])
    for box in entry.items:
        assert isinstance(box, Box)
        item = ElementTree.SubElement(root, "object")
        _add(item, name=box.label)
        corners = map(format_coordinate, (box.x0 + 1, box.y0 + 1, box.x1, box.y1))
        _add(ElementTree.SubElement(item, "bndbox"), **dict(zip(_CORNERS, corners, strict=True)))
    ElementTree.indent(root)
    write_atomic(target, ElementTree.tostring(root, encoding="utf-8"))


def _add(parent: ElementTree.Element, **texts: object) -> None:
    for tag, text in texts.items():
        ElementTree.SubElement(parent, tag).text = str(text)


def _subsets(path: Path) -> Iterator[tuple[str | None, Path, Path]]:
    """(split, folder of images, folder of XML files)."""
    for split, subset in list_subsets(path):
        images = find_folder(subset, ("jpegimages", *IMAGE_FOLDER_NAMES))
        annotations = find_folder(subset, _ANNOTATIONS)
        if images and annotations and next(annotations.rglob("*.xml"), None):
            yield split, images, annotations
        elif subset.is_dir() and _has_annotated_image(subset):
            yield split, subset, subset


def _has_annotated_image(folder: Path) -> bool:
    files = sorted(folder.glob("*.xml"))[:3]
    return any(file.with_suffix(suffix).is_file() for file in files for suffix in IMAGE_SUFFIXES)


FORMAT = Format(
    "JPEGImages/*.jpg with Annotations/*.xml and perhaps ImageSets/Main/<split>.txt; or *.xml beside the images",
    looks_like, read, write,
)  # fmt: skip
