"""CVAT for images 1.1: one XML file of images with boxes, polygons, ellipses, masks and tags."""

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from blemish.dataset.annotations import annotation_fields, finite_number, read_xml, warn_skipped
from blemish.dataset.export import ExportEntry, any_shape, copy_image, prepare_entries
from blemish.dataset.formats.base import Convention, DataSource, Format
from blemish.dataset.formats.outlines import ellipse, merged_losses, paste_mask, place_item, turned_rectangle
from blemish.dataset.formats.recorded import find_exports, match_recorded, read_start, require_exports, state_label
from blemish.dataset.image_files import SPLIT_NAMES
from blemish.dataset.sample import Dataset, Sample
from blemish.errors import DataError, ImageError
from blemish.files import write_atomic
from blemish.geometry import Box, Polygon, Ring, Shape, mask_bounds, shape_mask
from blemish.imaging.read import image_header


def looks_like(path: Path) -> bool:
    return bool(find_exports(path, ".xml", _is_export))


def read(source: DataSource) -> list[Sample]:
    """Samples with boxes and shapes; a tag is the label of its image.

    CVAT lists every image of a task, annotated or not, so that an image without shapes and tags has no annotation.
    Set aside with a warning: polylines, points, cuboids and skeletons, shapes of a label that the task does not know or
    without finite numbers, shapes of an image of another size, and images that are missing.
    """
    samples = []
    for file in require_exports(source.path, ".xml", _is_export, "export of CVAT"):
        root = read_xml(file)
        if root.find("track") is not None:
            raise DataError(f"{file} holds tracks of a video; export the task as CVAT for images 1.1")
        rows = root.findall("image")
        known = {(label.findtext("name") or "").strip() for label in root.iter("label")}
        found = match_recorded([[row.get("name") or ""] for row in rows], source.root or file.parent, file)
        for row, image in zip(rows, found.images, strict=True):
            if image is not None:
                samples.append(_read_image(row, known, file, image))
        samples += [Sample(image) for image in found.doubtful]
    return samples


def write(dataset: Dataset, out: Path) -> list[str]:
    """Write annotations.xml and images/; returns a line for each loss."""
    entries, lost = prepare_entries(dataset, out, any_shape)
    root = ElementTree.Element("annotations")
    ElementTree.SubElement(root, "version").text = "1.1"
    labels = ElementTree.SubElement(ElementTree.SubElement(ElementTree.SubElement(root, "meta"), "task"), "labels")
    names = {item.label for entry in entries for item in entry.items or ()}
    if any(entry.items == () for entry in entries):
        names.add("good")
    for name in sorted(names):
        ElementTree.SubElement(ElementTree.SubElement(labels, "label"), "name").text = name
    for number, entry in enumerate(entries):
        copy_image(entry.sample.image, out / "images" / entry.file_name)
        size = {"width": str(entry.size[1]), "height": str(entry.size[0])}
        subset = {"subset": str(entry.sample.split)} if entry.subset.name else {}
        attributes = {"id": str(number), "name": entry.file_name, **size, **subset}
        row = ElementTree.SubElement(root, "image", attributes)
        for tag, fields in _format_items(entry):
            ElementTree.SubElement(row, tag, fields)
    ElementTree.indent(root)
    write_atomic(out / "annotations.xml", ElementTree.tostring(root, encoding="utf-8"))
    return [*lost, *merged_losses(entries)]


def _is_export(file: Path) -> bool:
    start = read_start(file)
    return "<annotations" in start and any(mark in start for mark in ("<image ", "<track ", "<meta"))


def _read_image(row: ElementTree.Element, known: set[str], file: Path, image: Path) -> Sample:
    boxes: list[Box] = []
    shapes: list[Shape] = []
    tags = []
    size = _recorded_size(row, image)
    for at, item in enumerate(row, 1):
        try:
            label = (item.get("label") or "").strip()
            if not label or (known and label not in known):
                raise ValueError(f"its label {label or '(none)'} is not one of the task's")
            if item.tag == "tag":
                tags.append(label)
            else:
                shape = _read_shape(item, label, size)
                shape = place_item(shape, size, image)
                (boxes if isinstance(shape, Box) else shapes).append(shape)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError, DataError, ImageError) as error:
            warn_skipped(f"{file}: {item.tag} {at} of {image.name}: {' '.join(str(error).split())}", image)
    split = SPLIT_NAMES.get((row.get("subset") or "").lower())
    annotated = annotation_fields(boxes, shapes) if boxes or shapes else {}
    return Sample(image, split=split, **state_label(tags, str(file), image), **annotated)


