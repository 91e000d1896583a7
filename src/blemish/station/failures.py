"""Parts that get no verdict through no fault of their senders, and what is at fault."""

from collections.abc import Callable
from typing import Literal, get_args

from blemish.errors import DataError, ImageError
from blemish.station.tickets import EngineFailedError, WithdrawnError

Cause = Literal["engine", "database", "withdrawn"]  # the last one: the sender is gone, or has waited for too long
CAUSES: tuple[Cause, ...] = get_args(Cause)


def failure_cause(error: BaseException) -> Cause | None:
    """Why a part has no verdict; None where what was sent is at fault."""
    if isinstance(error, EngineFailedError):
        return "engine"
    if isinstance(error, WithdrawnError):
        return "withdrawn"
    return None if isinstance(error, ImageError | DataError) else "database"


class Failures:
    """Causes that give no verdicts at present: each from its first failure until its next success. Thread-safe."""

    def __init__(self, on_failure: Callable[[Cause], None]) -> None:
        self._on_failure = on_failure  # called for each part
        self._present: dict[Cause, str] = {}

    def present(self, cause: Cause) -> str | None:
        """How it failed the last time; None: it works."""
        return self._present.get(cause)

    def fails(self, cause: Cause, reason: str) -> None:
        self._present[cause] = reason

    def works(self, cause: Cause) -> None:
        self._present.pop(cause, None)

    def count(self, error: BaseException) -> None:
        """Count a part that was answered by an error."""
        cause = failure_cause(error)
        if cause is not None:
            self._on_failure(cause)
