"""Supervisely: meta.json of classes, and in each dataset ann/<image>.json for img/<image>."""

import base64
import binascii
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from blemish.arrays import Mask
from blemish.dataset.annotations import (
    annotation_fields,
    contains_key,
    finite_number,
    match_files,
    read_json,
    read_or_skip,
    warn_skipped,
)
from blemish.dataset.export import ExportEntry, any_shape, copy_image, prepare_entries
from blemish.dataset.formats.base import Convention, DataSource, Format
from blemish.dataset.formats.outlines import fill_with_holes, merged_losses, paste_mask, place_item
from blemish.dataset.formats.recorded import state_label
from blemish.dataset.image_files import SPLIT_NAMES, list_files, list_folders, list_images
from blemish.dataset.labels import is_good_name
from blemish.dataset.sample import GOOD, Dataset, Sample
from blemish.errors import DataError, ImageError
from blemish.files import write_atomic
from blemish.geometry import Box, Polygon, Ring, Shape, mask_bounds, shape_mask
from blemish.imaging.decoders import png_size
from blemish.imaging.read import MAX_PIXELS


def looks_like(path: Path) -> bool:
    meta = path / "meta.json"
    return meta.is_file() and contains_key(meta, "classes") and bool(_datasets(path))


def read(source: DataSource) -> list[Sample]:
    """Samples with boxes and shapes; a tag that names a class or means good is the label of its image.

    Supervisely writes a file for every image, annotated or not, so that one without objects and tags is no annotation.
    Set aside with a warning: lines, points, graphs and cuboids, objects of a class that meta.json does not list, files
    of an image of another size, and files without an image.
    """
    classes, tags = _read_meta(source.path / "meta.json")
    samples = []
    for folder in _datasets(source.path):
        split = SPLIT_NAMES.get(folder.name.lower())
        files = [(file.name[: -len(file.suffix)], file) for file in list_files(folder / "ann", (".json",))]
        images = [(image.name, image) for image in list_images(folder / "img")]
        for image, file in match_files(images, files, folder / "img"):
            fields = read_or_skip(_read_file, file, image, classes, tags) if file else None
            samples.append(Sample(image, split=split, **(fields or {})))
    return samples


def write(dataset: Dataset, out: Path) -> list[str]:
    """Write meta.json and a dataset for each split; returns a line for each loss."""
    entries, lost = prepare_entries(dataset, out, any_shape)
    names = sorted({item.label for entry in entries for item in entry.items or ()})
    meta = {
        "classes": [{"title": name, "shape": "any", "color": "#FF0000"} for name in names],
        "tags": [{"name": GOOD, "value_type": "none", "color": "#00FF00"}],
    }
    write_atomic(out / "meta.json", json.dumps(meta, ensure_ascii=False))
    for entry in entries:
        folder = out / (entry.subset.name or "dataset")
        copy_image(entry.sample.image, folder / "img" / entry.file_name)
        content = {
            "description": "",
            "tags": [{"name": GOOD, "value": None}] if entry.items == () else [],
            "size": {"height": entry.size[0], "width": entry.size[1]},
            "objects": [*_format_objects(entry)],
        }
        write_atomic(folder / "ann" / f"{entry.file_name}.json", json.dumps(content, ensure_ascii=False))
    return [*lost, *merged_losses(entries)]


def _datasets(path: Path) -> list[Path]:
    return [folder for folder in list_folders(path) if (folder / "img").is_dir() and (folder / "ann").is_dir()]


def _read_meta(file: Path) -> tuple[set[str], set[str]]:
    content = read_json(file)
    try:
        classes = {str(row["title"]).strip() for row in content["classes"]}
        return classes, {str(row["name"]).strip() for row in content.get("tags") or ()}
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{file} is no meta.json of Supervisely: classes or tags lack {error}") from error


