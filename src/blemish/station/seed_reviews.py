"""A dataset run through the station, its truth entered as reviews: so thresholds can be set before the first shift."""

import logging
import threading
from pathlib import Path

import numpy as np

from blemish.dataset.ground_truth import has_mask, mask_of
from blemish.dataset.read import read_dataset
from blemish.dataset.sample import GOOD, Sample
from blemish.errors import BlemishError
from blemish.imaging.read import encode
from blemish.station import repository as record
from blemish.station.image_store import take_in
from blemish.station.models import InspectionRow
from blemish.station.recipes import active
from blemish.station.repository import Arrival
from blemish.station.schemas import InspectionOut
from blemish.station.service import Service
from blemish.station.tickets import NotAnsweredError, QueueFullError, Ticket

log = logging.getLogger("blemish.station")
SOURCE, WHO = "dataset", "known truth"
_WAIT_S = 0.5


def inspect_known(service: Service, place: Path, stop: threading.Event) -> None:
    """Inspect every labelled image of a dataset once for each bundle, and enter its label and mask as a review.

    Images of the split "train" are left out: what was learned from tells nothing of a threshold.
    """
    try:
        samples = [s for s in read_dataset(place).samples if s.label is not None and s.split != "train"]
        while (recipe := _recipe(service)) is None:
            if stop.wait(_WAIT_S):
                return
        for sample in samples:
            if stop.is_set():
                return
            try:
                answer = _inspect(service, sample, *recipe, stop)
                if answer is not None and not answer.reviews:
                    _review(service, answer, sample)
            except BlemishError as error:
                log.warning("%s: %s", sample.image, error)
    except BlemishError as error:
        log.error("the known truth in %s is not used: %s", place, error)
    except Exception:
        log.exception("the known truth in %s was not entered to its end", place)


def _recipe(service: Service) -> tuple[int, str] | None:
    with service.database.reading() as session:
        recipe = active(session)
        return None if recipe is None else (recipe.id, recipe.bundle.sha256)


def _inspect(
    service: Service, sample: Sample, recipe_id: int, bundle: str, stop: threading.Event
) -> InspectionOut | None:
    """The answer, or None where the station ends; an image that was inspected already gets its first answer."""
    settings = service.settings
    while not stop.is_set():
        try:
            service.take()
            break
        except QueueFullError:  # the line goes first
            stop.wait(_WAIT_S)
    else:
        return None
    try:
        with sample.image.open("rb") as stream:
            file = take_in(stream, settings.incoming, settings.max_image_bytes)
    except BaseException:
        service.give_up()
        raise
    key = f"known-{bundle[:16]}-{file.sha256}"
    part = f"{sample.image.parent.name}/{sample.image.name}"[-200:]
    arrival = Arrival(recipe_id, file.sha256, file.size, SOURCE, part_id=part, lot=sample.group, key=key)
    answer = service.submit(Ticket(arrival, file.path))
    try:
        return answer.result(timeout=settings.time_limit_s)
    except TimeoutError as error:
        raise NotAnsweredError("no answer in time") from error


def _review(service: Service, answer: InspectionOut, sample: Sample) -> None:
    mask = None
    if sample.label != GOOD and has_mask(sample) and answer.height and answer.width:
        drawn = mask_of(sample, (answer.height, answer.width))
        mask = encode((drawn * np.uint8(255)).astype(np.uint8), ".png")
    with service.database.writing() as session:
        row = session.get_one(InspectionRow, answer.id)
        record.review(session, row, WHO, str(sample.label), mask)
