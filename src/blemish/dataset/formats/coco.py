"""COCO: JSON files of images, categories and annotations, each a box, outlines or run lengths."""

import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

from blemish.dataset.annotations import (
    annotation_fields,
    contains_key,
    finite_number,
    note_adapted,
    read_json,
    warn_skipped,
)
from blemish.dataset.export import any_shape, copy_image, defect_names, prepare_entries
from blemish.dataset.formats.base import Convention, DataSource, Format
from blemish.dataset.frame import fall_back, fit_to_image
from blemish.dataset.image_files import SPLIT_NAMES, find_recorded, list_files, list_folders
from blemish.dataset.labels import normalize_label
from blemish.dataset.own_results import is_result_file
from blemish.dataset.sample import Dataset, Sample
from blemish.errors import DataError, ImageError
from blemish.files import write_atomic
from blemish.geometry import Box, Polygon, Rle, Shape, runs_from_text, runs_to_text, shape_bounds, shape_mask
from blemish.imaging.read import image_header

_FOLDERS = ("annotations", "labels", *SPLIT_NAMES)
_OWN_KEYS = ("images", "category_id")  # one of them comes early, whatever the order of the file's sections
_FOREIGN_KEYS = ("shapes", "caption")  # of LabelMe's files, and of COCO's own of another kind
SOURCES = "synthetic_sources"  # of an image that is listed: those that this synthetic one was made of
_MARGIN = 0.05  # of the image, by which a box may reach beyond it
_MAX_FILES = 20  # of a folder that are looked into; a file an image is another format


def looks_like(path: Path) -> bool:
    return bool(_find_files(path)[0])


def read(source: DataSource) -> list[Sample]:
    """Samples with boxes, and shapes for annotations that have a segmentation; images without any are good.

    An annotation with a segmentation is a shape, and its box is that of the shape. `iscrowd` makes it a mask of many
    defects. The field SOURCES of an image says that it is synthetic. Skipped with a warning: annotations of an unknown
    image or category, or without a box, and images whose file does not exist: below the root, beside the JSON file, or
    in the usual folders.
    """
    path, root = source.path, source.root
    own, others = _find_files(path)
    for file in others:
        try:
            read_json(file)
        except DataError as error:  # else it holds something else, such as licences
            warn_skipped(str(error))
    samples: dict[Path, Sample] = {}
    for file in own if path.is_dir() else [path]:
        bases = [root] if root else [file.parent, path if path.is_dir() else path.parent, file.parent.parent]
        for sample in _read_file(file, bases):
            if sample.image in samples:
                raise DataError(f"{path}: {file.name} and another file list {sample.image}; give one of the files")
            samples[sample.image] = sample
    return list(samples.values())


def write(dataset: Dataset, out: Path) -> list[str]:
    """Write boxes, outlines and masks as annotations/instances[_split].json; returns a line for each loss.

    A synthetic image has the field SOURCES: names of images beside it, or absolute paths of others.
    """
    entries, lost = prepare_entries(dataset, out, any_shape, kept=("sources",), unknown_as_good=True)
    written = {entry.sample.image.resolve(): entry.file_name for entry in entries}
    categories = {name: i for i, name in enumerate(defect_names(dataset, entries), 1)}
    files: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for number, entry in enumerate(entries, 1):
        content = files.setdefault(entry.subset.name, {"images": [], "annotations": []})
        copy_image(entry.sample.image, out / "images" / entry.file_name)
        height, width = entry.size
        content["images"].append({"id": number, "file_name": entry.file_name, "height": height, "width": width})
        if (sources := entry.sample.sources) is not None:
            names = [written.get(path.resolve(), path.absolute().as_posix()) for path in sources]
            content["images"][-1][SOURCES] = names
        for item in entry.items or ():
            row = {"id": len(content["annotations"]) + 1, "image_id": number, "category_id": categories[item.label]}
            content["annotations"].append(row | _geometry_fields(item, entry.size))
    for split, content in files.items():
        whole = content | {"categories": [{"id": i, "name": name} for name, i in categories.items()]}
        name = f"instances_{split}.json" if split else "instances.json"
        write_atomic(out / "annotations" / name, json.dumps(whole, ensure_ascii=False))
    return lost


