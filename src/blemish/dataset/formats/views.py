"""Parts of several views: <class>/<part>/<view>.png, one folder a part and one image a view, named alike in all parts.

The class is that of the part. Where a defective part has masks, a view without one may show no defect: its label is
not known. "views:top" reads the images of one view alone, such as to train its bundle.
"""

import re
import warnings
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

from blemish.dataset.formats.base import Convention, DataSource, Format
from blemish.dataset.image_files import (
    IMAGE_FOLDER_NAMES,
    MASK_NAMES,
    SPLIT_NAMES,
    MaskTree,
    find_folder,
    has_images,
    list_folders,
    list_images,
    list_subsets,
)
from blemish.dataset.labels import LabelEvidence, is_defect_name, is_good_name, normalize_label
from blemish.dataset.sample import GOOD, Sample
from blemish.errors import DataError

MAX_VIEWS = 16  # of a recipe; folders of more names hold something else
_NUMBERED = re.compile(r"^\d+$|\d{3,}$")
_OTHER_NAMES = {*MASK_NAMES, *IMAGE_FOLDER_NAMES, *SPLIT_NAMES}


def looks_like(path: Path) -> bool:
    """Whether folders of classes, one of them good, hold nothing but folders of images, named alike in most of them.

    Names such as 7 or img_007 are rather numbers of images than views; --format views reads them.
    """
    classes = [folder for _, subset in list_subsets(path) for folder in _class_folders(subset)]
    parts = [part for folder in classes for part in list_folders(folder)]
    if not any(is_good_name(folder.name) for folder in classes) or any(map(has_images, classes)):
        return False
    if not parts or not all(has_images(part) and not _has_other_name(part) for part in parts):
        return False
    counts = Counter(image.stem for part in parts for image in list_images(part))
    common = [view for view, count in counts.items() if count > max(1, len(parts) / 2)]
    return bool(common) and len(counts) <= MAX_VIEWS and not any(map(_NUMBERED.search, counts))


def read(source: DataSource) -> list[Sample]:
    """Samples with `group` and `view`; says which views parts lack. Raises DataError for an unknown view, and for two
    images of one view."""
    found = []
    for split, subset in list_subsets(source.path):
        tree = MaskTree(find_folder(subset, MASK_NAMES))
        parts = [part for folder in _class_folders(subset) for part in list_folders(folder)]
        found += [_read_part(part, split, tree, source.path) for part in parts]
        tree.warn_unmatched(subset)
    views = list(dict.fromkeys(str(sample.view) for part in found for sample in part))
    if source.option and source.option not in views:
        raise DataError(f"{source.path} has no view {source.option!r}; it has {', '.join(views) or 'none'}")
    wanted = [source.option] if source.option else views
    _warn_of_missing(source.path, found, wanted)
    return [sample for part in found for sample in part if sample.view in wanted]


def _class_folders(subset: Path) -> list[Path]:
    return [folder for folder in list_folders(subset) if folder.name.lower() not in MASK_NAMES]


def _has_other_name(folder: Path) -> bool:
    return folder.name.lower() in _OTHER_NAMES or is_good_name(folder.name) or is_defect_name(folder.name)


def _read_part(part: Path, split: str | None, tree: MaskTree, root: Path) -> list[Sample]:
    label, group = normalize_label(part.parent.name), part.relative_to(root).as_posix()
    samples: dict[str, Sample] = {}
    for image in list_images(part):
        if image.stem in samples:
            raise DataError(f"{samples[image.stem].image} and {image} are both the view '{image.stem}' of one part")
        found = tree.find(image, Path(part.parent.name, part.name))
        samples[image.stem] = Sample(
            image, label, split, group=group, view=image.stem, evidence=LabelEvidence.FOLDER, **found
        )
    shown = [sample.mask is not None or sample.shapes is not None for sample in samples.values()]
    if label == GOOD or not any(shown):
        return list(samples.values())
    return [
        sample if masked else replace(sample, label=None, evidence=None)
        for sample, masked in zip(samples.values(), shown, strict=True)
    ]


def _warn_of_missing(path: Path, parts: list[list[Sample]], views: list[str]) -> None:
    lacking: defaultdict[str, list[Path]] = defaultdict(list)
    for part in parts:
        for view in views:
            if part and view not in {sample.view for sample in part}:
                lacking[view].append(part[0].image.parent)
    for view, folders in lacking.items():
        warnings.warn(
            f"{path}: {len(folders)} of {len(parts)} parts lack the view '{view}', such as {folders[0]}", stacklevel=3
        )


FORMAT = Format(
    "<class>/<part>/<view>.png, with masks/<class>/<part>/<view>.png where there are masks, and train, val and test "
    "above them if any; `views:NAME` reads one view",
    looks_like, read, has_option=True, convention=Convention("mask"),
    refused="two images of one view, masks of no image",
)  # fmt: skip
