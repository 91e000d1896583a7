"""YOLO: a .txt an image with lines of class, centre and size, or class and outline, in shares of the image's size."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from blemish.dataset.annotations import (
    annotation_fields,
    file_key,
    finite_number,
    match_files,
    note_adapted,
    read_lines,
    read_or_skip,
    read_text,
    warn_skipped,
)
from blemish.dataset.export import copy_image, defect_names, prepare_entries, single_ring
from blemish.dataset.formats import deeppcb
from blemish.dataset.formats.base import Convention, DataSource, Format
from blemish.dataset.frame import fall_back, fit_to_image
from blemish.dataset.image_files import (
    file_exists,
    find_folder,
    find_recorded,
    first_existing,
    list_files,
    list_images,
    list_subsets,
    path_tails,
)
from blemish.dataset.labels import normalize_label
from blemish.dataset.sample import SPLITS, Dataset, Sample
from blemish.errors import DataError
from blemish.files import write_atomic
from blemish.geometry import Box, Polygon, Shape, shape_bounds
from blemish.imaging.read import image_header

_NAMES = ("classes.txt", "obj.names", "labels/classes.txt", "_darknet.labels")
_NO_LABELS = {"classes.txt", "train.txt", "val.txt", "valid.txt", "test.txt", "trainval.txt", "readme.txt"}
_MARGIN = 0.05  # of the image, by which a box or outline may reach beyond it
_MAX_FILES = 20  # that are looked into

ClassNames = Mapping[int, str] | None  # None: the number is the name


def looks_like(path: Path) -> bool:
    if path.is_file():
        return path.suffix.lower() in (".yaml", ".yml") and "names" in _read_yaml(path)
    if deeppcb.looks_like(path):
        return False
    return _find_yaml(path) is not None or any(_has_labels(_labels_folder(f)) for _, f in _plain_folders(path))


def read(source: DataSource) -> list[Sample]:
    """Samples with boxes, or shapes for lines with an outline.

    As is usual for YOLO, an image without a file, or with an empty one, is good. Skipped with a warning: lines that
    are not understood or whose class number has no name, and files whose image does not exist.
    """
    root = source.path if source.path.is_dir() else source.path.parent
    file = source.path if source.path.is_file() else _find_yaml(root)
    content = _read_yaml(file) if file else {}
    if file is None and (nameless := first_existing(root / f"data{suffix}" for suffix in (".yaml", ".yml"))):
        raise DataError(f"{nameless} has no names of classes")
    places = [*_yaml_places(content, root)] or [*_plain_folders(root)]
    if file:
        names: dict[Path | None, ClassNames] = {None: _parse_names(content.get("names"))}
    else:
        names = _listed_names_of(root, [images for _, images in places if isinstance(images, Path)])
    pose = _pose_length(content.get("kpt_shape"))
    samples = []
    folders: dict[Path, dict[Path, Path | None]] = {}  # of listed images: those of a folder with their label files
    lines: list[_Line] = []
    for split, images in places:
        listed = images if isinstance(images, list) else []
        for folder in {image.parent for image in listed} - folders.keys():
            missing = [image for image in listed if image.parent == folder and not file_exists(image)]
            folders[folder] = dict(_match_folder(folder, missing, deep=False)) if folder.is_dir() else {}
        pairs = _match_folder(images) if isinstance(images, Path) else [(i, folders[i.parent].get(i)) for i in images]
        own = names.get(images if isinstance(images, Path) else None, names.get(None))
        for image, label_file in pairs:
            existing = label_file if file_exists(image) else None
            items = read_or_skip(read_label_file, existing, image, own, lines, pose) if existing else None
            samples.append(Sample(image, split=split, **(annotation_fields(*items) if items else {})))
    _check_lines(lines)
    return samples


@dataclass(frozen=True)
class _Line:
    """Numbers after the class of a line, of which some may show what those of the whole set mean."""

    file: Path
    image: Path
    values: tuple[float, ...]

    @property
    def corners(self) -> bool:  # they may be two corners
        x, y, w, h = self.values[:4]
        return w > x and h > y

    @property
    def outside(self) -> bool:  # as centre and size, they reach beyond the image
        x, y, w, h = self.values[:4]
        return min(x - w / 2, y - h / 2) < -_MARGIN or max(x + w / 2, y + h / 2) > 1 + _MARGIN

    @property
    def angle(self) -> bool:  # the fifth is no confidence
        return len(self.values) == 5 and not 0 <= self.values[4] <= 1

    @property
    def key_points(self) -> bool:  # a box, and points in it with 0, 1 or 2 for whether each is seen
        x, y, w, h = self.values[:4]
        points = [self.values[i : i + 3] for i in range(4, len(self.values), 3)]
        seen = [(px, py) for px, py, flag in points if flag] if len(points[-1]) == 3 else []
        inside = all(abs(px - x) <= w / 2 + _MARGIN and abs(py - y) <= h / 2 + _MARGIN for px, py in seen)
        return bool(seen) and w > 0 and h > 0 and not self.outside and inside and {p[2] for p in points} <= {0, 1, 2}


def _check_lines(lines: list[_Line]) -> None:
    """Set all boxes or outlines aside where some show that the set's numbers mean something else."""
    boxes = [line for line in lines if len(line.values) < 6]
    outlines = [line for line in lines if len(line.values) >= 6]
    if any(box.angle for box in boxes):
        for box in boxes:
            if len(box.values) == 5 and not box.angle:  # of the others, the reader has said so
                text = f"{box.file}: the fifth number of a box is no confidence: in other lines it is not in 0 to 1"
                warn_skipped(text, box.image)
    if any(box.outside for box in boxes) and all(box.corners for box in boxes):
        for box in boxes:
            if not box.outside:
                text = f"{box.file}: numbers are corners rather than centre and size, as other lines show"
                warn_skipped(text, box.image)
    if outlines and all(outline.key_points for outline in outlines):
        for outline in outlines:
            text = f"{outline.file}: numbers are a box and key points, no outline; say kpt_shape in data.yaml"
            warn_skipped(text, outline.image)


