"""Inspection of a labelled dataset, its labels entered as reviews, to set thresholds before the first shift."""

import logging
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from blemish.dataset.ground_truth import has_mask, read_defect_mask
from blemish.dataset.read import read_dataset
from blemish.dataset.sample import GOOD, Sample
from blemish.errors import BlemishError
from blemish.imaging.read import encode
from blemish.inspection.bundle import open_bundle
from blemish.inspection.seen_images import find_seen, unpack_seen
from blemish.station.models import KNOWN_ORIGIN, InspectionRow
from blemish.station.recipes import active_recipe, bundle_path
from blemish.station.repository import add_review
from blemish.station.schemas import InspectionOut
from blemish.station.service import InspectionService
from blemish.station.tickets import NotAnsweredError

log = logging.getLogger("blemish.station")
USER = "dataset"  # that the reviews are entered by
_LEARNT = ("train", "tuning")  # splits whose images say nothing about a threshold
_WAIT_S = 0.5


def seed_reviews(service: InspectionService, path: Path, stop: threading.Event) -> None:
    """Inspect every labelled image of a dataset once for each bundle, and enter its label and mask as a review.

    Images that are for training or tuning are left out, by the data or by the bundle's own list of what it has seen.
    """
    try:
        samples = [s for s in read_dataset(path).samples if s.label is not None and s.split not in _LEARNT]
        while (recipe := _active_bundle(service)) is None:
            if stop.wait(_WAIT_S):
                return
        for sample in _leave_out_learnt(service, samples, path, recipe[1]):
            try:
                answer = _inspect(service, sample, *recipe, stop)
                if answer is not None and not answer.reviews:
                    _review(service, answer, sample)
            except BlemishError as error:
                log.warning("%s: %s", sample.image, error)
    except BlemishError as error:
        log.error("the labels in %s are not used: %s", path, error)
    except Exception:
        log.exception("the labels in %s were not all entered", path)


def _active_bundle(service: InspectionService) -> tuple[int, str] | None:
    with service.database.reading() as session:
        recipe = active_recipe(session)
        return None if recipe is None else (recipe.id, recipe.bundle.sha256)


def _leave_out_learnt(service: InspectionService, samples: Sequence[Sample], path: Path, bundle: str) -> list[Sample]:
    """The samples that the bundle was not trained or tuned on; raises BundleError for a bundle that cannot be read."""
    seen = unpack_seen(open_bundle(bundle_path(service.settings.bundles, bundle)))
    if seen is None:
        log.warning(
            "the bundle does not say which images it was trained on: where some in %s are among them, thresholds look "
            "better than they are",
            path,
        )
        return list(samples)
    learnt = {image for image, split in find_seen(seen, (s.image for s in samples)).items() if split in _LEARNT}
    if learnt:
        log.warning("%d of %d images in %s are left out: the bundle was trained or tuned on them",
                    len(learnt), len(samples), path)  # fmt: skip
    return [sample for sample in samples if sample.image not in learnt]


def _inspect(
    service: InspectionService, sample: Sample, recipe_id: int, bundle: str, stop: threading.Event
) -> InspectionOut | None:
    """The answer, or None where the station stops; an image that was inspected already gets its first answer."""
    if not service.wait_for_slot(stop, _WAIT_S, KNOWN_ORIGIN):  # parts of the line go first
        return None
    with service.release_on_error(KNOWN_ORIGIN):
        stream = sample.image.open("rb")
    with stream:
        part = f"{sample.image.parent.name}/{sample.image.name}"[-200:]
        key = f"known-{bundle[:16]}"
        answer = service.submit_image(
            stream, recipe_id, KNOWN_ORIGIN, part_id=part, lot=sample.group, hashed_key=key, sender=KNOWN_ORIGIN
        )
    try:
        return answer.result(timeout=service.settings.time_limit_s)
    except TimeoutError as error:
        raise NotAnsweredError("no answer in time") from error


def _review(service: InspectionService, answer: InspectionOut, sample: Sample) -> None:
    mask = None
    if sample.label != GOOD and has_mask(sample) and all(answer.size):
        mask = encode((read_defect_mask(sample, answer.size) * np.uint8(255)).astype(np.uint8), ".png")
    with service.database.writing() as session:
        add_review(session, session.get_one(InspectionRow, answer.id), USER, str(sample.label), mask)
