"""COCO: JSON files of images, categories and annotations, each a box, outlines or run lengths."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from blemish.dataset.annotations import (
    all_split,
    any_shape,
    entries,
    known,
    left_out,
    number,
    read_json,
    starts_with_key,
)
from blemish.dataset.image_files import SPLIT_NAMES, class_label, copy_image, first_existing, folders_in, new_folder
from blemish.dataset.sample import GOOD, Dataset, Sample
from blemish.errors import DataError, ImageError
from blemish.geometry import Box, Polygon, Rle, Shape, runs_from_text, runs_to_text, shape_bounds, shape_mask
from blemish.imaging.read import image_header

SAYS = "a COCO .json, or a folder with such files in it, in annotations/ or in train/, val/ and test/"
_FOLDERS = ("annotations", "labels", *SPLIT_NAMES)
_OWN = ("images", "category_id")  # keys of which one stands early, whatever the order of the file's parts
_OTHERS = ("shapes", "caption")  # keys of LabelMe's files, and of COCO's own of another kind
_MOST = 20  # files of a folder that are looked into; a file an image is another format


def looks_like(path: Path) -> bool:
    return bool(_files(path))


def read(path: Path, root: Path | None = None) -> list[Sample]:
    """Samples with boxes, and shapes for annotations that have a segmentation; images without any are good.

    An annotation with a segmentation is a shape, and its box is that of the shape. `iscrowd` makes it a mask of many
    defects. Left out with a warning: annotations of an unknown image or category, or without a box, and images whose
    file does not exist: below `root`, beside the JSON file, or in the usual folders.
    """
    samples: dict[Path, Sample] = {}
    for file in _unread(path):
        try:
            read_json(file)
        except DataError as error:  # else it holds something else, such as licences
            left_out(str(error))
    for file in _files(path) if path.is_dir() else [path]:
        bases = [root] if root else [file.parent, path if path.is_dir() else path.parent, file.parent.parent]
        for sample in _read_file(file, bases):
            if sample.image in samples:
                raise DataError(f"{path}: {file.name} and another file list {sample.image}; give one of the files")
            samples[sample.image] = sample
    return list(samples.values())


def write(dataset: Dataset, out: Path) -> list[str]:
    """Write boxes, outlines and masks as annotations/instances[_split].json; returns what could not be kept."""
    split = all_split(dataset.samples)
    found, lost = entries(dataset, any_shape, {"split"} if split else ())
    new_folder(out, found)
    labels = {item.label for entry in found for item in entry.items or ()}
    names = sorted(labels | {name for name in dataset.classes if name != GOOD})
    categories = {name: i for i, name in enumerate(names, 1)}
    files: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for at, entry in enumerate(found, 1):
        part = f"_{entry.sample.split}" if split else ""
        content = files.setdefault(part, {"images": [], "annotations": []})
        name = entry.stem + entry.sample.image.suffix.lower()
        copy_image(entry.sample.image, out / "images" / name)
        content["images"].append({"id": at, "file_name": name, "height": entry.size[0], "width": entry.size[1]})
        for item in entry.items or ():
            row = {"id": len(content["annotations"]) + 1, "image_id": at, "category_id": categories[item.label]}
            content["annotations"].append(row | _annotation(item, entry.size))
    unknown = sum(entry.items is None for entry in found)
    if unknown:
        lost.append(f"{unknown} images whose defects are not known read back as good")
    (out / "annotations").mkdir()
    for part, content in files.items():
        whole = content | {"categories": [{"id": i, "name": name} for name, i in categories.items()]}
        (out / "annotations" / f"instances{part}.json").write_text(json.dumps(whole, ensure_ascii=False), "utf-8")
    return lost


def _files(path: Path) -> list[Path]:
    return [
        f for f in _candidates(path) if starts_with_key(f, *_OWN) and not starts_with_key(f, *_OTHERS) and _table(f)
    ]


def _table(path: Path) -> bool:
    """Whether the JSON is an object, and no list, as results of a detector are."""
    with path.open("rb") as file:
        return file.read(1024).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{")


def _unread(path: Path) -> list[Path]:
    """Files beside those of the format that are not known to be something else: perhaps damaged."""
    known = set(_files(path))
    return [f for f in _candidates(path) if f not in known and not starts_with_key(f, *_OTHERS)]


def _candidates(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.suffix.lower() == ".json" else []
    places = [path, *(f for f in folders_in(path) if f.name.lower() in _FOLDERS)]
    return [file for place in places for file in sorted(place.glob("*.json"))[:_MOST]]


def _read_file(file: Path, bases: list[Path]) -> list[Sample]:
    content = read_json(file)
    try:
        names = {c["id"]: class_label(str(c["name"])) for c in content["categories"]}
        images = {row["id"]: str(row["file_name"]) for row in content["images"]}
        rows = content.get("annotations")
        by_image: defaultdict[Any, list[dict[str, Any]]] = defaultdict(list)
        for row in rows or ():
            by_image[row["image_id"]].append(row)
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{file} is no COCO file: images, categories or annotations lack {error}") from error
    for key in by_image.keys() - images.keys():
        left_out(f"{file}: {len(by_image[key])} annotations are of image {key!r}, which is not listed")
    split = _split_of(file)
    samples = []
    for key, name in images.items():
        image = _find(name, bases, split)
        if image is None:
            left_out(f"{file}: image {name} does not exist")
            continue
        items = [
            item for row in by_image[key] if (item := _item(row, names, f"{file}: annotation {row.get('id')}", image))
        ]
        boxes = [item for item in items if isinstance(item, Box)]
        shapes = [item for item in items if not isinstance(item, Box)]
        samples.append(Sample(image, split=split, **(known(boxes, shapes) if rows is not None else {})))
    return samples


def _item(row: dict[str, Any], names: dict[Any, str], where: str, image: Path) -> Box | Shape | None:
    try:
        if row["category_id"] not in names:
            raise ValueError(f"category {row['category_id']!r} is unknown")
        label = names[row["category_id"]]
        segmentation = row.get("segmentation")
        if isinstance(segmentation, dict):
            counts, (height, width) = segmentation["counts"], segmentation["size"]
            runs = runs_from_text(counts) if isinstance(counts, str) else tuple(int(c) for c in counts)
            rle, header = Rle(runs, int(height), int(width), label, bool(row.get("iscrowd"))), image_header(image)
            shape_mask(rle, (header.height, header.width))  # complains now rather than in training
            return rle
        if segmentation:
            values = [[number(v) for v in ring] for ring in segmentation]
            rings = tuple(tuple(zip(v[::2], v[1::2], strict=True)) for v in values)
            return Polygon(rings, label)
        x, y, width, height = (number(v) for v in row["bbox"])
        return Box(x, y, x + width, y + height, label)
    except (KeyError, TypeError, ValueError, OverflowError, DataError, ImageError) as error:
        left_out(f"{where} is left out: {' '.join(str(error).split())}", image)
        return None


def _annotation(item: Box | Shape, size: tuple[int, int]) -> dict[str, Any]:
    if isinstance(item, Box):
        width, height = item.x1 - item.x0, item.y1 - item.y0
        return {"bbox": [item.x0, item.y0, width, height], "area": width * height, "iscrowd": 0}
    x0, y0, x1, y1 = shape_bounds(item) or (0.0, 0.0, 0.0, 0.0)
    found = {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": int(shape_mask(item, size).sum()), "iscrowd": 0}
    if isinstance(item, Polygon):
        return found | {"segmentation": [[v for point in ring for v in point] for ring in item.rings]}
    runs = {"size": [item.height, item.width], "counts": runs_to_text(item.counts)}
    return found | {"segmentation": runs, "iscrowd": int(item.many)}


def _split_of(file: Path) -> str | None:
    """By the file's name, such as instances_train2017.json, or else its folder's."""
    words = [word.rstrip("0123456789") for word in file.stem.lower().replace("-", "_").replace(".", "_").split("_")]
    named = [SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES]
    return named[-1] if named else SPLIT_NAMES.get(file.parent.name.lower())


def _find(name: str, bases: list[Path], split: str | None) -> Path | None:
    """The image, in these folders or the usual ones in them."""
    relative = Path(name.replace("\\", "/"))
    bases = [*bases, *(base / "images" for base in bases)]
    if split:
        bases += [folder for base in bases for folder in folders_in(base) if folder.name.lower().startswith(split)]
    return first_existing(place / relative for place in bases)
