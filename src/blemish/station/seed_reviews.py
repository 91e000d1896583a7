"""Inspection of a labelled dataset, its labels entered as reviews, to set thresholds before the first shift."""

import logging
import threading
from pathlib import Path

import numpy as np

from blemish.dataset.ground_truth import has_mask, read_defect_mask
from blemish.dataset.read import read_dataset
from blemish.dataset.sample import GOOD, Sample
from blemish.errors import BlemishError
from blemish.imaging.read import encode
from blemish.station.models import KNOWN_ORIGIN, InspectionRow
from blemish.station.recipes import active_recipe
from blemish.station.repository import add_review
from blemish.station.schemas import InspectionOut
from blemish.station.service import InspectionService
from blemish.station.tickets import NotAnsweredError

log = logging.getLogger("blemish.station")
USER = "dataset"  # that the reviews are entered by
_WAIT_S = 0.5


def seed_reviews(service: InspectionService, path: Path, stop: threading.Event) -> None:
    """Inspect every labelled image of a dataset once for each bundle, and enter its label and mask as a review.

    Images of the split "train" are left out: training images say nothing about a threshold.
    """
    try:
        samples = [s for s in read_dataset(path).samples if s.label is not None and s.split != "train"]
        while (recipe := _active_bundle(service)) is None:
            if stop.wait(_WAIT_S):
                return
        for sample in samples:
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