def _read_file(file: Path, image: Path, classes: set[str], tags: set[str]) -> dict[str, Any]:
    content = read_json(file)
    try:
        size = int(content["size"]["height"]), int(content["size"]["width"])
        objects = list(content["objects"])
        given = [str(row["name"]).strip() for row in content.get("tags") or ()]
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise DataError(f"{file} is no annotation of Supervisely: size, objects or tags lack {error}") from error
    if min(size) < 1 or size[0] * size[1] > MAX_PIXELS:
        raise DataError(f"{file} is of an image of {size[1]}×{size[0]} pixels")
    boxes: list[Box] = []
    shapes: list[Shape] = []
    for at, row in enumerate(objects, 1):
        try:
            label = str(row["classTitle"]).strip()
            if label not in classes:
                raise ValueError(f"its class {label} is not in meta.json")
            item = _read_object(row, label, size)
            item = place_item(item, size, image)
            (boxes if isinstance(item, Box) else shapes).append(item)  # type: ignore[arg-type]
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, DataError, ImageError) as error:
            warn_skipped(f"{file}: object {at}: {' '.join(str(error).split())}", image)
    for tag in given:
        if tag not in tags:
            warn_skipped(f"{file}: its tag {tag} is not in meta.json", image)
    fields = annotation_fields(boxes, shapes) if boxes or shapes else {}
    return fields | state_label((tag for tag in given if tag in classes or is_good_name(tag)), str(file), image)


def _read_object(row: dict[str, Any], label: str, size: tuple[int, int]) -> Box | Shape:
    kind = row["geometryType"]
    if kind == "bitmap":
        left, top = (int(v) for v in row["bitmap"]["origin"])
        return paste_mask(_unpack_bitmap(row["bitmap"]["data"]), left, top, size, label)
    if kind not in ("polygon", "rectangle"):
        raise ValueError(f"objects of type {kind} are not understood")
    exterior = _read_ring(row["points"]["exterior"])
    if kind == "rectangle":
        (xa, ya), (xb, yb) = exterior
        # The second corner is a pixel that belongs to the rectangle.
        return Box(min(xa, xb), min(ya, yb), max(xa, xb) + 1, max(ya, yb) + 1, label)
    if len(exterior) < 3:
        raise ValueError(f"an outline of {len(exterior)} points has no area")
    holes = [_read_ring(ring) for ring in row["points"].get("interior") or ()]
    return fill_with_holes(exterior, holes, size, label) if holes else Polygon((exterior,), label)


def _read_ring(points: Any) -> Ring:
    return tuple((finite_number(x), finite_number(y)) for x, y in points)


def _unpack_bitmap(text: str) -> Mask:
    """Pixels of a PNG that is packed by zlib, in base 64: those that are not transparent, or not black."""
    try:
        packed = base64.b64decode(text, validate=True)
        unpacker = zlib.decompressobj()
        data = unpacker.decompress(packed, MAX_PIXELS)
    except (binascii.Error, zlib.error) as error:
        raise ValueError(f"its bitmap is damaged: {error}") from error
    shape = png_size(data)
    if shape is None or shape[0] * shape[1] > MAX_PIXELS or not unpacker.eof:
        raise ValueError("its bitmap is damaged")
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ValueError("its bitmap is damaged")
    if pixels.ndim == 3:
        pixels = pixels[..., 3] if pixels.shape[2] == 4 else pixels.max(axis=2)
    return np.asarray(pixels > 0)


def _pack_bitmap(mask: Mask) -> str:
    png = cv2.imencode(".png", mask.astype(np.uint8) * 255)[1].tobytes()
    return base64.b64encode(zlib.compress(png)).decode()


def _format_objects(entry: ExportEntry) -> Iterator[dict[str, Any]]:
    for item in entry.items or ():
        row: dict[str, Any] = {"classTitle": item.label, "description": "", "tags": []}
        if isinstance(item, Box):
            corners = [[item.x0, item.y0], [item.x1 - 1, item.y1 - 1]]
            row |= {"geometryType": "rectangle", "points": {"exterior": corners, "interior": []}}
        elif isinstance(item, Polygon) and len(item.rings) == 1 and len(item.rings[0]) > 2:
            points = {"exterior": [[*point] for point in item.rings[0]], "interior": []}
            row |= {"geometryType": "polygon", "points": points}
        else:
            pixels = shape_mask(item, entry.size)
            bounds = mask_bounds(pixels)
            if bounds is None:
                continue
            x0, y0, x1, y1 = bounds
            row |= {
                "geometryType": "bitmap",
                "bitmap": {"origin": [x0, y0], "data": _pack_bitmap(pixels[y0:y1, x0:x1])},
            }
        yield row


FORMAT = Format(
    "meta.json of Supervisely, and a folder or more with img/<image> and ann/<image>.json",
    looks_like, read, write, convention=Convention("annotation file", empty_is_good=False),
    refused="lines, points, graphs, cuboids, damaged bitmaps, classes and tags that meta.json does not list",
)  # fmt: skip
