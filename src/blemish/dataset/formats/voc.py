"""Pascal VOC: an XML file an image, with boxes whose pixels count from 1 and whose last pixel belongs to them."""

import math
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

from blemish.dataset.annotations import (
    annotation_fields,
    file_key,
    finite_number,
    fold_name,
    match_files,
    note_adapted,
    read_lines,
    read_or_skip,
    read_xml,
    warn_skipped,
)
from blemish.dataset.export import ExportEntry, copy_image, format_coordinate, no_shape, prepare_entries
from blemish.dataset.formats.base import Convention, DataSource, Format
from blemish.dataset.formats.outlines import turned_rectangle
from blemish.dataset.frame import fit_to_image
from blemish.dataset.ground_truth import defect_boxes
from blemish.dataset.image_files import (
    IMAGE_FOLDER_NAMES,
    find_folder,
    list_files,
    list_folders,
    list_images,
    list_subsets,
    split_step,
)
from blemish.dataset.labels import normalize_label
from blemish.dataset.sample import SPLITS, Dataset, Sample
from blemish.errors import DataError
from blemish.files import write_atomic
from blemish.geometry import Box, Polygon, Ring, Shape
from blemish.imaging.read import image_header

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
    pairs = [
        (split or split_step(sample.image, images)[0], sample)
        for split, images, annotations in _subsets(source.path)
        for sample in read_pair(images, annotations)
    ]
    listed = _image_sets(source.path, [sample.image for split, sample in pairs if split is None])
    return [replace(sample, split=split or listed.get(sample.image)) for split, sample in pairs]


def _image_sets(path: Path, images: list[Path]) -> dict[Path, str]:
    """The split of each image by ImageSets/Main/<split>.txt: lines of a name, or of a name and 1, -1 or 0."""
    by_name: defaultdict[str, list[Path]] = defaultdict(list)
    for image in images:
        for name in (image.stem, image.name):
            by_name[fold_name(name)].append(image)
    splits: dict[Path, str] = {}
    unmatched: list[str] = []
    for split in SPLITS:
        file = path / "ImageSets" / "Main" / f"{split}.txt"
        for number, line in read_lines(file, names=True) if file.is_file() else ():
            text = line.strip()
            name = text.replace("\\", "/").rpartition("/")[2]
            flagged = re.sub(r"\s+(-1|0|1)$", "", name)
            found = by_name.get(fold_name(name)) or by_name.get(fold_name(flagged)) or []
            exact = [image for image in found if name in (image.stem, image.name)] or found
            if not exact:
                unmatched.append(f"{file}, line {number}: image {text} does not exist")
            for image in exact:
                if splits.setdefault(image, split) != split:
                    raise DataError(f"{path / 'ImageSets'} lists {text} as {splits[image]} and as {split}")
    for line in unmatched if len(splits) < len(images) else ():  # images without a split may be meant
        warn_skipped(line)
    return splits


def read_pair(images: Path, annotations: Path) -> Iterator[Sample]:
    """Samples of a folder of images and one of XML files of the same names (that may be the same folder)."""
    keyed = [(file_key(image, images), image) for image in list_images(images, deep=images != annotations)]
    files = [(file_key(file, annotations), file) for file in list_files(annotations, (".xml",), deep=True)]
    for image, file in match_files(keyed, files, images):
        items = read_or_skip(read_objects, file, image) if file else None
        yield Sample(image) if items is None else Sample(image, **annotation_fields(*items))


def read_boxes(path: Path, image: Path) -> tuple[Box, ...]:
    """Boxes of a file, those of outlines included."""
    boxes, shapes = read_objects(path, image)
    return defect_boxes(Sample(image, boxes=tuple(boxes), shapes=tuple(shapes)), image_header(image).size)


