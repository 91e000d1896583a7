"""Measurements as text, with as many digits as they deserve: rounded to their uncertainty, or marked as approximate."""

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from blemish.inspection.result import Measurements
from blemish.inspection.uncertainty import is_reliable

APPROXIMATE_DIGITS = 2  # significant ones, of a value whose uncertainty is not known; of a known large one, 1
UNITS = {"px": "px", "mm": "mm", "px2": "px²", "mm2": "mm²"}


def format_measurement(own: Measurements | Mapping[str, Any] | None, quantity: str) -> str:
    """One quantity (`length`, `area`, ...) with its uncertainty and unit, in mm where the scale is known.

    `0.46 ± 0.05 mm`; or `≈ 0.5 mm` where the uncertainty is unknown or more than half of the value. A dash where there
    is no such measurement.
    """
    number, unit = _number(own, quantity)
    return f"{number} {UNITS[unit]}" if unit else number


def format_size(own: Measurements | Mapping[str, Any] | None, in_picture: bool = False) -> str:
    """Length and mean width in one unit: `(4.1 ± 0.2) × (0.46 ± 0.05) mm`; empty where nothing is measured.

    `in_picture`, without characters that the font of pictures lacks.
    """
    (length, unit), (width, _) = _number(own, "length"), _number(own, "mean_width")
    if not unit:
        return ""
    length, width = (f"({number})" if "±" in number else number for number in (length, width))
    text = f"{length} × {width} {UNITS[unit]}"
    return text.replace("≈ ", "~").replace("×", "x") if in_picture else text


def round_to_uncertainty(value: float, uncertainty: float) -> str:
    """A value and its uncertainty, which gets one significant digit, or two where the first is a 1 (as in 1.2)."""
    if uncertainty <= 0:
        return f"{value:.4g}"
    first = math.floor(math.log10(uncertainty))
    digits = first - 1 if round(uncertainty / 10**first, 1) < 2 else first
    rounded = round(uncertainty, -digits)
    places = max(0, -digits)
    return f"{round(value, -digits):.{places}f} ± {rounded:.{places}f}"


def approximate(value: float, digits: int) -> str:
    """`≈` and a value with so many significant digits, without an exponent."""
    if value == 0 or not math.isfinite(value):
        return f"≈ {value:g}"
    place = digits - 1 - math.floor(math.log10(abs(value)))
    return f"≈ {round(value, place):.{max(0, place)}f}"


def _number(own: Measurements | Mapping[str, Any] | None, quantity: str) -> tuple[str, str]:
    """The number as text, and its unit; a dash and no unit where there is no such measurement."""
    values = asdict(own) if isinstance(own, Measurements) else own or {}
    for unit, name in (("mm2", "mm2"), ("mm", "mm"), ("px2" if quantity == "area" else "px", "px")):
        value, uncertainty = values.get(f"{quantity}_{name}"), values.get(f"{quantity}_{name}_u")
        if value is None:
            continue
        if uncertainty is not None and is_reliable(value, uncertainty):
            return round_to_uncertainty(value, uncertainty), unit
        return approximate(value, APPROXIMATE_DIGITS if uncertainty is None else 1), unit
    return "–", ""
