"""From a dataset and settings to what a training runs on: checked settings, splits and annotations."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import blemish
from blemish.dataset.duplicates import describe_unsearched, identical_files
from blemish.dataset.fingerprint import LONG
from blemish.dataset.info import measure_samples
from blemish.dataset.sample import Dataset, Sample, sort_by_name
from blemish.dataset.split import check_given_splits, describe_shared, ensure_splits, hold_out_for_tuning, shared_units
from blemish.dataset.synthetic_samples import check_any_real
from blemish.errors import DataError, ImageError, OptionError
from blemish.imaging.pixel_range import (
    PixelSpec,
    describe_range,
    join_values,
    make_pixel_spec,
)
from blemish.imaging.read import ImageHeader, image_header
from blemish.methods.base import Method, OnePassMethod
from blemish.methods.catalogue import method_class
from blemish.training.learn.options import check_options, ineffective_options
from blemish.training.learn.run import DEFAULT_FOLDS, RunConfig
from blemish.training.learn.start_run import inherit_splits, warn_of_trained
from blemish.training.learn.supervision import (
    check_annotations,
    check_defect_classes,
    check_reference_images,
    learns_from_good_only,
)
from blemish.training.learn.synthetic import check_defect_spec
from blemish.training.learn.windows import check_localized_defects, learns_from_windows

log = logging.getLogger(__name__)
VAL_SHARE = 0.2  # of the training images, where the data have no validation set
TUNING_SHARE = 0.15  # of what is left of them
FEW_GOOD = 200  # below it, one-pass methods are cross-fitted: thresholds rest on all good images, and training is short


def make_config(
    data: str | Path, dataset: Dataset, method: str, options: dict[str, Any], settings: Mapping[str, Any]
) -> RunConfig:
    """Validated settings of a run; OptionError for an unknown or wrong one, a warning for an ineffective one."""
    checked = check_options(method_class(method).Options, options, method)
    for warning in ineffective_options(checked, options):
        log.warning(warning)
    if settings.get("escape") is not None and settings.get("cost_escape") is not None:
        raise OptionError(
            "escape and cost_escape are two aims of one threshold; give the share of defects that may pass, or the "
            "cost of an escape"
        )
    given = {"channels": input_channels(dataset), **{k: v for k, v in settings.items() if v is not None}}
    if given.get("calibration", "auto") == "auto":
        given["calibration"] = choose_calibration(dataset, method_class(method), given)
    if given["calibration"] == "held-out" and (folds := given.get("folds", DEFAULT_FOLDS)) != DEFAULT_FOLDS:
        log.warning(f"folds={folds} has no effect: thresholds are held-out, not cross-fitted (option calibration)")
    if getattr(checked, "rotations", 1) == 4 and given.get("fit", "stretch") == "stretch" and not _is_square(dataset):
        log.warning("non-square images are stretched before they are rotated; take --fit letterbox with rotations=4")
    if line := explain_squeeze(dataset, given):
        log.warning(line)
    path = str(Path(data).resolve()) if Path(data).exists() else str(data)
    fixed = {"blemish": blemish.__version__, "data": path, "method": method, "options": checked.model_dump(mode="json")}
    return check_options(RunConfig, fixed | given, "train")


def choose_calibration(
    dataset: Dataset, method: type[Method], settings: Mapping[str, Any]
) -> Literal["held-out", "cross-fitted"]:
    """Cross-fitted for a one-pass method trained on less than FEW_GOOD good images, where the data bring no validation.

    There must be two parts for each fold, and the training must run in a single process.
    """
    trainer = settings.get("trainer") or {}
    good = [s for s in dataset.samples if s.defective is False and s.split != "test" and s.sources is None]
    given = any(s.split == "val" and s.sources is None for s in dataset.samples)
    processes = trainer.get("devices", 1) * trainer.get("num_nodes", 1)
    if given or processes > 1 or not suits_cross_fitting(method, len(good)):
        return "held-out"
    copies = {i for same in identical_files([s.image for s in good]) for i in same[1:]}
    parts = {s.group or s.image for i, s in enumerate(good) if i not in copies}
    return "cross-fitted" if len(parts) >= 2 * settings.get("folds", DEFAULT_FOLDS) else "held-out"


def suits_cross_fitting(method: type[Method], good: int) -> bool:
    """Whether a method learns so many good images in one pass, and they are few."""
    return issubclass(method, OnePassMethod) and learns_from_good_only(method) and good < FEW_GOOD


def prepare_dataset(dataset: Dataset, config: RunConfig) -> Dataset:
    """The dataset with splits, by name; DataError where its training images do not suit the method and settings.

    Images for tuning are always cut from the training images, so that they never meet those for the thresholds. With
    cross-fitting, given validation images are training images too, since each of those is held out once. Images of the
    run that this one starts from keep its splits, or a warning says which of them are held out now.
    """
    kind = method_class(config.method)
    crossed = config.calibration == "cross-fitted"
    if config.start is not None:
        dataset = inherit_splits(dataset, config.start)
    if crossed and len(dataset.split("val")):
        log.info(f"cross-fitting: the {len(dataset.split('val'))} validation images are trained on too")
        dataset = dataset.with_samples(
            replace(s, split="train" if s.split == "val" and s.sources is None else s.split) for s in dataset.samples
        )
    split = make_splits(dataset, [kind], config.seed, 0.0 if crossed else VAL_SHARE)
    split = hold_out_for_tuning(split, TUNING_SHARE, config.seed)
    if config.start is not None:
        warn_of_trained(split, config.start)
    if config.synthetic is not None:
        check_defect_spec(config.synthetic, split, kind)
    tiled, synthetic = config.tiling is not None, config.synthetic is not None
    check_trainable(split, kind, tiled, synthetic, config.options.get("multi_label", False))
    if learns_from_good_only(kind):
        check_good_images_differ(split)
    if not learns_from_windows(kind, tiled):
        reference = config.options.get("reference", "auto")
        check_reference_images(split, kind, reference, cross_fitted=crossed)
    return split.with_samples(sort_by_name(split.samples))


def check_good_images_differ(dataset: Dataset) -> None:
    """Raise DataError where all good images, of more than one, are one image: how good parts differ cannot be seen."""
    good = [s.image for s in dataset.samples if s.defective is False]
    if len(good) > 1 and any(len(own) == len(good) for own in identical_files(good)):
        raise DataError(
            f"the {len(good)} good images are all identical, such as {good[0]} and {good[1]}: nothing shows how good "
            "parts differ, and none is left to choose thresholds by; add other good images"
        )


def measure_pixels(dataset: Dataset) -> PixelSpec | None:
    """The types, values, channels and sizes of the training and validation images and of their reference images.

    Unreadable ones are passed over.
    """
    samples = [s for s in dataset.samples if s.split != "test"]
    known = {s.image for s in samples}
    references = {s.template for s in samples if s.template is not None and s.template not in known}
    samples += [Sample(path) for path in sorted(references)]
    measured = measure_samples(samples)
    for values in join_values(measured).values():
        if (words := describe_range(values)) is not None:
            log.info(f"pixels: {words}")
    return make_pixel_spec(measured)


def make_splits(
    dataset: Dataset, methods: Sequence[type[Method]], seed: int, val_share: float, need_defects: bool = False
) -> Dataset:
    """The same splits for all methods, with defects in training where they are needed or a method is trained on them.

    Where no image is good, methods that compare with templates also train on defective images. Raises DataError where
    the data give the same images for training and validation, or one group several splits, or synthetic images alone; a
    warning where other splits share images, defects that may be one are split, or near duplicates are not looked for.
    """
    check_any_real(dataset)
    dataset = check_given_splits(dataset, with_thresholds=val_share > 0)
    only_good = all(map(learns_from_good_only, methods)) and any(s.defective is False for s in dataset.samples)
    split = ensure_splits(
        dataset, seed=seed, val_share=val_share, need_defects_in_training=need_defects or not only_good
    )
    shared = shared_units(split.samples, logging.DEBUG)
    for line in (*describe_shared(split.samples, shared, ("defects",)), *describe_unsearched(split.samples)):
        log.warning(line)
    return split


def check_trainable(
    split: Dataset, method: type[Method], tiled: bool, synthetic: bool, multi_label: bool = False
) -> None:
    """Raise DataError where the training images lack the annotations that a method requires."""
    if not synthetic:
        check_defect_classes(split, method)
    if learns_from_windows(method, tiled):
        check_localized_defects(split)
    else:
        check_annotations(split, method, synthetic, multi_label)


def input_channels(dataset: Dataset) -> int:
    """Channels of the network's input: 3 for grey and colour images, all for others, by the first image."""
    header = _first_header(dataset)
    return 3 if header is None or header.channels in (1, 3) else header.channels


def explain_squeeze(dataset: Dataset, settings: Mapping[str, Any]) -> str | None:
    """What long images lose that are stretched to the network's square; None where they are not."""
    header = _first_header(dataset)
    if header is None or settings.get("tiling") or settings.get("roi") or settings.get("fit", "stretch") != "stretch":
        return None
    short, long = sorted((header.height, header.width))
    if long < LONG * short:
        return None
    return (
        f"the images are {long / short:.1f} times as long as wide and are squeezed into a square: small defects get "
        f"lost and measurements less true; take --tile {short}, or --fit letterbox where only whole images are labelled"
    )


def _is_square(dataset: Dataset) -> bool:
    """Whether the first image is square, or cannot be read."""
    header = _first_header(dataset)
    return header is None or header.height == header.width


def _first_header(dataset: Dataset) -> ImageHeader | None:
    try:
        return image_header(dataset.samples[0].image) if len(dataset) else None
    except ImageError:  # left to the audit
        return None
