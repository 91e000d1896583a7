"""Pictures of one inspection: drawn, saved, or shown on matplotlib axes."""

from pathlib import Path
from typing import Any

from blemish.arrays import Image, Picture
from blemish.errors import ImageError, MissingExtraError
from blemish.imaging.read import read_image, write_image
from blemish.inspection.result import Inspection
from blemish.report.overlay import draw_overlay
from blemish.report.text import use_fonts


def draw_inspection(inspection: Inspection, image: Image | None = None) -> Picture:
    """The image (H, W, C) with heat map, regions and verdict, RGB uint8; by default the image at `source`."""
    if image is None:
        if inspection.source is None:
            raise ImageError("the inspection names no file; give the image that was inspected")
        image = read_image(inspection.source)
    return draw_overlay(image if image.ndim == 3 else image[..., None], inspection)


def save_inspection(inspection: Inspection, path: str | Path, image: Image | None = None) -> Path:
    """Write the drawn picture as PNG, JPEG or TIFF by the path's suffix."""
    write_image(path, draw_inspection(inspection, image))
    return Path(path)


def plot_inspection(inspection: Inspection, image: Image | None = None, axes: Any = None) -> Any:
    """Show the drawn picture on matplotlib axes, new ones by default; returns the axes."""
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise MissingExtraError("matplotlib is not installed; pip install 'blemish[report]'") from error
    with pyplot.rc_context(use_fonts({})):  # classes may have Chinese names
        axes = pyplot.subplots()[1] if axes is None else axes
        axes.imshow(draw_inspection(inspection, image))
        axes.set_title(f"{inspection.verdict}: {inspection.label}, score {inspection.score:.4g}")
    axes.set_axis_off()
    return axes
