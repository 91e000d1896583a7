"""Doubts about labels that come from the names of folders: what else stands on an image's path may contradict them."""

from collections.abc import Iterable
from pathlib import Path

from blemish.dataset.annotations import fold_name
from blemish.dataset.image_files import MASK_NAMES, SPLIT_NAMES, mask_stem
from blemish.dataset.labels import LabelEvidence, is_defect_name, is_good_name
from blemish.dataset.sample import GOOD, Sample
from blemish.errors import DataError


def check_folders(place: Path, samples: Iterable[Sample]) -> None:
    """DataError where a folder between the set's own and an image contradicts the label by folder, names a split that
    the image is not of, or holds masks; and where an image is by its name the mask of another one."""
    named = [s for s in samples if s.evidence is LabelEvidence.FOLDER and s.image.is_relative_to(place)]
    # One image speaks for all of its folder that are labelled alike.
    for sample in {(s.image.parent, s.label, s.split, s.product): s for s in reversed(named)}.values():
        for step in sample.image.parent.relative_to(place).parts:
            if step != sample.product:
                _check_step(step, sample)
    stems = {(s.image.parent, fold_name(s.image.stem)) for s in named}
    for sample in named:
        stem = mask_stem(sample.image.stem)
        if stem != sample.image.stem and (sample.image.parent, fold_name(stem)) in stems:
            raise DataError(
                f"{sample.image} is by its name the mask of {stem} beside it; put masks into a folder masks/ beside "
                "the folders of classes"
            )


def _check_step(step: str, sample: Sample) -> None:
    split = SPLIT_NAMES.get(step.lower())
    if step.lower() in MASK_NAMES:
        raise DataError(
            f"{sample.image} is in a folder of masks, '{step}'; put that beside the folders of classes, not below one"
        )
    if sample.label == GOOD and is_defect_name(step):
        raise DataError(f"{sample.image} is below folders of good and of defective parts ('{step}'): it may be either")
    if sample.label != GOOD and is_good_name(step):
        raise DataError(f"{sample.image} is of class '{sample.label}' by one folder and good by another ('{step}')")
    if split and split != sample.split:
        raise DataError(
            f"{sample.image} is below '{step}', which is a split and no class; put the folders train, val and test "
            "above the others"
        )
