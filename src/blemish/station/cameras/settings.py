"""Settings of a camera, as they are kept with a recipe, and what differs between two of them."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from blemish.errors import DataError
from blemish.files import first_problem

Trigger = Literal["software", "hardware", "free"]
EXPOSURE_TOLERANCE = 0.02  # relative: cameras round to their own steps
GAIN_TOLERANCE_DB = 0.2


class CameraSettings(BaseModel):
    """None: as the camera has it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    exposure_us: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    gain_db: Annotated[float, Field(allow_inf_nan=False)] | None = None
    roi: tuple[int, int, int, int] | None = Field(default=None, description="x, y, width, height, in px of the sensor")
    pixel_format: str | None = Field(default=None, description="by PFNC, such as Mono8, Mono12p, BayerRG8, RGB8")
    trigger: Trigger | None = None
    trigger_source: str | None = Field(default=None, description="of a hardware trigger, such as Line1")


def parse_settings(fields: Mapping[str, Any]) -> CameraSettings:
    """From fields of a form, where an empty one is as the camera has it, and `roi` a text "x, y, width, height".

    Raises DataError that names the field.
    """
    given = {name: value for name, value in fields.items() if value not in (None, "")}
    if "roi" in given:
        given["roi"] = tuple(number.strip() for number in str(given["roi"]).split(","))
    try:
        return CameraSettings.model_validate(given)
    except ValidationError as error:
        raise DataError(first_problem(error)) from error


def settings_differences(wanted: CameraSettings, actual: CameraSettings) -> list[str]:
    """A line for each setting that is wanted and is another one; none where all are as wanted."""
    lines = []
    for name, value in wanted:
        own = getattr(actual, name)
        if value is not None and not _same(name, value, own):
            lines.append(f"{name} is {own}, and should be {value}")
    return lines


def _same(name: str, value: object, own: object) -> bool:
    if isinstance(value, float) and isinstance(own, float):
        tolerance = EXPOSURE_TOLERANCE * value if name == "exposure_us" else GAIN_TOLERANCE_DB
        return abs(own - value) <= tolerance
    return value == own
