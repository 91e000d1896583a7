"""YOLO: a .txt an image with lines of class, centre and size, or class and outline, in parts of the image's size."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from blemish.dataset.annotations import all_split, entries, known, left_out, number, read_text, readable, single_ring
from blemish.dataset.formats import deeppcb
from blemish.dataset.image_files import (
    class_label,
    copy_image,
    first_existing,
    folders_in,
    images_in,
    new_folder,
    parts_by_split,
)
from blemish.dataset.sample import GOOD, SPLITS, Dataset, Sample
from blemish.errors import DataError
from blemish.geometry import Box, Polygon, Shape
from blemish.imaging.read import image_header

SAYS = "a data.yaml of names and train, val, test; or images/ and labels/*.txt with perhaps data.yaml or classes.txt"
_NAMES = ("classes.txt", "obj.names", "labels/classes.txt", "_darknet.labels")
_NO_LABELS = {"classes.txt", "train.txt", "val.txt", "valid.txt", "test.txt", "trainval.txt", "readme.txt"}

Place = tuple[str | None, Path | list[Path], Path]  # split, folder of images or list of them, folder of labels
Names = Mapping[int, str] | None  # None: the number is the name


def looks_like(path: Path) -> bool:
    if path.is_file():
        return path.suffix.lower() in (".yaml", ".yml") and "names" in _yaml(path)
    if deeppcb.looks_like(path):
        return False
    return _yaml_of(path) is not None or any(_has_labels(labels) for _, _, labels in _bare_places(path))


def read(path: Path) -> list[Sample]:
    """Samples with boxes, or shapes for lines with an outline.

    As is usual for YOLO, an image without a file, or with an empty one, is good. Left out with a warning: lines that
    are not understood or whose class number has no name, and files whose image does not exist.
    """
    root = path if path.is_dir() else path.parent
    file = path if path.is_file() else _yaml_of(path)
    content = _yaml(file) if file else {}
    names = _names(content.get("names")) if file else _listed_names(root)
    places: list[Place] = [*_places_of(content, root)] or [*_bare_places(root)]
    samples = []
    for split, images, labels in places:
        if isinstance(images, Path):
            files = {f.relative_to(labels).with_suffix("").as_posix(): f for f in labels.rglob("*.txt")}
            found = images_in(images, deep=True)
            pairs = [(image, files.pop(image.relative_to(images).with_suffix("").as_posix(), None)) for image in found]
            for orphan in sorted(f for f in files.values() if f.name.lower() not in _NO_LABELS):
                left_out(f"{orphan}: its image does not exist in {images}")
        else:
            pairs = [(image, _label_file(image)) for image in images]
        for image, label_file in pairs:
            truth = readable(read_lines, label_file, image, names) if label_file and image.is_file() else ([], [])
            samples.append(Sample(image, split=split, **(known(*truth) if truth else {})))
    return samples


def read_lines(path: Path, image: Path, names: Names = None) -> tuple[list[Box], list[Shape]]:
    """Boxes and outlines of a file, in pixels of the image."""
    boxes: list[Box] = []
    shapes: list[Shape] = []
    lines = [line.split() for line in read_text(path).splitlines()]
    if not any(lines):
        return boxes, shapes
    header = image_header(image)
    width, height = header.width, header.height
    for at, words in enumerate(lines, 1):
        if not words:
            continue
        try:
            label = _label(words[0], names)
            values = [number(word) for word in words[1:]]
        except ValueError as error:
            left_out(f"{path}, line {at}: {error}", image)
            continue
        if len(values) in (4, 5):  # five with a confidence
            x, y, w, h = values[0] * width, values[1] * height, values[2] * width, values[3] * height
            boxes.append(Box(x - w / 2, y - h / 2, x + w / 2, y + h / 2, label))
        elif len(values) >= 6 and len(values) % 2 == 0:
            ring = tuple((x * width, y * height) for x, y in zip(values[::2], values[1::2], strict=True))
            shapes.append(Polygon((ring,), label))
        else:
            left_out(f"{path}, line {at}: {len(values)} numbers are neither a box nor an outline", image)
    return boxes, shapes


def write(dataset: Dataset, out: Path) -> list[str]:
    """Write boxes and outlines as images/, labels/ and data.yaml; returns what could not be kept, a line each."""
    split = all_split(dataset.samples)
    found, lost = entries(dataset, single_ring, {"split"} if split else ())
    new_folder(out, found)
    labels = {item.label for entry in found for item in entry.items or ()}
    names = sorted(labels | {name for name in dataset.classes if name != GOOD})
    place = {name: i for i, name in enumerate(names)}
    for entry in found:
        inside = Path(str(entry.sample.split)) if split else Path()
        copy_image(entry.sample.image, out / "images" / inside / (entry.stem + entry.sample.image.suffix.lower()))
        lines = [_line(item, place[item.label], entry.size) for item in entry.items or ()]
        target = out / "labels" / inside / f"{entry.stem}.txt"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    unknown = sum(entry.items is None for entry in found)
    if unknown:
        lost.append(f"{unknown} images whose defects are not known read back as good")
    content: dict[str, Any] = {"names": dict(enumerate(names))}
    if split:
        content |= {part: f"images/{part}" for part in SPLITS if any(e.sample.split == part for e in found)}
    (out / "data.yaml").write_text(yaml.safe_dump(content, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return lost


def _line(item: Box | Shape, number_: int, size: tuple[int, int]) -> str:
    height, width = size
    if isinstance(item, Box):
        x, y = (item.x0 + item.x1) / 2 / width, (item.y0 + item.y1) / 2 / height
        values = [x, y, (item.x1 - item.x0) / width, (item.y1 - item.y0) / height]
    else:
        assert isinstance(item, Polygon)
        ring = item.rings[0]
        ring += ring[-1:] * (3 - len(ring))  # two points would read back as a box; one of them twice changes nothing
        values = [v for x, y in ring for v in (x / width, y / height)]
    return " ".join([str(number_), *(repr(float(v)) for v in values)])


def _label(word: str, names: Names) -> str:
    if not word.isdigit():
        if word.replace(".", "").replace("-", "").isdigit():
            raise ValueError(f"class {word} is neither a whole number nor a name")
        return class_label(word)
    if names is None:
        return word
    if int(word) not in names:
        raise ValueError(f"class {word} is unknown; there are names for {len(names)}")
    return names[int(word)]


def _yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        raise DataError(f"{path} is not readable as YAML: {' '.join(str(error).split())}") from error
    return content if isinstance(content, dict) else {}


def _yaml_of(folder: Path) -> Path | None:
    return next((f for f in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]) if "names" in _yaml(f)), None)


def _names(given: Any) -> dict[int, str]:
    pairs = given.items() if isinstance(given, dict) else enumerate(given if isinstance(given, list) else [])
    try:
        return {int(key): class_label(str(name)) for key, name in pairs}
    except ValueError as error:
        raise DataError("names of a YOLO data.yaml are a list, or a name for each number") from error


def _listed_names(root: Path) -> Names:
    file = first_existing(root / name for name in _NAMES)
    return dict(enumerate(class_label(line) for line in read_text(file).splitlines() if line.strip())) if file else None


def _places_of(content: dict[str, Any], root: Path) -> Iterator[Place]:
    """As a data.yaml names them."""
    base = root / str(content.get("path") or "")
    base = base if base.is_dir() else root  # `path` is often that of another computer
    for split in SPLITS:
        given = content.get(split) or []
        listed = [given] if isinstance(given, str) else given
        if not isinstance(listed, list) or not all(isinstance(text, str) for text in listed):
            raise DataError(f"{root}: {split} of a YOLO data.yaml is a folder or a list of them, not {given!r}")
        for text in listed:
            place = next((p for p in (base / text, root / text, root / text.lstrip("./")) if p.exists()), None)
            if place is None:
                left_out(f"{root}: the {split} images {text} do not exist")
            elif place.is_dir():
                yield split, _images_below(place), _labels_of(_images_below(place))
            else:
                lines = (line.strip() for line in read_text(place).splitlines())
                yield split, [place.parent / line for line in lines if line], place.parent


def _bare_places(root: Path) -> Iterator[tuple[str | None, Path, Path]]:
    by_name = {folder.name.lower(): folder for folder in folders_in(root)}
    if "images" in by_name and "labels" in by_name:
        for split, part in parts_by_split(by_name["images"]):
            yield split, part, _labels_of(part)
        return
    for split, part in parts_by_split(root):
        yield split, _images_below(part), _labels_of(_images_below(part))


def _images_below(part: Path) -> Path:
    return next((folder for folder in folders_in(part) if folder.name.lower() == "images"), part)


def _labels_of(images: Path) -> Path:
    """labels/… for the last images/… of a path; the folder itself where there is none."""
    parts = list(images.parts)
    for at in range(len(parts) - 1, -1, -1):
        if parts[at].lower() == "images":
            found = Path(*parts[:at], "labels", *parts[at + 1 :])
            return found if found.is_dir() else images
    return images


def _label_file(image: Path) -> Path | None:
    return first_existing([_labels_of(image.parent) / f"{image.stem}.txt"])


def _has_labels(folder: Path) -> bool:
    """Whether there is a text file that begins like a box: a class and at least four numbers from 0 to 1.

    Looks into twenty that are not empty, as those of good images are.
    """
    files = sorted(
        f for f in folder.rglob("*.txt") if f.name.lower() not in _NO_LABELS and f.is_file() and f.stat().st_size
    )
    for file in files[:20]:
        words = file.read_text(encoding="utf-8", errors="replace").partition("\n")[0].split()
        try:
            if len(words) >= 5 and all(-0.5 <= number(word) <= 1.5 for word in words[1:5]):
                return True
        except ValueError:
            continue
    return False


def read_boxes(path: Path, image: Path) -> tuple[Box, ...]:
    """Boxes of one file without a list of names; outlines are not read this way."""
    boxes, shapes = read_lines(path, image, _listed_names(path.parent))
    if shapes:
        left_out(f"{path}: {len(shapes)} outlines; read the set as yolo to keep them", image)
    return tuple(replace(box) for box in boxes)
