"""Who is reviewing which part at the moment, so that no two people label the same one."""

import threading
import time
from collections.abc import Callable

CLAIM_S = 120.0  # without a renewal; an open page renews its claim


class ReviewClaims:
    """The claims on parts of one station, in memory; each page holds at most one, for `CLAIM_S`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._claims: dict[int, tuple[str, str, float]] = {}  # part -> page, name of the person, and until when

    def take(self, inspection_id: int, page: str, name: str) -> str | None:
        """Claim a part, or renew the claim, instead of the one that the page had; the name of who has it already."""
        with self._lock:
            self._forget(page)
            holder = self._claims.get(inspection_id)
            if holder is not None:
                return holder[1]
            self._claims[inspection_id] = page, name, self._clock() + CLAIM_S
            return None

    def release(self, page: str) -> None:
        with self._lock:
            self._forget(page)

    def of_others(self, page: str) -> set[int]:
        """Parts that other pages have claimed."""
        with self._lock:
            self._forget()
            return {key for key, (holder, _, _) in self._claims.items() if holder != page}

    def _forget(self, page: str = "") -> None:
        """Drop the claims of a page, and those that have expired."""
        time_ = self._clock()
        self._claims = {k: c for k, c in self._claims.items() if c[0] != page and c[2] > time_}
