"""One image in a while, of which the service measures the quality."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path

from blemish.imaging.read import read_image
from blemish.inspection.result import Inspection
from blemish.station.image_quality import ReferenceImages
from blemish.station.models import KNOWN_ORIGIN
from blemish.station.tickets import TicketResult

log = logging.getLogger("blemish.station")
QUALITY_S = 1.0  # between two images whose quality is measured: drift is slow, and the line is not


class QualitySampling:
    """`references` is the folder of the recipes' first images; an image has at most `max_pixels`."""

    def __init__(self, references: Path, max_pixels: int) -> None:
        self._references = ReferenceImages(references)
        self._max_pixels = max_pixels
        self._measured = -QUALITY_S

    def measure_one(self, results: Sequence[TicketResult]) -> None:
        """Measure one of the images, if it is due; errors are logged, so that every part is still answered."""
        line = (ticket for ticket, result in results if isinstance(result, Inspection))
        ticket = next((ticket for ticket in line if ticket.part.origin != KNOWN_ORIGIN), None)
        if ticket is None or time.monotonic() < self._measured + QUALITY_S:
            return
        self._measured = time.monotonic()
        try:
            image = read_image(ticket.file, self._max_pixels)
            ticket.image_quality = self._references.measure(image, ticket.part.recipe_id)
        except Exception:
            log.exception("the quality of an image could not be measured")
