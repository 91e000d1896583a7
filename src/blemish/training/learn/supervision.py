"""Which annotations a sample has, and whether a dataset has those that a method is trained on."""

from blemish.dataset.ground_truth import find_defect_classes, has_boxes, has_mask
from blemish.dataset.sample import Dataset, Sample
from blemish.errors import DataError
from blemish.methods.base import Method, Requirement

ANNOTATIONS = {"label": "label", "mask": "mask", "boxes": "box", "template": "template"}


def check_annotations(
    dataset: Dataset, method: type[Method], synthetic: bool = False, multi_label: bool = False
) -> None:
    """Raise DataError where the training images lack the annotations that a method requires.

    With `synthetic` defects on good images during training, no real ones are required. `multi_label` as in
    `has_annotation`.
    """
    name, training = method.info.name, dataset.split("train")
    if learns_from_good_only(method) and len(good_or_referenced(training, method)):
        return
    if not len(training):
        raise DataError("there are no training images; give some the split 'train'")
    for required in method.info.requires:
        annotated = [s for s in training.samples if has_annotation(s, required, multi_label)]
        if required == "good" and not annotated:
            raise DataError(
                f"{name} is trained on good images and there are none in training; "
                "label some 'good' or put them into a folder of that name"
            )
        if not annotated:
            raise DataError(f"{name} requires a {ANNOTATIONS[required]} for each image and no training image has any")
        if required in ("mask", "boxes") and not synthetic and not any(s.defective for s in annotated):
            raise DataError(f"{name} is trained on defects and no training image has a {ANNOTATIONS[required]} of one")


def check_defect_classes(dataset: Dataset, method: type[Method]) -> None:
    """Raise DataError where training shows fewer classes of defects than a method tells apart."""
    shown, info = dataset.split("train").defect_classes, method.info
    if len(shown) < info.min_defect_classes:
        raise DataError(
            f"{info.name} tells {info.min_defect_classes} or more classes of defects apart, and training has "
            f"{', '.join(shown) or 'none'}; label their kinds, or use the method classifier"
        )


def check_reference_images(dataset: Dataset, method: type[Method], reference: str, cross_fitted: bool) -> None:
    """Raise DataError where a method learns to compare with templates and images that it must inspect lack one.

    Those are the images for tuning and validation, and the training images where there is no validation or it is
    `cross_fitted`. `reference` is the method's option of that name.
    """
    training = good_or_referenced(dataset.split("train"), method).samples
    if "template" not in method.info.optional or reference == "gallery" or any(s.template is None for s in training):
        return
    splits = {"tuning", "val"}
    if cross_fitted or not len(dataset.split("val")):
        splits.add("train")
    missing = [s for s in dataset.samples if s.split in splits and s.template is None]
    if missing:
        raise DataError(
            f"{missing[0].image} has no template, and {method.info.name} compares with one, since its training images "
            "have theirs; add one in the column 'template', or take reference=gallery"
        )


def learns_from_good_only(method: type[Method]) -> bool:
    """Whether a method is trained on good images, optionally with their templates, and uses no other annotation."""
    return method.info.requires == ("good",) and set(method.info.optional) <= {"template"}


def learns_classes(method: type[Method]) -> bool:
    """Whether a method tells the classes of defects apart."""
    return "what" in method.info.answers


def good_or_referenced(dataset: Dataset, method: type[Method]) -> Dataset:
    """The good images; where there are none and the method compares with templates, the images with a template and
    localized defects, since all their other pixels are known to be sound."""
    good = dataset.where(lambda s: s.defective is False)
    if len(good) or "template" not in method.info.optional:
        return good
    return dataset.where(lambda s: s.template is not None and (has_boxes(s) or has_mask(s)))


def has_annotation(sample: Sample, kind: Requirement, multi_label: bool = False) -> bool:
    """Whether a sample has a kind of annotation; with `multi_label`, its label may be several classes."""
    if kind == "label":
        known = sample.label is not None or sample.defective is False
        return known or (multi_label and find_defect_classes(sample) is not None)
    if kind in ("mask", "boxes"):
        return has_mask(sample) if kind == "mask" else has_boxes(sample)
    return sample.defective is False if kind == "good" else sample.template is not None
