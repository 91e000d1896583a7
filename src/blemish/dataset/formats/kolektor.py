"""The layout of KolektorSDD: kosNN/PartK.jpg with PartK_label.bmp; defective where the label has pixels."""

import re
from pathlib import Path

from blemish.dataset.annotations import match_files
from blemish.dataset.formats.base import Convention, DataSource, Format
from blemish.dataset.image_files import list_folders, list_images
from blemish.dataset.sample import Sample

_PART = re.compile(r"^kos\d+$", re.IGNORECASE)


def looks_like(path: Path) -> bool:
    return bool(_part_folders(path))


def read(source: DataSource) -> list[Sample]:
    samples = []
    for folder in _part_folders(source.path):
        files = [(path.stem.lower(), path) for path in list_images(folder)]
        images = [(stem, path) for stem, path in files if not stem.endswith("_label")]
        masks = [(stem.removesuffix("_label"), path) for stem, path in files if stem.endswith("_label")]
        samples += [Sample(image, mask=mask, group=folder.name) for image, mask in match_files(images, masks, folder)]
    return samples


def _part_folders(path: Path) -> list[Path]:
    return [folder for folder in list_folders(path) if _PART.match(folder.name)]


FORMAT = Format(
    "kosNN/PartK.jpg with PartK_label.bmp; one folder is one part",
    looks_like, read, convention=Convention("mask"), refused="masks of no image",
)  # fmt: skip
