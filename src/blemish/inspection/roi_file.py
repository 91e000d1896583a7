"""Read a region of interest from a YAML or JSON file, as `blemish train --roi` takes it.

The fields are those of `blemish.imaging.roi.Roi`, with one exception: the image of a pattern is given as `file`
(relative to the YAML) and `cut`, the crop x0 y0 x1 y1 of it to search for; `crop`, the box inspected where the pattern
is found, is then in pixels of that file too. The crop itself is stored in the run and in the bundle.
"""

from pathlib import Path
from typing import Any

from blemish.errors import ImageError, OptionError
from blemish.files import load_yaml, validate
from blemish.imaging.blob import to_grey
from blemish.imaging.pattern_match import encode_pattern
from blemish.imaging.read import read_image
from blemish.imaging.roi import Roi


def read_roi(path: str | Path) -> Roi:
    """Raises OptionError for an invalid file, and ImageError for an image that cannot serve as a pattern."""
    path, name = Path(path), f"--roi {path}"
    data = load_yaml(path, name)
    if not isinstance(data, dict):
        raise OptionError(
            f"{name}: give image_height, image_width and a rectangle or polygon, or one of blob, contour and pattern"
        )
    # `blob:` without a value is the locator with its defaults
    data = {key: {} if value is None and key in ("blob", "contour") else value for key, value in data.items()}
    if isinstance(data.get("pattern"), dict) and "file" in data["pattern"]:
        data["pattern"] = _load_pattern(data["pattern"], path.parent, name)
    return validate(Roi, data, name)


def _load_pattern(pattern: dict[str, Any], folder: Path, name: str) -> dict[str, Any]:
    """A pattern's fields with the image itself instead of its file."""
    fields = dict(pattern)
    file = folder / str(fields.pop("file"))
    grey = to_grey(read_image(file))
    height, width = grey.shape
    cut = fields.pop("cut", None) or (0, 0, width, height)
    x0, y0, x1, y1 = (round(value) for value in _parse_box(cut, f"{name}: pattern.cut"))
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise OptionError(f"{name}: pattern.cut {list(cut)} is not inside {file}, of {width}×{height} pixels")
    try:
        fields["png"] = encode_pattern(grey[y0:y1, x0:x1])
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from error
    if fields.get("crop") is not None:
        left, top, right, bottom = _parse_box(fields["crop"], f"{name}: pattern.crop")
        fields["crop"] = (left - x0, top - y0, right - x0, bottom - y0)
    return fields


def _parse_box(values: Any, where: str) -> tuple[float, float, float, float]:
    try:
        x0, y0, x1, y1 = (float(value) for value in values)
    except (TypeError, ValueError) as error:
        raise OptionError(f"{where} is {values}; give four numbers x0, y0, x1, y1") from error
    return x0, y0, x1, y1