def read_objects(path: Path, image: Path) -> tuple[list[Box], list[Shape]]:
    """Boxes of an XML file, from the first pixel's left to the last one's right edge, and turned boxes as outlines.

    An object without name or place is set aside. Marks such as `difficult` are not kept, and that is noted.
    """
    root = read_xml(path)
    if root.tag != "annotation":
        raise DataError(f"{path} is no Pascal VOC annotation: it begins with <{root.tag}>")
    items: list[Box | Shape] = []
    if any((item.findtext("difficult") or "").strip() == "1" for item in root.iter("object")):
        note_adapted("objects marked as difficult count like any other", image)
    for at, item in enumerate(root.iter("object"), 1):
        label = normalize_label(item.findtext("name") or "")
        try:
            items.append(_read_object(item, label))
        except (TypeError, ValueError) as error:
            warn_skipped(f"{path}: object {at}: {error}", image)
    items = fit_to_image(items, _recorded_size(root), image)
    return [item for item in items if isinstance(item, Box)], [item for item in items if not isinstance(item, Box)]


def _read_object(item: ElementTree.Element, label: str) -> Box | Shape:
    if not label:
        raise ValueError("it has no name")
    if item.find("robndbox") is not None:
        texts = (item.findtext(f"robndbox/{key}") for key in ("cx", "cy", "w", "h", "angle"))
        cx, cy, width, height, angle = map(finite_number, texts)
        if not (width > 0 and height > 0 and abs(angle) <= 2 * math.pi):
            raise ValueError("its turned box has no area, or an angle beyond a turn in radians")
        corner = (cx - width / 2, cy - height / 2)
        return Polygon((turned_rectangle(*corner, width, height, math.degrees(angle), (cx, cy)),), label)
    if item.find("bndbox") is None and item.find("polygon") is not None:
        points = _polygon_points(item)
        if len(points) < 3:
            raise ValueError("its polygon has fewer than three points")
        return Polygon((points,), label)
    try:
        x0, y0, x1, y1 = (finite_number(item.findtext(f"bndbox/{key}")) for key in _CORNERS)
    except (TypeError, ValueError):
        raise ValueError("it has no box of four numbers") from None
    if x1 < x0 - 1 or y1 < y0 - 1:
        raise ValueError(f"its box ends before it begins: {x0:g} {y0:g} {x1:g} {y1:g}")
    return Box(x0 - 1, y0 - 1, x1, y1, label)


def _polygon_points(item: ElementTree.Element) -> Ring:
    """Points of <polygon>, as x1, y1, x2, y2, … or as <pt> or <point> of x and y."""
    polygon = item.find("polygon")
    assert polygon is not None
    pairs = [(point.findtext("x"), point.findtext("y")) for point in polygon if point.tag in ("pt", "point")]
    at = 1
    while not pairs[at - 1 :] and polygon.find(f"x{at}") is not None:
        pairs.append((polygon.findtext(f"x{at}"), polygon.findtext(f"y{at}")))
        at += 1
    return tuple((finite_number(x) - 0.5, finite_number(y) - 0.5) for x, y in pairs)


def _recorded_size(root: ElementTree.Element) -> tuple[int, int] | None:
    """Height and width of the image that was annotated; None where the file does not say."""
    try:
        return int(float(root.findtext("size/height") or 0)), int(float(root.findtext("size/width") or 0))
    except (ValueError, OverflowError):
        return None


def write(dataset: Dataset, out: Path) -> list[str]:
    """Write boxes as JPEGImages, Annotations and ImageSets/Main; returns a line for each loss."""
    entries, lost = prepare_entries(dataset, out, no_shape)
    for entry in entries:
        copy_image(entry.sample.image, out / "JPEGImages" / entry.file_name)
        write_xml(entry, out / "Annotations" / f"{entry.stem}.xml", entry.file_name)
    for split in SPLITS if entries[0].subset.name else ():
        stems = "".join(f"{e.stem}\n" for e in entries if e.sample.split == split)
        if stems or split != "tuning":  # VOC does not know this one
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
        if images and annotations and list_files(annotations, (".xml",), deep=True):
            yield split, images, annotations
        elif subset.is_dir() and _has_annotated_image(subset):
            yield split, subset, subset


def _has_annotated_image(folder: Path) -> bool:
    files = list_files(folder, (".xml",))[:3]
    stems = {fold_name(image.stem) for image in list_images(folder)} if files else set()
    return any(fold_name(file.stem) in stems for file in files)


FORMAT = Format(
    "JPEGImages/*.jpg with Annotations/*.xml and perhaps ImageSets/Main/<split>.txt; or *.xml beside the images",
    looks_like, read, write, convention=Convention("XML file"),
    refused="objects without a name or four numbers, files of no image or of an image of another shape",
)  # fmt: skip
