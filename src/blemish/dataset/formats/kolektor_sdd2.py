"""KolektorSDD2: train/ and test/ of NNNNN.png, each beside its mask NNNNN_GT.png."""

from pathlib import Path

from blemish.dataset.annotations import match_files, warn_skipped
from blemish.dataset.formats.base import Convention, DataSource, Format
from blemish.dataset.image_files import list_images, list_subsets
from blemish.dataset.sample import Sample

_TAIL = "_gt"


def looks_like(path: Path) -> bool:
    return any(_has_masks(subset) for split, subset in list_subsets(path) if split)


def read(source: DataSource) -> list[Sample]:
    """Samples with their masks: one without a pixel is that of a good part; an image without a mask is unknown."""
    samples = []
    for split, subset in list_subsets(source.path):
        files = [(file.stem.lower(), file) for file in list_images(subset)]
        images = [(stem, file) for stem, file in files if not stem.endswith(_TAIL)]
        masks = [(stem.removesuffix(_TAIL), file) for stem, file in files if stem.endswith(_TAIL)]
        for image, mask in match_files(images, masks, subset):
            if mask is None:
                warn_skipped(f"{image}: a mask {image.stem}_GT.png of its own does not exist", image)
            samples.append(Sample(image, split=split, mask=mask))
    return samples


def _has_masks(folder: Path) -> bool:
    """Whether one of the first images has such a mask."""
    files = list_images(folder)
    names = {file.stem.lower() for file in files}
    return any(file.stem.lower() + _TAIL in names for file in files[:20])


FORMAT = Format(
    "train/ and test/ of NNNNN.png, each beside its mask NNNNN_GT.png",
    looks_like, read, convention=Convention("mask"),
    refused="images without a mask, masks of no image",
)  # fmt: skip
