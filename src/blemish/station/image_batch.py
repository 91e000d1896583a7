"""Inspection of the image files of a batch, each with its own result or error."""

from pathlib import Path

from blemish.errors import BlemishError, ImageError
from blemish.inspection.pipeline import FailedInspection
from blemish.inspection.result import Inspection
from blemish.station.image_store import check_pixels, hide_path
from blemish.station.recipe_views import PartInspector
from blemish.station.tickets import EngineFailedError


def inspect_files(inspector: PartInspector, files: list[Path], max_pixels: int) -> list[Inspection | BlemishError]:
    """An inspection of each file, or why there is none.

    ImageError for one that is no image, or too large; EngineFailedError where the image is not at fault.
    """
    results: dict[Path, Inspection | BlemishError] = {}
    for file in files:
        try:
            check_pixels(file, max_pixels)
        except ImageError as error:
            results[file] = error
    sound = [file for file in files if file not in results]
    for file, result in zip(sound, inspector.inspect_batch(sound), strict=True):
        if isinstance(result, FailedInspection):
            reason = hide_path(result.message, file)
            is_image = isinstance(result.error, ImageError)
            results[file] = ImageError(reason) if is_image else EngineFailedError(reason)
        else:
            results[file] = result
    return [results[file] for file in files]
