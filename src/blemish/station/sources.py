"""Sources of parts other than requests: how they name themselves, and submit their images to the service."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from blemish.errors import BlemishError, DataError
from blemish.station.cameras.settings import CameraSettings
from blemish.station.recipe_views import ONE_VIEW
from blemish.station.recipes import active_recipe
from blemish.station.schemas import MAX_PART_ID, InspectionOut, is_part_id
from blemish.station.service import InspectionService
from blemish.station.tickets import NotAnsweredError

POLL_S = 0.2
RETRY_S = 2.0


def submit_stream(
    service: InspectionService,
    stream: BinaryIO,
    origin: str,
    stop: threading.Event,
    part_id: str,
    key: str | None = None,
    recipe_id: int | None = None,
) -> InspectionOut | None:
    """The recorded answer for an image, waiting for a slot as long as it takes; None where `stop` was set first.
    `recipe_id` is that whose settings the camera had; None: the active one.

    A file that is no image, or too large, is recorded too, with the verdict review. Raises BlemishError where there
    can be no record, as for an id that cannot be kept whole.
    """
    if not is_part_id(part_id):
        raise DataError(f"the part id {part_id!r} has more than {MAX_PART_ID} characters, or ones that cannot be seen")
    if not service.wait_for_slot(stop, sender=origin):
        return None
    return service.submit_image(
        stream, recipe_id, origin, part_id=part_id, key=key, record_failure=True, sender=origin
    ).result()


def wanted_settings(service: InspectionService) -> tuple[int, CameraSettings]:
    """Id of the active recipe, and the settings that it keeps for a picture of the whole part.

    Raises DataError without a recipe, NotAnsweredError for one of several views: its parts are the line's.
    """
    recipe_id = service.recipes.resolve(None)
    views, settings = service.recipes.pictures(recipe_id)
    if views != [ONE_VIEW]:
        raise NotAnsweredError("the recipe takes several views, and this is one camera")
    return recipe_id, (settings or {}).get(ONE_VIEW, CameraSettings())


def distinct_name(address: str, addresses: Sequence[str], shorten: Callable[[str], str]) -> str:
    """`shorten(address)`, or more where it is that of others, too."""
    short = shorten(address)
    same = [other for other in dict.fromkeys(addresses) if shorten(other) == short]
    if len(same) < 2:
        return short
    return address if Path(address).exists() else f"{short}-{same.index(address) + 1}"


def explain_loss(error: Exception) -> str:
    """For the list of sources; errors of the database would show whole queries."""
    told = isinstance(error, BlemishError | OSError | ValueError) and str(error)
    return told or type(error).__name__


def is_ready(service: InspectionService) -> bool:
    with service.database.reading() as session:
        return active_recipe(session) is not None
