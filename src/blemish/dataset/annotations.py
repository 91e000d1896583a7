"""Careful reading of annotation files, shared by all formats: what cannot be used is skipped with a warning."""

import csv
import io
import json
import math
import unicodedata
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from xml.etree import ElementTree

from blemish.dataset.sample import AnnotationNote, AnnotationWarning, Note
from blemish.errors import DataError, ImageError
from blemish.geometry import Box, Shape

T = TypeVar("T")


def warn_skipped(line: str, image: Path | None = None, folder: Path | None = None) -> None:
    """Set an annotation aside: the label of its image, unless a folder or column states it, is then unknown.

    With `folder` it may belong to another image: any image below the folder that has no annotation may be
    the one, and is not good by convention. With neither, it concerns no label.
    """
    warnings.warn(AnnotationWarning(line, image, folder), stacklevel=3)


def note_adapted(what: str, image: Path) -> None:
    """Say that annotations of an image were adapted to it, such as scaled: one line for all images of one `what`."""
    warnings.warn(AnnotationNote(Note(what, image)), stacklevel=3)


def read_or_skip(read: Callable[..., T], file: Path, image: Path, *more: Any) -> T | None:
    """The result of `read` for an image's annotation file; None, with a warning, for a file that it cannot read."""
    try:
        return read(file, image, *more)
    except (DataError, ImageError) as error:
        warn_skipped(str(error), image)
        return None


def fold_name(name: str) -> str:
    """A name in which case and the way of writing accents make no difference."""
    return unicodedata.normalize("NFC", name).casefold()


def file_key(file: Path, folder: Path) -> str:
    """The path of a file below a folder, without its suffix, by which images and annotations are matched."""
    return file.relative_to(folder).with_suffix("").as_posix()


def match_files(
    images: Iterable[tuple[str, Path]], files: Iterable[tuple[str, Path]], folder: Path
) -> Iterator[tuple[Path, Path | None]]:
    """Each image with the annotation file of its key, or None; keys are paths without suffix, see `file_key`.

    Several images of one key share its file, but not images whose keys differ in case alone. In this order a file is
    that of an image of the same key, of the key with the image's suffix (a.png.txt), of a key in other case, or of the
    same name in another folder where no other image or file has that name. Set aside with a warning: files of one key,
    and files without an image in `folder`.
    """
    images, files = list(images), list(files)
    found: dict[Path, Path | None] = {}
    left = files
    rounds: tuple[Callable[[str], str], ...] = (str, fold_name, lambda key: fold_name(key.rpartition("/")[2]))
    for step, key_of in enumerate(rounds):
        groups: defaultdict[str, list[Path]] = defaultdict(list)
        for key, file in left:
            groups[key_of(key)].append(file)
        waiting = [(key_of(key), image) for key, image in images if image not in found]
        often = Counter(key for key, _ in waiting)
        keys = Counter(key_of(key) for key in {key for key, image in images if image not in found})
        used = set[Path]()
        for key, image in waiting:
            candidates = groups.get(f"{key}{key_of(image.suffix)}") or groups.get(key, [])
            if not candidates:
                continue
            used.update(candidates)
            alone = len(candidates) == 1 and keys[key] == 1 and (step < 2 or often[key] == 1)
            found[image] = candidates[0] if alone else None
            if not alone:
                names = ", ".join(map(str, candidates))
                warn_skipped(f"{names}: several images or files have its name, such as {image}", image)
        left = [(key, file) for key, file in left if file not in used]
    for _, image in images:
        yield image, found.get(image)
    for _, file in sorted(left):
        empty = not file.stat().st_size  # which would say that an image is good
        warn_skipped(f"{file}: its image does not exist in {folder}", folder=None if empty else folder)


def finite_number(value: Any) -> float:
    """A finite number; ValueError otherwise."""
    number = float(value)
    if isinstance(value, bool) or not math.isfinite(number):
        raise ValueError(f"{value!r} is not a finite number")
    return number


def read_text(path: Path, names: bool = False) -> str:
    """DataError for a file that is no text in UTF-8; one of file `names` may hold names that are not."""
    try:
        return path.read_text(encoding="utf-8-sig", errors="surrogateescape" if names else "strict")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not readable as text in UTF-8: {error}") from error


def read_lines(path: Path, names: bool = False) -> list[tuple[int, str]]:
    """The lines of a text file that are not blank, with their numbers from 1 on; `names` as with `read_text`."""
    return [(number, line) for number, line in enumerate(read_text(path, names).splitlines(), 1) if line.strip()]


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


def read_csv(path: Path, paths: Collection[str] = ()) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """The columns of a CSV file with commas, semicolons or tabs, and its rows with their line numbers.

    A row that ends early lacks its last cells: they are not there, rather than empty. Cells are stripped of blanks, but
    for those of the columns `paths`: a file's name is any sequence of bytes, and those that are no UTF-8 are read as
    `os.fsdecode` does. DataError for a file that is otherwise no CSV in UTF-8.
    """
    csv.field_size_limit(1 << 30)  # run lengths are long
    try:
        text = path.read_bytes().decode("utf-8-sig", "surrogateescape" if paths else "strict")
        delimiter = guess_delimiter(text.partition("\n")[0])
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
        rows = []
        for row in reader:
            given = {k: v for k, v in row.items() if k and v is not None}
            cells = {k: v if k.strip().lower() in paths else v.strip() for k, v in given.items()}
            "".join(v for k, v in cells.items() if k.strip().lower() not in paths).encode()
            rows.append((reader.line_num, cells))
        return list(reader.fieldnames or ()), rows
    except (OSError, UnicodeError) as error:
        raise DataError(f"{path} is not readable as text in UTF-8: {error}") from error
    except csv.Error as error:
        raise DataError(f"{path} is not readable as CSV: {error}") from error


def guess_delimiter(line: str) -> str:
    return max(",;\t", key=line.count)


def first_line(path: Path) -> str:
    """The beginning of a text file, to recognise its kind."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        return file.readline(4000)


def contains_key(path: Path, *keys: str) -> bool:
    """Whether the beginning of a JSON file holds one of the keys."""
    with path.open("rb") as file:
        head = file.read(65536)
    return any(f'"{key}"'.encode() in head for key in keys)


def annotation_fields(boxes: Iterable[Box], shapes: Iterable[Shape] = ()) -> dict[str, Any]:
    """`boxes` and `shapes` of a sample by its annotations; where there are none, the annotation is empty."""
    boxes, shapes = tuple(boxes), tuple(shapes)
    return {"boxes": boxes or (None if shapes else ()), "shapes": shapes or None}