def read_label_file(
    path: Path, image: Path, names: ClassNames, lines: list[_Line], pose: int = 0
) -> tuple[list[Box], list[Shape]]:
    """Boxes and outlines of a file, in pixels of the image; `lines` collects the numbers of the whole set.

    A line of `pose` numbers is a box and key points, which are passed over; so is the confidence of a prediction.
    """
    boxes: list[Box] = []
    shapes: list[Shape] = []
    rows = read_lines(path)
    height, width = image_header(image).size if rows else (0, 0)
    for at, line in rows:
        first, *rest = line.split()
        try:
            label = _parse_label(first, names)
            values = [finite_number(word) for word in rest]
        except ValueError as error:
            warn_skipped(f"{path}, line {at}: {error}", image)
            continue
        if pose and len(values) == pose:
            note_adapted("key points are passed over, their boxes are kept", image)
            values = values[:4]
        if len(values) < 4 or (len(values) > 5 and len(values) % 2):
            warn_skipped(f"{path}, line {at}: {len(values)} numbers are neither a box nor an outline", image)
            continue
        numbers = _Line(path, image, tuple(values))
        lines.append(numbers)
        if len(values) < 6:
            x, y, w, h = values[:4]
            if w <= 0 or h <= 0 or numbers.outside:
                warn_skipped(f"{path}, line {at}: {line.strip()!r} is no centre and size in shares of the image", image)
            elif numbers.angle:
                warn_skipped(f"{path}, line {at}: the fifth number, {values[4]:g}, is no confidence", image)
            else:
                if len(values) == 5:
                    note_adapted("boxes with a confidence, as predictions have, count as labels", image)
                x, y, w, h = x * width, y * height, w * width, h * height
                boxes.append(Box(x - w / 2, y - h / 2, x + w / 2, y + h / 2, label))
        else:
            if min(values) < -_MARGIN or max(values) > 1 + _MARGIN:
                warn_skipped(f"{path}, line {at}: the outline is not in shares of the image", image)
                continue
            ring = tuple((x * width, y * height) for x, y in zip(values[::2], values[1::2], strict=True))
            polygon, bounds = Polygon((ring,), label), shape_bounds(Polygon((ring,), label))
            try:
                item = fall_back(polygon, bounds and Box(*bounds, label), (height, width), image)
            except DataError as error:
                warn_skipped(f"{path}, line {at}: {error}", image)
                continue
            if isinstance(item, Box):
                boxes.append(item)
            else:
                shapes.append(item)
    fit_to_image([*boxes, *shapes], None, image)  # says so where EXIF turns the picture
    return boxes, shapes


