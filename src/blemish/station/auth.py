"""Who may do what: tokens with roles, of which only hashes are kept, and signed cookies for browsers."""

import hashlib
import hmac
import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from blemish.errors import OptionError
from blemish.station.models import TokenRow, now
from blemish.station.repository import audit

ROLES = ("line", "operator", "engineer", "admin")  # each may do what those before it may
COOKIE, CSRF_HEADER = "blemish_session", "x-csrf-token"
SESSION_S = 12 * 3600
_PREFIX = "blm_"


@dataclass(frozen=True, slots=True)
class User:
    name: str
    role: str

    def may(self, role: str) -> bool:
        return ROLES.index(self.role) >= ROLES.index(role)


LOCAL = User("local", "admin")  # on loopback, as long as no token was ever made


def make_token(session: Session, name: str, role: str, who: str) -> str:
    """A new token, shown this once; raises OptionError for a name that is taken or an unknown role."""
    if role not in ROLES:
        raise OptionError(f"there is no role '{role}'; take one of {', '.join(ROLES)}")
    if session.scalar(select(TokenRow.id).where(TokenRow.name == name)) is not None:
        raise OptionError(f"there is a token '{name}' already; names are not used twice")
    token = _PREFIX + secrets.token_urlsafe(32)
    session.add(TokenRow(name=name, role=role, sha256=_hash(token)))
    audit(session, who, "token", name, after={"role": role})
    return token


def revoke_token(session: Session, row: TokenRow, who: str) -> None:
    if row.revoked_at is None:
        row.revoked_at = now()
        audit(session, who, "revoke", row.name, before={"role": row.role})


def has_tokens(session: Session) -> bool:
    return bool(session.scalar(select(func.count()).select_from(TokenRow)))


def token_row(session: Session, token: str) -> TokenRow | None:
    """The token that holds, or None. Tokens have 256 random bits, so a plain hash of them is beyond guessing."""
    return session.scalar(select(TokenRow).where(TokenRow.sha256 == _hash(token), TokenRow.revoked_at.is_(None)))


def user_of(row: TokenRow | None) -> User | None:
    return None if row is None else User(row.name, row.role)


def make_cookie(secret: bytes, row: TokenRow) -> str:
    content = f"{row.id}.{int(time.time()) + SESSION_S}"
    return f"{content}.{_sign(secret, content)}"


def cookie_user(session: Session, secret: bytes, cookie: str) -> User | None:
    """The user of a cookie that we signed, that is not too old, and whose token still holds."""
    content, _, signature = cookie.rpartition(".")
    if not hmac.compare_digest(_sign(secret, content).encode(), signature.encode("utf-8", "replace")):
        return None
    token_id, _, expires = content.partition(".")
    if int(expires) < time.time():
        return None
    return user_of(session.scalar(select(TokenRow).where(TokenRow.id == int(token_id), TokenRow.revoked_at.is_(None))))


def csrf_token(secret: bytes, cookie: str) -> str:
    """What a page must send in the header x-csrf-token with every change that it makes by cookie."""
    return _sign(secret, f"csrf {cookie}")


def csrf_holds(secret: bytes, cookie: str, given: str) -> bool:
    return hmac.compare_digest(csrf_token(secret, cookie).encode(), given.encode("utf-8", "replace"))


def load_secret(folder: Path) -> bytes:
    """The station's own key, made at the first start, readable by its owner alone."""
    path = folder / "secret"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(secrets.token_bytes(32))
    except FileExistsError:
        pass
    found = path.read_bytes()
    if len(found) != 32:
        raise OptionError(f"{path} is damaged; delete it, and everybody has to sign in anew")
    return found


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def _sign(secret: bytes, content: str) -> str:
    return hmac.new(secret, content.encode("utf-8", "replace"), hashlib.sha256).hexdigest()
