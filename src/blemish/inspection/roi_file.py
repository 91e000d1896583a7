"""A region of interest from a YAML or JSON file, as `blemish train --roi` takes it.

Its fields are those of `blemish.inspection.manifest.Roi`, with one exception: the picture of a pattern is named by `file`
(beside the YAML) and `cut`, the piece x0 y0 x1 y1 of it that is looked for; `crop`, the box inspected where the pattern is
found, is then in pixels of that file too. The piece itself travels in the run and in the bundle.
"""

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from blemish.errors import ImageError, OptionError
from blemish.imaging.blob import to_grey
from blemish.imaging.pattern_match import encode_pattern
from blemish.imaging.read import read_image
from blemish.imaging.roi import Roi


def read_roi(path: str | Path) -> Roi:
    """Raises OptionError for a file that is none, and ImageError for a picture of a pattern that is no use."""
    path = Path(path)
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise OptionError(f"--roi {path} cannot be read: {str(error).splitlines()[0]}") from error
    if not isinstance(data, dict):
        raise OptionError(
            f"--roi {path}: give image_height, image_width and a rectangle or polygon, or one of blob, contour and pattern"
        )
    # `blob:` with nothing after it is the locator with its defaults
    data = {key: {} if value is None and key in ("blob", "contour") else value for key, value in data.items()}
    if isinstance(data.get("pattern"), dict) and "file" in data["pattern"]:
        data["pattern"] = _with_picture(data["pattern"], path)
    try:
        return Roi.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        known = f"; known are {', '.join(Roi.model_fields)}" if first["type"] == "extra_forbidden" else ""
        raise OptionError(f"--roi {path}: {where + ': ' if where else ''}{first['msg']}{known}") from error


def _with_picture(pattern: dict[str, Any], path: Path) -> dict[str, Any]:
    """A pattern's fields with the picture itself in the place of its file."""
    fields = dict(pattern)
    file = path.parent / str(fields.pop("file"))
    picture = to_grey(read_image(file))
    height, width = picture.shape
    cut = fields.pop("cut", None) or (0, 0, width, height)
    x0, y0, x1, y1 = _box(cut, f"--roi {path}: pattern.cut")
    x0, y0, x1, y1 = round(x0), round(y0), round(x1), round(y1)
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise OptionError(f"--roi {path}: pattern.cut {list(cut)} does not lie in {file}, of {width}×{height} pixels")
    try:
        fields["png"] = encode_pattern(picture[y0:y1, x0:x1])
    except ImageError as error:
        raise ImageError(f"--roi {path}: {error}") from error
    if fields.get("crop") is not None:
        left, top, right, bottom = _box(fields["crop"], f"--roi {path}: pattern.crop")
        fields["crop"] = (left - x0, top - y0, right - x0, bottom - y0)
    return fields


def _box(values: Any, where: str) -> tuple[float, float, float, float]:
    try:
        x0, y0, x1, y1 = (float(value) for value in values)
    except (TypeError, ValueError) as error:
        raise OptionError(f"{where} is {values}; give four numbers x0, y0, x1, y1") from error
    return x0, y0, x1, y1
