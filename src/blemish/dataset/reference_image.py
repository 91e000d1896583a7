"""The defect-free twin of an image."""

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from blemish.dataset.sample import Sample
from blemish.errors import ImageError
from blemish.imaging.read import read_image


def read_template(template: Sample | Path | str, size: tuple[int, int]) -> NDArray[Any]:
    """The template (H, W, C) of a sample, or from a file, for an image of `size` (height, width).

    ImageError where the sample has none, or it is of another size: a twin shows the same part at the same place.
    """
    path = template.template if isinstance(template, Sample) else template
    if path is None:
        assert isinstance(template, Sample)
        raise ImageError(f"{template.image} has no template to be compared with; name one in the column 'template'")
    found = read_image(path)
    check_template(found, size, str(path))
    return found


def check_template(template: NDArray[Any], size: tuple[int, int], name: str = "the template") -> None:
    """ImageError where a template is not of its image's size (height, width)."""
    if template.shape[:2] != size:
        raise ImageError(
            f"template {name} has {template.shape[1]}×{template.shape[0]} pixels, its image {size[1]}×{size[0]}; "
            "a template is aligned with its image and of the same size"
        )
