"""The reference image of a sample: a defect-free image of the same view, named in the column `template`."""

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from blemish.dataset.sample import Sample
from blemish.errors import ImageError
from blemish.imaging.read import read_image


def read_reference(reference: Sample | Path | str, size: tuple[int, int]) -> NDArray[Any]:
    """The reference image (H, W, C) of a sample, or from a file, for an image of `size` (height, width).

    ImageError where the sample has none, or it is of another size: both have the same part at the same position.
    """
    path = reference.template if isinstance(reference, Sample) else reference
    if path is None:
        assert isinstance(reference, Sample)
        raise ImageError(f"{reference.image} has no template to be compared with; name one in the column 'template'")
    image = read_image(path)
    check_reference(image, size, str(path))
    return image


def check_reference(reference: NDArray[Any], size: tuple[int, int], name: str = "the template") -> None:
    """ImageError where a reference image is not of its image's size (height, width)."""
    if reference.shape[:2] != size:
        raise ImageError(
            f"template {name} has {reference.shape[1]}×{reference.shape[0]} pixels, its image {size[1]}×{size[0]}; "
            "a template is aligned with its image and of the same size"
        )