def read_boxes(path: Path, image: Path) -> tuple[Box, ...]:
    """Boxes of one file without a list of names; outlines are not read this way."""
    boxes, shapes = read_label_file(path, image, _listed_names(path.parent), [])
    if shapes:
        warn_skipped(f"{path}: {len(shapes)} outlines; read the set as yolo to keep them", image)
    return tuple(boxes)


def write(dataset: Dataset, out: Path) -> list[str]:
    """Write boxes and outlines as images/, labels/ and data.yaml; returns a line for each loss."""
    entries, lost = prepare_entries(dataset, out, single_ring, unknown_as_good=True)
    names = defect_names(dataset, entries)
    for entry in entries:
        copy_image(entry.sample.image, out / "images" / entry.subset / entry.file_name)
        lines = [_format_line(item, names.index(item.label), entry.size) for item in entry.items or ()]
        write_atomic(out / "labels" / entry.subset / f"{entry.stem}.txt", "".join(f"{line}\n" for line in lines))
    subsets = {entry.subset.name for entry in entries}
    content = {"names": dict(enumerate(names)), **{name: f"images/{name}" for name in SPLITS if name in subsets}}
    write_atomic(out / "data.yaml", yaml.safe_dump(content, allow_unicode=True, sort_keys=False))
    return lost


def _format_line(item: Box | Shape, number: int, size: tuple[int, int]) -> str:
    height, width = size
    if isinstance(item, Box):
        x, y = (item.x0 + item.x1) / 2 / width, (item.y0 + item.y1) / 2 / height
        values = [x, y, (item.x1 - item.x0) / width, (item.y1 - item.y0) / height]
    else:
        assert isinstance(item, Polygon)
        ring = item.rings[0]
        ring += ring[-1:] * (3 - len(ring))  # two points would read back as a box; one of them twice changes nothing
        values = [v for x, y in ring for v in (x / width, y / height)]
    return " ".join([str(number), *(repr(float(v)) for v in values)])


def _parse_label(word: str, names: ClassNames) -> str:
    if not word.isdigit():
        if word.replace(".", "").replace("-", "").isdigit():
            raise ValueError(f"class {word} is neither a whole number nor a name")
        return normalize_label(word)
    if names is None:
        return word
    if int(word) not in names:
        raise ValueError(f"class {word} is unknown; there are names for {len(names)}")
    return names[int(word)]


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(read_text(path))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise DataError(f"{path} is not readable as YAML: {' '.join(str(error).split())}") from error
    return content if isinstance(content, dict) else {}


def _find_yaml(folder: Path) -> Path | None:
    files = list_files(folder, (".yaml", ".yml"))
    return next((file for file in files if "names" in _read_yaml(file)), None)


def _parse_names(given: Any) -> dict[int, str]:
    pairs = given.items() if isinstance(given, dict) else enumerate(given if isinstance(given, list) else [])
    try:
        names = {int(key): normalize_label("" if name is None else str(name)) for key, name in pairs}
        if not all(names.values()):
            raise ValueError("a class has no name")
        return names
    except (TypeError, ValueError) as error:
        raise DataError("names of a YOLO data.yaml are a list, or a name for each number") from error


def _listed_names(root: Path) -> ClassNames:
    file = first_existing(root / name for name in _NAMES)
    return dict(enumerate(normalize_label(line) for _, line in read_lines(file))) if file else None


def _listed_names_of(root: Path, folders: list[Path]) -> dict[Path | None, ClassNames]:
    """Names of classes by folder of images: those of the nearest list, or of the only one that there is.

    DataError for a folder without a list where the others have different ones.
    """
    names: dict[Path | None, ClassNames] = {None: _listed_names(root)}
    for folder in folders:
        labels = _labels_folder(folder)
        names[folder] = _listed_names(labels) or _listed_names(labels.parent) or names[None]
    lists = [own for own in names.values() if own]
    differing = any(own != lists[0] for own in lists)
    bare = next((folder for folder in folders if not names[folder]), None)
    if differing and bare is not None:
        raise DataError(f"{bare} has no list of classes, and those of other folders differ; give it a classes.txt")
    if differing:
        warnings.warn(f"{root}: its lists of classes differ; each holds for the folder that it is in", stacklevel=3)
    return {folder: own or (lists[0] if lists else None) for folder, own in names.items()}


