"""The layout of KolektorSDD: kosNN/PartK.jpg with PartK_label.bmp; defective where the label has pixels."""

import re
from pathlib import Path

from blemish.dataset.annotations import left_out
from blemish.dataset.image_files import folders_in, images_in
from blemish.dataset.sample import GOOD, Sample
from blemish.errors import DataError, ImageError
from blemish.imaging.read import read_mask

SAYS = "kosNN/PartK.jpg with PartK_label.bmp; one folder is one part"
_PART = re.compile(r"^kos\d+$", re.IGNORECASE)


def looks_like(path: Path) -> bool:
    return any(_PART.match(folder.name) for folder in folders_in(path))


def read(path: Path) -> list[Sample]:
    samples = []
    for folder in folders_in(path):
        if not _PART.match(folder.name):
            continue
        by_stem = {path.stem.lower(): path for path in images_in(folder)}
        for stem, image in by_stem.items():
            if stem.endswith("_label"):
                if stem.removesuffix("_label") not in by_stem:
                    left_out(f"{image}: its image does not exist")
                continue
            mask = by_stem.get(f"{stem}_label")
            samples.append(Sample(image, label=_label_of(mask), mask=mask, group=folder.name))
    return samples


def _label_of(mask: Path | None) -> str | None:
    if mask is None:
        return None
    try:
        return "defect" if read_mask(mask).any() else GOOD
    except ImageError as error:
        raise DataError(f"the label follows from the mask, but: {error}") from error
