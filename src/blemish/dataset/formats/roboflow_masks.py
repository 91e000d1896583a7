"""Roboflow's semantic masks: <stem>_mask.png beside each image, and _classes.csv of the names of its pixel values."""

from pathlib import Path

from blemish.dataset.annotations import first_line, match_files, read_csv, warn_skipped
from blemish.dataset.formats.base import Convention, DataSource, Format
from blemish.dataset.image_files import list_images, list_subsets
from blemish.dataset.labels import is_background_name
from blemish.dataset.sample import Sample
from blemish.errors import DataError

_NAMES = "_classes.csv"
_TAIL = "_mask"


def looks_like(path: Path) -> bool:
    return any(_is_list(subset / _NAMES) for _, subset in list_subsets(path))


def read(source: DataSource) -> list[Sample]:
    """Samples with class masks; an image without a mask has no annotation, one with nothing but background is good."""
    samples = []
    for split, subset in list_subsets(source.path):
        names = _read_names(subset / _NAMES) if (subset / _NAMES).is_file() else None
        files = list_images(subset)
        masks = [(file.stem.removesuffix(_TAIL), file) for file in files if file.stem.endswith(_TAIL)]
        images = [(file.stem, file) for file in files if not file.stem.endswith(_TAIL)]
        if masks and names is None:
            warn_skipped(f"{subset / _NAMES} does not exist: {len(masks)} masks have no names", folder=subset)
        for image, mask in match_files(images, masks, subset):
            if mask and names is None:
                warn_skipped(f"{mask}: its pixel values have no names", image)
            known = mask if names is not None else None
            samples.append(Sample(image, split=split, mask=known, mask_classes=names if known else None))
    return samples


def _is_list(file: Path) -> bool:
    return file.is_file() and "pixel value" in first_line(file).lower()


def _read_names(file: Path) -> tuple[str, ...]:
    """Names of the pixel values 1, 2, …; DataError for rows without a whole number and a name, or with one twice."""
    names: dict[int, str] = {}
    for line, row in read_csv(file)[1]:
        fields = {key.strip().lower(): value for key, value in row.items()}
        try:
            value, name = int(fields["pixel value"]), fields["class"]
        except (KeyError, ValueError) as error:
            raise DataError(f"{file}, line {line}: no pixel value and class, but {error}") from error
        if not name or value < 0 or value > 255 or value in names:
            raise DataError(f"{file}, line {line}: pixel value {value} is out of range or listed twice, or has no name")
        names[value] = name
    if not names:
        raise DataError(f"{file} names no pixel values")
    if not is_background_name(names.pop(0, "background")):
        raise DataError(f"{file}: pixel value 0 is a class; it has to be background")
    missing = sorted(set(range(1, max(names, default=0) + 1)) - names.keys())
    if missing:
        raise DataError(f"{file}: pixel value {missing[0]} has no name")
    return tuple(names[value] for value in sorted(names))


FORMAT = Format(
    "train/, valid/ and test/ of images, each beside its <stem>_mask.png, with _classes.csv of Pixel Value and Class",
    looks_like, read, convention=Convention("mask"),
    refused="pixel values without a name, and a list of names with gaps (refused)",
)  # fmt: skip