def _recorded_size(row: ElementTree.Element, image: Path) -> tuple[int, int]:
    """Height and width of the image as it was annotated; of the file, where they are not recorded."""
    try:
        return int(row.get("height") or ""), int(row.get("width") or "")
    except ValueError:
        return image_header(image).size


def _read_shape(item: ElementTree.Element, label: str, size: tuple[int, int]) -> Box | Shape:
    """A shape in an image of the recorded `size` (height, width)."""
    degrees = finite_number(item.get("rotation") or 0)
    if item.tag == "box":
        x0, y0, x1, y1 = (finite_number(item.get(key)) for key in ("xtl", "ytl", "xbr", "ybr"))
        if degrees % 360:
            pivot = ((x0 + x1) / 2, (y0 + y1) / 2)
            return Polygon((turned_rectangle(x0, y0, x1 - x0, y1 - y0, degrees, pivot),), label)
        return Box(x0, y0, x1, y1, label)
    if item.tag == "polygon":
        return Polygon((_read_points(item.get("points") or ""),), label)
    if item.tag == "ellipse":
        cx, cy, rx, ry = (finite_number(item.get(key)) for key in ("cx", "cy", "rx", "ry"))
        return Polygon((ellipse(cx, cy, rx, ry, degrees),), label)
    if item.tag == "mask":
        left, top, width, height = (int(item.get(key) or "") for key in ("left", "top", "width", "height"))
        runs = [int(word) for word in (item.get("rle") or "").split(",")]
        if min(runs) < 0 or width < 1 or height < 1 or sum(runs) != width * height:
            raise ValueError(f"run lengths of {sum(runs)} pixels do not fill a mask of {width}×{height}")
        inside = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
        return paste_mask(inside.reshape(height, width), left, top, size, label)
    raise ValueError(f"shapes of type {item.tag} are not understood")


def _read_points(text: str) -> Ring:
    ring = tuple((finite_number(x), finite_number(y)) for x, y in (pair.split(",") for pair in text.split(";")))
    if len(ring) < 3:
        raise ValueError(f"an outline of {len(ring)} points has no area")
    return ring


def _format_items(entry: ExportEntry) -> Iterator[tuple[str, dict[str, str]]]:
    if entry.items == ():
        yield "tag", {"label": "good"}
    for item in entry.items or ():
        if isinstance(item, Box):
            corners = zip(("xtl", "ytl", "xbr", "ybr"), item.bounds, strict=True)
            yield "box", {"label": item.label, **{key: repr(float(value)) for key, value in corners}}
        elif isinstance(item, Polygon) and len(item.rings) == 1 and len(item.rings[0]) > 2:
            points = ";".join(f"{float(x)!r},{float(y)!r}" for x, y in item.rings[0])
            yield "polygon", {"label": item.label, "points": points}
        else:
            pixels = shape_mask(item, entry.size)
            bounds = mask_bounds(pixels)
            if bounds is None:
                continue
            x0, y0, x1, y1 = bounds
            flat = pixels[y0:y1, x0:x1].ravel()
            edges = [0, *(np.flatnonzero(np.diff(flat)) + 1).tolist(), flat.size]
            runs = np.diff(edges).tolist()
            runs = [0, *runs] if flat[0] else runs
            place = {"left": x0, "top": y0, "width": x1 - x0, "height": y1 - y0}
            fields = {key: str(value) for key, value in place.items()}
            yield "mask", {"label": item.label, "rle": ", ".join(map(str, runs)), **fields}


FORMAT = Format(
    "annotations.xml of CVAT for images 1.1, and the images in folders beside it",
    looks_like, read, write, has_root=True, convention=Convention("list of shapes and tags", empty_is_good=False),
    refused="tracks of a video (refused), polylines, points, cuboids, skeletons, labels that the task does not know",
)  # fmt: skip
