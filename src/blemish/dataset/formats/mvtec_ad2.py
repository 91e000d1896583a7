"""MVTec AD 2: train/good, validation/good, test_public with good, bad and ground_truth/bad, and private tests."""

from dataclasses import replace
from pathlib import Path

from blemish.dataset.annotations import match_files, warn_skipped
from blemish.dataset.formats.base import Convention, DataSource, Format
from blemish.dataset.image_files import list_folders, list_images
from blemish.dataset.labels import LabelEvidence
from blemish.dataset.sample import DEFECT, GOOD, Sample

_GOOD = (("train", "train"), ("validation", "val"), ("test_public", "test"))
_PRIVATE = ("test_private", "test_private_mixed")


def looks_like(path: Path) -> bool:
    folders = list_folders(path)
    return _is_category(path) or (bool(folders) and all(_is_category(folder) for folder in folders))


def read(source: DataSource) -> list[Sample]:
    """Samples labelled by their folders; images of the private tests have no label."""
    if _is_category(source.path):
        return _read_category(source.path)
    return [replace(s, product=folder.name) for folder in list_folders(source.path) for s in _read_category(folder)]


def _is_category(path: Path) -> bool:
    return (path / "test_public").is_dir() and (path / "train" / "good").is_dir()


def _read_category(path: Path) -> list[Sample]:
    samples = [
        Sample(image, label=GOOD, split=split, evidence=LabelEvidence.FOLDER)
        for folder, split in _GOOD
        for image in list_images(path / folder / "good")
    ]
    test = path / "test_public"
    files = list_images(test / "ground_truth" / "bad")
    masks = [(mask.stem.removesuffix("_mask"), mask) for mask in files]
    for image, mask in match_files([(image.stem, image) for image in list_images(test / "bad")], masks, test / "bad"):
        if mask is None:
            warn_skipped(f"{image}: its mask {image.stem}_mask.png does not exist", image)
        samples.append(Sample(image, label=DEFECT, split="test", mask=mask, evidence=LabelEvidence.FOLDER))
    return samples + [
        Sample(image, split="test") for folder in _PRIVATE for image in list_images(path / folder, deep=True)
    ]


FORMAT = Format(
    "train/good, validation/good, test_public/{good,bad,ground_truth/bad}, test_private/; or a folder of such objects",
    looks_like, read, convention=Convention("mask", empty_is_good=False),
    refused="defects without a mask, masks of no image",
)  # fmt: skip
