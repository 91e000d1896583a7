"""Images with synthetic defects, as `blemish augment` writes them, among real ones: they are for training alone.

They cannot serve for evaluation, and they are made of other images: the surface, the defects that were pasted. Where
one of those is held out, or is not found so that nobody can tell, the synthetic image is left out.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from blemish.dataset.duplicates import identical_images
from blemish.dataset.sample import Dataset, Sample
from blemish.errors import DataError

log = logging.getLogger(__name__)


def split_synthetic(dataset: Dataset) -> tuple[Dataset, list[Sample]]:
    """The real images, and the synthetic ones."""
    return dataset.where(lambda s: s.sources is None), [s for s in dataset.samples if s.sources is not None]


def real_images(dataset: Dataset) -> Dataset:
    """The real images, with a warning where there are others; DataError where all of several are synthetic."""
    real, synthetic = split_synthetic(dataset)
    check_any_real(dataset)
    if synthetic:
        log.warning(f"{len(synthetic)} synthetic images, such as {synthetic[0].image}, are left out of the evaluation")
    return real


def check_any_real(dataset: Dataset) -> None:
    """Raise DataError where there are images, and all of them are synthetic."""
    if len(dataset) and all(s.sources is not None for s in dataset.samples):
        raise DataError(
            f"all {len(dataset)} images are synthetic, as their 'sources' say: thresholds and metrics need real ones; "
            "give the real images too, as blemish augment --include-data does"
        )


def trainable_synthetic(real: Sequence[Sample], synthetic: Sequence[Sample]) -> list[Sample]:
    """The synthetic images that may be trained on beside real ones with splits, as training images.

    Left out, with a warning, are those that are given to another split, those that are made of images held out, and
    those of a source that is not found.
    """
    training = [s for s in synthetic if s.split in (None, "train")]
    _log_left_out(len(synthetic) - len(training), "they are given to another split, and are for training only")
    apart = exclude_sources([s for s in real if s.split != "train"], training, logging.WARNING)
    known = {s.image.resolve() for s in real}
    kept, lost = [], list[Path]()
    for s in apart:
        missing = [path for path in s.sources or () if path.resolve() not in known and not path.is_file()]
        lost += missing[:1]
        kept += [] if missing else [replace(s, split="train")]
    if lost:
        _log_left_out(len(lost), f"their source images are not found, such as {lost[0]}, and may be held out")
    return kept


def exclude_sources(
    held_out: Sequence[Sample], synthetic: Sequence[Sample], log_level: int = logging.DEBUG
) -> list[Sample]:
    """The synthetic images that are made of none of the images held out, nor of a copy of one or of its group.

    A log line of `log_level` says how many others there are.
    """
    images = {s.image.resolve() for s in held_out}
    groups = {s.group for s in held_out} - {None}
    sources = [{path.resolve() for path in s.sources or ()} for s in synthetic]
    images |= _copies_of(images, set[Path]().union(*sources) - images)
    kept = [s for s, own in zip(synthetic, sources, strict=True) if not own & images and s.group not in groups]
    _log_left_out(len(synthetic) - len(kept), "their source images are held out", log_level)
    return kept


def _copies_of(images: set[Path], others: set[Path]) -> set[Path]:
    """Those of the others that are identical with one of the images."""
    paths = [*sorted(images), *sorted(others)]
    same = identical_images(paths) if images and others else []
    return {paths[i] for members in same if members[0] < len(images) for i in members if i >= len(images)}


def _log_left_out(count: int, reason: str, log_level: int = logging.WARNING) -> None:
    if count:
        log.log(log_level, f"{count} synthetic images are left out: {reason}")
