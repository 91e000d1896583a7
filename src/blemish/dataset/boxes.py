"""Box annotations in files of their own, one an image: a reader by suffix."""

from collections.abc import Callable
from pathlib import Path

from blemish.dataset.sample import Box
from blemish.errors import DataError

# Each takes the annotation file and returns the boxes in pixels of the image.
BOX_READERS: dict[str, Callable[[Path], tuple[Box, ...]]] = {}


def read_boxes(path: Path) -> tuple[Box, ...]:
    """Boxes of an annotation file; DataError for a format that is not understood."""
    reader = BOX_READERS.get(path.suffix.lower())
    if reader is None:
        known = ", ".join(BOX_READERS) or "none so far"
        raise DataError(f"boxes in {path} cannot be read; formats understood: {known}")
    return reader(path)
