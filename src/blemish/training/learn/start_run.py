"""The images of the run that a training starts from: its network knows them, so that their splits hold here too."""

import logging
from collections import Counter
from dataclasses import replace
from pathlib import Path

from blemish.dataset.contents import content_hashes
from blemish.dataset.read import read_present
from blemish.dataset.sample import Dataset
from blemish.errors import BundleError
from blemish.inspection.bundle import open_bundle
from blemish.inspection.seen_images import find_seen, seen_hashes, unpack_seen
from blemish.training.learn.run import split_file

log = logging.getLogger(__name__)
# What an image must not have been there to be held out here as this; those for validation only gave thresholds.
_TOO_LATE = {"tuning": ("train",), "val": ("train", "tuning"), "test": ("train", "tuning")}


def seen_by_run(run: str | Path) -> dict[str, str]:
    """Split by hash of the images that a run has seen, and the runs before it; empty where that is not known."""
    try:
        seen = unpack_seen(open_bundle(run))
    except BundleError:  # it has not shipped, or is gone
        seen = None
    return seen_hashes(_listed(run)) if seen is None else seen


def inherit_splits(dataset: Dataset, run: str | Path) -> Dataset:
    """The dataset with the splits that the run gave its images, where the data bring none of their own."""
    if any(sample.split is not None for sample in dataset.samples):
        return dataset
    hashes = content_hashes(sample.image for sample in dataset.samples)
    test = content_hashes(sample.image for sample in _listed(run).split("test").samples)
    known = dict.fromkeys(test.values(), "test")
    seen = find_seen(seen_by_run(run), hashes)
    splits = [seen.get(s.image) or known.get(hashes.get(s.image, "")) for s in dataset.samples]
    if any(splits):
        log.info(f"{sum(map(bool, splits))} images are those of '{run}' and keep the splits that it gave them")
    return dataset.with_samples(replace(s, split=own) for s, own in zip(dataset.samples, splits, strict=True))


def warn_of_trained(dataset: Dataset, run: str | Path) -> None:
    """A warning where images that are held out here shaped the network that the training starts from."""
    held_out = [s for s in dataset.samples if s.split in _TOO_LATE]
    seen = find_seen(seen_by_run(run), (s.image for s in held_out))
    known = [s for s in held_out if seen.get(s.image) in _TOO_LATE[str(s.split)]]
    if known:
        counts = ", ".join(f"{n} of {split}" for split, n in Counter(s.split for s in known).items())
        log.warning(
            f"{len(known)} images that are held out here ({counts}) were trained on by the run that this one starts "
            f"from, '{run}', such as {known[0].image}: thresholds and metrics from them are too good"
        )


def _listed(run: str | Path) -> Dataset:
    """The images of a run that are still where they were."""
    return read_present(split_file(Path(run)))