def _find_files(path: Path) -> tuple[list[Path], list[Path]]:
    """Files of the format, and JSON files that are not known to be something else: perhaps damaged."""
    places = [path, *(f for f in list_folders(path) if f.name.lower() in _FOLDERS)]
    files = [file for place in places for file in list_files(place, (".json",))[:_MAX_FILES]]
    if path.is_file():
        files = [path] if path.suffix.lower() == ".json" else []
    files = [file for file in files if not contains_key(file, *_FOREIGN_KEYS) and not is_result_file(file)]
    own = [file for file in files if contains_key(file, *_OWN_KEYS) and _is_object(file)]
    return own, [file for file in files if file not in own]


def _is_object(path: Path) -> bool:
    """Whether the JSON is an object, and no list, as results of a detector are."""
    with path.open("rb") as file:
        return file.read(1024).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{")


def _read_file(file: Path, bases: list[Path]) -> list[Sample]:
    content = read_json(file)
    try:
        names = {c["id"]: normalize_label(str(c["name"])) for c in content["categories"]}
        images = {row["id"]: str(row["file_name"]) for row in content["images"]}
        rows = content.get("annotations")
        sizes = {row["id"]: _recorded_size(row) for row in content["images"]}
        made_of = {row["id"]: tuple(map(str, row[SOURCES])) for row in content["images"] if SOURCES in row}
        key_of = {str(key): key for key in images}  # of ids that are numbers here and texts there
        by_image: defaultdict[Any, list[dict[str, Any]]] = defaultdict(list)
        for row in rows or ():
            key = row["image_id"]
            by_image[key if key in images else key_of.get(str(key), key)].append(row)
        if len(key_of) < len(content["images"]):
            raise DataError(f"{file} gives several images one id; each needs its own")
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{file} is no COCO file: images, categories or annotations lack {error}") from error
    foreign = sorted(by_image.keys() - images.keys(), key=str)
    for key in foreign:
        warn_skipped(f"{file}: {len(by_image[key])} annotations are of image {key!r}, which is not listed")
    split = _split_of_file(file)
    otherwise = _other_boxes([(sizes[key], row) for key in images for row in by_image[key]])
    samples = []
    for key, name in images.items():
        try:
            image = _find_image(name, bases, split)
        except DataError as error:
            warn_skipped(f"{file}: image {error}")
            continue
        if image is None:
            warn_skipped(f"{file}: image {name} does not exist")
            continue
        if foreign and not by_image[key]:
            warn_skipped(f"{file}: {name} has no annotation, but there are some of images that are not listed", image)
        items: list[Box | Shape] = []
        for row in by_image[key]:
            try:
                if otherwise and not row.get("segmentation"):
                    raise ValueError(otherwise)
                items += fit_to_image([_read_annotation(row, names, image, sizes[key])], sizes[key], image)
            except (KeyError, TypeError, ValueError, OverflowError, DataError, ImageError) as error:
                reason = " ".join(str(error).split())
                warn_skipped(f"{file}: annotation {row.get('id')} of {image.name} is left out: {reason}", image)
        boxes = [item for item in items if isinstance(item, Box)]
        shapes = [item for item in items if not isinstance(item, Box)]
        known = annotation_fields(boxes, shapes) if rows is not None else {}
        if key in made_of:
            known["sources"] = tuple(image.parent / own for own in made_of[key])
        samples.append(Sample(image, split=split, **known))
    return samples


def _other_boxes(rows: list[tuple[tuple[int, int] | None, dict[str, Any]]]) -> str:
    """Why the boxes of a file are no corner and size in pixels, as all of them together show; or "".

    Rows come with the size (height, width) of their image, where it is recorded.
    """
    boxes, with_area, beyond = [], [], False
    for size, row in rows:
        try:
            x, y, w, h = (finite_number(value) for value in row["bbox"])
            area = finite_number(row["area"]) if row.get("area") and not row.get("segmentation") else None
        except (KeyError, TypeError, ValueError):
            continue  # it is left out by itself
        boxes.append((x, y, w, h))
        if area is not None:
            with_area.append(((x, y, w, h), area))
        height, width = size or (math.inf, math.inf)
        beyond |= x + w > (1 + _MARGIN) * width or y + h > (1 + _MARGIN) * height
    if boxes and max(map(max, boxes)) <= 1 and any(value % 1 for box in boxes for value in box):
        return "boxes are in shares of the image rather than in pixels"
    if not boxes or not all(w > x and h > y for x, y, w, h in boxes):
        return ""
    by_area = bool(with_area) and all(
        math.isclose(area, (w - x) * (h - y), rel_tol=1e-3) and not math.isclose(area, w * h, rel_tol=1e-3)
        for (x, y, w, h), area in with_area
    )
    return "boxes are two corners rather than a corner and a size, as other boxes show" if beyond or by_area else ""


def _recorded_size(row: dict[str, Any]) -> tuple[int, int] | None:
    """Height and width of an image that is listed; None where they are not given."""
    try:
        return int(row["height"]), int(row["width"])
    except (KeyError, TypeError, ValueError):
        return None


def _read_annotation(
    row: dict[str, Any], names: dict[Any, str], image: Path, recorded: tuple[int, int] | None
) -> Box | Shape:
    """A box, outlines or run lengths, in pixels of an image of the recorded size (height, width)."""
    category = row["category_id"]
    if category not in names:
        category = {str(key): key for key in names}.get(str(category))
        if category is None:
            raise ValueError(f"category {row['category_id']!r} is unknown")
    label = names[category]
    if row.get("score") is not None:
        note_adapted("annotations with a score, as predictions have, count as labels", image)
    x, y, width, height = (finite_number(v) for v in row["bbox"]) if row.get("bbox") else (0.0, 0.0, 0.0, 0.0)
    box = Box(x, y, x + width, y + height, label) if width > 0 and height > 0 else None
    segmentation = row.get("segmentation")
    if isinstance(segmentation, dict):
        counts, (height, width) = segmentation["counts"], segmentation["size"]
        runs = runs_from_text(counts) if isinstance(counts, str) else tuple(int(c) for c in counts)
        rle = Rle(runs, int(height), int(width), label, bool(row.get("iscrowd")))
        header = image_header(image)
        own = (rle.height, rle.width)
        if own != (recorded or header.size):
            raise ValueError(f"its run lengths are of {rle.width}×{rle.height} pixels, unlike its image")
        return fall_back(rle, box, own, image)
    if segmentation:
        rings = [[finite_number(v) for v in ring] for ring in segmentation]
        polygon = Polygon(tuple(tuple(zip(v[::2], v[1::2], strict=True)) for v in rings), label)
        return fall_back(polygon, box, recorded or image_header(image).size, image)
    if box is None:
        raise ValueError("it has neither an outline nor a box with any area")
    if row.get("iscrowd"):
        note_adapted("boxes of crowds count as one defect each", image)
    return box


def _geometry_fields(item: Box | Shape, size: tuple[int, int]) -> dict[str, Any]:
    """Box, area and segmentation of an annotation."""
    x0, y0, x1, y1 = item.bounds if isinstance(item, Box) else shape_bounds(item) or (0.0, 0.0, 0.0, 0.0)
    fields: dict[str, Any] = {"bbox": [x0, y0, x1 - x0, y1 - y0], "iscrowd": 0}
    if isinstance(item, Box):
        return fields | {"area": (x1 - x0) * (y1 - y0)}
    fields["area"] = int(shape_mask(item, size).sum())
    if isinstance(item, Polygon):
        return fields | {"segmentation": [[v for point in ring for v in point] for ring in item.rings]}
    runs = {"size": [item.height, item.width], "counts": runs_to_text(item.counts)}
    return fields | {"segmentation": runs, "iscrowd": int(item.many)}


def _split_of_file(file: Path) -> str | None:
    """By the file's name, such as instances_train2017.json, or else its folder's."""
    words = [word.rstrip("0123456789") for word in file.stem.lower().replace("-", "_").replace(".", "_").split("_")]
    named = [SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES]
    return named[-1] if named else SPLIT_NAMES.get(file.parent.name.lower())


def _find_image(name: str, bases: list[Path], split: str | None) -> Path | None:
    """The image, in these folders or the usual ones in them."""
    bases = [*bases, *(base / "images" for base in bases)]
    if split:
        bases += [folder for base in bases for folder in list_folders(base) if folder.name.lower().startswith(split)]
    return find_recorded(name, bases)


FORMAT = Format(
    "a COCO .json, or a folder with such files in it, in annotations/ or in train/, val/ and test/",
    looks_like, read, write, has_root=True, convention=Convention("list of annotations"),
    refused="annotations of an unknown image or category, run lengths of another size, one id for two images",
)  # fmt: skip