def _pose_length(given: Any) -> int:
    """How many numbers follow the class of a line of a box and key points; 0 where the set has none."""
    if given is None:
        return 0
    try:
        points, dimensions = map(int, given)
    except (TypeError, ValueError) as error:
        raise DataError("kpt_shape of a YOLO data.yaml is a number of key points, and 2 or 3 for each") from error
    return 4 + points * dimensions


def _yaml_places(content: dict[str, Any], root: Path) -> Iterator[tuple[str | None, Path | list[Path]]]:
    """(split, folder of images or list of them), as a data.yaml names them."""
    base = root / str(content.get("path") or "")
    base = base if base.is_dir() else root  # `path` is often that of another computer
    for split in SPLITS:
        given = content.get(split) or []
        listed = [given] if isinstance(given, str) else given
        if not isinstance(listed, list) or not all(isinstance(text, str) for text in listed):
            raise DataError(f"{root}: {split} of a YOLO data.yaml is a folder or a list of them, not {given!r}")
        for text in listed:
            places = (folder / tail for tail in path_tails(text) for folder in (base, root))
            place = next((place for place in places if place.exists()), None)
            if place is None:
                warn_skipped(f"{root}: the {split} images {text} do not exist")
            elif place.is_dir():
                yield split, _images_folder(place)
            else:
                lines = [line.strip() for _, line in read_lines(place, names=True)]
                below = [place.parent, base, root]
                yield split, [find_recorded(line, below) or place.parent / line for line in lines]


def _plain_folders(root: Path) -> Iterator[tuple[str | None, Path]]:
    """(split, folder of images) without a data.yaml."""
    images = find_folder(root, ["images"])
    if images and find_folder(root, ["labels"]):
        yield from list_subsets(images)
    else:
        yield from ((split, _images_folder(subset)) for split, subset in list_subsets(root))


def _images_folder(subset: Path) -> Path:
    return find_folder(subset, ["images"]) or subset


def _labels_folder(images: Path) -> Path:
    """labels/… for the last images/… of a path; the folder itself where there is none."""
    steps = list(images.parts)
    at = next((i for i in range(len(steps) - 1, -1, -1) if steps[i].lower() == "images"), None)
    if at is None or (labels := find_folder(Path(*steps[:at]), ["labels"])) is None:
        return images
    below = labels.joinpath(*steps[at + 1 :])
    return below if below.is_dir() else images


def _match_folder(images: Path, missing: Sequence[Path] = (), deep: bool = True) -> Iterator[tuple[Path, Path | None]]:
    """The images of a folder, and those that are `missing` there, each with its label file."""
    labels = _labels_folder(images)
    keyed = [(file_key(image, images), image) for image in [*list_images(images, deep), *missing]]
    named = {key for key, _ in keyed}
    files = [(file_key(file, labels), file) for file in list_files(labels, (".txt",), deep)]
    files = [(key, file) for key, file in files if key in named or file.name.lower() not in _NO_LABELS]
    if keyed and not files:
        warn_skipped(f"{images}: none of its {len(keyed)} images has a label file", folder=images)
    return match_files(keyed, files, images)


def _has_labels(folder: Path) -> bool:
    """Whether there is a text file that begins like a box: a class and at least four numbers from 0 to 1.

    Looks into a few that are not empty, as those of good images are.
    """
    files = sorted(
        f for f in list_files(folder, (".txt",), deep=True) if f.name.lower() not in _NO_LABELS and f.stat().st_size
    )
    for file in files[:_MAX_FILES]:
        words = file.read_text(encoding="utf-8", errors="replace").partition("\n")[0].split()
        try:
            if len(words) >= 5 and all(-0.5 <= finite_number(word) <= 1.5 for word in words[1:5]):
                return True
        except ValueError:
            continue
    return False


FORMAT = Format(
    "a data.yaml of names and train, val, test; or images/ and labels/*.txt with perhaps data.yaml or classes.txt",
    looks_like, read, write, convention=Convention("label file", absent_is_good=True),
    refused="lines that are neither box nor outline, in pixels, or of a class number without a name; files of no image",
)  # fmt: skip
