"""KolektorSDD2: train/ and test/ of NNNNN.png, each beside its mask NNNNN_GT.png."""

from pathlib import Path

from blemish.dataset.annotations import warn_skipped
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
        files = {file.stem.lower(): file for file in list_images(subset)}
        for stem, file in files.items():
            if not stem.endswith(_TAIL):
                mask = files.get(stem + _TAIL)
                if mask is None:
                    warn_skipped(f"{file}: its mask {file.stem}_GT.png does not exist", file)
                samples.append(Sample(file, split=split, mask=mask))
            elif stem.removesuffix(_TAIL) not in files:
                warn_skipped(f"{file}: its image does not exist", folder=subset)
    return samples


def _has_masks(folder: Path) -> bool:
    """Whether one of the first images has such a mask."""
    files = list_images(folder)
    names = {file.stem.lower() for file in files}
    return any(file.stem.lower() + _TAIL in names for file in files[:20])


FORMAT = Format(
    "train/ and test/ of NNNNN.png, each beside its mask NNNNN_GT.png",
    looks_like, read, convention=Convention("mask"),
)  # fmt: skip
