"""Which truth a sample bears, and whether a dataset has what a method learns from."""

from blemish.dataset.ground_truth import classes_shown, has_boxes, has_mask
from blemish.dataset.sample import Dataset, Sample
from blemish.errors import DataError
from blemish.methods.base import Method, Requirement


def check_truth(dataset: Dataset, method: type[Method], drawn: bool = False, several: bool = False) -> None:
    """Raises DataError where the training images lack the truth that a method learns from.

    Where defects are `drawn` on good images while learning, there need be no others. `several` as in `bears`.
    """
    training = dataset.split("train")
    if good_alone(method) and len(good_or_paired(training, method)):
        return
    if not len(training):
        raise DataError("there are no training images; give some the split 'train'")
    for need in method.info.requires:
        bearing = [s for s in training.samples if bears(s, need, several)]
        if need == "good" and not bearing:
            raise DataError(
                f"{method.info.name} learns from good images and there are none in training; "
                "label some 'good' or put them into a folder of that name"
            )
        if not bearing:
            raise DataError(f"{method.info.name} learns from {need} truth and no training image has any")
        if need in ("mask", "boxes") and not drawn and not any(s.defective for s in bearing):
            raise DataError(f"{method.info.name} learns from defects and no training image with {need} truth shows one")


def check_templates(dataset: Dataset, method: type[Method], reference: str, crossed: bool) -> None:
    """Raises DataError where a method would learn to compare with templates, and images that it must judge lack one.

    Those are the validation images, or the training ones where there are none; `crossed`, both. `reference` is the
    method's option of that name.
    """
    learnt = good_or_paired(dataset.split("train"), method).samples
    if "template" not in method.info.optional or reference == "gallery" or any(s.template is None for s in learnt):
        return
    names = ("train", "val") if crossed else ("val",) if len(dataset.split("val")) else ("train",)
    missing = [s for s in dataset.samples if s.split in names and s.template is None]
    if missing:
        raise DataError(
            f"{missing[0].image} has no template, and {method.info.name} would compare with one, as the images that it "
            "learns from have theirs; give one in the column 'template', or take reference=gallery"
        )


def good_alone(method: type[Method]) -> bool:
    """Whether a method learns from good images, perhaps beside their templates, and can use no other truth."""
    return method.info.requires == ("good",) and set(method.info.optional) <= {"template"}


def good_or_paired(dataset: Dataset, method: type[Method]) -> Dataset:
    """The good images; where there are none and the method compares with templates, those that have one and whose
    defects are known by their place, so that all else of them is known to be sound."""
    good = dataset.where(lambda s: s.defective is False)
    if len(good) or "template" not in method.info.optional:
        return good
    return dataset.where(lambda s: s.template is not None and (has_boxes(s) or has_mask(s)))


def bears(sample: Sample, need: Requirement, several: bool = False) -> bool:
    """Whether a sample has a kind of truth; with `several`, labels may be several classes."""
    if need == "good":
        return sample.defective is False
    if need == "mask":
        return has_mask(sample)
    if need == "boxes":
        return has_boxes(sample)
    if need == "label":
        known = sample.label is not None or sample.defective is False
        return known or (several and classes_shown(sample) is not None)
    return sample.template is not None
