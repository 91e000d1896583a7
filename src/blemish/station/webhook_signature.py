"""The signature of a webhook: HMAC-SHA256 with a shared key over the time of sending and the body.

Headers: `Blemish-Timestamp`, Unix seconds, and `Blemish-Signature`, `sha256=` and the hexadecimal HMAC of the
timestamp, a full stop and the body. A receiver computes the same, compares in constant time, refuses old ones, and
knows a repeated result by its `Idempotency-Key`.
"""

import hashlib
import hmac
from pathlib import Path

from blemish.errors import OptionError

TIMESTAMP, SIGNATURE = "Blemish-Timestamp", "Blemish-Signature"
MAX_AGE_S = 300.0
MIN_KEY_BYTES = 16


def load_key(path: Path) -> bytes:
    """The key: the file's content without white space at its ends; raises OptionError."""
    try:
        key = path.read_bytes().strip()
    except OSError as error:
        raise OptionError(f"the key of a webhook, {path}, cannot be read: {error.strerror}") from error
    if len(key) < MIN_KEY_BYTES:
        raise OptionError(f"the key of a webhook, {path}, has fewer than {MIN_KEY_BYTES} characters; make a longer one")
    return key


def sign(key: bytes, timestamp: int, body: bytes) -> str:
    return "sha256=" + hmac.new(key, f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()


def signed_headers(key: bytes, timestamp: int, body: bytes) -> dict[str, str]:
    return {TIMESTAMP: f"{timestamp}", SIGNATURE: sign(key, timestamp, body)}


def verify(key: bytes, timestamp: str, signature: str, body: bytes, now: float, max_age_s: float = MAX_AGE_S) -> bool:
    """Whether a request came from a holder of the key, not longer ago than `max_age_s`."""
    if not (timestamp.isascii() and timestamp.isdigit()) or abs(now - int(timestamp)) > max_age_s:
        return False
    return hmac.compare_digest(sign(key, int(timestamp), body).encode(), signature.encode())
