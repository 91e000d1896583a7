"""Inspection of the image files of a batch, each with its own result or error."""

from pathlib import Path

from blemish.errors import BlemishError, ImageError
from blemish.inspection.pipeline import FailedInspection
from blemish.inspection.result import Inspection
from blemish.station.image_store import check_pixels, hide_path
from blemish.station.recipe_views import PartInspector


def inspect_files(inspector: PartInspector, files: list[Path], max_pixels: int) -> list[Inspection | BlemishError]:
    """An inspection of each file, or the ImageError of one that is no image, or too large."""
    results: dict[Path, Inspection | BlemishError] = {}
    for file in files:
        try:
            check_pixels(file, max_pixels)
        except ImageError as error:
            results[file] = error
    sound = [file for file in files if file not in results]
    for file, result in zip(sound, inspector.inspect_batch(sound), strict=True):
        if isinstance(result, FailedInspection):
            results[file] = ImageError(hide_path(result.message, file))
        else:
            results[file] = result
    return [results[file] for file in files]
