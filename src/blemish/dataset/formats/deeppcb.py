"""DeepPCB: a defect-free template beside each image, and lines of x1 y1 x2 y2 class in pixels."""

import re
from pathlib import Path

from blemish.dataset.annotations import (
    annotation_fields,
    finite_number,
    match_files,
    read_lines,
    read_or_skip,
    warn_skipped,
)
from blemish.dataset.export import copy_image, format_coordinate, image_name, no_shape, prepare_entries
from blemish.dataset.formats.base import Convention, DataSource, Format
from blemish.dataset.image_files import list_files, list_folders, list_images
from blemish.dataset.sample import Dataset, Sample
from blemish.files import write_atomic
from blemish.geometry import Box

CLASSES = ("open", "short", "mousebite", "spur", "copper", "pin-hole")  # of numbers 1 to 6
_LISTS = {"trainval.txt": "train", "train.txt": "train", "val.txt": "val", "test.txt": "test"}


def looks_like(path: Path) -> bool:
    images = (image for folder, _ in _board_folders(path) for image in list_images(folder)[:4])
    return any(image.stem.endswith("_test") for image in images)  # a template and its image, twice


def read(source: DataSource) -> list[Sample]:
    """Samples with template and boxes; an image without a file, or with an empty one, is good.

    Splits are those of trainval.txt, val.txt and test.txt where they are there. Lines that are not understood or of an
    unknown class are skipped with a warning.
    """
    lists = ((source.path / name, split) for name, split in _LISTS.items())
    lines = ((line, split) for file, split in lists if file.is_file() for _, line in read_lines(file))
    splits = {_board_key(Path(_listed_image(line))): split for line, split in lines}
    samples = []
    for folder, annotations in _board_folders(source.path):
        images = {image.stem: image for image in list_images(folder)}
        tests = [(stem.removesuffix("_test"), image) for stem, image in images.items() if stem.endswith("_test")]
        files = [(file.stem, file) for file in list_files(annotations, (".txt",))]
        for image, file in match_files(tests, files, folder):
            name = image.stem.removesuffix("_test")
            boxes = read_or_skip(read_boxes, file, image) if file else None
            fields = {} if boxes is None else annotation_fields(boxes)
            split = splits.get(_board_key(image), splits.get(("", name)))
            samples.append(Sample(image, split=split, template=images.get(f"{name}_temp"), **fields))
    return samples


def _board_key(image: Path) -> tuple[str, str]:
    """(folder, name) of a board: names alone are those of several, where each folder counts from 1."""
    return image.parent.name, image.stem.removesuffix("_test")


def _listed_image(line: str) -> str:
    """The image of a line `image.jpg annotations.txt`; either may have spaces in its name."""
    found = re.match(r"\s*(.+?\.\w+)(?:\s+\S.*\.txt)?\s*$", line, re.IGNORECASE)
    return found.group(1) if found else line.strip()


def read_boxes(path: Path, image: Path | None = None) -> tuple[Box, ...]:
    """Boxes of a file; corners are edges, as in the set's own evaluation."""
    boxes = []
    for at, line in read_lines(path):
        words = line.replace(",", " ").split()
        try:
            x0, y0, x1, y1, kind = map(finite_number, words)
        except ValueError:
            warn_skipped(f"{path}, line {at}: expected x1 y1 x2 y2 class, not {line.strip()!r}", image)
            continue
        if kind in range(1, len(CLASSES) + 1):
            boxes.append(Box(x0, y0, x1, y1, CLASSES[int(kind) - 1]))
        else:
            warn_skipped(f"{path}, line {at}: class {words[4]} is unknown; they go from 1 to {len(CLASSES)}", image)
    return tuple(boxes)


def write(dataset: Dataset, out: Path) -> list[str]:
    """Write images that have a template, with their boxes; returns a line for each loss."""
    paired = dataset.where(lambda s: s.template is not None)
    entries, lost = prepare_entries(
        paired,
        out,
        no_shape,
        {"template", "split"},
        subsets=False,
        requirement="a template",
        unknown_as_good=True,
    )
    if len(paired) < len(dataset):
        lost.append(f"{len(dataset) - len(paired)} images without a template are left out")
    held = [e for e in entries if all(item.label in CLASSES for item in e.items or ())]
    if len(held) < len(entries):  # without its defects an image would read back as good
        classes = sorted({item.label for e in entries for item in e.items or ()} - {*CLASSES})
        lost.append(
            f"{len(entries) - len(held)} images with classes that the format does not know are left out: "
            f"{', '.join(classes)}"
        )
    images, annotations = Path("group00000", "00000"), Path("group00000", "00000_not")
    lists: dict[str, str] = {}
    for entry in held:
        sample, stem = entry.sample, entry.stem
        assert sample.template is not None
        copy_image(sample.image, out / images / image_name(sample, f"{stem}_test"))
        copy_image(sample.template, out / images / f"{stem}_temp{sample.template.suffix.lower()}")
        boxes = [i for i in entry.items or () if isinstance(i, Box)]
        rows = [[*map(format_coordinate, b.bounds), str(CLASSES.index(b.label) + 1)] for b in boxes]
        write_atomic(out / annotations / f"{stem}.txt", "".join(" ".join(row) + "\n" for row in rows))
        if sample.split is not None:
            line = f"{(images / stem).as_posix()}.jpg {(annotations / stem).as_posix()}.txt\n"
            lists[sample.split] = lists.get(sample.split, "") + line
    for name, split in _LISTS.items():
        if split in lists and name != "train.txt":
            write_atomic(out / name, lists[split])
    return lost


def _board_folders(path: Path) -> list[tuple[Path, Path]]:
    """(folder of images, folder of boxes) of each board of each group."""
    pairs = []
    for group in [path, *list_folders(path)]:
        by_name = {folder.name: folder for folder in list_folders(group)}
        pairs += [(by_name[n], by_name[f"{n}_not"]) for n in by_name if f"{n}_not" in by_name]
    return pairs


FORMAT = Format(
    "group*/<part>/*_test.jpg with *_temp.jpg, and group*/<part>_not/*.txt", looks_like, read, write,
    convention=Convention("text file", absent_is_good=True),
    refused="lines that are not x1 y1 x2 y2 class, and classes beyond 6",
)  # fmt: skip
