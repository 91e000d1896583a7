"""Careful reading of annotation files, shared by all formats: what cannot be used is skipped with a warning."""

import csv
import io
import json
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar
from xml.etree import ElementTree

from blemish.dataset.ground_truth import derive_label
from blemish.dataset.sample import AnnotationWarning
from blemish.errors import DataError, ImageError
from blemish.geometry import Box, Shape

T = TypeVar("T")
Key = TypeVar("Key", str, Path)


def warn_skipped(line: str, image: Path | None = None) -> None:
    """Warn of an annotation that cannot be used, and of the image that it belongs to, if there is one."""
    warnings.warn(AnnotationWarning(line, image), stacklevel=3)


def read_or_skip(read: Callable[..., T], file: Path, image: Path, *more: Any) -> T | None:
    """What `read` makes of an image's annotation file; None, with a warning, for a file that it cannot read."""
    try:
        return read(file, image, *more)
    except (DataError, ImageError) as error:
        warn_skipped(str(error), image)
        return None


def match_files(
    images: Iterable[tuple[Key, Path]], files: Mapping[Key, Path], folder: Path
) -> Iterator[tuple[Path, Path | None]]:
    """Each image with the annotation file of its key; warns of the files without an image in `folder`."""
    matched = set()
    for key, image in images:
        matched.add(key)
        yield image, files.get(key)
    for key in sorted(files.keys() - matched):
        warn_skipped(f"{files[key]}: its image does not exist in {folder}")


def finite_number(value: Any) -> float:
    """A finite number; ValueError otherwise."""
    number = float(value)
    if isinstance(value, bool) or not math.isfinite(number):
        raise ValueError(f"{value!r} is not a finite number")
    return number


def read_text(path: Path) -> str:
    """DataError for a file that is no text in UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not readable as text in UTF-8: {error}") from error


def read_lines(path: Path) -> list[tuple[int, str]]:
    """The lines of a text file that are not blank, with their numbers from 1 on."""
    return [(number, line) for number, line in enumerate(read_text(path).splitlines(), 1) if line.strip()]


def read_json(path: Path) -> Any:
    """DataError for a file that is no JSON in UTF-8."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is not readable as JSON: {' '.join(str(error).split())}") from error


def read_xml(path: Path) -> ElementTree.Element:
    """DataError for a file that is no XML, or defines entities, which no annotation needs."""
    try:
        data = path.read_bytes()
        if b"<!ENTITY" in data:
            raise DataError(f"{path} defines XML entities; an annotation has no use for them")
        return ElementTree.fromstring(data)
    except (OSError, LookupError, ValueError, ElementTree.ParseError) as error:  # of an encoding, too
        raise DataError(f"{path} is not readable as XML: {error}") from error


def read_csv(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """The columns of a CSV file with commas, semicolons or tabs, and its rows with their line numbers.

    DataError for a file that is no CSV in UTF-8.
    """
    csv.field_size_limit(1 << 30)  # run lengths are long
    text = read_text(path)
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=guess_delimiter(text.partition("\n")[0]))
        rows = [(reader.line_num, {k: (v or "").strip() for k, v in row.items() if k is not None}) for row in reader]
        return list(reader.fieldnames or ()), rows
    except csv.Error as error:
        raise DataError(f"{path} is not readable as CSV: {error}") from error


def guess_delimiter(line: str) -> str:
    return max(",;\t", key=line.count)


def first_line(path: Path) -> str:
    """The beginning of a text file, for a look at its kind."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        return file.readline(4000)


def contains_key(path: Path, *keys: str) -> bool:
    """Whether the beginning of a JSON file holds one of the keys."""
    with path.open("rb") as file:
        head = file.read(65536)
    return any(f'"{key}"'.encode() in head for key in keys)


def annotation_fields(boxes: Iterable[Box], shapes: Iterable[Shape] = ()) -> dict[str, Any]:
    """`label`, `boxes` and `shapes` of a sample by its annotations: none at all is a good part."""
    boxes, shapes = tuple(boxes), tuple(shapes)
    label = derive_label(item.label for item in (*boxes, *shapes))
    return {"label": label, "boxes": boxes or (None if shapes else ()), "shapes": shapes or None}
