"""Numbers and reasons as text for a reader."""

import math
from typing import Any

from blemish.inspection.result import SENTENCES, Reason
from blemish.translation import Translate

_NBSP = "\N{NO-BREAK SPACE}"


def percent(rate: float) -> str:
    """A rate in per cent, with as many digits as distinguish it from none and from all."""
    value = 100 * rate
    if 0 < value < 0.01:
        return f"< 0.01{_NBSP}%"
    if 99.99 < value < 100:
        return f"> 99.99{_NBSP}%"
    digits = 1 if 1 <= value <= 99 or value in (0, 100) else 2
    text = f"{value:.{digits}f}"
    return f"{text.rstrip('0').rstrip('.')}{_NBSP}%"


def number(value: float) -> str:
    return f"{value:,.4g}" if abs(value) < 10_000 else f"{value:,.0f}"


def duration(seconds: float) -> str:
    """A time in the unit that suits it."""
    if seconds < 90:
        return f"{max(0.0, seconds):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def plain(value: Any) -> str:
    """An option or a count."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {plain(own)}" for key, own in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(plain(own) for own in value)
    return "none" if value is None else str(value)


def reason_text(reason: Reason, t: Translate) -> str:
    """The sentence of a reason in the reader's language."""
    values = {name: getattr(reason, name) for name in ("threshold", "rule", "detail")}
    values["value"] = math.nan if reason.value is None else reason.value
    score = t("score") if reason.label is None else t("{label} score", label=t(reason.label))
    return t(SENTENCES[reason.kind], **values, score=score, verdict=t(str(reason.verdict)))
