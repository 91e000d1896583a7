"""The layout of KolektorSDD: kosNN/PartK.jpg with PartK_label.bmp; defective where the label has pixels."""

import re
from pathlib import Path

from blemish.dataset.annotations import warn_skipped
from blemish.dataset.formats.base import DataSource, Format
from blemish.dataset.image_files import label_from_mask, list_folders, list_images
from blemish.dataset.sample import Sample

_PART = re.compile(r"^kos\d+$", re.IGNORECASE)


def looks_like(path: Path) -> bool:
    return bool(_part_folders(path))


def read(source: DataSource) -> list[Sample]:
    samples = []
    for folder in _part_folders(source.path):
        by_stem = {path.stem.lower(): path for path in list_images(folder)}
        for stem, image in by_stem.items():
            if not stem.endswith("_label"):
                mask = by_stem.get(f"{stem}_label")
                label = label_from_mask(mask) if mask else None
                samples.append(Sample(image, label=label, mask=mask, group=folder.name))
            elif stem.removesuffix("_label") not in by_stem:
                warn_skipped(f"{image}: its image does not exist")
    return samples


def _part_folders(path: Path) -> list[Path]:
    return [folder for folder in list_folders(path) if _PART.match(folder.name)]


FORMAT = Format("kosNN/PartK.jpg with PartK_label.bmp; one folder is one part", looks_like, read)
