"""Pascal VOC: an XML file an image, with boxes whose pixels count from 1 and whose last pixel belongs to them."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

from blemish.dataset.annotations import (
    Entry,
    all_split,
    entries,
    known,
    left_out,
    no_shape,
    number,
    read_text,
    read_xml,
    readable,
    text_of,
)
from blemish.dataset.image_files import class_label, copy_image, folders_in, images_in, new_folder, parts_by_split
from blemish.dataset.sample import SPLITS, Dataset, Sample
from blemish.errors import DataError
from blemish.geometry import Box
from blemish.imaging.read import IMAGE_SUFFIXES

SAYS = "JPEGImages/*.jpg with Annotations/*.xml and perhaps ImageSets/Main/<split>.txt; or *.xml beside the images"
NUMBERED = re.compile(r"^(.+)_\d+$")
_IMAGES = ("jpegimages", "images", "imgs", "image", "img")
_ANNOTATIONS = ("annotations", "annotation", "xml", "xmls", "labels")


def looks_like(path: Path) -> bool:
    return not numbered_in_capitals(path) and any(True for _ in _places(path))


def numbered_in_capitals(path: Path) -> bool:
    """Whether this is the layout of NEU-DET."""
    if not {"IMAGES", "ANNOTATIONS"} <= {folder.name for folder in folders_in(path)}:
        return False
    images = images_in(path / "IMAGES")
    return bool(images) and all(NUMBERED.match(image.stem) for image in images)


def read(path: Path) -> list[Sample]:
    """Samples with their boxes; an image without a file is of unknown truth, one with an empty file is good."""
    split_of = _image_sets(path)
    samples = []
    for split, images, annotations in _places(path):
        for sample in read_pair(images, annotations):
            samples.append(replace(sample, split=split or split_of.get(sample.image.stem)))
    return samples


def read_pair(images: Path, annotations: Path) -> Iterator[Sample]:
    """Samples of a folder of images and one of XML files of the same names (that may be the same folder)."""
    found, files = images_in(images, deep=images != annotations), sorted(annotations.rglob("*.xml"))
    there, named = set(files), Counter(file.stem for file in files)
    pictured = Counter(image.stem for image in found)
    # The file at the image's own place in the folders; or one elsewhere, if it cannot be another image's.
    alone = {file.stem: file for file in files if named[file.stem] == 1 == pictured[file.stem]}
    used = set()
    for image in found:
        beside = annotations / image.relative_to(images).with_suffix(".xml")
        file = beside if beside in there else alone.get(image.stem)
        used.add(file)
        boxes = readable(read_boxes, file, image) if file else None
        yield Sample(image) if boxes is None else Sample(image, **known(boxes, ()))
    for file in files:
        if file not in used:
            why = "several images or files have its name" if pictured[file.stem] else "its image does not exist"
            left_out(f"{file}: {why} in {images}")


def read_boxes(path: Path, image: Path | None = None) -> tuple[Box, ...]:
    """Boxes of an XML file, from the first pixel's left to the last one's right edge.

    An object without name or four numbers is left out with a warning. Marks such as `difficult` are not kept.
    """
    root = read_xml(path)
    if root.tag != "annotation":
        raise DataError(f"{path} is no Pascal VOC annotation: it begins with <{root.tag}>")
    boxes = []
    for at, found in enumerate(root.iter("object"), 1):
        label = class_label(found.findtext("name") or "")
        try:
            x0, y0, x1, y1 = (number(found.findtext(f"bndbox/{key}")) for key in ("xmin", "ymin", "xmax", "ymax"))
        except (TypeError, ValueError):
            left_out(f"{path}: object {at} has no box of four numbers", image)
            continue
        if not label:
            left_out(f"{path}: object {at} has no name", image)
            continue
        boxes.append(Box(x0 - 1, y0 - 1, x1, y1, label))
    return tuple(boxes)


def write(dataset: Dataset, out: Path) -> list[str]:
    """Write boxes as JPEGImages, Annotations and ImageSets/Main; returns what could not be kept, a line each."""
    split = all_split(dataset.samples)
    found, lost = entries(dataset, no_shape, {"split"} if split else ())
    new_folder(out, found)
    for entry in found:
        name = entry.stem + entry.sample.image.suffix.lower()
        copy_image(entry.sample.image, out / "JPEGImages" / name)
        if entry.items is not None:
            write_xml(entry, out / "Annotations" / f"{entry.stem}.xml", name)
    for part in SPLITS if split else ():
        target = out / "ImageSets" / "Main" / f"{part}.txt"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("".join(f"{e.stem}\n" for e in found if e.sample.split == part), encoding="utf-8")
    return lost


def write_xml(entry: Entry, target: Path, name: str) -> None:
    """One image's boxes."""
    root = ElementTree.Element("annotation")
    ElementTree.SubElement(root, "folder").text = target.parent.name
    ElementTree.SubElement(root, "filename").text = name
    size = ElementTree.SubElement(root, "size")
    ElementTree.SubElement(size, "width").text = str(entry.size[1])
    ElementTree.SubElement(size, "height").text = str(entry.size[0])
    for box in entry.items or ():
        assert isinstance(box, Box)
        item = ElementTree.SubElement(root, "object")
        ElementTree.SubElement(item, "name").text = box.label
        bounds = ElementTree.SubElement(item, "bndbox")
        for key, value in (("xmin", box.x0 + 1), ("ymin", box.y0 + 1), ("xmax", box.x1), ("ymax", box.y1)):
            ElementTree.SubElement(bounds, key).text = text_of(value)
    ElementTree.indent(root)
    target.parent.mkdir(parents=True, exist_ok=True)
    ElementTree.ElementTree(root).write(target, encoding="utf-8")


def _places(path: Path) -> Iterator[tuple[str | None, Path, Path]]:
    """(split, folder of images, folder of XML files)."""
    for split, part in parts_by_split(path):
        by_name = {folder.name.lower(): folder for folder in folders_in(part)}
        images = next((by_name[name] for name in _IMAGES if name in by_name), None)
        annotations = next((by_name[name] for name in _ANNOTATIONS if name in by_name), None)
        if images and annotations and _has_xml(annotations):
            yield split, images, annotations
        elif part.is_dir() and _has_annotated_image(part):
            yield split, part, part


def _has_xml(folder: Path) -> bool:
    return next(folder.rglob("*.xml"), None) is not None


def _has_annotated_image(folder: Path) -> bool:
    return any(
        file.with_suffix(suffix).is_file() for file in sorted(folder.glob("*.xml"))[:3] for suffix in IMAGE_SUFFIXES
    )


def _image_sets(path: Path) -> dict[str, str]:
    """Split by stem, of ImageSets/Main/train.txt and so on."""
    lists = ((split, path / "ImageSets" / "Main" / f"{split}.txt") for split in SPLITS)
    lines = ((split, read_text(file).splitlines()) for split, file in lists if file.is_file())
    return {line.split()[0]: split for split, names in lines for line in names if line.strip()}
