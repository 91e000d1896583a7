"""Box annotations in files of their own, one an image: a reader by suffix."""

from collections.abc import Callable
from pathlib import Path

from blemish.dataset.annotations import read_text, readable
from blemish.dataset.formats import deeppcb, labelme, voc, yolo
from blemish.errors import DataError
from blemish.geometry import Box

# Each takes the annotation file and its image, and returns the boxes in pixels of the image.
BOX_READERS: dict[str, Callable[[Path, Path], tuple[Box, ...]]] = {
    ".xml": voc.read_boxes,
    ".json": labelme.read_boxes,
    ".txt": lambda path, image: (yolo if _in_parts(path) else deeppcb).read_boxes(path, image),
}


def read_boxes(path: Path, image: Path) -> tuple[Box, ...] | None:
    """Boxes of the annotation file of an image; None with a warning for a file that is damaged.

    DataError for a format that is not understood. A .txt is YOLO's where it has numbers with a point or a name for the
    class first, otherwise DeepPCB's.
    """
    reader = BOX_READERS.get(path.suffix.lower())
    if reader is None:
        known = ", ".join(BOX_READERS) or "none"
        raise DataError(f"boxes in {path} cannot be read; formats understood: {known}")
    return readable(reader, path, image)


def _in_parts(path: Path) -> bool:
    """Whether coordinates are parts of the image's size rather than pixels."""
    words = read_text(path).replace(",", " ").split()
    return not all(word.lstrip("-").isdigit() for word in words)
